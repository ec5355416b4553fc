/** A checkpoint in memory: tensors as `loadParameters` reads them from files. */

import { ELEMENT_BYTES, type FloatType } from "../../weights/element-types.ts";
import type { TensorEntry } from "../../weights/tensor-set.ts";
import { checkpointBytes } from "./values.ts";

/** One tensor of it. Reads beyond its end are refused, as a file's are. */
export function tensorEntry(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  dtype: FloatType = "F32",
): TensorEntry {
  const count = shape.reduce((product, size) => product * size, 1);
  if (count !== values.length) throw new RangeError(`${name}: ${values.length} values for [${shape}]`);
  const bytes = checkpointBytes(values, dtype);
  return {
    name,
    dtype,
    shape,
    byteLength: count * ELEMENT_BYTES[dtype],
    file: "memory",
    async read(into, offset = 0) {
      if (offset + into.byteLength > bytes.byteLength) {
        throw new RangeError(`${name}: ${offset} + ${into.byteLength} is beyond its ${bytes.byteLength} bytes`);
      }
      into.set(bytes.subarray(offset, offset + into.byteLength));
    },
  };
}
