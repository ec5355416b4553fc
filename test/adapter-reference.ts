/** Adapters merged in float64, in plain loops, from the formulas of `src/weights/lora-changes.ts`. */

import type { WeightedDelta } from "../src/memory/lora-factors.ts";
import type { Factor, GainDelta, MatrixDelta } from "../src/weights/lora-changes.ts";
import { entryValues } from "./conformance/exact.ts";

/** A tensor of the checkpoint: a matrix is `[out, in, tap]`. */
export interface BaseTensor {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** `[rows, columns, taps]` */
async function dense(factor: Factor): Promise<Float64Array> {
  if (factor.kind === "whole") return entryValues(factor.values);
  const { rows, columns, taps, rank, isUpTransposed } = factor;
  const [up, down] = [await entryValues(factor.up), await entryValues(factor.down)];
  const core = factor.core && (await entryValues(factor.core));
  const all = new Float64Array(rows * columns * taps);
  for (let o = 0; o < rows; o++)
    for (let i = 0; i < columns; i++)
      for (let tap = 0; tap < taps; tap++)
        for (let r = 0; r < rank; r++) {
          let thin = 0;
          if (!core) thin = down[(r * columns + i) * taps + tap]!;
          else for (let s = 0; s < rank; s++) thin += core[(r * rank + s) * taps + tap]! * down[s * columns + i]!;
          all[(o * columns + i) * taps + tap]! += up[isUpTransposed ? r * rows + o : o * rank + r]! * thin;
        }
  return all;
}

/** D of a change, `[out, in, tap]`. */
async function wholeChange({ factors }: MatrixDelta, shape: readonly number[]): Promise<Float64Array> {
  const [first, second] = factors;
  const one = await dense(first);
  if (!second) return one;
  const other = await dense(second);
  const [outputs, inputs] = shape as [number, number];
  const taps = shape.slice(2).reduce((product, size) => product * size, 1);
  const isElementwise = first.rows === outputs && second.rows === outputs && first.columns === inputs;
  if (isElementwise && second.columns === inputs) return one.map((value, at) => value * other[at]!);
  const all = new Float64Array(outputs * inputs * taps);
  for (let a = 0; a < first.rows; a++)
    for (let b = 0; b < first.columns; b++)
      for (let c = 0; c < second.rows; c++)
        for (let d = 0; d < second.columns; d++)
          for (let tap = 0; tap < taps; tap++) {
            const at = ((a * second.rows + c) * inputs + b * second.columns + d) * taps + tap;
            all[at] = one[a * first.columns + b]! * other[(c * second.columns + d) * taps + tap]!;
          }
  return all;
}

/** W + Σ of all changes of it, each computed from W alone. */
export async function mergedExactly({ shape, values }: BaseTensor, deltas: readonly WeightedDelta[]) {
  const base = Float64Array.from(values);
  const sum = base.slice();
  for (const { delta, scale } of deltas) {
    if (delta.kind === "vector") {
      const added = await entryValues(delta.values);
      for (const [at, value] of added.entries()) sum[at]! += scale * delta.scale * value;
      continue;
    }
    const changed = await changedMatrix(base, shape, delta, scale);
    for (const [at, value] of changed.entries()) sum[at]! += value - base[at]!;
  }
  return sum;
}

async function changedMatrix(
  base: Float64Array,
  shape: readonly number[],
  delta: MatrixDelta | GainDelta,
  strength: number,
): Promise<Float64Array> {
  const [outputs, inputs] = shape as [number, number];
  const taps = base.length / outputs / inputs;
  const channel = (at: number, axis: "outputs" | "inputs") =>
    axis === "outputs" ? Math.floor(at / taps / inputs) : Math.floor(at / taps) % inputs;
  if (delta.kind === "gain") {
    const gains = await entryValues(delta.values);
    return base.map((value, at) => value * (1 + strength * delta.scale * gains[channel(at, delta.axis)]!));
  }
  const change = await wholeChange(delta, shape);
  const { magnitude } = delta;
  if (!magnitude) return base.map((value, at) => value + strength * delta.scale * change[at]!);
  const isPeft = magnitude.rule === "peft";
  const moved = base.map((value, at) => value + (isPeft ? strength : 1) * delta.scale * change[at]!);
  const squares = new Float64Array(magnitude.axis === "outputs" ? outputs : inputs);
  for (const [at, value] of moved.entries()) squares[channel(at, magnitude.axis)]! += value * value;
  const sizes = await entryValues(magnitude.values);
  return moved.map((value, at) => {
    const c = channel(at, magnitude.axis);
    return value * (1 + (isPeft ? 1 : strength) * (sizes[c]! / Math.sqrt(squares[c]!) - 1));
  });
}
