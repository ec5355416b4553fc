// Solvers that call the model twice a step, in the variance-exploding convention: once at the level where the step begins,
// once at a level further down, reached with the first answer. Each call is a row; the sample that the step began with is
// put aside in slot 0. A step to level 0 is one call, Euler's.

import type { ConfigReader } from "./config-reader.ts";
import { ancestral, explodingInput, explodingStart } from "./euler.ts";
import { eulerLevels, type Levels, type Rounding, timestepBetween } from "./levels.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { explodingX0, PREDICTION_TYPES, type PredictionType } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import { refuseOptions, type ScheduleOptions, type Scheduler, type ScheduleTable } from "./schedule-table.ts";
import { type TimestepSpacing, timestepSpacing } from "./timesteps.ts";

/** One call's move: coefficients of its sample, of its x0, of the sample that the step began with, and of fresh noise. */
interface Move {
  readonly sample: number;
  readonly x0: number;
  readonly base?: number;
  /** Undefined: none is drawn. */
  readonly noise?: number;
}

/** The calls of a step that does not end at level 0. */
interface Calls {
  /** Level of the second call. */
  readonly middle: number;
  /** True if the second call is the one of the next step's level: it reads that one's timestep, which may be rounded. */
  readonly isNext?: boolean;
  readonly first: Move;
  readonly second: Move;
}

/** Between the levels where a step begins and ends. */
type Solver = (sigma: number, next: number) => Calls;

/** Along the derivative (x − x0) / sigma by `length`. */
function along(sigma: number, length: number): Move {
  return { sample: 1 + length / sigma, x0: -length / sigma };
}

/** From `sigma` to `to` with a constant x0: the exact solution, as DPM-Solver++ has it. */
function towards(sigma: number, to: number): Move {
  return { sample: to / sigma, x0: 1 - to / sigma };
}

/** The sample that the step began with in the place of the call's own. */
function fromBase({ sample, x0 }: Move, noise?: number): Move {
  return { sample: 0, base: sample, x0, noise };
}

/** Heun's method (Karras et al. 2022, algorithm 1): the mean of the derivatives at both ends. */
const heunSolver: Solver = (sigma, next) => {
  const half = (next - sigma) / 2;
  // x + (d1 + d2)·h/2, where the second call's sample is x + d1·h.
  return {
    middle: next,
    isNext: true,
    first: along(sigma, next - sigma),
    second: { base: 0.5, sample: 0.5 + half / next, x0: -half / next },
  };
};

/** The geometric mean of two levels. */
function between(sigma: number, to: number): number {
  return Math.exp((Math.log(sigma) + Math.log(to)) / 2);
}

/** `base` and a step by the derivative that a call at `middle` gives. */
function byDerivativeAt(middle: number, length: number, noise?: number): Move {
  return { base: 1, sample: length / middle, x0: -length / middle, noise };
}

/** DPM-Solver-2 (Lu et al. 2022) as k-diffusion's sample_dpm_2 has it: the derivative half-way in the logarithm. */
const dpm2Solver: Solver = (sigma, next) => {
  const middle = between(sigma, next);
  return { middle, first: along(sigma, middle - sigma), second: byDerivativeAt(middle, next - sigma) };
};

/** The same down to below the next level, and up with fresh noise. */
const dpm2AncestralSolver: Solver = (sigma, next) => {
  const { down, up } = ancestral(sigma, next);
  const middle = between(sigma, down);
  return { middle, first: along(sigma, middle - sigma), second: byDerivativeAt(middle, down - sigma, up) };
};

/** DPM-Solver++ (SDE) of k-diffusion (sample_dpmpp_sde, r = 1/2): each call ends with fresh noise. */
const dpmSdeSolver: Solver = (sigma, next) => {
  const middle = between(sigma, next);
  const [half, whole] = [ancestral(sigma, middle), ancestral(sigma, next)];
  return {
    middle,
    first: { ...towards(sigma, half.down), noise: half.up },
    second: fromBase(towards(sigma, whole.down), whole.up),
  };
};

/** DPM-Solver++(2S) with ancestral noise of k-diffusion (sample_dpmpp_2s_ancestral, r = 1/2). */
const dpm2sAncestralSolver: Solver = (sigma, next) => {
  const { down, up } = ancestral(sigma, next);
  const middle = between(sigma, down);
  return { middle, first: towards(sigma, middle), second: fromBase(towards(sigma, down), up) };
};

/** HeunDiscreteScheduler. */
export const heun: Scheduler = (config, options) => table(config, options, heunSolver, PREDICTION_TYPES);

const DERIVATIVE_TYPES = ["epsilon", "v_prediction"] as const;

/** The reference's DPM2 classes round Karras timesteps, and no others. */
const roundKarras: Rounding = (timestep, respacing) =>
  respacing === "use_karras_sigmas" ? Math.round(timestep) : Math.fround(timestep);

/** KDPM2DiscreteScheduler. */
export const dpm2: Scheduler = (config, options) => table(config, options, dpm2Solver, DERIVATIVE_TYPES, roundKarras);

/** KDPM2AncestralDiscreteScheduler. */
export const dpm2Ancestral: Scheduler = (config, options) =>
  table(config, options, dpm2AncestralSolver, DERIVATIVE_TYPES, roundKarras);

/** DPMSolverSDEScheduler. Its noise is drawn from the run's generator, not from a Brownian tree with a seed of its own. */
export const dpmSde: Scheduler = (config, options) => table(config, options, dpmSdeSolver, DERIVATIVE_TYPES);

/** DPM++ 2S a, which the reference has no class for. */
export const dpm2sAncestral: Scheduler = (config, options) =>
  table(config, options, dpm2sAncestralSolver, DERIVATIVE_TYPES);

function table(
  config: ConfigReader,
  options: ScheduleOptions,
  solver: Solver,
  predictions: readonly PredictionType[],
  rounding?: Rounding,
): ScheduleTable {
  refuseOptions(config, options, ["mu"]);
  const prediction = config.oneOf<PredictionType>("prediction_type", "epsilon", predictions);
  const spacing = timestepSpacing(config, "linspace");
  const levels = eulerLevels(config, options, spacing, { rounding });
  return tableOf(config, levels, solver, prediction, spacing);
}

function tableOf(
  config: ConfigReader,
  levels: Levels,
  solver: Solver,
  prediction: PredictionType,
  spacing: TimestepSpacing,
): ScheduleTable {
  const { sigmas } = levels;
  const timestepOf = timestepBetween(config);
  const rowsOf = (timestep: number, index: number): StepRow[] => {
    const sigma = sigmas[index] as number;
    const next = sigmas[index + 1] as number;
    const isEuler = next === 0;
    const calls = isEuler ? undefined : solver(sigma, next);
    const row = (at: number, timestepAt: number, move: Move, isFirst: boolean): StepRow =>
      stepRow(config.className, {
        timestep: timestepAt,
        inputScale: explodingInput(at),
        x0: explodingX0(prediction, at),
        next: plus(scaled(move.sample, SAMPLE), scaled(move.x0, X0)),
        history: [move.base ?? 0],
        noise: move.noise ?? 0,
        drawsNoise: move.noise !== undefined,
        ...(isFirst && !isEuler && { push: { slot: 0, mix: SAMPLE } }),
      });
    if (calls === undefined) return [row(sigma, timestep, towards(sigma, 0), true)];
    const { middle, first, second } = calls;
    const ownTimestep = calls.isNext ? levels.timesteps[index + 1] : undefined;
    const middleTimestep = ownTimestep ?? Math.fround(timestepOf(middle));
    return [row(sigma, timestep, first, true), row(middle, middleTimestep, second, false)];
  };
  const all = Array.from(levels.timesteps, rowsOf).flat();
  // As the reference lists them: that of each call's step, the second call counted to the next one.
  const listed = all.map((_, row) => sigmas[Math.ceil(row / 2)] as number);
  return {
    steps: levels.timesteps.length,
    timesteps: Float64Array.from(all, ({ timestep }) => timestep),
    sigmas: Float64Array.of(...listed, sigmas[levels.timesteps.length] as number),
    initNoiseSigma: explodingStart(levels, spacing),
    historySlots: 1,
    evaluations: 2,
    rows: (start) => all.slice(start),
    addNoise: (row) => ({ original: 1, noise: listed[row] as number }),
  };
}
