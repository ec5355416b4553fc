/** Loading one component of a model folder: its parameters checked against the file, then streamed to the device. */

import type { Gpu } from "../gpu/device.ts";
import type { Parameter, Storage } from "../graph/tensor.ts";
import { checkTensors } from "../weights/manifest.ts";
import type { Component } from "../weights/model-directory.ts";
import { type LoadedParameters, loadParameters } from "./load.ts";

/** How exact a model is to be: `f16` halves the memory of weights, and on a hardware GPU of activations. */
export type Precision = "f32" | "f16";

/**
 * How activations are stored where a model runs at this precision. f16 halves the traffic that a GPU waits for. A software
 * adapter computes as fast with f32, and f16 would double the error that the weights' own rounding leaves (docs/kernels.md).
 */
export function activationStorage(gpu: Gpu, precision: Precision): Storage {
  return precision === "f16" && gpu.facts.kind === "hardware" ? "f16" : "f32";
}

/**
 * Loads what a recorded model wants (`Recorder.parameters`) from a component's files.
 *
 * Weights are stored as f16 where `precision` asks for it or where the file has nothing finer, else as f32.
 * Throws `WeightsError` naming file, tensor and reason before anything is allocated.
 */
export async function loadComponent(
  gpu: Gpu,
  component: Component,
  parameters: readonly Parameter[],
  options: { precision: Precision; onProgress?: (done: number, total: number) => void },
): Promise<LoadedParameters> {
  const weights = await component.weights();
  try {
    const expected = parameters.flatMap((parameter) => parameter.parts);
    const tensors = checkTensors(weights, expected, { component: component.name });
    const halves = [...tensors.values()].every((tensor) => tensor.dtype === "F16");
    const storage: Storage = options.precision === "f16" || halves ? "f16" : "f32";
    return await loadParameters(gpu, parameters, tensors, {
      label: component.name,
      storage,
      onProgress: options.onProgress,
    });
  } finally {
    await weights.close();
  }
}
