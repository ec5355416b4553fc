/**
 * From a checkpoint's tensors to buffers on the device, in the layout that the kernels read.
 *
 * Tensors stream: pieces of at most `PIECE_BYTES` are read from disk, written to a staging buffer, and repacked by a
 * kernel, so that neither the JavaScript heap nor the staging grows with the model. Small ones go as one: a submission
 * costs as much as packing a hundred kilobytes.
 */

import type { Gpu } from "../gpu/device.ts";
import { align } from "../graph/compile/memory.ts";
import type { MatrixParameter, Parameter, Storage } from "../graph/tensor.ts";
import { matrixTexture, type ParameterBuffers, parameterBytes, tilesToTexture } from "../graph/weights.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";
import { createTransformedWeights } from "./transformed-weights.ts";
import { BLOCK_BYTES, brokenBytes, PIECE_BYTES, Uploader } from "./uploader.ts";

/** Bytes of small tensors that are packed by one submission. */
const BATCH_BYTES = 2 * 2 ** 20;

export interface LoadedParameters extends ParameterBuffers {
  readonly bytes: number;
  /** The most that they took while they were loaded. */
  readonly loadingBytes: number;
  /** Reads a parameter once more, in f32; absent if the file has nothing finer than these. */
  readonly finer?: (parameter: MatrixParameter) => Promise<LoadedParameters>;
  /** Bytes of the transformed weights. */
  readonly transformedBytes: number;
  /** Destroys the transformed weights, which no plan may use any more; whether there were any. */
  dropTransformed(): boolean;
  destroy(): void;
}

export interface LoadOptions {
  /** Names the buffers: `unet`. */
  readonly label: string;
  /** How the weights are stored on the device. */
  readonly storage: Storage;
  /** Bytes read so far, and of all. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** If it is aborted, loading stops before the next parameter, and rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Uploads `parameters`, whose parts are found in `tensors` by their name in the model.
 * The caller has checked names, shapes and types (`checkTensors`); nothing is allocated before that.
 * @throws WeightsError naming a tensor that holds NaN or infinity, which the device has looked for while it packed them
 */
export async function loadParameters(
  gpu: Gpu,
  parameters: Iterable<Parameter>,
  tensors: ReadonlyMap<string, TensorEntry>,
  options: LoadOptions,
): Promise<LoadedParameters> {
  const buffers = new Map<string, GPUBuffer[]>();
  const textures = new Map<string, GPUTexture>();
  const destroy = () => {
    for (const list of buffers.values()) for (const buffer of list) gpu.destroyBuffer(buffer);
    for (const texture of textures.values()) gpu.destroyTexture(texture);
    buffers.clear();
    textures.clear();
  };
  const sizes = [...tensors.values()].map(({ byteLength }) => align(byteLength, gpu.storageAlignment));
  const together = sizes.reduce((sum, size) => sum + size, 0);
  // A batch holds its matrices twice for a moment, which there may be no room for.
  const oneByOne = gpu.maxBytes !== undefined;
  const batch = oneByOne ? 0 : Math.min(BATCH_BYTES, together);
  const stagingBytes = Math.max(pieceBytes(tensors), batch);
  const uploader = new Uploader(gpu, {
    label: options.label,
    storage: options.storage,
    stagingBytes,
    oneByOne,
    tensors,
  });
  const total = [...tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
  let done = 0;
  let bytes = 0;
  const all = [...parameters];
  try {
    for (const parameter of all) {
      options.signal?.throwIfAborted();
      const label = `${options.label}: ${parameter.key}`;
      const list = parameterBytes(parameter, options.storage, gpu).map((size) => gpu.createBuffer(label, size));
      buffers.set(parameter.key, list);
      bytes += list.reduce((sum, buffer) => sum + buffer.size, 0);
      const parts = parameter.parts.map((part) => tensors.get(part.name)!);
      if (parameter.kind === "matrix") {
        await uploader.matrix(parameter, parts, list[0]!);
        const texture = matrixTexture(gpu, parameter, options.storage);
        if (texture) {
          uploader.afterwards((encoder) => {
            textures.set(parameter.key, tilesToTexture(gpu, label, list[0]!, texture, encoder));
            buffers.set(parameter.key, []);
            return list[0]!;
          });
          if (oneByOne) await uploader.flush();
        }
      }
      if (parameter.kind === "table") await uploader.table(parameter, parts[0]!, list);
      if (parameter.kind === "vector") await uploader.vector(parameter, parts, list[0]!);
      done += parts.reduce((sum, part) => sum + part.byteLength, 0);
      options.onProgress?.(done, total);
    }
    await uploader.flush();
    await uploader.checkFinite();
  } catch (error) {
    destroy();
    throw error;
  } finally {
    uploader.close();
  }
  const parameterBuffers = {
    storage: options.storage,
    get: (parameter: Parameter) => buffers.get(parameter.key)!,
    texture: (matrix: MatrixParameter) => textures.get(matrix.key),
  };
  const transformed = createTransformedWeights(gpu, options.label, parameterBuffers);
  return {
    ...parameterBuffers,
    bytes,
    loadingBytes: loadingBytes(gpu, all, tensors, options.storage),
    transformed,
    get transformedBytes() {
      return transformed.bytes;
    },
    dropTransformed: () => transformed.drop(),
    destroy() {
      transformed.destroy();
      destroy();
    },
  };
}

/**
 * Bytes of device memory that loading takes at the most where memory is limited: weights, a piece on its way with its
 * packing's parameters, and for a moment a matrix both as a buffer and as a texture.
 */
export function loadingBytes(
  gpu: Gpu,
  parameters: readonly Parameter[],
  tensors: ReadonlyMap<string, TensorEntry>,
  storage: Storage,
): number {
  let held = 0;
  let most = 0;
  for (const parameter of parameters) {
    const size = parameterBytes(parameter, storage, gpu).reduce((sum, bytes) => sum + align(bytes, 16), 0);
    held += size;
    const twice = parameter.kind === "matrix" && matrixTexture(gpu, parameter, storage) !== undefined;
    most = Math.max(most, twice ? held + size : held);
  }
  const uploading = [pieceBytes(tensors), brokenBytes(tensors)].map((size) => Math.max(16, align(size, 16)));
  return most + uploading[0]! + uploading[1]! + align(BLOCK_BYTES, gpu.uniformAlignment);
}

/** As long as the longest tensor, where that is shorter than a piece. */
function pieceBytes(tensors: ReadonlyMap<string, TensorEntry>): number {
  const longest = [...tensors.values()].reduce((most, tensor) => Math.max(most, tensor.byteLength), 4);
  return Math.min(PIECE_BYTES, Math.ceil(longest / 4) * 4);
}
