/**
 * Weights of 8 and 64 bits as types that the device packs: FP8 as F16, which has every value of both of its kinds, and F64
 * as F32.
 */

import { float32ToFloat16Bits } from "../platform/float16.ts";
import { type Conversion, convertedRead } from "./converted.ts";
import type { FloatType } from "./element-types.ts";
import type { TensorEntry } from "./tensor-set.ts";

/** The bits of a half for each byte of E4M3 (OCP 8-bit floating point, 2023: bias 7, no infinity, NaN is S.1111.111). */
const E4M3 = Uint16Array.from({ length: 256 }, (_, byte) => {
  const [sign, exponent, fraction] = [byte & 0x80 ? -1 : 1, (byte >> 3) & 15, byte & 7];
  if (exponent === 15 && fraction === 7) return 0x7e00;
  const magnitude = exponent === 0 ? fraction * 2 ** -9 : (1 + fraction / 8) * 2 ** (exponent - 7);
  return float32ToFloat16Bits(sign * magnitude) | ((byte & 0x80) << 8);
});

/** E5M2 is the upper half of a half. */
const E5M2 = Uint16Array.from({ length: 256 }, (_, byte) => byte << 8);

function ofBytes(table: Uint16Array): Conversion {
  return {
    from: 1,
    to: 2,
    convert(source, target) {
      for (let i = 0; i < source.length; i++) {
        const half = table[source[i]!]!;
        target[2 * i] = half & 0xff;
        target[2 * i + 1] = half >> 8;
      }
    },
  };
}

const doubles: Conversion = {
  from: 8,
  to: 4,
  convert(source, target) {
    const [from, to] = [source, target].map(({ buffer, byteOffset }) => new DataView(buffer, byteOffset));
    for (let i = 0; i < source.length / 8; i++) to!.setFloat32(4 * i, from!.getFloat64(8 * i, true), true);
  },
};

/** FP8 as F16; a tensor of another type as it is. */
export function widened(entry: TensorEntry): TensorEntry {
  if (entry.dtype === "F8_E4M3") return converted(entry, "F16", ofBytes(E4M3));
  return entry.dtype === "F8_E5M2" ? converted(entry, "F16", ofBytes(E5M2)) : entry;
}

/** F64 as F32, rounded once; a tensor of another type as it is. */
export function rounded(entry: TensorEntry): TensorEntry {
  return entry.dtype === "F64" ? converted(entry, "F32", doubles) : entry;
}

function converted(entry: TensorEntry, dtype: FloatType, conversion: Conversion): TensorEntry {
  const byteLength = (entry.byteLength / conversion.from) * conversion.to;
  return { ...entry, dtype, storedAs: entry.dtype, byteLength, read: convertedRead(entry.read, conversion) };
}
