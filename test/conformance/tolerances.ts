/**
 * How far a result may be from its reference, in one table. The bounds are those of the project's issue for conformance,
 * which are its users' only promise about numbers; what is measured on each machine is printed beside them.
 */

import type { Storage } from "../../src/graph/tensor.ts";

export interface Tolerance {
  readonly bound: number;
  /**
   * The figure that is bounded:
   * - `relative`: the largest absolute error over the reference's largest magnitude
   * - `absolute`: the largest absolute error
   * - `exact`: nothing may differ
   * - `pixels`: the share of uint8 values that differ by more than 1
   * - `mean`: the mean absolute error
   */
  readonly measure: "relative" | "absolute" | "exact" | "pixels" | "mean";
}

const relative = (bound: number): Tolerance => ({ measure: "relative", bound });

export const EXACT: Tolerance = { measure: "exact", bound: 0 };

/** One pass of a network. f16: eleven bits of every activation and weight. */
const NETWORK: Record<Storage, Tolerance> = { f32: relative(1e-4), f16: relative(2e-2) };

/** Schedules, and steps along them in float64 or f32. */
const SCHEDULER: Tolerance = relative(1e-5);

/** Draws of PyTorch's generators: its vectorised logarithm, sine and cosine are its own. */
const NOISE: Tolerance = { measure: "absolute", bound: 5e-6 };

/** Latents and pictures after several guided steps, which amplify what a single pass leaves. f16: for information, as a network's. */
const PIPELINE: Record<Storage, Tolerance> = { f32: relative(1e-3), f16: relative(2e-2) };

/** uint8 pictures. f32: ±1 on 99.9 % of the values; f16: 2 of 255 on average. */
const PICTURE: Record<Storage, Tolerance> = {
  f32: { measure: "pixels", bound: 1e-3 },
  f16: { measure: "mean", bound: 2 },
};

/** The tolerances of a run in this storage. */
export function tolerancesOf(storage: Storage) {
  return {
    exact: EXACT,
    network: NETWORK[storage],
    scheduler: SCHEDULER,
    noise: NOISE,
    pipeline: PIPELINE[storage],
    picture: PICTURE[storage],
  };
}

export type Tolerances = ReturnType<typeof tolerancesOf>;

/**
 * A float32 network over its limit passes where rounding every intermediate once, in exact arithmetic, moves the result by
 * more than a FLOOR_FACTOR-th of the difference: two programs also round within their sums, each by about √n of what one
 * rounding does, and n is 10² to 10³. For a network that does not amplify roundings this is far below its limit, so it
 * excuses nothing but those. f16 has no such excuse: its limit is about what f16 does to a network.
 */
const FLOOR_FACTOR = 32;

export function withinFloor(check: { passed: boolean; relative?: number }, floor: number, storage: Storage): boolean {
  if (check.passed) return true;
  return storage === "f32" && check.relative !== undefined && check.relative <= FLOOR_FACTOR * floor;
}
