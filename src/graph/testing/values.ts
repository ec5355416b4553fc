/**
 * Values and shapes for tests, from a seed: the same on every machine and at every run.
 *
 * **Stored** values are what a device holds of them: rounded to the storage's type. Tests round their inputs first, so that
 * a reference and a kernel start from the same numbers, and only the arithmetic in between is judged.
 */

import { float16BitsToFloat32, float32ToFloat16Bits } from "../../platform/float16.ts";
import type { FloatType } from "../../weights/element-types.ts";
import type { Storage } from "../tensor.ts";

export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Whole number in [low, high]. */
  integer(low: number, high: number): number;
  pick<T>(list: readonly T[]): T;
  /** Standard normal. */
  normal(): number;
}

/** Mulberry32 (Tommy Ettinger, 2017): 32 bits of state are plenty for test data. */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    uniform,
    integer: (low, high) => low + Math.floor(uniform() * (high - low + 1)),
    pick: (list) => list[Math.floor(uniform() * list.length)]!,
    // Box–Muller; 1 − u is never 0.
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
}

export interface Distribution {
  readonly mean?: number;
  readonly deviation?: number;
}

/** `count` normals; every 31st is an exact zero of either sign. */
export function normals(source: Random, count: number, { mean = 0, deviation = 1 }: Distribution = {}): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const value = mean + deviation * source.normal();
    return mean === 0 && i % 31 === 30 ? (i % 2 ? 0 : -0) : value;
  });
}

/** The values as activations are stored: halves saturate. */
export function stored(values: Float32Array, storage: Storage): Float32Array {
  return storage === "f32" ? values : values.map(toHalf);
}

/** The values as a checkpoint of this type holds them: bfloat16 truncated, which is as good a bfloat16 as any. */
export function checkpointed(values: Float32Array, type: FloatType): Float32Array {
  if (type === "F32") return values;
  if (type === "F16") return values.map(toHalf);
  const words = new Uint32Array(values.slice().buffer).map((word) => word & 0xffff0000);
  return new Float32Array(words.buffer);
}

/** The bytes of such values in the checkpoint. */
export function checkpointBytes(values: Float32Array, type: FloatType): Uint8Array {
  if (type === "F32") return new Uint8Array(values.slice().buffer);
  if (type === "F16") return new Uint8Array(Uint16Array.from(values, float32ToFloat16Bits).buffer);
  const words = new Uint32Array(values.slice().buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

export const MAX_HALF = 65504;

function toHalf(value: number): number {
  return float16BitsToFloat32(float32ToFloat16Bits(Math.max(-MAX_HALF, Math.min(MAX_HALF, value))));
}
