/**
 * Tensors of a checkpoint on their way to the device: read into a staging buffer, and repacked by a kernel once it is full
 * (`shaders/pack_weights.wgsl`, `shaders/pack_table.wgsl`), or at once if they go one by one.
 */

import packTable from "../../shaders/pack_table.wgsl" with { type: "text" };
import packWeights from "../../shaders/pack_weights.wgsl" with { type: "text" };
import checkpoint from "../../shaders/prelude/checkpoint.wgsl" with { type: "text" };
import storedChannels from "../../shaders/prelude/stored_channels.wgsl" with { type: "text" };
import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { align } from "../graph/compile/memory.ts";
import { grid, type Kernel, kernel, type Params, packParams, paramBytes } from "../graph/dispatch.ts";
import {
  type MatrixParameter,
  quads,
  type Storage,
  type TableParameter,
  type VectorParameter,
} from "../graph/tensor.ts";
import { tablePieces } from "../graph/weights.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { areFinite, ELEMENT_BYTES, type FloatType, toFloat32 } from "../weights/element-types.ts";
import { WeightsError } from "../weights/errors.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";

/** Bytes of a tensor read from disk at a time. */
export const PIECE_BYTES = 16 * 2 ** 20;

/** Bytes of the parameters of a packing kernel: 16 words at most. */
export const BLOCK_BYTES = 64;

const FORMAT: Record<FloatType, number> = { F32: 0, F16: 1, BF16: 2 };

export interface UploaderOptions {
  /** Names the buffers: `unet`. */
  readonly label: string;
  /** How the weights are stored on the device. */
  readonly storage: Storage;
  readonly stagingBytes: number;
  /** Packs each piece before the next is read. */
  readonly oneByOne: boolean;
  /** The tensors that will come, by their names in the model: those with NaN or infinity are found on the way. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Bytes in the staging buffer. */
interface Staged {
  readonly at: number;
  readonly size: number;
}

/** A dispatch that packs staged bytes. */
interface Packing {
  readonly packer: Kernel;
  readonly params: Params;
  readonly staged: Staged;
  readonly target: GPUBuffer;
  readonly workgroups: readonly [number, number, number];
}

/** The kernels that pack weights and tables to this storage. */
export function packingKernels(storage: Storage): { readonly matrix: Kernel; readonly table: Kernel } {
  return {
    matrix: kernel("pack_weights", packWeights, "f32", {
      weightStorage: storage,
      preludes: [checkpoint, storedChannels],
    }),
    table: kernel("pack_table", packTable, "f32", { weightStorage: storage, preludes: [checkpoint] }),
  };
}

/** Rows of one of a matrix's tensors, and the channels and quads of the packed matrix that they become. */
interface WeightsRun {
  readonly outputs: number;
  readonly format: FloatType;
  readonly firstRow: number;
  readonly firstChannel: number;
  readonly firstQuad: number;
  readonly packedQuads: number;
  /** The tensor's number, to say that it holds NaN or infinity. */
  readonly tensor: number;
}

/** The parameters of `shaders/pack_weights.wgsl`. */
export function weightsParams(parameter: MatrixParameter, run: WeightsRun, gridWidth: number): Params {
  const { taps, inputs, inputQuads, outputQuads, outputHead, inputHead } = parameter;
  return {
    outputs: run.outputs,
    inputs,
    taps,
    format: FORMAT[run.format],
    out_quads: outputQuads,
    in_quads: inputQuads,
    first_packed_quad: run.firstQuad,
    packed_quads: run.packedQuads,
    first_channel: run.firstChannel,
    first_source_row: run.firstRow,
    out_head: outputHead?.width ?? 0,
    out_head_padded: outputHead?.padded ?? 0,
    in_head: inputHead?.width ?? 0,
    in_head_padded: inputHead?.padded ?? 0,
    grid_width: gridWidth,
    tensor: run.tensor,
  };
}

/** The parameters of `shaders/pack_table.wgsl`; `firstRow` counts from the beginning of the piece. */
export function tableParams(
  { channels }: TableParameter,
  run: { readonly rows: number; readonly format: FloatType; readonly firstRow: number; readonly tensor: number },
  gridWidth: number,
): Params {
  return {
    rows: run.rows,
    channels,
    quads: quads(channels),
    format: FORMAT[run.format],
    first_row: run.firstRow,
    grid_width: gridWidth,
    tensor: run.tensor,
  };
}

/** Bytes on the device of the words that say which tensors hold NaN or infinity. */
export function brokenBytes(tensors: ReadonlyMap<string, TensorEntry>): number {
  return tensors.size * 4;
}

/** Tensors that one message names. */
const MOST_NAMED = 10;

function notFinite(tensors: readonly TensorEntry[]): WeightsError {
  const [first, ...others] = tensors as readonly [TensorEntry, ...TensorEntry[]];
  const more =
    others.length > 0
      ? `, and so do ${listed(
          others.map(({ name }) => quoted(name)),
          MOST_NAMED,
        )}`
      : "";
  const reason = `holds NaN or infinity${more}; the file is damaged, or its training has failed`;
  return new WeightsError("weights-not-finite", reason, { file: first.file, tensor: first.name });
}

export class Uploader {
  readonly #gpu: Gpu;
  readonly #options: UploaderOptions;
  readonly #kernels: ReturnType<typeof packingKernels>;
  /** The bytes of the staging buffer, and how many of them are used. */
  #host: Uint8Array<ArrayBuffer>;
  #staging: GPUBuffer;
  /** A word for each tensor, 1 if the device has found NaN or infinity in it. */
  readonly #broken: GPUBuffer;
  readonly #numbers: ReadonlyMap<TensorEntry, number>;
  /** Tensors in which the host has found some. */
  readonly #unsound = new Set<TensorEntry>();
  #used = 0;
  #packings: Packing[] = [];
  #endings: ((encoder: GPUCommandEncoder) => GPUBuffer)[] = [];
  /** Bytes since the queue was last waited for. */
  #submitted = 0;

  constructor(gpu: Gpu, options: UploaderOptions) {
    this.#gpu = gpu;
    this.#options = options;
    this.#kernels = packingKernels(options.storage);
    this.#host = new Uint8Array(options.stagingBytes);
    this.#staging = gpu.createBuffer(`${options.label}: staging`, options.stagingBytes);
    this.#broken = gpu.createBuffer(`${options.label}: broken tensors`, brokenBytes(options.tensors));
    this.#numbers = new Map([...options.tensors.values()].map((tensor, number) => [tensor, number]));
  }

  async matrix(parameter: MatrixParameter, parts: readonly TensorEntry[], buffer: GPUBuffer): Promise<void> {
    let firstQuad = 0;
    for (const [index, tensor] of parts.entries()) {
      await this.#part(parameter, tensor, firstQuad, buffer);
      firstQuad += quads(parameter.partChannels[index]!);
    }
  }

  /** Packs one of a matrix's tensors to the output quads from `firstQuad` on. */
  async #part(parameter: MatrixParameter, tensor: TensorEntry, firstQuad: number, target: GPUBuffer): Promise<void> {
    const { outputHead, taps, inputs, inputQuads } = parameter;
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
      const staged = await this.#stage(tensor, first * rowBytes, rows * rowBytes);
      const { workgroups, width } = grid(taps * inputQuads * packedQuads * 4);
      const run = { outputs, format, firstRow: first, firstChannel, packedQuads, tensor: this.#number(tensor) };
      const params = weightsParams(parameter, { ...run, firstQuad: firstQuad + firstChannel / 4 }, width);
      this.#packings.push({ packer: this.#kernels.matrix, params, staged, target, workgroups });
    }
  }

  async vector(parameter: VectorParameter, parts: readonly TensorEntry[], buffer: GPUBuffer): Promise<void> {
    const values = new Float32Array(parameter.quads * 4);
    let start = 0;
    for (const [index, tensor] of parts.entries()) {
      const bytes = new Uint8Array(tensor.byteLength);
      await tensor.read(bytes);
      const source = toFloat32(bytes, tensor.dtype as FloatType);
      if (!areFinite(source)) this.#unsound.add(tensor);
      const { width, padded } = parameter.head ?? { width: source.length, padded: source.length };
      for (let head = 0; head * width < source.length; head++) {
        values.set(source.subarray(head * width, (head + 1) * width), start + head * padded);
      }
      start += parameter.partChannels[index]!;
    }
    this.#gpu.write(buffer, 0, values.buffer);
  }

  async table(parameter: TableParameter, tensor: TensorEntry, buffers: readonly GPUBuffer[]): Promise<void> {
    const { channels } = parameter;
    const format = tensor.dtype as FloatType;
    const rowBytes = channels * ELEMENT_BYTES[format];
    const target = { weightStorage: this.#options.storage, maxBindingBytes: this.#gpu.maxBindingBytes };
    for (const [piece, { firstRow, endRow }] of tablePieces(parameter, target).entries()) {
      // A multiple of two rows, so that a run of halves begins on a whole word.
      const rowsARun = Math.max(2, Math.floor(PIECE_BYTES / rowBytes / 2) * 2);
      for (let first = firstRow; first < endRow; first += rowsARun) {
        const rows = Math.min(rowsARun, endRow - first);
        const staged = await this.#stage(tensor, first * rowBytes, rows * rowBytes);
        const { workgroups, width } = grid(rows * quads(channels));
        const run = { rows, format, firstRow: first - firstRow, tensor: this.#number(tensor) };
        const params = tableParams(parameter, run, width);
        this.#packings.push({ packer: this.#kernels.table, params, staged, target: buffers[piece]!, workgroups });
      }
    }
  }

  /** Encodes commands that come after the packing of all so far; the buffer that `encode` gives is done with then. */
  afterwards(encode: (encoder: GPUCommandEncoder) => GPUBuffer): void {
    this.#endings.push(encode);
  }

  async flush(): Promise<void> {
    const [packings, endings] = [this.#packings, this.#endings];
    [this.#packings, this.#endings] = [[], []];
    if (packings.length === 0 && endings.length === 0) return;
    await this.#pack(packings, endings);
    // Each write holds its bytes in Dawn until the queue has passed it.
    this.#submitted += this.#used;
    this.#used = 0;
    if (this.#submitted > 4 * PIECE_BYTES) {
      this.#submitted = 0;
      await this.#gpu.idle();
    }
  }

  /** Waits for the device. @throws WeightsError naming the tensors packed so far that hold NaN or infinity */
  async checkFinite(): Promise<void> {
    const { buffer, byteLength } = await this.#gpu.read(this.#broken, 0, brokenBytes(this.#options.tensors));
    const broken = new Uint32Array(buffer, 0, byteLength / 4);
    const isUnsound = (tensor: TensorEntry) => broken[this.#number(tensor)] !== 0 || this.#unsound.has(tensor);
    const found = [...this.#numbers.keys()].filter(isUnsound);
    if (found.length > 0) throw notFinite(found);
  }

  close(): void {
    this.#gpu.destroyBuffer(this.#staging);
    this.#gpu.destroyBuffer(this.#broken);
  }

  #number(tensor: TensorEntry): number {
    return this.#numbers.get(tensor)!;
  }

  /** Reads rows of a tensor to where they will be in the staging buffer. */
  async #stage(tensor: TensorEntry, offset: number, size: number): Promise<Staged> {
    const padded = align(size, 4);
    if (this.#options.oneByOne || this.#used + padded > this.#host.byteLength) await this.flush();
    if (padded > this.#host.byteLength) {
      // A single row (of a 3 × 3 convolution with very many inputs) may be longer than a piece.
      this.#host = new Uint8Array(padded);
      this.#gpu.destroyBuffer(this.#staging);
      this.#staging = this.#gpu.createBuffer(`${this.#options.label}: staging`, padded);
    }
    const at = this.#used;
    await tensor.read(this.#host.subarray(at, at + size), offset);
    this.#used = align(at + padded, this.#gpu.storageAlignment);
    return { at, size: padded };
  }

  async #pack(
    packings: readonly Packing[],
    endings: readonly ((encoder: GPUCommandEncoder) => GPUBuffer)[],
  ): Promise<void> {
    const gpu = this.#gpu;
    const name = `${this.#options.label}: packing`;
    const stride = align(BLOCK_BYTES, gpu.uniformAlignment);
    const blocks = new Uint8Array(Math.max(1, packings.length) * stride);
    for (const [index, { params }] of packings.entries())
      blocks.set(new Uint8Array(packParams(params)), index * stride);
    const uniforms = gpu.createBuffer(name, blocks.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
    const done = [uniforms];
    try {
      gpu.write(uniforms, 0, blocks);
      gpu.write(this.#staging, 0, this.#host.subarray(0, Math.min(this.#used, this.#host.byteLength)));
      const pipelines = new Map<Kernel, GPUComputePipeline>();
      for (const { packer } of packings) pipelines.set(packer, await gpu.pipeline(packer.name, packer.code));
      gpu.submit(name, (encoder) => {
        const pass = encoder.beginComputePass({ label: name });
        for (const [index, { packer, params, staged, target, workgroups }] of packings.entries()) {
          const pipeline = pipelines.get(packer)!;
          pass.setPipeline(pipeline);
          pass.setBindGroup(
            0,
            gpu.bind(`${this.#options.label}: ${packer.name}`, pipeline, [
              { buffer: uniforms, offset: index * stride, size: paramBytes(params) },
              { buffer: this.#staging, offset: staged.at, size: staged.size },
              { buffer: target },
              { buffer: this.#broken },
            ]),
          );
          pass.dispatchWorkgroups(...workgroups);
        }
        pass.end();
        for (const encode of endings) done.push(encode(encoder));
      });
    } finally {
      for (const buffer of done) gpu.destroyBuffer(buffer); // the queue keeps what it still has to read
    }
  }
}
