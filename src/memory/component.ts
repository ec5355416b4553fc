/** Loading one component of a model folder: its parameters checked against the file, then streamed to the device. */

import type { Gpu } from "../gpu/device.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { align } from "../graph/compile/memory.ts";
import type { MatrixParameter, Parameter, Storage } from "../graph/tensor.ts";
import { parameterBytes } from "../graph/weights.ts";
import { isUnneededInEncoder, withEncoderNames } from "../weights/encoder-names.ts";
import { checkTensors } from "../weights/manifest.ts";
import type { Component } from "../weights/model-directory.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";
import { type LoadedParameters, loadingBytes, loadParameters } from "./load.ts";
import { type LoadingProgress, type StreamedWeights, streamedWeights } from "./streamed-weights.ts";

/** How exact a model is to be: `f16` halves the memory of weights, and on a hardware GPU of activations. */
export type Precision = "f32" | "f16";

/**
 * How activations are stored where a model runs at this precision. f16 halves the traffic that a GPU waits for. A software
 * adapter computes as fast with f32, and f16 would double the error that the weights' own rounding leaves (docs/kernels.md).
 */
export function activationStorage(gpu: Gpu, precision: Precision): Storage {
  return precision === "f16" && gpu.facts.kind === "hardware" ? "f16" : "f32";
}

/** A component of a model by its place: `unet`, `text_encoder_2`, `vae`. */
export type ComponentId = string;

/** A component that lies on the device while it is needed. */
export interface ComponentSpec {
  readonly id: ComponentId;
  /** All that any of its plans reads. */
  readonly parameters: readonly Parameter[];
  /** Where its weights come from. */
  readonly files: Component;
}

/**
 * Loads what a recorded model wants (`Recorder.parameters`) from a component's files.
 *
 * Weights are stored as f16 where `precision` asks for it or where the file has nothing finer, else as f32.
 * Throws `WeightsError` naming file, tensor and reason, and `MemoryLimitError` for what can never fit, before anything is
 * allocated.
 */
export function loadComponent(
  gpu: Gpu,
  component: Component,
  parameters: readonly Parameter[],
  options: LoadComponentOptions,
): Promise<StreamedWeights> {
  let { signal } = options;
  return streamedWeights((alsoTold) => {
    const loading = loadOnce(gpu, component, parameters, {
      ...options,
      signal,
      onProgress(done, total) {
        options.onProgress?.(done, total);
        alsoTold?.(done, total);
      },
    });
    signal = undefined; // it is about this loading, and not about those that bring them back
    return loading;
  });
}

interface LoadComponentOptions {
  readonly precision: Precision;
  readonly onProgress?: LoadingProgress | undefined;
  /** If it is aborted, the first loading stops before its next parameter. */
  readonly signal?: AbortSignal | undefined;
}

/** The memory that a component's weights take on a device. */
export interface ComponentSize {
  readonly storage: Storage;
  readonly bytes: number;
  /** The most that they take while they are loaded. */
  readonly loadingBytes: number;
}

/**
 * The size of a component, by its files' headers. Nothing is allocated.
 * @throws WeightsError, MemoryLimitError as `loadComponent` does before it allocates
 */
export async function measureComponent(
  gpu: Gpu,
  { files, parameters }: ComponentSpec,
  precision: Precision,
): Promise<ComponentSize> {
  const { tensors, halves, close } = await openTensors(files, parameters);
  try {
    const storage = storageFor(precision, halves);
    checkLimit(gpu, files.name, storage, (as) => loadingBytes(gpu, parameters, tensors, as));
    const sizes = parameters.flatMap((parameter) => parameterBytes(parameter, storage, gpu));
    const bytes = sizes.reduce((sum, size) => sum + align(size, 16), 0);
    return { storage, bytes, loadingBytes: loadingBytes(gpu, parameters, tensors, storage) };
  } finally {
    await close();
  }
}

function storageFor(precision: Precision, halves: boolean): Storage {
  return precision === "f16" || halves ? "f16" : "f32";
}

async function loadOnce(
  gpu: Gpu,
  component: Component,
  parameters: readonly Parameter[],
  options: LoadComponentOptions,
): Promise<LoadedParameters> {
  const { tensors, halves, close } = await openTensors(component, parameters);
  try {
    const storage = storageFor(options.precision, halves);
    checkLimit(gpu, component.name, storage, (as) => loadingBytes(gpu, parameters, tensors, as));
    const loaded = await loadParameters(gpu, parameters, tensors, {
      label: component.name,
      storage,
      onProgress: options.onProgress,
      signal: options.signal,
    });
    if (storage === "f32" || halves) return loaded;
    return { ...loaded, finer: (parameter) => loadFiner(gpu, component, parameter) };
  } finally {
    await close();
  }
}

/** True if the file has nothing finer than f16 for what is stored so: vectors (biases, norms) stay f32 in any case. */
function isHalf(parameters: readonly Parameter[], tensors: ReadonlyMap<string, TensorEntry>): boolean {
  return parameters.every(({ kind, parts }) => {
    return kind === "vector" || parts.every(({ name }) => tensors.get(name)!.dtype === "F16");
  });
}

/** Throws where a component alone is over the limit, and says whether its other precision would not be. */
function checkLimit(gpu: Gpu, name: string, storage: Storage, bytesIn: (storage: Storage) => number): void {
  if (gpu.maxBytes === undefined) return;
  const limit = gpu.maxBytes;
  const wanted = bytesIn(storage);
  if (wanted <= limit) return;
  const halved = bytesIn("f16");
  const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  const hope =
    storage === "f16"
      ? ""
      : `; in f16 it takes ${mebibytes(halved)}${halved <= limit ? " (--precision f16)" : ", which is too much as well"}`;
  const message = `the weights of ${name} take ${mebibytes(wanted)} of device memory in ${storage} while they are loaded, and ${mebibytes(limit)} may be used (max_gpu_memory)${hope}`;
  throw new MemoryLimitError(message, wanted, limit);
}

/** One parameter in f32, of a component whose files have been checked as a whole. */
async function loadFiner(gpu: Gpu, component: Component, parameter: MatrixParameter): Promise<LoadedParameters> {
  const { tensors, close } = await openTensors(component, [parameter], () => true);
  try {
    return await loadParameters(gpu, [parameter], tensors, { label: component.name, storage: "f32" });
  } finally {
    await close();
  }
}

/** The tensors that `parameters` are made of, checked; `ignore` says which others may stand in the files. */
async function openTensors(component: Component, parameters: readonly Parameter[], ignore?: (name: string) => boolean) {
  const weights = await component.weights();
  const close = () => weights.close();
  try {
    const isEncoder = component.kind === "text encoder";
    const parts = parameters.flatMap((parameter) => parameter.parts);
    const tensors = checkTensors(weights, isEncoder ? withEncoderNames(weights, parts) : parts, {
      component: component.name,
      ignore: ignore ?? (isEncoder ? isUnneededInEncoder : undefined),
    });
    return { tensors, halves: isHalf(parameters, tensors), close };
  } catch (error) {
    await close();
    throw error;
  }
}
