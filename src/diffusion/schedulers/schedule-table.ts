// How each scheduler's file states its schedule: the parts that do not depend on where a run begins, and
// the rows as a function of that. `startAt` makes the `Schedule` the rest of the program sees.

import type { Bounds, ConfigReader } from "./config-reader.ts";
import type { Schedule, StepRow } from "./schedule.ts";

/** A caller's options for a schedule; `createSchedule` says which of them a class takes. */
export interface ScheduleOptions {
  /** Number of inference steps. Not used where `timesteps` or `sigmas` are given. */
  readonly steps: number;
  /** Timesteps to visit, descending, instead of a spacing. */
  readonly timesteps?: readonly number[];
  /** Noise levels to visit, descending, instead of a spacing: with the final 0, for flow matching without. */
  readonly sigmas?: readonly number[];
  /**
   * DDIM: how much of DDPM's noise is added each step; TCD: how far each step jumps beyond its next level (gamma in the
   * paper); 0 to 1 (default 0). Other classes ignore it, as the reference does.
   */
  readonly eta?: number;
  /** Flow matching with `use_dynamic_shifting`: the shift's logarithm, which grows with the picture (see `flowShift`). */
  readonly mu?: number;
  /** LCM: length of the distillation schedule, instead of the configuration's. */
  readonly originalInferenceSteps?: number;
  /**
   * LCM: part of the distillation schedule to choose timesteps from, as the reference's own LCM image-to-image pipeline
   * does. Its general image-to-image pipeline, and `img2imgStart`, leave it at 1 and skip rows instead.
   */
  readonly lcmStrength?: number;
}

/** A schedule before a starting row is chosen. */
export interface ScheduleTable {
  readonly steps: number;
  readonly timesteps: Float64Array;
  /** One more than timesteps, or (Euler's log_linear) two. */
  readonly sigmas?: Float64Array;
  readonly initNoiseSigma: number;
  readonly historySlots: number;
  /** Rows of one step; left out: 1. */
  readonly evaluations?: 1 | 2;
  /** Rows `start` and on, of a run whose first row is `start`. */
  readonly rows: (start: number) => StepRow[];
  /** Row counted in the whole table. */
  readonly addNoise: (row: number) => { readonly original: number; readonly noise: number };
}

/** Builds a table from configuration and options; throws SchedulerError. */
export type Scheduler = (config: ConfigReader, options: ScheduleOptions) => ScheduleTable;

/** The schedule of a run that begins at row `start` of `table`. */
export function startAt(className: string, table: ScheduleTable, start: number): Schedule {
  const count = table.timesteps.length;
  const { evaluations = 1 } = table;
  if (start % evaluations !== 0) throw new RangeError(`row ${start} is not the first evaluation of a step`);
  const checked = (row: number, most: number): number => {
    if (!Number.isInteger(row) || row < 0 || row > most) throw new RangeError(`row ${row} is outside 0 to ${most}`);
    return row;
  };
  return {
    className,
    steps: table.steps,
    timesteps: table.timesteps.slice(start),
    initNoiseSigma: table.initNoiseSigma,
    ...(table.sigmas && { sigmas: table.sigmas.slice(start) }),
    historySlots: table.historySlots,
    evaluations,
    rows: table.rows(start),
    addNoise: (row) => table.addNoise(start + checked(row, count - start - 1)),
    from: (row) => startAt(className, table, start + checked(row, count - start - 1)),
  };
}

/** Refuses options that the reference's `set_timesteps` of this class does not take. */
export function refuseOptions(
  config: ConfigReader,
  options: ScheduleOptions,
  names: readonly ("timesteps" | "sigmas" | "mu")[],
): void {
  for (const name of names) {
    if (options[name] !== undefined) config.fail(name, "cannot be chosen for this scheduler; leave it out");
  }
}

/** ᾱ at `timestep`, or the error that a schedule reaching outside the training range deserves. */
export function alphaBarAt(config: ConfigReader, alphaBars: Float32Array, timestep: number): number {
  const value = alphaBars[timestep];
  if (value === undefined) {
    return config.fail(
      "steps",
      `reach timestep ${timestep}, outside the ${alphaBars.length} trained ones; ask for fewer steps or lower steps_offset`,
    );
  }
  return value;
}

/** Refuses `thresholding`, which is not linear: it needs a quantile of the whole prediction. */
export function refuseThresholding(config: ConfigReader): void {
  config.refuseUnless(
    "thresholding",
    [false],
    "is not supported (it is meant for pixel-space models); set it to false",
  );
}

/** Latents are of the order of 1, and 1 is what every configuration has; below 0 nothing would be left between. */
const CLIP_RANGE: Bounds = [0, 1000];

/** `clip_sample_range` where `clip_sample` is on, else Infinity. */
export function clampRange(config: ConfigReader, onByDefault: boolean): number {
  return config.boolean("clip_sample", onByDefault)
    ? config.number("clip_sample_range", 1, CLIP_RANGE)
    : Number.POSITIVE_INFINITY;
}

/** add_noise of the variance-preserving classes. */
export function preservingNoise(alphaBar: number): { original: number; noise: number } {
  return { original: Math.sqrt(alphaBar), noise: Math.sqrt(1 - alphaBar) };
}
