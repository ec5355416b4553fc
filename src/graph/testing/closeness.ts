/**
 * True if a device's values are within the bound of a reference.
 *
 * Stored as f16, a result is rounded once more, to the nearest half: by at most half a unit in its last place, which is
 * 2⁻¹¹ of the next lower power of two, and 2⁻²⁵ among the subnormals. Beyond ±65504 it saturates.
 */

import { expect } from "vitest";
import type { Storage } from "../tensor.ts";
import type { Reference } from "./reference.ts";
import { MAX_HALF } from "./values.ts";

/** How far two results of one computation may lie apart: `reference` in exact arithmetic, and what was stored. */
export function tolerance(value: number, bound: number, storage: Storage): number {
  return storage === "f32" ? bound : bound + halfUnit(Math.abs(value) + bound);
}

/** Half a unit in the last place of the half nearest to `magnitude`. */
function halfUnit(magnitude: number): number {
  return Math.max(2 ** -25, 2 ** (Math.floor(Math.log2(magnitude)) - 11));
}

/** Fails with the worst element, in units of what was allowed. Gives that worst ratio. */
export function expectClose(actual: ArrayLike<number>, reference: Reference, storage: Storage): number {
  expect(actual.length, "elements").toBe(reference.values.length);
  let worst = { ratio: 0, index: 0, allowed: 0, expected: 0 };
  for (let index = 0; index < actual.length; index++) {
    const exact = reference.values[index]!;
    const wanted = storage === "f16" ? Math.max(-MAX_HALF, Math.min(MAX_HALF, exact)) : exact;
    const allowed = tolerance(exact, reference.bound[index]!, storage);
    const off = Math.abs(actual[index]! - wanted);
    const ratio = off === 0 ? 0 : off / allowed;
    if (!(ratio <= worst.ratio)) worst = { ratio, index, allowed, expected: wanted };
    if (Number.isNaN(ratio)) break;
  }
  const { ratio, index, allowed, expected: wanted } = worst;
  if (!(ratio <= 1)) {
    expect.fail(
      `element ${index}: ${actual[index]} is ${ratio.toPrecision(3)} times the allowed ${allowed.toExponential(2)} from ${wanted}`,
    );
  }
  return ratio;
}

/** The largest difference, in terms of the largest value that was wanted. NaN where there is one. */
export function relativeDifference(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let [off, size] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    off = Math.max(off, Math.abs(got[i]! - wanted[i]!));
    size = Math.max(size, Math.abs(wanted[i]!));
  }
  return off === 0 ? 0 : off / size;
}
