/** Halves (IEEE 754 binary16) by their bits; Node has `Float16Array` only from version 24 on. */

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

let table: Float32Array | undefined;

/** The values of halves by their bits. The table of all there are, 256 KiB, is some ten times faster than computing. */
export function halvesToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  table ??= Float32Array.from({ length: 65536 }, (_, bits) => float16BitsToFloat32(bits));
  const values = new Float32Array(halves.length);
  for (let i = 0; i < values.length; i++) values[i] = table[halves[i]!]!;
  return values;
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
    // fraction runs into the exponent, as it should.
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
