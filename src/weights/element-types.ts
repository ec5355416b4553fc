/**
 * The element types a safetensors file can hold, and how the floating ones become numbers.
 *
 * Names are the format's own. Types of less than a byte (F4, F6_…) are left out: no model here uses them, and a file that
 * holds them is refused as an unknown type. All multi-byte values are little-endian, as is every machine WebGPU runs on.
 *
 * This is for small tensors, tests and tools. Model weights go from disk to the GPU as they are.
 */

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

/**
 * The value of a half (IEEE 754 binary16) given by its 16 bits, exactly: subnormals, infinities and NaN too.
 */
export function float16BitsToFloat32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/**
 * The 16 bits of the half nearest to `value` (taken as a float32), ties to even, as the GPU's own conversion rounds.
 * Keeps subnormals; overflows to infinity from 65520 on; a NaN stays a NaN (quiet, payload dropped).
 */
export function float32ToFloat16Bits(value: number): number {
  wordAsFloat[0] = value;
  const bits = word[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 = 65504 + half a step: the first value that rounds up to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal half (≥ 2⁻¹⁴). Re-bias the exponent (127 → 15) and drop 13 bits, rounding to even; a carry out of the
    // fraction runs into the exponent, which is what it should do.
    const odd = (magnitude >>> 13) & 1;
    return sign | ((magnitude - (112 << 23) + 0xfff + odd) >>> 13);
  }
  // Subnormal half: a count of 2⁻²⁴. Up to 2⁻²⁵, the half-way point, that is zero.
  if (magnitude <= 0x33000000) return sign;
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const whole = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (whole + (rest > half || (rest === half && whole & 1) ? 1 : 0));
}

let halves: Float32Array | undefined;

/** Every half there is, by its bits: 256 KiB, made when first needed, and some ten times faster than computing. */
function halfTable(): Float32Array {
  halves ??= Float32Array.from({ length: 65536 }, (_, bits) => float16BitsToFloat32(bits));
  return halves;
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
    case "F16": {
      const table = halfTable();
      const halves = elements(bytes, Uint16Array);
      const out = new Float32Array(halves.length);
      for (let i = 0; i < out.length; i++) out[i] = table[halves[i]!]!;
      return out;
    }
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
