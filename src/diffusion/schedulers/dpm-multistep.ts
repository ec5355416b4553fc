// DPM-Solver and DPM-Solver++ (Lu et al. 2022, 2022b), multistep, of order 1 to 3, as ODE or SDE. In the log
// signal-to-noise ratio lambda = log(alpha/sigma) the diffusion ODE is linear but for the model's prediction, which is
// Taylor-expanded from past predictions D0, D1, D2: the solver integrates the linear part exactly. DPM++ expands x0,
// DPM the noise. "DPM++ 2M" is algorithm_type dpmsolver++, order 2; "Karras" is use_karras_sigmas.

import type { Bounds, ConfigReader } from "./config-reader.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { alphasCumprod, COMMON_BETAS, trainTimesteps } from "./noise-schedule.ts";
import { PREDICTION_TYPES, predictions, scalesOfSigma } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import { refuseOptions, refuseThresholding, type ScheduleOptions, type Scheduler } from "./schedule-table.ts";
import { exponentialSigmas, interpolate, karrasSigmas, logSigmas, sigmaToTimestep, trainingSigmas } from "./sigmas.ts";
import {
  checkSteps,
  leadingTimesteps,
  linspace,
  roundHalfEven,
  timestepSpacing,
  trailingTimesteps,
} from "./timesteps.ts";

/** Logarithms of signal to noise, which lie between −16 and 16 where floats are. */
const LAMBDA: Bounds = [-1000, 1000];

/** Fewer steps than this are ended with lower orders where `lower_order_final` is set. */
const FEW_STEPS = 15;

const ALGORITHMS = ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"] as const;
type Algorithm = (typeof ALGORITHMS)[number];

/** Values that configurations of related solvers bring along, which the reference takes for its own defaults. */
const RELATED_ALGORITHM = "deis";
const RELATED_SOLVER_TYPES = ["logrho", "bh1", "bh2"] as const;

/** DPMSolverMultistepScheduler. */
export const dpmMultistep: Scheduler = (config, options) => {
  refuseOptions(config, options, ["sigmas", "mu"]);
  refuseThresholding(config);
  config.refuseUnless("variance_type", [], "is not supported: models that predict their variance are not");
  config.refuseUnless("use_beta_sigmas", [false], "is not supported");
  config.refuseUnless("use_flow_sigmas", [false], "is not supported");
  const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
  const choice = config.oneOf("algorithm_type", "dpmsolver++", [...ALGORITHMS, RELATED_ALGORITHM]);
  const algorithm: Algorithm = choice === RELATED_ALGORITHM ? "dpmsolver++" : choice;
  const stochastic = algorithm.startsWith("sde-");
  const expandsX0 = algorithm.endsWith("++");
  const midpoint = config.oneOf("solver_type", "midpoint", ["midpoint", "heun", ...RELATED_SOLVER_TYPES]) !== "heun";
  const order = config.integer("solver_order", 2, [1, stochastic ? 2 : 3]);
  const finalSigma = config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]);
  if (!expandsX0 && finalSigma === "zero") config.fail("final_sigmas_type", `must be sigma_min with ${algorithm}`);
  const lowerOrderFinal = config.boolean("lower_order_final", true);
  const eulerAtFinal = config.boolean("euler_at_final", false);
  const { timesteps, sigmas } = dpmLevels(config, options, finalSigma === "zero");
  const count = timesteps.length;

  const orderOf = (row: number, start: number): number => {
    const few = lowerOrderFinal && count < FEW_STEPS;
    if (row === count - 1 && (eulerAtFinal || few || finalSigma === "zero")) return 1;
    const most = row === count - 2 && few ? 2 : order;
    return Math.min(most, order, row - start + 1);
  };

  /** Log signal-to-noise ratio of the level at `row`; infinite at level 0. */
  const lambda = (row: number): number => -Math.log(sigmas[row] as number);

  const stepOf = (row: number, start: number): StepRow => {
    const here = scalesOfSigma(sigmas[row] as number);
    const there = scalesOfSigma(sigmas[row + 1] as number);
    const predicted = predictions(prediction, here);
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
    initNoiseSigma: 1,
    historySlots: order - 1,
    rows: (start) => Array.from(timesteps.subarray(start), (_, index) => stepOf(start + index, start)),
    addNoise: (row) => {
      const { alpha, sigma } = scalesOfSigma(sigmas[row] as number);
      return { original: alpha, noise: sigma };
    },
  };
};

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
        d2: 0,
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

function dpmLevels(
  config: ConfigReader,
  options: ScheduleOptions,
  endAtZero: boolean,
): { timesteps: Float64Array; sigmas: Float64Array } {
  const trainSteps = trainTimesteps(config);
  const alphaBars = alphasCumprod(config, COMMON_BETAS, 2 ** -24);
  const training = trainingSigmas(alphaBars);
  const logs = logSigmas(training);
  const respacings = ["use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas"] as const;
  const [respacing, another] = respacings.filter((field) => config.boolean(field, false));
  if (another !== undefined) config.fail(another, `cannot be combined with ${respacing}`);

  let timesteps: Float64Array;
  if (options.timesteps !== undefined) {
    if (respacing !== undefined) config.fail("timesteps", `cannot be chosen together with ${respacing}`);
    const valid = options.timesteps.every((t) => Number.isInteger(t) && t >= 0 && t < trainSteps);
    if (options.timesteps.length === 0 || !valid) {
      config.fail("timesteps", `must be integers from 0 to below num_train_timesteps (${trainSteps})`);
    }
    timesteps = Float64Array.from(options.timesteps);
  } else {
    checkSteps(config, options.steps, trainSteps);
    timesteps = dpmTimesteps(config, options.steps, lastTimestep(config, alphaBars));
  }

  let levels: Float64Array;
  if (respacing === undefined) {
    levels = interpolate(timesteps, training);
  } else {
    const respace = respacing === "use_karras_sigmas" ? karrasSigmas : exponentialSigmas;
    levels = respace(training[0] as number, training.at(-1) as number, options.steps);
    timesteps = levels.map((sigma) => roundHalfEven(sigmaToTimestep(sigma, logs)));
  }
  return { timesteps, sigmas: Float64Array.of(...levels, endAtZero ? 0 : (training[0] as number)).map(Math.fround) };
}

/** One past the noisiest timestep whose lambda is not below `lambda_min_clipped`. */
function lastTimestep(config: ConfigReader, alphaBars: Float32Array): number {
  const least = lambdaMinClipped(config);
  const f32 = Math.fround;
  const log = (square: number): number => f32(Math.log(f32(Math.sqrt(square))));
  const lambdas = alphaBars.map((alphaBar) => log(alphaBar) - log(f32(1 - alphaBar)));
  const clipped = lambdas.reduce((count, lambda) => count + (lambda < least ? 1 : 0), 0);
  if (clipped === alphaBars.length) config.fail("lambda_min_clipped", "leaves no timestep; -5.1 is usual");
  return alphaBars.length - clipped;
}

/** The field is written as a number, or as the string "-Infinity" or "-inf" where the writer had no JSON for its default. */
function lambdaMinClipped(config: ConfigReader): number {
  const text = config.text("lambda_min_clipped");
  if (text === "-Infinity" || text === "-inf") return Number.NEGATIVE_INFINITY;
  return config.optionalNumber("lambda_min_clipped", LAMBDA) ?? Number.NEGATIVE_INFINITY;
}

function dpmTimesteps(config: ConfigReader, steps: number, last: number): Float64Array {
  const spacing = timestepSpacing(config, "linspace");
  switch (spacing) {
    case "linspace": // one more than asked for, and the cleanest left out
      return linspace(0, last - 1, steps + 1)
        .map(roundHalfEven)
        .subarray(1)
        .toReversed();
    case "leading":
      return leadingTimesteps(
        Math.floor(last / (steps + 1)),
        steps + 1,
        config.integer("steps_offset", 0, [0, trainTimesteps(config)]),
      ).subarray(0, steps);
    case "trailing":
      return trailingTimesteps(last, trainTimesteps(config), steps);
    default:
      return spacing satisfies never;
  }
}
