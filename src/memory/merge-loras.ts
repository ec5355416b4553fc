/**
 * LoRA merged into a component's weights, out of place: the parameters that it touches are copied and changed, the others
 * are the component's own. Destroying the copies leaves no trace of it.
 *
 * A LoRA's change of a module is scale · up · down. Several changes of one module are one change whose rank is
 * the sum of theirs, Σ_j s_j · up_j · down_j = [s_1·up_1 ‖ s_2·up_2 ‖ …] · [down_1 ; down_2 ; …], so that weights stored as
 * f16 are rounded once however many LoRAs there are. The factors are small; here they are put on the host into the order of
 * the packed tiles, and the product is the device's work (`shaders/lora_merge.wgsl`). Other kinds of changes
 * (`src/weights/lora-changes.ts`) are made before, in a copy in f32 (`changed-weights.ts`).
 */

import loraMerge from "../../shaders/lora_merge.wgsl" with { type: "text" };
import loraVector from "../../shaders/lora_vector.wgsl" with { type: "text" };
import type { Gpu } from "../gpu/device.ts";
import { grid, type Kernel, kernel, type Params } from "../graph/dispatch.ts";
import { type MatrixParameter, type Parameter, quads, type Storage, type VectorParameter } from "../graph/tensor.ts";
import { copyTiles, matrixTexture, tilesInBuffer, type WeightTransform } from "../graph/weights.ts";
import { WeightsError } from "../weights/errors.ts";
import type { LoraDelta, ModuleShape, ModuleShapes } from "../weights/lora.ts";
import type { GainDelta, MatrixDelta, VectorDelta } from "../weights/lora-changes.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";
import { ChangedWeights, type PackedWeights, packedPlace, widenedBytes } from "./changed-weights.ts";
import type { LoadedParameters } from "./load.ts";
import { isLowRank, type StackedFactors, spread, stackFactors, valuesOf, type WeightedDelta } from "./lora-factors.ts";
import { Merging } from "./merging.ts";
import type { PreparationWatch } from "./preparation.ts";
import { createTransformedWeights } from "./transformed-weights.ts";

export type { WeightedDelta } from "./lora-factors.ts";

/** Where a tensor of the checkpoint lies: one of the parts of a parameter. */
interface Place {
  readonly parameter: MatrixParameter | VectorParameter;
  readonly part: number;
}

/**
 * `base` with `deltas` added. They may come from several files and name a module several times. The sum is rounded once where
 * the file can be read again (`finer`). `parameters` are those that `base` was loaded for; `destroy` frees the copies and
 * leaves `base` alone.
 * Throws `WeightsError` "lora-module" for a module that none of `parameters` has, before anything is allocated, and the errors of reading the files; GPU errors as typed errors; the signal's reason if it is aborted.
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
  const merging = new Merging(gpu, options.label);
  const merger = new Merger(merging, base);
  let bytes = 0;
  try {
    let done = 0;
    for (const [parameter, parts] of changes) {
      options.signal?.throwIfAborted();
      options.onProgress?.({ what: "weights", done: done++, total: changes.size });
      const label = `${options.label}: ${parameter.key}`;
      const copy =
        parameter.kind === "vector"
          ? await merger.mergeVector(label, parameter, parts)
          : await merger.mergeMatrix(label, parameter, parts);
      copies.set(parameter.key, copy);
      bytes += copy.size;
      if (parameter.kind === "vector") continue;
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
    merging.close();
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

/** The changes of each part of each parameter that has any. */
type Changes = ReadonlyMap<MatrixParameter | VectorParameter, ReadonlyMap<number, readonly WeightedDelta[]>>;

function changesOf(parameters: Iterable<Parameter>, deltas: readonly WeightedDelta[], label: string): Changes {
  const places = placesOf(parameters);
  const changes = new Map<Place["parameter"], Map<number, WeightedDelta[]>>();
  for (const weighted of deltas) {
    const { delta } = weighted;
    const place = places.get(`${delta.module}.${delta.kind === "vector" ? delta.of : "weight"}`);
    if (!place || (place.parameter.kind === "vector") !== (delta.kind === "vector")) {
      const { file, name: tensor } = tensorOf(delta);
      throw new WeightsError("lora-module", `changes ${delta.module}, which ${label} does not have`, { file, tensor });
    }
    const isNothing = delta.scale === 0 && !(delta.kind === "matrix" && delta.magnitude);
    if (weighted.scale === 0 || isNothing) continue;
    const parts = changes.get(place.parameter) ?? new Map<number, WeightedDelta[]>();
    changes.set(place.parameter, parts);
    parts.set(place.part, [...(parts.get(place.part) ?? []), weighted]);
  }
  return changes;
}

/** A tensor of a change, for messages. */
function tensorOf(delta: LoraDelta): TensorEntry {
  if (delta.kind !== "matrix") return delta.values;
  const [factor] = delta.factors;
  return factor.kind === "product" ? factor.down : factor.values;
}

function placesOf(parameters: Iterable<Parameter>): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const parameter of parameters) {
    if (parameter.kind === "table") continue;
    for (const [part, { name }] of parameter.parts.entries()) places.set(name, { parameter, part });
  }
  return places;
}

/** Modules that an adapter may change: everything with a weight that is no table, by name, as the checkpoint has it. */
export function modulesOf(parameters: Iterable<Parameter>): ModuleShapes {
  const shapes = new Map(
    [...parameters]
      .filter(({ kind }) => kind !== "table")
      .flatMap(({ parts }) => parts.map(({ name, shape }) => [name, shape] as const)),
  );
  const modules = new Map<string, ModuleShape>();
  for (const [name, weight] of shapes) {
    const module = name.replace(/\.weight$/, "");
    if (module !== name) modules.set(module, { weight, hasBias: shapes.has(`${module}.bias`) });
  }
  return modules;
}

/** The kernel that adds to weights that are stored so. */
export function mergeKernel(storage: Storage): Kernel {
  return kernel("lora_merge", loraMerge, "f32", { weightStorage: storage });
}

/** The parameters of `mergeKernel` for a part of a matrix, whose weights are stored as `before`. */
export function mergeParams(
  parameter: MatrixParameter,
  part: number,
  of: { readonly rank: number; readonly before: Storage; readonly gridWidth: number },
): Params {
  const { taps, ...place } = packedPlace(parameter, part);
  return { taps, rank: of.rank, ...place, grid_width: of.gridWidth, before_halves: of.before === "f16" };
}

/** The kernel that adds a difference to a vector. */
export function vectorKernel(): Kernel {
  return kernel("lora_vector", loraVector, "f32");
}

export function vectorParams(count: number, gridWidth: number): Params {
  return { quads: count, grid_width: gridWidth };
}

/** Nothing to add: a product over a rank of 0. */
const NOTHING = { rank: 0, down: new Float32Array(0), up: new Float32Array(0) };

class Merger {
  readonly #merging: Merging;
  readonly #gpu: Gpu;
  readonly #base: LoadedParameters;

  constructor(merging: Merging, base: LoadedParameters) {
    this.#merging = merging;
    this.#gpu = merging.gpu;
    this.#base = base;
  }

  /** A copy of a vector with the changes of its parts added. */
  async mergeVector(
    label: string,
    parameter: VectorParameter,
    parts: ReadonlyMap<number, readonly WeightedDelta[]>,
  ): Promise<GPUBuffer> {
    const added = new Float32Array(parameter.quads * 4);
    for (const [part, weighted] of parts) {
      const channels = parameter.partChannels;
      const first = channels.slice(0, part).reduce((sum, count) => sum + count, 0);
      for (const { delta, scale } of weighted as readonly WeightedDelta<VectorDelta>[]) {
        const values = spread(await valuesOf(delta.values), parameter.head, channels[part]!);
        for (const [at, value] of values.entries()) added[first + at]! += value * delta.scale * scale;
      }
    }
    const source = this.#base.get(parameter)[0]!;
    const copy = this.#gpu.createBuffer(label, source.size);
    try {
      this.#gpu.submit(label, (encoder) => encoder.copyBufferToBuffer(source, 0, copy, 0, source.size));
      const { workgroups, width } = grid(parameter.quads);
      const params = vectorParams(parameter.quads, width);
      await this.#merging.run(label, { kernel: vectorKernel(), params, buffers: [added, copy], workgroups });
      return copy;
    } catch (error) {
      this.#gpu.destroyBuffer(copy);
      throw error;
    }
  }

  /** A copy of a matrix with the changes of its parts added. */
  async mergeMatrix(
    label: string,
    parameter: MatrixParameter,
    parts: ReadonlyMap<number, readonly WeightedDelta[]>,
  ): Promise<GPUBuffer> {
    const gpu = this.#gpu;
    const source = tilesInBuffer(gpu, label, this.#base, parameter);
    const copy = gpu.createBuffer(label, source.buffer.size);
    let finer: LoadedParameters | undefined;
    let exact: ReturnType<typeof tilesInBuffer> | undefined;
    let changed: ChangedWeights | undefined;
    try {
      gpu.submit(label, (encoder) => encoder.copyBufferToBuffer(source.buffer, 0, copy, 0, source.buffer.size));
      finer = await this.#base.finer?.(parameter);
      exact = finer && tilesInBuffer(gpu, label, finer, parameter);
      const before = { buffer: (exact ?? source).buffer, storage: (finer ?? this.#base).storage };
      changed = await this.#changed(label, parameter, parts, before);
      const target = { buffer: copy, storage: this.#base.storage };
      for (const [part, weighted] of parts) {
        const factors = await stackFactors(parameter, part, weighted.filter(isLowRank));
        await this.#add(label, { parameter, part, factors }, changed?.result ?? before, target);
      }
      return copy;
    } catch (error) {
      gpu.destroyBuffer(copy);
      throw error;
    } finally {
      // The queue keeps what it still has to read.
      changed?.destroy();
      exact?.release();
      finer?.destroy();
      source.release();
    }
  }

  /** The weights in f32 with the changes that are no plain product; undefined if there is none. */
  async #changed(
    label: string,
    parameter: MatrixParameter,
    parts: ReadonlyMap<number, readonly WeightedDelta[]>,
    before: PackedWeights,
  ): Promise<ChangedWeights | undefined> {
    const others = [...parts].flatMap(([part, weighted]) =>
      weighted
        .filter((one) => !isLowRank(one))
        .map((one) => [part, one as WeightedDelta<MatrixDelta | GainDelta>] as const),
    );
    if (others.length === 0) return undefined;
    const widen = (name: string) => this.#widened(name, parameter, before);
    const changed = await ChangedWeights.begin(this.#merging, label, parameter, before, widen);
    try {
      for (const [part, weighted] of others) await changed.add(part, weighted);
      return changed;
    } catch (error) {
      changed.destroy();
      throw error;
    }
  }

  /** A copy of packed weights in f32. */
  async #widened(label: string, parameter: MatrixParameter, before: PackedWeights): Promise<GPUBuffer> {
    const copy = this.#gpu.createBuffer(label, widenedBytes(parameter));
    try {
      for (const part of parameter.parts.keys())
        await this.#add(label, { parameter, part, factors: NOTHING }, before, { buffer: copy, storage: "f32" });
      return copy;
    } catch (error) {
      this.#gpu.destroyBuffer(copy);
      throw error;
    }
  }

  /** Adds the product of the factors to a part of the packed weights in `before`, and writes the sums into `target`. */
  async #add(
    label: string,
    { parameter, part, factors }: { parameter: MatrixParameter; part: number; factors: StackedFactors },
    before: PackedWeights,
    target: PackedWeights,
  ): Promise<void> {
    const packedQuads = quads(parameter.partChannels[part]!);
    const { workgroups, width } = grid(parameter.taps * parameter.inputQuads * packedQuads);
    await this.#merging.run(label, {
      kernel: mergeKernel(target.storage),
      params: mergeParams(parameter, part, { rank: factors.rank, before: before.storage, gridWidth: width }),
      buffers: [factors.down, factors.up, before.buffer, target.buffer],
      workgroups,
    });
  }
}
