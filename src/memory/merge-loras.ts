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
import { grid, kernel, params } from "../graph/dispatch.ts";
import type { HeadPadding, MatrixParameter, Parameter, Storage } from "../graph/tensor.ts";
import { quads } from "../graph/tensor.ts";
import { matrixTexture, type TransformedForm, tilesInBuffer, tilesToTexture } from "../graph/weights.ts";
import { inTurns } from "../platform/turns.ts";
import { type FloatType, toFloat32 } from "../weights/element-types.ts";
import { WeightsError } from "../weights/errors.ts";
import type { LoraDelta } from "../weights/lora.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";
import type { LoadedParameters } from "./load.ts";
import { createTransformedWeights } from "./transformed-weights.ts";

/** A resolved change, and how strongly it counts. */
export interface WeightedDelta {
  readonly delta: LoraDelta;
  readonly scale: number;
}

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
 * and what reading the files throws; GPU errors as typed errors.
 */
export async function mergeLoras(
  gpu: Gpu,
  base: LoadedParameters,
  parameters: Iterable<Parameter>,
  deltas: readonly WeightedDelta[],
  options: { readonly label: string },
): Promise<LoadedParameters> {
  const places = placesOf(parameters);
  const changes = new Map<MatrixParameter, Map<number, WeightedDelta[]>>();
  for (const weighted of deltas) {
    const { module, down } = weighted.delta;
    const place = places.get(`${module}.weight`);
    if (!place) {
      const details = { file: down.file, tensor: down.name };
      throw new WeightsError("lora-module", `changes ${module}, which ${options.label} does not have`, details);
    }
    if (weighted.scale * weighted.delta.scale === 0) continue;
    const parts = changes.get(place.parameter) ?? new Map<number, WeightedDelta[]>();
    changes.set(place.parameter, parts);
    parts.set(place.part, [...(parts.get(place.part) ?? []), weighted]);
  }

  const copies = new Map<string, GPUBuffer>();
  const textures = new Map<string, GPUTexture>();
  const destroy = () => {
    for (const buffer of copies.values()) gpu.destroyBuffer(buffer);
    for (const texture of textures.values()) gpu.destroyTexture(texture);
    copies.clear();
    textures.clear();
  };
  const merger = createMerger(gpu, base, options.label);
  let bytes = 0;
  try {
    for (const [parameter, parts] of changes) {
      const label = `${options.label}: ${parameter.key}`;
      const source = tilesInBuffer(gpu, label, base, parameter);
      const copy = gpu.createBuffer(label, source.buffer.size);
      copies.set(parameter.key, copy);
      bytes += copy.size;
      merger.copy(source.buffer, copy);
      const finer = await base.finer?.(parameter);
      const exact = finer && tilesInBuffer(gpu, label, finer, parameter);
      const before = { buffer: (exact ?? source).buffer, storage: (finer ?? base).storage };
      for (const [part, weighted] of parts) await merger.add(parameter, part, weighted, before, copy);
      // The queue keeps what it still has to read.
      exact?.release();
      finer?.destroy();
      source.release();
      const texture = matrixTexture(gpu, parameter, base.storage);
      if (texture) {
        const encoder = gpu.device.createCommandEncoder({ label });
        textures.set(parameter.key, tilesToTexture(gpu, label, copy, texture, encoder));
        gpu.device.queue.submit([encoder.finish({ label })]);
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
  const held = {
    storage: base.storage,
    get(parameter: Parameter) {
      const copy = copies.get(parameter.key);
      return copy ? [copy] : base.get(parameter);
    },
    texture: (matrix: MatrixParameter) => textures.get(matrix.key) ?? base.texture?.(matrix),
  };
  const own = createTransformedWeights(gpu, options.label, held);
  const changed = new Set([...changes.keys()].map(({ key }) => key)); // a plan's parameters are objects of their own
  const transformedOf = (matrix: MatrixParameter) => (changed.has(matrix.key) ? own : base.transformed!);
  return {
    ...held,
    bytes,
    loadingBytes: bytes,
    ...(base.transformed && {
      transformed: {
        get: (matrix: MatrixParameter, form: TransformedForm) => transformedOf(matrix).get(matrix, form),
        has: (matrix: MatrixParameter, form: TransformedForm) => transformedOf(matrix).has(matrix, form),
      },
    }),
    dropTransformed: own.drop,
    destroy() {
      own.destroy();
      destroy();
    },
  };
}

function placesOf(parameters: Iterable<Parameter>): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const parameter of parameters) {
    if (parameter.kind !== "matrix") continue;
    for (const [part, { name }] of parameter.parts.entries()) places.set(name, { parameter, part });
  }
  return places;
}

interface Merger {
  copy(source: GPUBuffer, target: GPUBuffer): void;
  /** Adds all of a part's changes to its packed weights in `before`, and writes the sums into `target`. */
  add(
    parameter: MatrixParameter,
    part: number,
    weighted: readonly WeightedDelta[],
    before: { readonly buffer: GPUBuffer; readonly storage: Storage },
    target: GPUBuffer,
  ): Promise<void>;
  close(): void;
}

function createMerger(gpu: Gpu, base: LoadedParameters, label: string): Merger {
  const { device } = gpu;
  const merge = kernel("lora_merge", loraMerge, "f32", { weights: base.storage });
  const uniforms = gpu.createBuffer(`${label}: merging`, 64, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
  let inFlight = 0;

  const upload = (name: string, values: Float32Array): GPUBuffer => {
    const buffer = gpu.createBuffer(`${label}: ${name}`, values.byteLength);
    device.queue.writeBuffer(buffer, 0, values);
    return buffer;
  };
  return {
    copy(source, target) {
      const encoder = device.createCommandEncoder({ label });
      encoder.copyBufferToBuffer(source, 0, target, 0, source.size);
      device.queue.submit([encoder.finish()]);
    },
    async add(parameter, part, weighted, before, target) {
      const factors = await stackFactors(parameter, part, weighted);
      const firstQuad = parameter.partChannels.slice(0, part).reduce((sum, channels) => sum + quads(channels), 0);
      const packedQuads = quads(parameter.partChannels[part]!);
      const { workgroups, width } = grid(parameter.taps * parameter.inputQuads * packedQuads);
      const block = params(
        ...[parameter.taps, factors.rank, parameter.inputQuads, parameter.outputQuads],
        ...[firstQuad, packedQuads, width, before.storage === "f16" ? 1 : 0],
      );
      device.queue.writeBuffer(uniforms, 0, block);
      const owned: GPUBuffer[] = [];
      try {
        const down = upload("down", factors.down);
        owned.push(down);
        const up = upload("up", factors.up);
        owned.push(up);
        const pipeline = await gpu.pipeline(merge.name, merge.code);
        const group = device.createBindGroup({
          label: `${label}: ${merge.name}`,
          layout: pipeline.getBindGroupLayout(0),
          entries: [uniforms, down, up, before.buffer, target].map((buffer, binding) => ({
            binding,
            resource: binding === 0 ? { buffer, size: block.byteLength } : { buffer },
          })),
        });
        const encoder = device.createCommandEncoder({ label });
        const pass = encoder.beginComputePass({ label: `${label}: ${parameter.key}` });
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...workgroups);
        pass.end();
        device.queue.submit([encoder.finish()]);
      } finally {
        for (const buffer of owned) gpu.destroyBuffer(buffer); // the queue keeps what it still has to read
      }
      inFlight += factors.down.byteLength + factors.up.byteLength;
      if (inFlight > MAX_BYTES_IN_FLIGHT) {
        inFlight = 0;
        await gpu.idle();
      }
    },
    close() {
      gpu.destroyBuffer(uniforms);
    },
  };
}

/** The factors of all changes of one module, one below the other, in the order of the packed tiles. */
interface Factors {
  readonly rank: number;
  /** `[tap, rank, stored inputs]` */
  readonly down: Float32Array;
  /** `[rank, stored outputs]`, with the scales multiplied in. */
  readonly up: Float32Array;
}

async function stackFactors(
  parameter: MatrixParameter,
  part: number,
  weighted: readonly WeightedDelta[],
): Promise<Factors> {
  const { taps, inputs, inputHead, outputHead } = parameter;
  const outputs = parameter.parts[part]!.shape[0]!;
  const storedInputs = parameter.inputQuads * 4;
  const storedOutputs = quads(parameter.partChannels[part]!) * 4;
  const total = weighted.reduce((sum, { delta }) => sum + delta.rank, 0);
  const stacked = {
    rank: total,
    down: new Float32Array(taps * total * storedInputs),
    up: new Float32Array(total * storedOutputs),
  };
  let first = 0;
  for (const { delta, scale } of weighted) {
    const { rank } = delta;
    const down = await downOf(delta, taps, inputs);
    const up = await valuesOf(delta.up);
    const begin = first;
    function* stack(): Generator<void, void, void> {
      for (let r = 0; r < rank; r++) {
        for (let tap = 0; tap < taps; tap++) {
          const row = (tap * total + begin + r) * storedInputs;
          for (let i = 0; i < inputs; i++)
            stacked.down[row + stored(i, inputHead)] = down[(r * inputs + i) * taps + tap]!;
        }
        const row = (begin + r) * storedOutputs;
        for (let o = 0; o < outputs; o++)
          stacked.up[row + stored(o, outputHead)] = up[o * rank + r]! * delta.scale * scale;
        yield;
      }
    }
    // In turns: what is read comes from blocks already there, and a file has hundreds of modules.
    await inTurns(stack());
    first += rank;
  }
  return stacked;
}

/** `down` with the kernel in it, `[rank, inputs, taps]`: a `mid` between the 1 × 1 factors is multiplied into it. */
async function downOf(delta: LoraDelta, taps: number, inputs: number): Promise<Float32Array> {
  const down = await valuesOf(delta.down);
  if (!delta.mid) return down;
  return inTurns(throughKernel(await valuesOf(delta.mid), down, { rank: delta.rank, inputs, taps }));
}

/** `mid · down`: `[rank, rank, taps]` and `[rank, inputs]` to `[rank, inputs, taps]`. */
function* throughKernel(
  mid: Float32Array,
  down: Float32Array,
  { rank, inputs, taps }: { readonly rank: number; readonly inputs: number; readonly taps: number },
): Generator<void, Float32Array, void> {
  const product = new Float32Array(rank * inputs * taps);
  for (let r = 0; r < rank; r++) {
    for (let i = 0; i < inputs; i++) {
      for (let tap = 0; tap < taps; tap++) {
        let sum = 0;
        for (let s = 0; s < rank; s++) sum += mid[(r * rank + s) * taps + tap]! * down[s * inputs + i]!;
        product[(r * inputs + i) * taps + tap] = sum;
      }
      if ((i * rank) % 4096 < rank) yield;
    }
  }
  return product;
}

/** The channel as stored: heads are widened to a multiple of four. */
function stored(channel: number, head: HeadPadding | undefined): number {
  return head ? Math.floor(channel / head.width) * head.padded + (channel % head.width) : channel;
}

async function valuesOf(entry: TensorEntry): Promise<Float32Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  return toFloat32(bytes, entry.dtype as FloatType);
}
