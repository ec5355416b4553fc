/**
 * Weights of networks of a billion parameters, quickly and the same everywhere: windows of a pool of random numbers, scaled
 * by a power of two near 1/√fan-in. f16 values held as f32, as checkpoints have them.
 */

import { randomValues } from "../random.ts";

const POOL = 1 << 20;
let pool: Float32Array | undefined;
const shapes = new Map<string, readonly number[]>();

/** Tells the shape of a tensor before its values are asked for. */
export function declareShape(name: string, shape: readonly number[]): void {
  shapes.set(name, shape);
}

/** A window of the pool: value `i` of the tensor is `pool[(at + i) mod its length] · scale + mean`. */
export interface Window {
  readonly at: number;
  readonly scale: number;
  readonly mean: number;
}

export function weightPool(): Float32Array {
  pool ??= randomValues("pool of weights", POOL, { deviation: 1, half: true });
  return pool;
}

export function windowOf(name: string): Window {
  const shape = shapes.get(name)!;
  const isVector = shape.length === 1;
  const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
  const scale = isVector ? 1 / 16 : 2 ** Math.round(Math.log2(fanIn ** -0.5));
  const mean = isVector && name.endsWith(".weight") ? 1 : 0;
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (Math.imul(hash, 31) + name.charCodeAt(i)) >>> 0;
  return { at: hash % POOL, scale, mean };
}

export function generatedWeights(name: string): Float32Array {
  const pool = weightPool();
  const count = shapes.get(name)!.reduce((product, size) => product * size, 1);
  const { at: first, scale, mean } = windowOf(name);
  const values = new Float32Array(count);
  for (let i = 0, at = first; i < count; i++, at = (at + 1) % POOL) values[i] = pool[at]! * scale + mean;
  return values;
}
