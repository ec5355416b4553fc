// Which training timesteps a run visits: the three spacings of Lin et al. 2023, table 2 ("Common Diffusion Noise
// Schedules and Sample Steps are Flawed"), as the reference rounds them, from the noisiest down. The integers follow
// numpy (`linspace`, `arange`, `rint`), whose order of operations decides what rounds where.
//
// One deviation: for some counts (61, 103, 121, … of 1000) floating point makes the reference's `arange` of the trailing
// spacing one entry too long, and it runs the model at timestep −1. That entry is left out here.

import type { ConfigReader } from "./config-reader.ts";

export const TIMESTEP_SPACINGS = ["linspace", "leading", "trailing"] as const;
export type TimestepSpacing = (typeof TIMESTEP_SPACINGS)[number];

/** `timestep_spacing` of the configuration. */
export function timestepSpacing(config: ConfigReader, fallback: TimestepSpacing): TimestepSpacing {
  return config.oneOf("timestep_spacing", fallback, TIMESTEP_SPACINGS);
}

/**
 * Checks the number of steps a caller asks for.
 * @throws SchedulerError unless it is an integer between 1 and `most`.
 */
export function checkSteps(config: ConfigReader, steps: number, most: number): void {
  if (!Number.isInteger(steps) || steps < 1 || steps > most) {
    config.fail("steps", `must be ${integerUpTo(most)}`);
  }
}

/** A range in words. `most` is at least 1. */
export function integerUpTo(most: number): string {
  return most === 1 ? "1" : `an integer from 1 to ${most}`;
}

/** `numpy.linspace(start, stop, count, endpoint)` in float64. */
export function linspace(start: number, stop: number, count: number, endpoint = true): Float64Array {
  const intervals = endpoint ? count - 1 : count;
  const values = Float64Array.from({ length: count }, (_, i) =>
    intervals === 0 ? start : i * ((stop - start) / intervals) + start,
  );
  if (endpoint && count > 1) values[count - 1] = stop;
  return values;
}

/** `numpy.rint`: to the nearest integer, halves to the even one. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** `steps_offset + step·(0 … count−1)`, descending. */
export function leadingTimesteps(step: number, count: number, offset: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => (count - 1 - i) * step + offset);
}

/** `from, from − total/count, …`, each rounded and less one; descending. */
export function trailingTimesteps(from: number, total: number, count: number): Float64Array {
  const ratio = total / count;
  const delta = from - ratio - from; // numpy's arange steps by its first difference, which has been rounded once
  const length = Math.ceil(from / ratio);
  return Float64Array.from({ length }, (_, i) => roundHalfEven(from + i * delta) - 1).filter((t) => t >= 0);
}

/**
 * The `count` integer timesteps of a spacing over `trainSteps` training timesteps, descending (as DDIM and PNDM do;
 * the multistep and Euler classes differ in details and build theirs from the parts above).
 */
export function spacedTimesteps(
  spacing: TimestepSpacing,
  trainSteps: number,
  count: number,
  offset: number,
): Float64Array {
  switch (spacing) {
    case "linspace":
      return linspace(0, trainSteps - 1, count)
        .map(roundHalfEven)
        .reverse();
    case "leading":
      return leadingTimesteps(Math.floor(trainSteps / count), count, offset);
    case "trailing":
      return trailingTimesteps(trainSteps, trainSteps, count);
    default:
      return spacing satisfies never;
  }
}
