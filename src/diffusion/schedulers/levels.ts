// The noise levels of a run and the timesteps that go with them, in the two forms that the classes of the reference
// have. The Euler kind (Euler, Heun, DPM2, DPM++ SDE) reads levels off at fractional timesteps; the solver kind (DPM++
// multistep and single-step, UniPC, DEIS) spaces one step more than is asked for, over integers. Both may be given levels
// by the caller, or be respaced over the same range: Karras, evenly in the logarithm, or by quantiles of a beta distribution.

import type { Bounds, ConfigReader } from "./config-reader.ts";
import { alphasCumprod, COMMON_BETAS, linspaceFloat32, trainTimesteps } from "./noise-schedule.ts";
import type { ScheduleOptions } from "./schedule-table.ts";
import {
  betaSigmas,
  exponentialSigmas,
  interpolate,
  karrasSigmas,
  logSigmas,
  sigmaToTimestep,
  trainingSigmas,
} from "./sigmas.ts";
import {
  checkSteps,
  leadingTimesteps,
  linspace,
  roundHalfEven,
  type TimestepSpacing,
  timestepSpacing,
  trailingTimesteps,
} from "./timesteps.ts";

const f32 = Math.fround;

/** Video models go up to 700, with data of deviation 1. */
const SIGMA: Bounds = [0, 100_000];

/** The noisiest level that a run may be asked to begin at. */
const MOST_SIGMA = 100_000;

/** Logarithms of signal to noise, which lie between −16 and 16 where floats are. */
const LAMBDA: Bounds = [-1000, 1000];

/** The shift of flow matching's levels; public models have 1 to 12. */
const FLOW_SHIFT: Bounds = [0.001, 1000];

export interface Levels {
  /** The model's input at each level but the last. */
  readonly timesteps: Float64Array;
  /** One more than timesteps: the last is where the run ends. Log-linear ones of Euler are two more. */
  readonly sigmas: Float64Array;
}

/** Ways to respace levels, by the field of a configuration that asks for one. */
export const RESPACINGS = {
  use_karras_sigmas: karrasSigmas,
  use_exponential_sigmas: exponentialSigmas,
  use_beta_sigmas: betaSigmas,
} as const;
export type Respacing = keyof typeof RESPACINGS | "use_lu_lambdas";

/** The respacing that a configuration asks for. @throws SchedulerError if it asks for two */
export function respacingOf<Name extends Respacing>(config: ConfigReader, names: readonly Name[]): Name | undefined {
  const [first, second] = names.filter((field) => config.boolean(field, false));
  if (second !== undefined) config.fail(second, `cannot be combined with ${first}`);
  return first;
}

/** As many levels between the two, evenly in lambda for `use_lu_lambdas`. */
function respaced(how: Respacing, least: number, most: number, count: number): Float64Array {
  return (how === "use_lu_lambdas" ? exponentialSigmas : RESPACINGS[how])(least, most, count);
}

export const EULER_RESPACINGS = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const;
const SOLVER_RESPACINGS = [...EULER_RESPACINGS, "use_lu_lambdas"] as const;

/**
 * Levels that a caller gives, with the timesteps that belong to them.
 * @throws SchedulerError unless they descend to a last one of 0 or more
 */
function chosenLevels(config: ConfigReader, sigmas: readonly number[], logs: Float32Array): Levels {
  const levels = float32(...sigmas);
  const descends = levels.every((sigma, i) => i === 0 || sigma < (levels[i - 1] as number));
  if (levels.length < 2 || !descends || (levels.at(-1) as number) < 0 || !((levels[0] as number) <= MOST_SIGMA)) {
    config.fail("sigmas", "must be two or more noise levels, each below the one before, and the last 0 or above");
  }
  return { timesteps: float32(...levels.subarray(0, -1).map((sigma) => sigmaToTimestep(sigma, logs))), sigmas: levels };
}

/** Options that exclude each other. @throws SchedulerError */
function checkChoices(config: ConfigReader, options: ScheduleOptions, respacing: Respacing | undefined): void {
  if (options.sigmas !== undefined && options.timesteps !== undefined) {
    config.fail("sigmas", "cannot be combined with timesteps");
  }
  if (options.timesteps !== undefined && respacing !== undefined) {
    config.fail("timesteps", `cannot be chosen together with ${respacing}`);
  }
}

/** How the reference's class rounds the timesteps of respaced levels. */
export type Rounding = (timestep: number, respacing: Respacing) => number;

export interface EulerLevelOptions {
  readonly rounding?: Rounding;
  /** The fields of a configuration that the reference's class has: only Euler's chooses how levels are read off and end. */
  readonly reads?: "all" | "respacings" | "spacing";
}

/** Levels of the Euler kind. */
export function eulerLevels(
  config: ConfigReader,
  options: ScheduleOptions,
  spacing: TimestepSpacing,
  { rounding = f32, reads = "respacings" }: EulerLevelOptions = {},
): Levels {
  const training = trainingSigmas(alphasCumprod(config, COMMON_BETAS, 2 ** -24));
  const logs = logSigmas(training);
  const respacing = reads === "spacing" ? undefined : respacingOf(config, EULER_RESPACINGS);
  checkChoices(config, options, respacing);
  if (options.sigmas !== undefined) return chosenLevels(config, options.sigmas, logs);

  let timesteps = eulerTimesteps(config, options, spacing);
  let levels: Float64Array;
  const choice = <T extends string>(field: string, usual: T, other: T): T =>
    reads === "all" ? config.oneOf(field, usual, [usual, other]) : usual;
  if (choice("interpolation_type", "linear", "log_linear") === "linear") {
    levels = interpolate(timesteps, training);
  } else {
    // One level more than steps: the last step ends at the least trained level, not at 0.
    const spaced = linspaceFloat32(logs.at(-1) as number, logs[0] as number, timesteps.length + 1);
    levels = Float64Array.from(spaced.map(Math.exp));
  }
  if (respacing !== undefined) {
    const bound = (field: string) => (reads === "all" ? config.optionalNumber(field, SIGMA) : null);
    const least = bound("sigma_min") ?? (levels.at(-1) as number);
    const most = bound("sigma_max") ?? (levels[0] as number);
    levels = respaced(respacing, least, most, timesteps.length);
    timesteps = levels.map((sigma) => rounding(sigmaToTimestep(sigma, logs), respacing));
  }
  const last = choice("final_sigmas_type", "zero", "sigma_min") === "zero" ? 0 : (training[0] as number);
  return { timesteps: float32(...timesteps), sigmas: float32(...levels, last) };
}

/** The timestep of a level between those of training. */
export function timestepBetween(config: ConfigReader): (sigma: number) => number {
  const logs = logSigmas(trainingSigmas(alphasCumprod(config, COMMON_BETAS, 2 ** -24)));
  return (sigma) => sigmaToTimestep(sigma, logs);
}

/** The Euler classes' timesteps: float32, and fractional under linspace. */
function eulerTimesteps(config: ConfigReader, options: ScheduleOptions, spacing: TimestepSpacing): Float64Array {
  const trainSteps = trainTimesteps(config);
  if (options.timesteps !== undefined) {
    if (options.timesteps.length === 0 || !options.timesteps.every((t) => t >= 0 && t < trainSteps)) {
      config.fail("timesteps", `must be numbers from 0 to below num_train_timesteps (${trainSteps})`);
    }
    return float32(...options.timesteps);
  }
  checkSteps(config, options.steps, trainSteps);
  switch (spacing) {
    case "linspace":
      return float32(...linspace(0, trainSteps - 1, options.steps).reverse());
    case "leading": {
      const offset = config.integer("steps_offset", 0, [0, trainSteps]);
      return leadingTimesteps(Math.floor(trainSteps / options.steps), options.steps, offset);
    }
    case "trailing":
      return trailingTimesteps(trainSteps, trainSteps, options.steps);
    default:
      return spacing satisfies never;
  }
}

export interface SolverLevelOptions {
  /** Where the run ends. */
  readonly end: "zero" | "sigma_min";
  /** True if the class reads `lambda_min_clipped`. */
  readonly clips: boolean;
  /** True if the class reads `timestep_spacing`; else its timesteps are those of linspace. */
  readonly spaces: boolean;
  readonly rounding: Rounding;
}

/** Levels of the solver kind. */
export function solverLevels(
  config: ConfigReader,
  options: ScheduleOptions,
  { end, clips, spaces, rounding }: SolverLevelOptions,
): Levels {
  const trainSteps = trainTimesteps(config);
  const respacing = respacingOf(config, SOLVER_RESPACINGS);
  checkChoices(config, options, respacing);
  if (usesFlow(config)) return flowLevels(config, options, end);
  const alphaBars = alphasCumprod(config, COMMON_BETAS, 2 ** -24);
  const training = trainingSigmas(alphaBars);
  const logs = logSigmas(training);
  if (options.sigmas !== undefined) return chosenLevels(config, options.sigmas, logs);

  let timesteps: Float64Array;
  if (options.timesteps !== undefined) {
    const valid = options.timesteps.every((t) => Number.isInteger(t) && t >= 0 && t < trainSteps);
    if (options.timesteps.length === 0 || !valid) {
      config.fail("timesteps", `must be integers from 0 to below num_train_timesteps (${trainSteps})`);
    }
    timesteps = Float64Array.from(options.timesteps);
  } else {
    checkSteps(config, options.steps, trainSteps);
    const last = clips ? lastTimestep(config, alphaBars) : trainSteps;
    timesteps = solverTimesteps(config, options.steps, last, spaces ? timestepSpacing(config, "linspace") : "linspace");
  }

  let levels: Float64Array;
  if (respacing === undefined) {
    levels = interpolate(timesteps, training);
  } else {
    levels = respaced(respacing, training[0] as number, training.at(-1) as number, options.steps);
    timesteps = levels.map((sigma) => rounding(sigmaToTimestep(sigma, logs), respacing));
  }
  return { timesteps, sigmas: float32(...levels, end === "zero" ? 0 : (training[0] as number)) };
}

/** True if levels are those of flow matching, 0 to 1. */
export function usesFlow(config: ConfigReader): boolean {
  return config.boolean("use_flow_sigmas", false);
}

/** Flow matching's levels, from 1 down, as the solvers space them. */
function flowLevels(config: ConfigReader, options: ScheduleOptions, end: "zero" | "sigma_min"): Levels {
  const trainSteps = trainTimesteps(config);
  const shift = config.number("flow_shift", 1, FLOW_SHIFT);
  let levels: Float64Array;
  if (options.timesteps !== undefined) config.fail("timesteps", "cannot be chosen together with use_flow_sigmas");
  if (options.sigmas !== undefined) {
    levels = Float64Array.from(options.sigmas);
    if (levels.length === 0 || !levels.every((sigma, i) => sigma > 0 && sigma <= 1 && sigma < (levels[i - 1] ?? 2)))
      config.fail("sigmas", "must be descending numbers above 0 and at most 1");
  } else {
    checkSteps(config, options.steps, trainSteps);
    const unshifted = linspace(1, 1 / trainSteps, options.steps + 1).map((alpha) => 1 - alpha);
    levels = unshifted
      .map((sigma) => (shift * sigma) / (1 + (shift - 1) * sigma))
      .subarray(1)
      .toReversed();
  }
  const timesteps = levels.map((sigma) => Math.trunc(sigma * trainSteps));
  return { timesteps, sigmas: float32(...levels, end === "zero" ? 0 : (levels.at(-1) as number)) };
}

/** One past the noisiest timestep whose lambda is not below `lambda_min_clipped`. */
function lastTimestep(config: ConfigReader, alphaBars: Float32Array): number {
  const least = lambdaMinClipped(config);
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

function solverTimesteps(config: ConfigReader, steps: number, last: number, spacing: TimestepSpacing): Float64Array {
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

export function float32(...values: readonly number[]): Float64Array {
  return Float64Array.from(values, f32);
}
