/**
 * Weights for a recorded model without a file: seeded, normally distributed, scaled so that activations neither grow nor
 * vanish. They pass through the real loader.
 */

import type { Gpu } from "../src/gpu/device.ts";
import type { Recorder } from "../src/graph/recorder.ts";
import type { ParameterPart, Storage } from "../src/graph/tensor.ts";
import { type LoadedParameters, loadParameters } from "../src/memory/load.ts";
import type { TensorEntry } from "../src/weights/tensor-set.ts";

/** Uniform numbers in (0, 1): a 32-bit linear congruential generator (Numerical Recipes, 3rd ed., 7.1), high bits. */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
}

/** Normally distributed numbers by the Box-Muller transform. */
export function normals(count: number, seed: number, scale = 1): Float32Array {
  const next = uniform(seed);
  return Float32Array.from({ length: count }, () => {
    return Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()) * scale;
  });
}

/** Loads generated weights for all that `recorder` wants. */
export function generateParameters(gpu: Gpu, recorder: Recorder, storage: Storage): Promise<LoadedParameters> {
  const parameters = [...recorder.parameters.values()];
  const parts = parameters.flatMap((parameter) => parameter.parts);
  const tensors = new Map(parts.map((part, index) => [part.name, entry(part, 7919 * (index + 1))]));
  return loadParameters(gpu, parameters, tensors, { label: "generated", storage });
}

function entry(part: ParameterPart, seed: number): TensorEntry {
  const count = part.shape.reduce((product, size) => product * size, 1);
  const values = normals(count, seed, 1 / Math.sqrt(count / part.shape[0]!));
  const bytes = new Uint8Array(values.buffer);
  return {
    name: part.name,
    dtype: "F32",
    shape: part.shape,
    byteLength: bytes.byteLength,
    file: "generated",
    async read(into, byteOffset = 0) {
      into.set(bytes.subarray(byteOffset, byteOffset + into.byteLength));
    },
  };
}
