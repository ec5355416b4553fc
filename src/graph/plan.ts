/**
 * A plan: a recorded model, fused, laid out in memory, and bound to buffers. Replaying it is a flat list of pipeline,
 * bind group and workgroup counts; nothing is allocated, compiled or looked up.
 *
 * What follows from constant inputs alone (the prompt's keys and values, size embeddings) is the plan's **prologue**: it
 * runs when such an input was written, and its results are kept until the next time.
 */

import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { float32ToFloat16Bits } from "../platform/float16.ts";
import { atOnce, inTurns, ownTurn } from "../platform/turns.ts";
import { toFloat32 } from "../weights/element-types.ts";
import type { Binding, Dispatch, Target } from "./dispatch.ts";
import {
  BLANK_BYTES,
  type Footprint,
  footprintOf,
  type Layout,
  type LayoutOptions,
  layOut,
  layOutInPieces,
  type Recorded,
} from "./layout.ts";
import { align } from "./memory.ts";
import { GraphError } from "./recorder.ts";
import { channelsOf, quads, rowsOf, type Storage, type Tensor, tensorBytes } from "./tensor.ts";
import type { Choose } from "./variants.ts";
import { matrixTexture, type ParameterBuffers, textureBytes, transformedKey, withoutTransformed } from "./weights.ts";

export interface CompileOptions extends LayoutOptions {
  /** Names the plan in errors and profiles: `unet 64×64 ×2`. */
  readonly label: string;
  /** How activations are stored. */
  readonly storage: Storage;
  readonly parameters: ParameterBuffers;
  /** False: without weights transformed for faster kernels, which take memory. */
  readonly transformed?: boolean;
  /** Which variants of kernels to use; what `setChoice` said of this GPU where not given, else the rule of each family. */
  readonly choose?: Choose;
}

const choices = new WeakMap<Gpu, Choose>();

/** Has every plan of this GPU that is compiled from now on take its variants by `choose`; undefined: by rule again. */
export function setChoice(gpu: Gpu, choose: Choose | undefined): void {
  if (choose) choices.set(gpu, choose);
  else choices.delete(gpu);
}

/** A tensor's range of a buffer, in bytes. */
export interface Range {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** Time that a layer's kernel took on the GPU. */
export interface KernelTime {
  readonly kernel: string;
  readonly layer: string;
  readonly milliseconds: number;
}

/** Commands that belong to a replay. */
export interface Around {
  readonly before?: (encoder: GPUCommandEncoder) => void;
  readonly after?: (encoder: GPUCommandEncoder) => void;
}

export interface Plan {
  readonly label: string;
  /** Bytes that this plan owns: arenas, inputs, states, and a buffer for each result that was read. */
  readonly bytes: number;
  readonly arenaBytes: number;
  /** Dispatches of a replay, the prologue's apart. */
  readonly dispatches: number;
  /**
   * Writes an input (or a state) from the host: f32 values `[…, channels]` without padding, or u32 for u32 inputs.
   * @param first where `values` begin along the tensor's first dimension, if they are a part of it; else they are all of it
   * @throws GraphError if there are more or fewer of them
   */
  write(name: string, values: Float32Array | Uint32Array, first?: number): void;
  /** The same, a piece in each turn of the event loop. What is written must not change until it resolves. */
  writeInTurns(name: string, values: Float32Array | Uint32Array, first?: number): Promise<void>;
  /** Where an input, a state or an output lies, to copy from or to within the device. */
  range(name: string): Range;
  /** Tells that a constant input was changed by a copy, so that the prologue runs again. */
  touch(): void;
  /** Adds a replay to an encoder. */
  encode(encoder: GPUCommandEncoder): void;
  /** Replays and submits; does not wait. */
  run(): void;
  /**
   * Replays, and resolves once the device is done. Throws what it reported.
   * @param around copies that are submitted with it, before and after its kernels
   */
  replay(around?: Around): Promise<void>;
  /** Kernels in it, each compiled once. */
  readonly kernels: number;
  /**
   * Dispatches one workgroup of each kernel, one after the other as long as that takes time: drivers that compile a kernel when it first runs do so
   * now. What it leaves in the arenas nothing reads. Before the first replay. `onKernel` is told of each one done.
   */
  warmUp(onKernel?: () => void): Promise<void>;
  /** Replays once with a timestamp around each dispatch. Throws `GraphError` where the adapter has no timestamps. */
  profile(): Promise<KernelTime[]>;
  /** An output (or state) as f32 `[…, channels]` without padding, or u32. */
  read(name: string): Promise<Float32Array | Uint32Array>;
  destroy(): void;
}

/** Replays whose times are remembered, and the part of the shortest for which the next one is not asked about. */
const RECENT = 4;
const SURELY_BUSY = 0.94;
/** The same of long ones, in ms, so that little is slept away where the device has become faster: another's work is done. */
const SURELY_BUSY_LONG = 0.5;
const LONG_MS = 500;

/** Kernels of a warm-up that took no longer together were compiled before, in ms. */
const QUICK_MS = 10;

interface Bound {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly dispatch: Dispatch;
}

/** What kernels are chosen for where a plan with these parameters is compiled on this GPU. */
export function targetOf(gpu: Gpu, storage: Storage, parameters: ParameterBuffers, choose: Choose | undefined): Target {
  return {
    ...limitsOf(gpu),
    storage,
    weights: parameters.storage,
    transformed: parameters.transformed !== undefined,
    textured: (matrix) => parameters.texture?.(matrix) !== undefined,
    choose,
  };
}

function limitsOf(gpu: Gpu): Omit<Target, "storage" | "weights"> {
  const { lanes, matrixUnit, maxBindingBytes, device, facts } = gpu;
  const { maxTextureDimension2D: maxTextureDimension, maxComputeWorkgroupStorageSize: maxWorkgroupBytes } =
    device.limits;
  const hardware = facts.kind === "hardware";
  return { hardware, lanes, matrixUnit, maxBindingBytes, maxTextureDimension, maxWorkgroupBytes };
}

/**
 * What a plan of what `recorder` recorded would take, without making it, nor having the weights at hand.
 * Throws `GraphError` where a tensor does not fit.
 */
export function footprint(
  gpu: Gpu,
  recorder: Recorded,
  options: LayoutOptions & Pick<CompileOptions, "storage" | "transformed"> & { readonly weights: Storage },
): Footprint {
  const target: Target = {
    ...limitsOf(gpu),
    storage: options.storage,
    weights: options.weights,
    transformed: options.transformed ?? true,
    textured: (matrix) => matrixTexture(gpu, matrix, options.weights) !== undefined,
    choose: choices.get(gpu),
  };
  return footprintOf(layOut(gpu, recorder, target, options), target);
}

/**
 * Compiles what `recorder` recorded. Throws `GraphError` where a tensor does not fit, `MemoryLimitError` before anything is
 * made where the plan is more than the GPU's limit leaves, other GPU errors as typed errors.
 */
export async function compile(gpu: Gpu, recorder: Recorded, options: CompileOptions): Promise<Plan> {
  const { label, storage, transformed: transforms = true } = options;
  const parameters = transforms ? options.parameters : withoutTransformed(options.parameters);
  const target = targetOf(gpu, storage, parameters, options.choose ?? choices.get(gpu));
  const layout = await inTurns(layOutInPieces(gpu, recorder, target, options));
  const { memory, lowered } = layout;
  gpu.checkRoom(label, footprintOf(layout, target, (matrix, form) => parameters.transformed!.has(matrix, form)).peak);

  const owned: GPUBuffer[] = [];
  const textures: GPUTexture[] = [];
  const own = (name: string, size: number, usage?: number) => {
    const buffer = gpu.createBuffer(`${label}: ${name}`, size, usage);
    owned.push(buffer);
    return buffer;
  };
  const external = new Map<number, Range>();
  const destroy = () => {
    for (const buffer of owned) gpu.destroyBuffer(buffer);
    for (const texture of textures) gpu.destroyTexture(texture);
    owned.length = 0;
    textures.length = 0;
  };

  try {
    const arenas = memory.arenas.map((size, index) => own(`arena ${index}`, size));
    for (const [name, { tensor, size }] of layout.external) {
      external.set(tensor.id, { buffer: own(name, size), offset: 0, size });
    }
    const blank = own("blank", BLANK_BYTES);
    const rangeOf = (tensor: Tensor): Range => {
      const place = memory.places.get(tensor.id);
      if (place)
        return { buffer: arenas[place.arena]!, offset: place.offset, size: align(tensorBytes(tensor, storage), 16) };
      const range = external.get(tensor.id);
      if (!range) throw new GraphError(`${label}: nothing makes ${tensor.name}`);
      return range;
    };

    const uniforms = uniformBuffer(gpu, layout.uniforms, own);
    const scratch = new Map(
      [...layout.scratch].map(([name, shape]) => {
        const texture = gpu.createTexture(`${label}: ${name}`, { ...shape, format: "rgba32float" });
        textures.push(texture);
        return [name, texture];
      }),
    );
    const stagings = new Map<string, GPUBuffer>();
    const stagingOf = (name: string, size: number): GPUBuffer => {
      const staging = stagings.get(name) ?? gpu.stagingBuffer(`${label}: read-back of ${name}`, size);
      if (!stagings.has(name)) owned.push(staging);
      stagings.set(name, staging);
      return staging;
    };
    for (const [name, size] of layout.reads) stagingOf(name, size);
    // Begun first: they are compiled beside what follows.
    const compiling = pipelinesOf(
      gpu,
      lowered.flatMap((entry) => entry.dispatches),
    );
    compiling.catch(() => {}); // told below, unless something else fails before
    const transformed = new Map<string, GPUTexture>();
    for (const [key, { matrix, form }] of layout.transformed) {
      transformed.set(key, await parameters.transformed!.get(matrix, form));
      await ownTurn(); // those of a run's own weights are made here
    }
    const viewOf = remembered((texture: GPUTexture) => texture.createView());
    const layoutOf = remembered((pipeline: GPUComputePipeline) => pipeline.getBindGroupLayout(0));

    const resource = (binding: Exclude<Binding, "unused">): GPUBufferBinding | GPUTextureView => {
      if (binding === "blank") return { buffer: blank };
      if ("scratch" in binding) return viewOf(scratch.get(binding.scratch.name)!);
      if ("transformed" in binding) return viewOf(transformed.get(transformedKey(binding.transformed, binding.form))!);
      if ("parameter" in binding) {
        const { parameter, piece = 0 } = binding;
        const texture = parameter.kind === "matrix" ? parameters.texture?.(parameter) : undefined;
        return texture ? viewOf(texture) : { buffer: parameters.get(parameter)[piece]! };
      }
      const range = rangeOf(binding.tensor);
      return {
        buffer: range.buffer,
        offset: range.offset + (binding.offset ?? 0),
        size: binding.size ?? range.size - (binding.offset ?? 0),
      };
    };
    const pipelines = await compiling;
    gpu.check();
    const bind = (dispatch: Dispatch): Bound => {
      const pipeline = pipelines.get(dispatch.kernel.code)!;
      const group = gpu.device.createBindGroup({
        label: `${label}: ${dispatch.label} (${dispatch.kernel.name})`,
        layout: layoutOf(pipeline),
        entries: [
          { binding: 0, resource: uniforms(dispatch) },
          ...dispatch.bindings.flatMap((binding, index) =>
            binding === "unused" ? [] : [{ binding: index + 1, resource: resource(binding) }],
          ),
        ],
      });
      return { pipeline, group, dispatch };
    };
    const prologue: Bound[] = [];
    const replay: Bound[] = [];
    function* bindAll(): Generator<void, void, void> {
      for (const entry of lowered) {
        for (const dispatch of entry.dispatches) {
          (entry.prologue ? prologue : replay).push(bind(dispatch));
          yield;
        }
      }
    }
    await inTurns(bindAll());
    gpu.check();

    const named = new Map([...recorder.inputs, ...recorder.states, ...recorder.outputs]);
    const find = (name: string): Tensor => {
      const tensor = named.get(name);
      if (!tensor)
        throw new GraphError(`${label}: no tensor is named ${name}; there are ${[...named.keys()].join(", ")}`);
      return tensor;
    };
    let prologueDue = prologue.length > 0;
    let recent: readonly number[] = [];

    function* writing(name: string, values: Float32Array | Uint32Array, first?: number): Generator<void, void, void> {
      const tensor = find(name);
      const range = rangeOf(tensor);
      for (const { offset, bytes } of toDevice(tensor, values, storage, first)) {
        gpu.device.queue.writeBuffer(range.buffer, range.offset + offset, bytes);
        yield;
      }
      if (tensor.constant) prologueDue = prologue.length > 0;
    }

    const submit = ({ before, after }: Around = {}) => {
      const encoder = gpu.device.createCommandEncoder({ label });
      before?.(encoder);
      plan.encode(encoder);
      after?.(encoder);
      gpu.device.queue.submit([encoder.finish({ label })]);
    };

    const plan: Plan = {
      label,
      get bytes() {
        const buffers = owned.reduce((sum, buffer) => sum + buffer.size, 0);
        return buffers + textures.reduce((sum, texture) => sum + textureBytes(texture), 0);
      },
      arenaBytes: memory.arenas.reduce((sum, size) => sum + size, 0),
      dispatches: replay.length,
      write: (name, values, first) => atOnce(writing(name, values, first)),
      writeInTurns: (name, values, first) => inTurns(writing(name, values, first)),
      range: (name) => rangeOf(find(name)),
      touch() {
        prologueDue = prologue.length > 0;
      },
      encode(encoder) {
        const pass = encoder.beginComputePass({ label });
        if (prologueDue) encodeAll(pass, prologue);
        prologueDue = false;
        encodeAll(pass, replay);
        pass.end();
      },
      run: () => submit(),
      async replay(around) {
        const begun = performance.now();
        submit(around);
        const least = recent.length === 0 ? 0 : Math.min(...recent);
        await gpu.idle(least * (least < LONG_MS ? SURELY_BUSY : SURELY_BUSY_LONG));
        recent = [...recent.slice(1 - RECENT), performance.now() - begun];
      },
      kernels: pipelines.size,
      async warmUp(onKernel) {
        const firsts = [...new Map([...prologue, ...replay].map((bound) => [bound.pipeline, bound])).values()];
        let atOnce = 1;
        while (firsts.length > 0) {
          const begun = performance.now();
          const some = firsts.splice(0, atOnce);
          for (const bound of some) {
            const encoder = gpu.device.createCommandEncoder({ label: `${label} warm-up` });
            const pass = encoder.beginComputePass({ label: bound.dispatch.kernel.name });
            encodeAll(pass, [{ ...bound, dispatch: { ...bound.dispatch, workgroups: [1, 1, 1] } }]);
            pass.end();
            gpu.device.queue.submit([encoder.finish()]);
          }
          await gpu.idle();
          // One after the other while they are compiled; those that a cache has take less than the waiting for each.
          atOnce = performance.now() - begun < QUICK_MS ? atOnce * 2 : 1;
          for (const _ of some) onKernel?.();
        }
      },
      profile: () => profile(gpu, label, [...prologue, ...replay]),
      async read(name) {
        const tensor = find(name);
        const range = rangeOf(tensor);
        const size = tensorBytes(tensor, storage);
        return fromDevice(tensor, await gpu.read(range.buffer, range.offset, size, stagingOf(name, size)), storage);
      },
      destroy,
    };
    return plan;
  } catch (error) {
    destroy();
    throw error;
  }
}

/** `make` of each object once: of what bind groups want, Dawn makes a new one whenever it is asked. */
function remembered<K extends object, V>(make: (key: K) => V): (key: K) => V {
  const made = new Map<K, V>();
  return (key) => {
    const value = made.get(key) ?? make(key);
    made.set(key, value);
    return value;
  };
}

/** The pipelines of these dispatches by their code, compiled beside each other. */
async function pipelinesOf(gpu: Gpu, dispatches: readonly Dispatch[]): Promise<Map<string, GPUComputePipeline>> {
  const names = new Map(dispatches.map(({ kernel }) => [kernel.code, kernel.name]));
  const compiling: Promise<readonly [string, GPUComputePipeline]>[] = [];
  function* begin(): Generator<void, void, void> {
    for (const [code, name] of names) {
      const pipeline = gpu.pipeline(name, code).then((made) => [code, made] as const);
      pipeline.catch(() => {}); // told below
      compiling.push(pipeline);
      yield; // Dawn reads the code in this thread
    }
  }
  await inTurns(begin());
  return new Map(await Promise.all(compiling));
}

/** All uniform blocks in one buffer, and where each dispatch finds its own. */
function uniformBuffer(
  gpu: Gpu,
  { offsets, size }: Layout["uniforms"],
  own: (name: string, size: number, usage?: number) => GPUBuffer,
): (dispatch: Dispatch) => GPUBufferBinding {
  const bytes = new Uint8Array(size);
  for (const [dispatch, offset] of offsets) bytes.set(new Uint8Array(dispatch.params), offset);
  const buffer = own("uniforms", bytes.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
  gpu.device.queue.writeBuffer(buffer, 0, bytes);
  return (dispatch) => ({ buffer, offset: offsets.get(dispatch)!, size: dispatch.params.byteLength });
}

function encodeAll(pass: GPUComputePassEncoder, list: readonly Bound[]): void {
  let current: GPUComputePipeline | undefined;
  for (const { pipeline, group, dispatch } of list) {
    if (pipeline !== current) pass.setPipeline((current = pipeline));
    pass.setBindGroup(0, group);
    const [x, y, z] = dispatch.workgroups; // spread, each call takes longer
    pass.dispatchWorkgroups(x, y, z);
  }
}

// WebGPU's limit for one query set.
const MAX_QUERIES = 4096;

async function profile(gpu: Gpu, label: string, list: readonly Bound[]): Promise<KernelTime[]> {
  if (!gpu.hasTimestamps)
    throw new GraphError(`${label}: this adapter has no timestamp-query, so nothing can be profiled`);
  const times: KernelTime[] = [];
  for (let first = 0; first < list.length; first += MAX_QUERIES / 2) {
    const part = list.slice(first, first + MAX_QUERIES / 2);
    const count = part.length * 2;
    const querySet = gpu.device.createQuerySet({ label, type: "timestamp", count });
    const resolved = gpu.createBuffer(
      `${label}: timestamps`,
      count * 8,
      BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    );
    try {
      const encoder = gpu.device.createCommandEncoder({ label: `${label} profile` });
      part.forEach((bound, index) => {
        const timestampWrites = { querySet, beginningOfPassWriteIndex: index * 2, endOfPassWriteIndex: index * 2 + 1 };
        const pass = encoder.beginComputePass({ label: bound.dispatch.label, timestampWrites });
        encodeAll(pass, [bound]);
        pass.end();
      });
      encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
      gpu.device.queue.submit([encoder.finish()]);
      const stamps = new BigUint64Array((await gpu.read(resolved, 0, count * 8)).buffer);
      part.forEach(({ dispatch }, index) => {
        const milliseconds = Number(stamps[index * 2 + 1]! - stamps[index * 2]!) / 1e6;
        times.push({ kernel: dispatch.kernel.name, layer: dispatch.label, milliseconds });
      });
    } finally {
      querySet.destroy();
      gpu.destroyBuffer(resolved);
    }
  }
  return times;
}

/** Numbers of a tensor that are brought to the device at a time; they take a millisecond or less. */
const PIECE_VALUES = 2 ** 17;

/** Host values to the device's layout, piece by piece: padded to quads, narrowed where the plan stores f16. */
function* toDevice(
  tensor: Tensor,
  values: Float32Array | Uint32Array,
  storage: Storage,
  first?: number,
): Generator<{ readonly offset: number; readonly bytes: Uint8Array }, void, void> {
  const begin = checkValues(tensor, values, first);
  if (values instanceof Uint32Array) {
    yield { offset: begin * 4, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
    return;
  }
  const channels = channelsOf(tensor);
  const stride = quads(channels) * 4;
  const rows = values.length / channels;
  const firstRow = begin / channels;
  const rowsAtOnce = Math.max(1, Math.floor(PIECE_VALUES / stride));
  const elementBytes = tensor.element === "f32" || storage === "f32" ? 4 : 2;
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const end = Math.min(first + rowsAtOnce, rows);
    let padded = values.subarray(first * channels, end * channels);
    if (stride !== channels) {
      padded = new Float32Array((end - first) * stride);
      // A loop: a `subarray` and a `set` for each row take several times as long where rows are short.
      for (let row = first; row < end; row++)
        for (let c = 0; c < channels; c++) padded[(row - first) * stride + c] = values[row * channels + c]!;
    }
    const offset = (firstRow + first) * stride * elementBytes;
    if (elementBytes === 4) {
      yield { offset, bytes: new Uint8Array(padded.buffer, padded.byteOffset, padded.byteLength) };
      continue;
    }
    // A loop: with `from` it takes forty times as long.
    const halves = new Uint16Array(padded.length);
    for (let i = 0; i < halves.length; i++) halves[i] = float32ToFloat16Bits(padded[i]!);
    yield { offset, bytes: new Uint8Array(halves.buffer) };
  }
}

/** Checks what is written to a tensor, and says at which of its numbers it begins. */
function checkValues(tensor: Tensor, values: Float32Array | Uint32Array, first?: number): number {
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  const wanted = tensor.element === "u32" ? Uint32Array : Float32Array;
  const each = count / tensor.shape[0]!;
  const begin = (first ?? 0) * each;
  const fits = first === undefined ? values.length === count : values.length % each === 0;
  if (values instanceof wanted && fits && begin + values.length <= count) return begin;
  const place = first === undefined ? "" : ` from ${first} on`;
  throw new GraphError(
    `${tensor.name}: wants ${wanted.name} of ${count} for [${tensor.shape}], got ${values.constructor.name} of ${values.length}${place}`,
  );
}

function fromDevice(tensor: Tensor, bytes: Uint8Array, storage: Storage): Float32Array | Uint32Array {
  if (tensor.element === "u32") return new Uint32Array(bytes.buffer, 0, bytes.byteLength / 4);
  const stored =
    tensor.element === "f32" || storage === "f32"
      ? new Float32Array(bytes.buffer, 0, bytes.byteLength / 4)
      : toFloat32(bytes, "F16");
  const channels = channelsOf(tensor);
  const stride = quads(channels) * 4;
  if (stride === channels) return stored;
  const rows = rowsOf(tensor);
  const values = new Float32Array(rows * channels);
  for (let row = 0; row < rows; row++)
    values.set(stored.subarray(row * stride, row * stride + channels), row * channels);
  return values;
}
