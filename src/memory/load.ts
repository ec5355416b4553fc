/**
 * From a checkpoint's tensors to buffers on the device, in the layout that the kernels read.
 *
 * Tensors stream: pieces of at most `PIECE_BYTES` are read from disk, written to a staging buffer, and repacked by a
 * kernel, so that neither the JavaScript heap nor the staging grows with the model. Small ones go as one: a submission
 * costs as much as packing a hundred kilobytes.
 */

import packTable from "../../shaders/pack_table.wgsl" with { type: "text" };
import packWeights from "../../shaders/pack_weights.wgsl" with { type: "text" };
import checkpoint from "../../shaders/prelude/checkpoint.wgsl" with { type: "text" };
import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { grid, type Kernel, kernel, params } from "../graph/dispatch.ts";
import { align } from "../graph/memory.ts";
import type { MatrixParameter, Parameter, Storage, TableParameter, VectorParameter } from "../graph/tensor.ts";
import { quads } from "../graph/tensor.ts";
import { matrixTexture, type ParameterBuffers, parameterBytes, tablePieces, tilesToTexture } from "../graph/weights.ts";
import { ELEMENT_BYTES, type FloatType, toFloat32 } from "../weights/element-types.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";
import { createTransformedWeights } from "./transformed-weights.ts";

/** Bytes of a tensor read from disk at a time. */
const PIECE_BYTES = 16 * 2 ** 20;
/** Bytes of small tensors that are packed by one submission. */
const BATCH_BYTES = 2 * 2 ** 20;

/** Of the parameters of a packing kernel: 16 words. */
const BLOCK_BYTES = 64;

const FORMAT: Record<FloatType, number> = { F32: 0, F16: 1, BF16: 2 };

export interface LoadedParameters extends ParameterBuffers {
  readonly bytes: number;
  /** The most that they took while they were loaded. */
  readonly loadingBytes: number;
  /** Reads a parameter once more, in f32; absent where the file has nothing finer than what is stored here. */
  readonly finer?: (parameter: MatrixParameter) => Promise<LoadedParameters>;
  /** Destroys what is in `transformed`, which no plan may use any more; whether there was anything. */
  dropTransformed(): boolean;
  destroy(): void;
}

export interface LoadOptions {
  /** Names the buffers: `unet`. */
  readonly label: string;
  /** How the weights are stored on the device. */
  readonly storage: Storage;
  /** Bytes read so far, and of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Uploads `parameters`, whose parts are found in `tensors` by their name in the model.
 * The caller has checked names, shapes and types (`checkTensors`); nothing is allocated before that.
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
  const uploader = createUploader(gpu, options, { stagingBytes: Math.max(pieceBytes(tensors), batch), oneByOne });
  const total = [...tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
  let done = 0;
  let bytes = 0;
  const all = [...parameters];
  try {
    for (const parameter of all) {
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
    // Where memory is limited, what was uploaded is done with before anything else finds room. Else there is no waiting: the
    // device packs while the next component is read, and what it reports is told to whoever runs something first.
    if (oneByOne) await gpu.idle();
    else gpu.check();
  } catch (error) {
    destroy();
    throw error;
  } finally {
    uploader.close();
  }
  const held = {
    storage: options.storage,
    get: (parameter: Parameter) => buffers.get(parameter.key)!,
    texture: (matrix: MatrixParameter) => textures.get(matrix.key),
  };
  const transformed = createTransformedWeights(gpu, options.label, held);
  return {
    ...held,
    bytes,
    loadingBytes: loadingBytes(gpu, all, tensors, options.storage),
    transformed,
    dropTransformed: transformed.drop,
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
  return most + align(pieceBytes(tensors), 16) + align(BLOCK_BYTES, gpu.uniformAlignment);
}

/** As long as the longest tensor, where that is shorter than a piece. */
function pieceBytes(tensors: ReadonlyMap<string, TensorEntry>): number {
  const longest = [...tensors.values()].reduce((most, tensor) => Math.max(most, tensor.byteLength), 4);
  return Math.min(PIECE_BYTES, Math.ceil(longest / 4) * 4);
}

/** Collects what is to be packed, and packs it once the staging buffer is full, or at once where it goes one by one. */
interface Uploader {
  matrix(parameter: MatrixParameter, parts: readonly TensorEntry[], buffer: GPUBuffer): Promise<void>;
  vector(parameter: VectorParameter, parts: readonly TensorEntry[], buffer: GPUBuffer): Promise<void>;
  table(parameter: TableParameter, tensor: TensorEntry, buffers: readonly GPUBuffer[]): Promise<void>;
  /** Encodes what comes after the packing of all so far; the buffer that it gives is done with then. */
  afterwards(encode: (encoder: GPUCommandEncoder) => GPUBuffer): void;
  flush(): Promise<void>;
  close(): void;
}

/** A dispatch that packs bytes `at`… of the staging buffer. */
interface Packing {
  readonly packer: Kernel;
  readonly block: ArrayBuffer;
  readonly staged: { readonly at: number; readonly size: number };
  readonly target: GPUBuffer;
  readonly workgroups: readonly [number, number, number];
}

function createUploader(
  gpu: Gpu,
  { label, storage }: LoadOptions,
  { stagingBytes, oneByOne }: { readonly stagingBytes: number; readonly oneByOne: boolean },
): Uploader {
  const { queue } = gpu.device;
  const kernels = {
    matrix: kernel("pack_weights", packWeights, "f32", { weights: storage, preludes: [checkpoint] }),
    table: kernel("pack_table", packTable, "f32", { weights: storage, preludes: [checkpoint] }),
  };
  let host = new Uint8Array(stagingBytes);
  let staging = gpu.createBuffer(`${label}: staging`, stagingBytes);
  let used = 0;
  let packings: Packing[] = [];
  let endings: ((encoder: GPUCommandEncoder) => GPUBuffer)[] = [];
  let submitted = 0;

  /** Reads rows of a tensor to where they will be in the staging buffer. */
  const stage = async (tensor: TensorEntry, offset: number, size: number): Promise<Packing["staged"]> => {
    const padded = align(size, 4);
    if (oneByOne || used + padded > host.byteLength) await flush();
    if (padded > host.byteLength) {
      // A single row (of a 3 × 3 convolution with very many inputs) may be longer than a piece.
      host = new Uint8Array(padded);
      gpu.destroyBuffer(staging);
      staging = gpu.createBuffer(`${label}: staging`, padded);
    }
    const at = used;
    await tensor.read(host.subarray(at, at + size), offset);
    used = align(at + padded, gpu.storageAlignment);
    return { at, size: padded };
  };

  const flush = async () => {
    const [due, after] = [packings, endings];
    [packings, endings] = [[], []];
    if (due.length === 0 && after.length === 0) return;
    const name = `${label}: packing`;
    const stride = align(BLOCK_BYTES, gpu.uniformAlignment);
    const blocks = new Uint8Array(Math.max(1, due.length) * stride);
    for (const [index, { block }] of due.entries()) blocks.set(new Uint8Array(block), index * stride);
    const uniforms = gpu.createBuffer(name, blocks.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
    const done = [uniforms];
    try {
      queue.writeBuffer(uniforms, 0, blocks);
      queue.writeBuffer(staging, 0, host, 0, Math.min(used, host.byteLength));
      const encoder = gpu.device.createCommandEncoder({ label: name });
      const pass = encoder.beginComputePass({ label: name });
      for (const [index, { packer, block, staged, target, workgroups }] of due.entries()) {
        const pipeline = await gpu.pipeline(packer.name, packer.code);
        const group = gpu.device.createBindGroup({
          label: `${label}: ${packer.name}`,
          layout: pipeline.getBindGroupLayout(0),
          entries: [
            { binding: 0, resource: { buffer: uniforms, offset: index * stride, size: block.byteLength } },
            { binding: 1, resource: { buffer: staging, offset: staged.at, size: staged.size } },
            { binding: 2, resource: { buffer: target } },
          ],
        });
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...workgroups);
      }
      pass.end();
      for (const encode of after) done.push(encode(encoder));
      queue.submit([encoder.finish({ label: name })]);
    } finally {
      for (const buffer of done) gpu.destroyBuffer(buffer); // the queue keeps what it still has to read
    }
    // Each write holds its bytes in Dawn until the queue has passed it.
    submitted += used;
    used = 0;
    if (submitted > 4 * PIECE_BYTES) {
      submitted = 0;
      await gpu.idle();
    }
  };

  return {
    async matrix(parameter, parts, buffer) {
      const { outputHead, inputHead, taps, inputs } = parameter;
      let firstQuad = 0;
      for (const [index, tensor] of parts.entries()) {
        const format = tensor.dtype as FloatType;
        const outputs = tensor.shape[0]!;
        const rowBytes = inputs * taps * ELEMENT_BYTES[format];
        // A run begins with a quad of outputs, and with a head where heads are padded.
        const unit = outputHead ? outputHead.width : 4;
        const padded = outputHead ? outputHead.padded : 4;
        const rowsARun = Math.max(1, Math.floor(PIECE_BYTES / rowBytes / unit)) * unit;
        for (let first = 0; first < outputs; first += rowsARun) {
          const rows = Math.min(rowsARun, outputs - first);
          const firstChannel = (first / unit) * padded;
          const packedQuads = outputHead ? ((rows / unit) * padded) / 4 : quads(rows);
          const staged = await stage(tensor, first * rowBytes, rows * rowBytes);
          const { workgroups, width } = grid(taps * parameter.inputQuads * packedQuads * 4);
          const block = params(
            ...[outputs, inputs, taps, FORMAT[format]],
            ...[parameter.outputQuads, parameter.inputQuads, firstQuad + firstChannel / 4, packedQuads],
            ...[firstChannel, first],
            ...[outputHead?.width ?? 0, outputHead?.padded ?? 0, inputHead?.width ?? 0, inputHead?.padded ?? 0],
            width,
          );
          packings.push({ packer: kernels.matrix, block, staged, target: buffer, workgroups });
        }
        firstQuad += quads(parameter.partChannels[index]!);
      }
    },
    async vector(parameter, parts, buffer) {
      const values = new Float32Array(parameter.quads * 4);
      let start = 0;
      for (const [index, tensor] of parts.entries()) {
        const bytes = new Uint8Array(tensor.byteLength);
        await tensor.read(bytes);
        const source = toFloat32(bytes, tensor.dtype as FloatType);
        const { width, padded } = parameter.head ?? { width: source.length, padded: source.length };
        for (let head = 0; head * width < source.length; head++) {
          values.set(source.subarray(head * width, (head + 1) * width), start + head * padded);
        }
        start += parameter.partChannels[index]!;
      }
      queue.writeBuffer(buffer, 0, values);
    },
    async table(parameter, tensor, buffers) {
      const format = tensor.dtype as FloatType;
      const rowBytes = parameter.channels * ELEMENT_BYTES[format];
      const limits = { weights: storage, maxBindingBytes: gpu.maxBindingBytes };
      for (const [piece, { firstRow, endRow }] of tablePieces(parameter, limits).entries()) {
        // A multiple of two rows, so that a run of halves begins on a whole word.
        const rowsARun = Math.max(2, Math.floor(PIECE_BYTES / rowBytes / 2) * 2);
        for (let first = firstRow; first < endRow; first += rowsARun) {
          const rows = Math.min(rowsARun, endRow - first);
          const staged = await stage(tensor, first * rowBytes, rows * rowBytes);
          const { workgroups, width } = grid(rows * quads(parameter.channels));
          const block = params(
            rows,
            parameter.channels,
            quads(parameter.channels),
            FORMAT[format],
            first - firstRow,
            width,
          );
          packings.push({ packer: kernels.table, block, staged, target: buffers[piece]!, workgroups });
        }
      }
    },
    afterwards: (encode) => endings.push(encode),
    flush,
    close: () => gpu.destroyBuffer(staging),
  };
}
