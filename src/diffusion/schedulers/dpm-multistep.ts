// DPM-Solver and DPM-Solver++ (Lu et al. 2022, 2022b), multistep, of order 1 to 3, as ODE or SDE. In the log
// signal-to-noise ratio lambda = log(alpha/sigma) the diffusion ODE is linear but for the model's prediction, which is
// Taylor-expanded from past predictions D0, D1, D2: the solver integrates the linear part exactly. DPM++ expands x0,
// DPM the noise. "DPM++ 2M" is algorithm_type dpmsolver++, order 2; "Karras" is use_karras_sigmas.

import type { ConfigReader } from "./config-reader.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { lambdaOf } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import { refuseOptions, refuseThresholding, type Scheduler, type ScheduleTable } from "./schedule-table.ts";
import { type SolverFrame, solverFrame } from "./solver-frame.ts";
import { roundHalfEven } from "./timesteps.ts";

/** Fewer steps than this are ended with lower orders where `lower_order_final` is set. */
const FEW_STEPS = 15;

const ALGORITHMS = ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"] as const;
type Algorithm = (typeof ALGORITHMS)[number];

/** Values that configurations of related solvers bring along, which the reference takes for its own defaults. */
const RELATED_ALGORITHM = "deis";
const RELATED_SOLVER_TYPES = ["logrho", "bh1", "bh2"] as const;

/** DPMSolverMultistepScheduler. */
export const dpmMultistep: Scheduler = (config, options) => {
  refuseOptions(config, options, ["mu"]);
  refuseThresholding(config);
  config.refuseUnless("variance_type", [], "is not supported: models that predict their variance are not");
  const settings = dpmSettings(config);
  const frame = solverFrame(config, options, {
    end: settings.end,
    clips: true,
    spaces: true,
    rounding: (timestep, respacing) =>
      respacing === "use_exponential_sigmas" || respacing === "use_beta_sigmas"
        ? Math.trunc(timestep)
        : roundHalfEven(timestep),
  });
  return dpmTable(config, settings, frame);
};

/** The choice among these solvers. */
export interface DpmSettings {
  readonly algorithm: Algorithm;
  readonly midpoint: boolean;
  readonly order: number;
  readonly end: "zero" | "sigma_min";
}

/** @throws SchedulerError */
export function dpmSettings(config: ConfigReader): DpmSettings {
  const choice = config.oneOf("algorithm_type", "dpmsolver++", [...ALGORITHMS, RELATED_ALGORITHM]);
  const algorithm: Algorithm = choice === RELATED_ALGORITHM ? "dpmsolver++" : choice;
  const midpoint = config.oneOf("solver_type", "midpoint", ["midpoint", "heun", ...RELATED_SOLVER_TYPES]) !== "heun";
  const order = config.integer("solver_order", 2, [1, algorithm === "sde-dpmsolver" ? 2 : 3]);
  const end = config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]);
  if (!algorithm.endsWith("++") && end === "zero")
    config.fail("final_sigmas_type", `must be sigma_min with ${algorithm}`);
  return { algorithm, midpoint, order, end };
}

/** The table of these solvers over the levels of `frame`. */
export function dpmTable(config: ConfigReader, settings: DpmSettings, frame: SolverFrame): ScheduleTable {
  const { algorithm, midpoint, order } = settings;
  const { timesteps, sigmas } = frame;
  const stochastic = algorithm.startsWith("sde-");
  const expandsX0 = algorithm.endsWith("++");
  const lowerOrderFinal = config.boolean("lower_order_final", true);
  const eulerAtFinal = config.boolean("euler_at_final", false);
  const count = timesteps.length;
  const endsAtZero = sigmas[count] === 0;
  if (endsAtZero && !expandsX0) config.fail("sigmas", `must not end at 0 with ${algorithm}`);

  const orderOf = (row: number, start: number): number => {
    const few = lowerOrderFinal && count < FEW_STEPS;
    if (row === count - 1 && (eulerAtFinal || few || endsAtZero)) return 1;
    const most = row === count - 2 && few ? 2 : order;
    return Math.min(most, order, row - start + 1);
  };

  const lambda = (row: number): number => lambdaOf(frame.scales(row));

  const stepOf = (row: number, start: number): StepRow => {
    const here = frame.scales(row);
    const there = frame.scales(row + 1);
    const predicted = frame.predictions(row);
    const h = lambda(row + 1) - lambda(row);
    const usedOrder = orderOf(row, start);
    // D1 and D2 as coefficients of the predictions m0 (this row's), m1, m2 (one and two rows back).
    let d1 = [0, 0, 0];
    let d2 = [0, 0, 0];
    if (usedOrder > 1) {
      const h0 = lambda(row) - lambda(row - 1);
      d1 = [h / h0, -h / h0, 0];
      if (usedOrder > 2) {
        const h1 = lambda(row - 1) - lambda(row - 2);
        const change = [h / h0, -h / h0 - h / h1, h / h1]; // first difference less the one before it
        d1 = d1.map((value, i) => value + (h0 / (h0 + h1)) * (change[i] as number));
        // Half of what Taylor's formula asks for, which leaves "3M" of order 2; so it is in the reference and its source.
        d2 = change.map((value) => (h / (h0 + h1)) * value);
      }
    }
    const coefficients = solverCoefficients(algorithm, h, midpoint && usedOrder < 3, here, there);
    const model = [0, 1, 2].map(
      (i) =>
        (i === 0 ? coefficients.d0 : 0) + coefficients.d1 * (d1[i] as number) + coefficients.d2 * (d2[i] as number),
    );
    const m0 = expandsX0 ? X0 : predicted.epsilon;
    const slots = order - 1;
    const slotOf = (back: number): number => (row - start - back) % slots;
    const history = new Array<number>(slots).fill(0);
    for (let back = 1; back < usedOrder; back++) history[slotOf(back)] = model[back] as number;
    return stepRow(config.className, {
      timestep: timesteps[row] as number,
      inputScale: frame.inputScale?.(row),
      x0: predicted.x0,
      next: plus(scaled(coefficients.sample, SAMPLE), scaled(model[0] as number, m0)),
      history,
      noise: coefficients.noise,
      drawsNoise: stochastic,
      ...(slots > 0 && { push: { slot: slotOf(0), mix: m0 } }),
    });
  };

  return {
    steps: count,
    timesteps,
    sigmas,
    initNoiseSigma: frame.initNoiseSigma,
    historySlots: order - 1,
    rows: (start) => Array.from(timesteps.subarray(start), (_, index) => stepOf(start + index, start)),
    addNoise: frame.addNoise,
  };
}

/**
 * Coefficients of the sample, the expansion's terms and the noise over a step of `h` in lambda.
 * The integrals φ1 = (eʰ − 1)… are taken with expm1; with h = ∞ (a step to level 0) only order 1 is asked for.
 */
function solverCoefficients(
  algorithm: Algorithm,
  h: number,
  midpoint: boolean,
  here: { readonly alpha: number; readonly sigma: number },
  there: { readonly alpha: number; readonly sigma: number },
): { sample: number; d0: number; d1: number; d2: number; noise: number } {
  const alphaRatio = there.alpha / here.alpha;
  const sigmaRatio = there.sigma / here.sigma;
  const grow = Math.expm1(h);
  const shrink = Math.expm1(-h);
  const shrink2 = Math.expm1(-2 * h);
  // A step to level 0 has h = ∞ and no higher-order terms; keep their 0/0 and ∞ out of the sums.
  const whereFinite = (value: number): number => (Number.isFinite(h) && h !== 0 ? value : 0);
  switch (algorithm) {
    case "dpmsolver++":
      return {
        sample: sigmaRatio,
        d0: -there.alpha * shrink,
        d1: whereFinite(midpoint ? -0.5 * there.alpha * shrink : there.alpha * (shrink / h + 1)),
        d2: whereFinite(-there.alpha * ((shrink + h) / h ** 2 - 0.5)),
        noise: 0,
      };
    case "dpmsolver":
      return {
        sample: alphaRatio,
        d0: -there.sigma * grow,
        d1: whereFinite(midpoint ? -0.5 * there.sigma * grow : -there.sigma * (grow / h - 1)),
        d2: whereFinite(-there.sigma * ((grow - h) / h ** 2 - 0.5)),
        noise: 0,
      };
    case "sde-dpmsolver++":
      return {
        sample: sigmaRatio * Math.exp(-h),
        d0: -there.alpha * shrink2,
        d1: whereFinite(midpoint ? -0.5 * there.alpha * shrink2 : there.alpha * (shrink2 / (2 * h) + 1)),
        // By Taylor's formula the last term has the other sign; so it is in the reference, whose pictures are meant.
        d2: whereFinite(-there.alpha * ((shrink2 + 2 * h) / (2 * h) ** 2 + 0.5)),
        noise: there.sigma * Math.sqrt(-shrink2),
      };
    case "sde-dpmsolver":
      return {
        sample: alphaRatio,
        d0: -2 * there.sigma * grow,
        d1: whereFinite(midpoint ? -there.sigma * grow : -2 * there.sigma * (grow / h - 1)),
        d2: 0,
        noise: there.sigma * Math.sqrt(Math.expm1(2 * h)),
      };
    default:
      return algorithm satisfies never;
  }
}
