/** A result against its reference: what is measured, and whether it is within the tolerance. */

import type { Tensor } from "./tensors.ts";
import type { Tolerance } from "./tolerances.ts";

/** One comparison, or one thing that could not be compared. */
export interface Check {
  readonly group: string;
  /** The tensor, and by which path it was computed where there are several. */
  readonly what: string;
  readonly passed: boolean;
  readonly tolerance?: Tolerance;
  /** Largest absolute error. */
  readonly absolute?: number;
  /** The same over the reference's largest magnitude. */
  readonly relative?: number;
  /** The figure that the tolerance bounds. */
  readonly figure?: number;
  /**
   * For a network over its tolerance: how far rounding its intermediates alone moves the result (`exact.ts`),
   * relatively.
   */
  readonly floor?: number;
  /** Why nothing could be measured. */
  readonly note?: string;
}

/** `actual` in the reference's layout. A NaN anywhere, or another count of values, fails. */
export function compare(
  group: string,
  what: string,
  actual: ArrayLike<number>,
  reference: Tensor,
  tolerance: Tolerance,
): Check {
  const { values } = reference;
  if (actual.length !== values.length) {
    const note = `has ${actual.length} values where [${reference.shape}] has ${values.length}`;
    return { group, what, passed: false, tolerance, note };
  }
  let absolute = 0;
  let largest = 0;
  let sum = 0;
  let beyondOne = 0;
  for (let i = 0; i < values.length; i++) {
    const error = Math.abs(actual[i]! - values[i]!);
    if (Number.isNaN(error)) return { group, what, passed: false, tolerance, note: `value ${i} is ${actual[i]}` };
    absolute = Math.max(absolute, error);
    largest = Math.max(largest, Math.abs(values[i]!));
    sum += error;
    if (error > 1) beyondOne += 1;
  }
  // Where the reference is all zeros, nothing but zeros is right.
  const relative = absolute === 0 ? 0 : absolute / largest;
  const measured = {
    relative,
    absolute,
    exact: absolute,
    pixels: beyondOne / values.length,
    mean: sum / values.length,
  };
  const figure = measured[tolerance.measure];
  return { group, what, passed: figure <= tolerance.bound, tolerance, absolute, relative, figure };
}

/** Two references of one number each, or two lists: equal or not. */
export function equal(
  group: string,
  what: string,
  actual: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: Tolerance,
): Check {
  return compare(group, what, actual, { shape: [wanted.length], values: Float64Array.from(wanted) }, tolerance);
}
