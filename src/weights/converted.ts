/**
 * A tensor whose numbers are kept in the file in another form: read in ranges all the same, unit by unit of that form.
 */

import type { TensorEntry } from "./tensor-set.ts";

/** From the file's form to an element type. A unit is the least that can be converted alone: a number, or a block. */
export interface Conversion {
  /** Bytes of a unit in the file, and of the numbers that it becomes. */
  readonly from: number;
  readonly to: number;
  /** Converts whole units. `target` may lie at any place in memory. */
  convert(source: Uint8Array, target: Uint8Array): void;
}

/** `read` of a tensor in the file's form as `read` of its numbers. */
export function convertedRead(read: TensorEntry["read"], { from, to, convert }: Conversion): TensorEntry["read"] {
  return async (into, byteOffset = 0) => {
    const first = Math.floor(byteOffset / to);
    const end = Math.ceil((byteOffset + into.byteLength) / to);
    const source = new Uint8Array((end - first) * from);
    await read(source, first * from);
    const skipped = byteOffset - first * to;
    const isWhole = skipped === 0 && into.byteLength === (end - first) * to;
    const target = isWhole ? into : new Uint8Array((end - first) * to);
    convert(source, target);
    if (!isWhole) into.set(target.subarray(skipped, skipped + into.byteLength));
  };
}
