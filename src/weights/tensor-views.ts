/**
 * Tensors that are parts of others, or lie in another order: a view reads from where the numbers are.
 */

import { ELEMENT_BYTES } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import type { TensorEntry } from "./tensor-set.ts";

/** One of `parts` equal runs of a tensor's rows, the first axis: `q` of a fused `[q; k; v]`. */
export function rowsOf(entry: TensorEntry, name: string, part: number, parts: number): TensorEntry {
  const [rows = 0, ...rest] = entry.shape;
  const byteLength = entry.byteLength / parts;
  return {
    ...entry,
    name,
    shape: [rows / parts, ...rest],
    byteLength,
    async read(into, byteOffset = 0) {
      if (!(byteOffset >= 0 && byteOffset + into.byteLength <= byteLength))
        throw new RangeError(
          `${into.byteLength} bytes from ${byteOffset} on do not lie in the ${byteLength} of ${name}`,
        );
      await entry.read(into, part * byteLength + byteOffset);
    },
  };
}

/** The transpose of a matrix. */
export function transposed(entry: TensorEntry, name: string): TensorEntry {
  const [rows = 0, columns = 0] = entry.shape;
  return { ...ordered(entry, { shape: [columns, rows], strides: [1, columns] }), name };
}

/** A tensor whose numbers are gathered is held whole while it is read: more than the largest matrix of any text encoder. */
const MOST_GATHERED = 256 * 2 ** 20;

/**
 * The numbers of `entry`, whatever its own shape, in the order of a shape with these strides.
 * @param strides in elements; all places lie within `entry`
 * @throws WeightsError if it is too large to be held
 */
export function ordered(
  entry: TensorEntry,
  { shape, strides }: { readonly shape: readonly number[]; readonly strides: readonly number[] },
): TensorEntry {
  const size = ELEMENT_BYTES[entry.dtype];
  const count = shape.reduce((product, length) => product * length, 1);
  const byteLength = count * size;
  if (Math.max(entry.byteLength, byteLength) > MOST_GATHERED) {
    const reason = `has ${byteLength} bytes in another order than its shape's, more than the ${MOST_GATHERED} allowed`;
    throw new WeightsError("weights-shape", reason, { file: entry.file, tensor: entry.name });
  }
  return {
    ...entry,
    shape,
    byteLength,
    async read(into, byteOffset = 0) {
      const source = new Uint8Array(entry.byteLength);
      await entry.read(source);
      const wanted = Math.ceil((byteOffset + into.byteLength) / size);
      const target = new Uint8Array(wanted * size);
      for (let index = Math.floor(byteOffset / size); index < wanted; index++) {
        const at = placeOf(index, shape, strides) * size;
        for (let byte = 0; byte < size; byte++) target[index * size + byte] = source[at + byte]!;
      }
      into.set(target.subarray(byteOffset, byteOffset + into.byteLength));
    },
  };
}

/** The place of the element that stands at `index` in the order of the shape. */
function placeOf(index: number, shape: readonly number[], strides: readonly number[]): number {
  let rest = index;
  let place = 0;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    place += (rest % shape[axis]!) * strides[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  return place;
}
