/** Numbers that are the same on every machine: a seed's stream of normal deviates (mulberry32, Irwin–Hall of four). */

import { float16BitsToFloat32, float32ToFloat16Bits } from "../src/platform/float16.ts";

export interface RandomSpec {
  readonly deviation: number;
  readonly mean?: number;
  /** Rounded to what f16 holds. */
  readonly half?: boolean;
}

/** `count` values named by `seed`, about normally distributed. */
export function randomValues(
  seed: string,
  count: number,
  { deviation, mean = 0, half = false }: RandomSpec,
): Float32Array {
  let state = 2166136261;
  for (let i = 0; i < seed.length; i++) state = Math.imul(state ^ seed.charCodeAt(i), 16777619); // FNV-1a
  const values = new Float32Array(count);
  // The sum of four 16-bit uniforms has a variance of 4/12.
  const scale = (deviation * Math.sqrt(3)) / 65536;
  for (let i = 0; i < count; i++) {
    state = (state + 0x6d2b79f5) | 0;
    const a = mix(state);
    state = (state + 0x6d2b79f5) | 0;
    const b = mix(state);
    values[i] = ((a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) - 131070) * scale + mean;
  }
  if (half) for (let i = 0; i < count; i++) values[i] = float16BitsToFloat32(float32ToFloat16Bits(values[i]!));
  return values;
}

function mix(state: number): number {
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return (t ^ (t >>> 14)) >>> 0;
}
