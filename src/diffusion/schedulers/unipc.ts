// UniPC (Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework"): a multistep predictor, and a corrector that
// uses the prediction made at the new level to mend the step that led there, without a further call of the model.
//
// A row's call is made at the uncorrected sample; the row corrects it and steps on from the result. Predictor and
// corrector start from the same earlier sample with the same factor, so the corrected sample is the sample plus the
// difference of their predictions' weights, and no earlier sample is needed. History: the last predictions, in rotation.

import type { ConfigReader } from "./config-reader.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { lambdaOf } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import { refuseOptions, refuseThresholding, type Scheduler } from "./schedule-table.ts";
import { type SolverFrame, solverFrame } from "./solver-frame.ts";
import { roundHalfEven } from "./timesteps.ts";

/** Steps at which a corrector may be turned off. */
const MOST_STEPS = 10_000;

interface Solver {
  readonly frame: SolverFrame;
  readonly expandsX0: boolean;
  /** B(h) of the paper: h, or eʰ − 1. */
  readonly kind: "bh1" | "bh2";
}

/** Coefficients of a step: of its sample, and of the predictions, that at the step's end first, then newest first. */
interface Weights {
  readonly sample: number;
  readonly predictions: readonly number[];
}

/** UniPCMultistepScheduler. */
export const unipc: Scheduler = (config, options) => {
  refuseOptions(config, options, ["mu"]);
  refuseThresholding(config);
  config.refuseUnless("solver_p", [], "is not supported");
  const asked = config.oneOf("solver_type", "bh2", ["bh1", "bh2", "midpoint", "heun", "logrho"]);
  const order = config.integer("solver_order", 2, [1, 4]);
  const end = config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]);
  const solver: Solver = {
    frame: solverFrame(config, options, {
      end,
      clips: false,
      spaces: true,
      rounding: (timestep, respacing) =>
        respacing === "use_karras_sigmas" ? roundHalfEven(timestep) : Math.trunc(timestep),
    }),
    expandsX0: config.boolean("predict_x0", true),
    kind: asked === "bh1" ? "bh1" : "bh2",
  };
  const { frame } = solver;
  const count = frame.timesteps.length;
  const lowerOrderFinal = config.boolean("lower_order_final", true);
  const endsAtZero = frame.sigmas[count] === 0;
  if (endsAtZero && !(lowerOrderFinal && solver.expandsX0)) {
    config.fail("final_sigmas_type", "must be sigma_min unless lower_order_final and predict_x0 are set");
  }
  const uncorrected = disabledCorrectors(config);
  const orderOf = (row: number, start: number): number =>
    Math.min(order, row - start + 1, lowerOrderFinal ? count - row : order);

  const rowAt = (row: number, start: number): StepRow => {
    const slotOf = (back: number): number => (row - start - back + order) % order;
    const predictor = weightsOf(solver, row, orderOf(row, start), false);
    let base = { now: 0, past: [] as readonly number[] };
    if (row > start && !uncorrected.has(row - 1)) {
      const before = orderOf(row - 1, start);
      const predicted = weightsOf(solver, row - 1, before, false).predictions;
      const corrected = weightsOf(solver, row - 1, before, true).predictions;
      const change = corrected.map((weight, i) => weight - (predicted[i] as number));
      base = { now: change[0] as number, past: change.slice(1) };
    }
    const [, now, ...past] = predictor.predictions;
    const history = new Array<number>(order).fill(0);
    const use = (weights: readonly number[], factor: number) => {
      for (const [i, weight] of weights.entries()) {
        history[slotOf(i + 1)] = (history[slotOf(i + 1)] as number) + factor * weight;
      }
    };
    use(past, 1);
    use(base.past, predictor.sample);
    const own = frame.predictions(row);
    const prediction = solver.expandsX0 ? X0 : own.epsilon;
    return stepRow(config.className, {
      timestep: frame.timesteps[row] as number,
      x0: own.x0,
      next: plus(scaled(predictor.sample, SAMPLE), scaled((now as number) + predictor.sample * base.now, prediction)),
      history,
      push: { slot: slotOf(0), mix: prediction },
    });
  };

  return {
    steps: count,
    timesteps: frame.timesteps,
    sigmas: frame.sigmas,
    initNoiseSigma: frame.initNoiseSigma,
    historySlots: order,
    rows: (start) => Array.from({ length: count - start }, (_, index) => rowAt(start + index, start)),
    addNoise: frame.addNoise,
  };
};

/** Rows whose step is left uncorrected. */
function disabledCorrectors(config: ConfigReader): ReadonlySet<number> {
  return new Set(config.integers("disable_corrector", [0, MOST_STEPS]));
}

/** Weights of the step from `row` to the next level, with the prediction at its end if it corrects. */
function weightsOf({ frame, expandsX0, kind }: Solver, row: number, order: number, corrects: boolean): Weights {
  const [here, there] = [frame.scales(row), frame.scales(row + 1)];
  const lambda = (at: number) => lambdaOf(frame.scales(at));
  const h = lambda(row + 1) - lambda(row);
  const signed = expandsX0 ? -h : h;
  const grown = Math.expm1(signed);
  const bh = kind === "bh1" ? signed : grown;
  const scale = expandsX0 ? there.alpha : there.sigma;
  const sample = expandsX0 ? there.sigma / here.sigma : there.alpha / here.alpha;
  // Places of the earlier predictions as shares of h; the end of the step is 1.
  const places = Array.from({ length: order - 1 }, (_, i) => (lambda(row - i - 1) - lambda(row)) / h);
  const shares = unknowns(places, signed, grown, bh, corrects);
  const weights = [0, -scale * grown, ...places.map(() => 0)];
  const add = (at: number, place: number, share: number) => {
    const weight = (-scale * bh * share) / place;
    weights[at] = (weights[at] as number) + weight;
    weights[1] = (weights[1] as number) - weight;
  };
  for (const [i, place] of places.entries()) add(i + 2, place, shares[i] as number);
  if (corrects) add(0, 1, shares.at(-1) as number);
  return { sample, predictions: weights };
}

/** The shares ρ of equation 4 or, of the predictor, of the system without its last line and place. */
function unknowns(places: readonly number[], signed: number, grown: number, bh: number, corrects: boolean): number[] {
  const all = corrects ? [...places, 1] : [...places];
  if (all.length === 0) return [];
  // As the reference has it for order 2's predictor and order 1's corrector, where the system would give less accuracy.
  if (all.length === 1) return [0.5];
  let phi = grown / signed - 1;
  let factorial = 1;
  const right = all.map((_, i) => {
    const value = (phi * factorial) / bh;
    factorial *= i + 2;
    phi = phi / signed - 1 / factorial;
    return value;
  });
  return solve(
    all.map((_, power) => all.map((place) => place ** power)),
    right,
  );
}

/** Solves a small linear system by elimination with pivots. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i] as number]);
  const n = rows.length;
  for (let column = 0; column < n; column++) {
    const rest = rows.slice(column);
    const pivot = rest.reduce((best, row) =>
      Math.abs(row[column] as number) > Math.abs(best[column] as number) ? row : best,
    );
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(column, 0, pivot);
    for (const row of rows) {
      if (row === pivot) continue;
      const factor = (row[column] as number) / (pivot[column] as number);
      for (let i = column; i <= n; i++) row[i] = (row[i] as number) - factor * (pivot[i] as number);
    }
  }
  return rows.map((row, i) => (row[n] as number) / (row[i] as number));
}
