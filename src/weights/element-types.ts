/**
 * The element types a safetensors file can hold, and how the floating ones become numbers.
 *
 * Names are the format's own. Types of less than a byte (F4, F6_…) are left out: no model here uses them, and a file that
 * holds them is refused as an unknown type. All multi-byte values are little-endian, as is every machine WebGPU runs on.
 *
 * This is for small tensors, tests and tools. Model weights go from disk to the GPU as they are.
 */

import { halvesToFloat32 } from "../platform/float16.ts";

/** Bytes of one element. From `Dtype` of the reference implementation (huggingface/safetensors, `tensor.rs`). */
export const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type ElementType = keyof typeof ELEMENT_BYTES;

/** The types a weight may have. */
export type FloatType = "F32" | "F16" | "BF16";

export function isElementType(name: unknown): name is ElementType {
  return typeof name === "string" && Object.hasOwn(ELEMENT_BYTES, name);
}

export function isFloatType(name: string): name is FloatType {
  return name === "F32" || name === "F16" || name === "BF16";
}

/** The same bytes as a typed array's elements; copied only where they do not lie on the element's alignment. */
function elements<T>(
  bytes: Uint8Array,
  View: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  const size = View.BYTES_PER_ELEMENT;
  if (bytes.byteLength % size !== 0)
    throw new RangeError(`${bytes.byteLength} bytes are no whole number of ${size}-byte elements`);
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new View(aligned.buffer, aligned.byteOffset, bytes.byteLength / size);
}

/**
 * A new array of the values in `bytes`.
 * @throws RangeError where `bytes` is no whole number of elements.
 */
export function toFloat32(bytes: Uint8Array, type: FloatType): Float32Array {
  switch (type) {
    case "F32":
      return elements(bytes, Float32Array).slice();
    case "F16":
      return halvesToFloat32(elements(bytes, Uint16Array));
    case "BF16": {
      // A bfloat16 is the upper half of a float32.
      const upper = elements(bytes, Uint16Array);
      const out = new Uint32Array(upper.length);
      for (let i = 0; i < upper.length; i++) out[i] = upper[i]! << 16;
      return new Float32Array(out.buffer);
    }
    default:
      throw new RangeError(`${String(type satisfies never)} is no floating type`);
  }
}

/** True if all of them are numbers, and none of them infinite. */
export function areFinite(values: Float32Array): boolean {
  let zero = 0;
  for (let i = 0; i < values.length; i++) zero += values[i]! * 0; // NaN and infinity make it NaN
  return zero === 0;
}
