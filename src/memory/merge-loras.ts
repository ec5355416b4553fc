/**
 * LoRA merged into a component's weights, out of place: the parameters that it touches are copied and changed, the others
 * are the component's own. Destroying the copies leaves no trace of it.
 *
 * A module's change is scale · up · down (`src/weights/lora.ts`). Several changes of one module are one change whose rank is
 * the sum of theirs, Σ_j s_j · up_j · down_j = [s_1·up_1 ‖ s_2·up_2 ‖ …] · [down_1 ; down_2 ; …], so that weights stored as
 * f16 are rounded once however many LoRAs there are. The factors are small; here they are put on the host into the order of
 * the packed tiles, and the product is the device's work (`shaders/lora_merge.wgsl`).
 */

import loraMerge from "../../shaders/lora_merge.wgsl" with { type: "text" };
import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { grid, type Kernel, kernel, type Params, packParams } from "../graph/dispatch.ts";
import { type MatrixParameter, type Parameter, quads, type Storage } from "../graph/tensor.ts";
import { copyTiles, matrixTexture, tilesInBuffer, type WeightTransform } from "../graph/weights.ts";
import { WeightsError } from "../weights/errors.ts";
import type { LoadedParameters } from "./load.ts";
import { type Factors, stackFactors, type WeightedDelta } from "./lora-factors.ts";
import type { PreparationWatch } from "./preparation.ts";
import { createTransformedWeights } from "./transformed-weights.ts";

export type { WeightedDelta } from "./lora-factors.ts";

/** Bytes of factors handed to the device before it is waited for: each write holds its bytes until the queue has passed it. */
const MAX_BYTES_IN_FLIGHT = 64 * 2 ** 20;

/** Where a module's weight lies: one of the parts of a parameter. */
interface Place {
  readonly parameter: MatrixParameter;
  readonly part: number;
}

/**
 * `base` with `deltas` added: W + Σ scale · delta.scale · up · down. Deltas may come from several files and name a module
 * several times. The sum is rounded once where the file can be read again (`finer`). `parameters` are those that `base` was loaded for; `destroy` frees the copies and leaves `base` alone.
 * Throws `WeightsError` "lora-module" for a module that no matrix among `parameters` has, before anything is allocated,
 * and the errors of reading the files; GPU errors as typed errors; the signal's reason if it is aborted.
 */
export async function mergeLoras(
  gpu: Gpu,
  base: LoadedParameters,
  parameters: Iterable<Parameter>,
  deltas: readonly WeightedDelta[],
  options: PreparationWatch & { readonly label: string },
): Promise<LoadedParameters> {
  const changes = changesOf(parameters, deltas, options.label);
  const copies = new Map<string, GPUBuffer>();
  const textures = new Map<string, GPUTexture>();
  const destroy = () => {
    for (const buffer of copies.values()) gpu.destroyBuffer(buffer);
    for (const texture of textures.values()) gpu.destroyTexture(texture);
    copies.clear();
    textures.clear();
  };
  const merger = new Merger(gpu, base, options.label);
  let bytes = 0;
  try {
    let done = 0;
    for (const [parameter, parts] of changes) {
      options.signal?.throwIfAborted();
      options.onProgress?.({ what: "weights", done: done++, total: changes.size });
      const label = `${options.label}: ${parameter.key}`;
      const copy = await merger.merge(label, parameter, parts);
      copies.set(parameter.key, copy);
      bytes += copy.size;
      const shape = matrixTexture(gpu, parameter, base.storage);
      if (shape) {
        const texture = gpu.createTexture(label, shape);
        textures.set(parameter.key, texture);
        gpu.submit(label, (encoder) => copyTiles(encoder, copy, texture, shape));
        copies.delete(parameter.key);
        gpu.destroyBuffer(copy);
      }
    }
    await gpu.idle();
  } catch (error) {
    destroy();
    throw error;
  } finally {
    merger.close();
  }
  const merged = {
    storage: base.storage,
    get(parameter: Parameter) {
      const copy = copies.get(parameter.key);
      return copy ? [copy] : base.get(parameter);
    },
    texture: (matrix: MatrixParameter) => textures.get(matrix.key) ?? base.texture?.(matrix),
  };
  const own = createTransformedWeights(gpu, options.label, merged);
  const changed = new Set([...changes.keys()].map(({ key }) => key)); // a plan's parameters are objects of their own
  const transformedOf = (matrix: MatrixParameter) => (changed.has(matrix.key) ? own : base.transformed!);
  return {
    ...merged,
    bytes,
    loadingBytes: bytes,
    ...(base.transformed && {
      transformed: {
        get: (matrix: MatrixParameter, transform: WeightTransform) => transformedOf(matrix).get(matrix, transform),
        has: (matrix: MatrixParameter, transform: WeightTransform) => transformedOf(matrix).has(matrix, transform),
      },
    }),
    get transformedBytes() {
      return own.bytes;
    },
    dropTransformed: () => own.drop(),
    destroy() {
      own.destroy();
      destroy();
    },
  };
}

/** The changes of each part of each matrix that has any. */
type Changes = ReadonlyMap<MatrixParameter, ReadonlyMap<number, readonly WeightedDelta[]>>;

function changesOf(parameters: Iterable<Parameter>, deltas: readonly WeightedDelta[], label: string): Changes {
  const places = placesOf(parameters);
  const changes = new Map<MatrixParameter, Map<number, WeightedDelta[]>>();
  for (const weighted of deltas) {
    const { module, down } = weighted.delta;
    const place = places.get(`${module}.weight`);
    if (!place) {
      const details = { file: down.file, tensor: down.name };
      throw new WeightsError("lora-module", `changes ${module}, which ${label} does not have`, details);
    }
    if (weighted.scale * weighted.delta.scale === 0) continue;
    const parts = changes.get(place.parameter) ?? new Map<number, WeightedDelta[]>();
    changes.set(place.parameter, parts);
    parts.set(place.part, [...(parts.get(place.part) ?? []), weighted]);
  }
  return changes;
}

function placesOf(parameters: Iterable<Parameter>): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const parameter of parameters) {
    if (parameter.kind !== "matrix") continue;
    for (const [part, { name }] of parameter.parts.entries()) places.set(name, { parameter, part });
  }
  return places;
}

/** Packed weights that a product is added to. */
interface PackedWeights {
  readonly buffer: GPUBuffer;
  readonly storage: Storage;
}

/** The kernel that adds to weights that are stored so. */
export function mergeKernel(storage: Storage): Kernel {
  return kernel("lora_merge", loraMerge, "f32", { weightStorage: storage });
}

/** The parameters of `mergeKernel` for a part of a matrix, whose weights are stored as `before`. */
export function mergeParams(
  { taps, inputQuads, outputQuads, partChannels }: MatrixParameter,
  part: number,
  of: { readonly rank: number; readonly before: Storage; readonly gridWidth: number },
): Params {
  return {
    taps,
    rank: of.rank,
    in_quads: inputQuads,
    out_quads: outputQuads,
    first_packed_quad: partChannels.slice(0, part).reduce((sum, channels) => sum + quads(channels), 0),
    packed_quads: quads(partChannels[part]!),
    grid_width: of.gridWidth,
    before_halves: of.before === "f16",
  };
}

class Merger {
  readonly #gpu: Gpu;
  readonly #base: LoadedParameters;
  readonly #label: string;
  readonly #kernel: Kernel;
  readonly #uniforms: GPUBuffer;
  /** Bytes of factors since the queue was last waited for. */
  #inFlight = 0;

  constructor(gpu: Gpu, base: LoadedParameters, label: string) {
    this.#gpu = gpu;
    this.#base = base;
    this.#label = label;
    this.#kernel = mergeKernel(base.storage);
    this.#uniforms = gpu.createBuffer(`${label}: merging`, 64, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
  }

  /** A copy of a matrix with the changes of its parts added. */
  async merge(
    label: string,
    parameter: MatrixParameter,
    parts: ReadonlyMap<number, readonly WeightedDelta[]>,
  ): Promise<GPUBuffer> {
    const gpu = this.#gpu;
    const source = tilesInBuffer(gpu, label, this.#base, parameter);
    const copy = gpu.createBuffer(label, source.buffer.size);
    try {
      gpu.submit(label, (encoder) => encoder.copyBufferToBuffer(source.buffer, 0, copy, 0, source.buffer.size));
      const finer = await this.#base.finer?.(parameter);
      const exact = finer && tilesInBuffer(gpu, label, finer, parameter);
      const before = { buffer: (exact ?? source).buffer, storage: (finer ?? this.#base).storage };
      for (const [part, weighted] of parts) {
        await this.#add(parameter, part, await stackFactors(parameter, part, weighted), before, copy);
      }
      // The queue keeps what it still has to read.
      exact?.release();
      finer?.destroy();
      return copy;
    } catch (error) {
      gpu.destroyBuffer(copy);
      throw error;
    } finally {
      source.release();
    }
  }

  /** Adds the product of the factors to a part of the packed weights in `before`, and writes the sums into `target`. */
  async #add(
    parameter: MatrixParameter,
    part: number,
    factors: Factors,
    before: PackedWeights,
    target: GPUBuffer,
  ): Promise<void> {
    const packedQuads = quads(parameter.partChannels[part]!);
    const { workgroups, width } = grid(parameter.taps * parameter.inputQuads * packedQuads);
    const owned: GPUBuffer[] = [];
    try {
      const uploads = [factors.down, factors.up].map((values) => {
        const buffer = this.#gpu.createBuffer(`${this.#label}: factors`, values.byteLength);
        owned.push(buffer);
        this.#gpu.write(buffer, 0, values.buffer as ArrayBuffer);
        return buffer;
      });
      const params = mergeParams(parameter, part, { rank: factors.rank, before: before.storage, gridWidth: width });
      await this.#dispatch(`${this.#label}: ${parameter.key}`, params, [...uploads, before.buffer, target], workgroups);
    } finally {
      for (const buffer of owned) this.#gpu.destroyBuffer(buffer); // the queue keeps what it still has to read
    }
    this.#inFlight += factors.down.byteLength + factors.up.byteLength;
    if (this.#inFlight > MAX_BYTES_IN_FLIGHT) {
      this.#inFlight = 0;
      await this.#gpu.idle();
    }
  }

  async #dispatch(
    label: string,
    params: Params,
    buffers: readonly GPUBuffer[],
    workgroups: readonly [number, number, number],
  ): Promise<void> {
    const gpu = this.#gpu;
    const { name, code } = this.#kernel;
    const block = packParams(params);
    gpu.write(this.#uniforms, 0, block);
    const pipeline = await gpu.pipeline(name, code);
    const group = gpu.bind(`${this.#label}: ${name}`, pipeline, [
      { buffer: this.#uniforms, size: block.byteLength },
      ...buffers.map((buffer) => ({ buffer })),
    ]);
    gpu.submit(this.#label, (encoder) => {
      const pass = encoder.beginComputePass({ label });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
      pass.end();
    });
  }

  close(): void {
    this.#gpu.destroyBuffer(this.#uniforms);
  }
}
