/**
 * An open GPU: buffers with labels and owners, pipelines compiled once, submission, read-back, memory accounts, faults.
 *
 * Everything above works through this one object; it knows buffers and kernels, never tensors or pictures. Errors that
 * WebGPU reports late come out of `submit`'s promise and `read` as typed errors (`errors.ts`).
 */

import { sleep } from "../platform/sleep.ts";
import { atOnce, inTurns } from "../platform/turns.ts";
import type { AdapterFacts } from "./adapter-facts.ts";
import { type BroughtDevice, bringDevice, requestDevice } from "./device-request.ts";
import type { AdapterChoice } from "./drivers/adapter.ts";
import { GpuOutOfMemoryError, toGpuError } from "./errors.ts";
import { type DeviceWatch, watchDevice } from "./faults.ts";
import { chooseMatrixUnit, type MatrixUnit, type SubgroupMatrixConfig } from "./matrix-unit.ts";
import { type GpuMemory, MemoryAccount } from "./memory-account.ts";
import { settle } from "./waiting.ts";

// Fixed by the WebGPU specification; dawn.node's own constants live in an object that not every module has at hand.
export const BufferUsage = {
  MAP_READ: 1,
  COPY_SRC: 4,
  COPY_DST: 8,
  UNIFORM: 64,
  STORAGE: 128,
  QUERY_RESOLVE: 512,
} as const;
const TextureUsage = { COPY_SRC: 1, COPY_DST: 2, STORAGE_BINDING: 8 } as const;
const MAP_MODE_READ = 1;

export interface TextureShape {
  readonly width: number;
  readonly height: number;
  readonly format: "rgba32float" | "rgba32uint";
}

export type BoundResource = GPUBufferBinding | GPUTextureView;

export interface Gpu {
  readonly device: GPUDevice;
  readonly facts: AdapterFacts;
  /** Invocations of a subgroup, where every subgroup of this adapter has the same number, and it is 4, 8, 16, 32 or 64. */
  readonly lanes: number | undefined;
  /** The matrix unit that kernels can use, where there is one. */
  readonly matrixUnit: MatrixUnit | undefined;
  readonly hasTimestamps: boolean;
  /** Largest range of a buffer that a kernel can see, in bytes. */
  readonly maxBindingBytes: number;
  readonly storageAlignment: number;
  readonly uniformAlignment: number;
  /** Longest side of a texture, in texels. */
  readonly maxTextureDimension: number;
  /** Memory of a workgroup, in bytes. */
  readonly maxWorkgroupBytes: number;
  readonly memory: GpuMemory;
  /** Bytes that buffers and textures may take together; undefined: what the device has. */
  readonly maxBytes: number | undefined;
  /** Throws `MemoryLimitError` where so many bytes more would be over `maxBytes`; `label` says for what. */
  checkRoom(label: string, size: number): void;
  /** The device is gone for good. */
  readonly lost: boolean;
  /**
   * A zeroed buffer of at least `size` bytes. Throws `GpuOutOfMemoryError` beyond the adapter's limits, that of a binding
   * among them, and `MemoryLimitError` beyond `maxBytes`. The owner destroys it.
   */
  createBuffer(label: string, size: number, usage?: number): GPUBuffer;
  destroyBuffer(buffer: GPUBuffer): void;
  /** A 2D texture of 16 bytes a texel, for kernels to read and to copy to and from. The owner destroys it. */
  createTexture(label: string, shape: TextureShape): GPUTexture;
  destroyTexture(texture: GPUTexture): void;
  /**
   * The compute pipeline of a WGSL module with entry point `main`, compiled once for each distinct code, on threads of
   * Dawn's own: ask for all that are needed, then wait. Rejects with what the compiler said.
   */
  pipeline(label: string, code: string): Promise<GPUComputePipeline>;
  /** Binds a pipeline's group 0: `resources` by their binding numbers, undefined for those that it does not have. */
  bind(label: string, pipeline: GPUComputePipeline, resources: readonly (BoundResource | undefined)[]): GPUBindGroup;
  /** So many timestamps of the device's clock, to be written by passes. The caller destroys the set. */
  timestamps(label: string, count: number): GPUQuerySet;
  /**
   * Resolves once all submitted work is done; throws the first error that the device reported for it. `likely`: the work
   * will hardly be done before, in ms; until then the device is not asked, and the thread is free.
   */
  idle(likely?: number): Promise<void>;
  /** Writes bytes to a buffer, after all that was submitted before. `offset` and the bytes' length are multiples of 4. */
  write(buffer: GPUBuffer, offset: number, bytes: Uint8Array | ArrayBuffer): void;
  /** Submits the commands that `encode` adds to an encoder; does not wait. `label` names them in errors. */
  submit(label: string, encode: (encoder: GPUCommandEncoder) => void): void;
  /** A copy of a range of a buffer, in bytes; by way of `staging` where it is given (`stagingBuffer`) and not in use. */
  read(buffer: GPUBuffer, offset: number, size: number, staging?: GPUBuffer): Promise<Uint8Array>;
  /**
   * `submit` and then `read`, in one submission and one wait. `likely`: the commands will hardly be done before, in ms; until
   * then the device is not asked, and the thread is free.
   */
  submitAndRead(
    label: string,
    encode: (encoder: GPUCommandEncoder) => void,
    range: { readonly buffer: GPUBuffer; readonly offset: number; readonly size: number },
    options?: { readonly staging?: GPUBuffer; readonly likely?: number },
  ): Promise<Uint8Array>;
  /** A buffer that reads of up to `size` bytes go by way of. The owner destroys it. */
  stagingBuffer(label: string, size: number): GPUBuffer;
  /** Throws what the device has reported since the last time. */
  check(): void;
  close(): void;
}

export interface OpenOptions {
  adapter?: AdapterChoice;
  /**
   * The embedding program's own: a `GPU`, of which an adapter and a device are then asked for, or a `GPUDevice`, which should
   * have what `deviceDescriptor` says and is not destroyed by `close()`. `adapter` is not looked at then.
   */
  gpu?: GPU | GPUDevice;
  /** Most bytes that buffers and textures may take together. */
  maxBytes?: number;
  /** Pretends that subgroups are absent, so that the workgroup-tiled kernels run (tests, comparisons). */
  withoutSubgroups?: boolean;
}

const KNOWN_LANES = [4, 8, 16, 32, 64];
const DEFAULT_USAGE = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;

/**
 * Opens an adapter and its device, or takes the embedding program's (`gpu`).
 * @throws AdapterError if there is none that fits.
 */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  if (options.gpu !== undefined) return new OpenDevice(await bringDevice(options.gpu), options, options.gpu);
  // Drivers are Node's business, and not looked for in a program that brings its own GPU.
  const { openAdapter } = await import("./drivers/adapter.ts");
  const { adapter, gpu, facts } = await openAdapter(options.adapter);
  const device = await requestDevice(adapter, "daguerre");
  return new OpenDevice({ device, info: adapter.info, facts, shared: false }, options, gpu);
}

/** Lanes of a subgroup that kernels may count on. */
function usableLanes({ device, facts }: BroughtDevice, withoutSubgroups = false): number | undefined {
  const { subgroupMinSize: least, subgroupMaxSize: most } = facts;
  if (withoutSubgroups || !device.features.has("subgroups") || least === undefined || least !== most) return undefined;
  return KNOWN_LANES.includes(least) ? least : undefined;
}

function usableMatrixUnit({ device, info }: BroughtDevice): MatrixUnit | undefined {
  const needed = ["chromium-experimental-subgroup-matrix", "shader-f16"];
  if (!needed.every((name) => device.features.has(name))) return undefined;
  // Not in @webgpu/types yet.
  const { subgroupMatrixConfigs } = info as { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  return chooseMatrixUnit(subgroupMatrixConfigs ?? []);
}

// Every field is readonly and state is in objects, so that a test may stand an object with other facts before this one.
class OpenDevice implements Gpu {
  readonly device: GPUDevice;
  readonly facts: AdapterFacts;
  readonly lanes: number | undefined;
  readonly matrixUnit: MatrixUnit | undefined;
  readonly hasTimestamps: boolean;
  readonly maxBindingBytes: number;
  readonly storageAlignment: number;
  readonly uniformAlignment: number;
  readonly maxTextureDimension: number;
  readonly maxWorkgroupBytes: number;
  /** The entry point from `create()`: if it is collected, it takes the process with it. */
  readonly entry: unknown;
  private readonly shared: boolean;
  /** `maxBindingBytes` as the device has it. */
  private readonly bindable: number;
  private readonly account: MemoryAccount;
  private readonly watch: DeviceWatch;
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly layouts = new WeakMap<GPUComputePipeline, GPUBindGroupLayout>();
  /** Buffers that somebody reads by way of now. */
  private readonly reading = new Set<GPUBuffer>();
  /** Waits for work to be done, to be ended if the device is lost. */
  private readonly awaitingLoss = new Set<() => void>();

  constructor(brought: BroughtDevice, options: Pick<OpenOptions, "maxBytes" | "withoutSubgroups">, entry: unknown) {
    const { device, facts, shared } = brought;
    const { limits } = device;
    this.device = device;
    this.facts = facts;
    this.shared = shared;
    this.entry = entry;
    this.lanes = usableLanes(brought, options.withoutSubgroups);
    this.matrixUnit = this.lanes === undefined ? undefined : usableMatrixUnit(brought);
    this.hasTimestamps = device.features.has("timestamp-query");
    this.bindable = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
    this.maxBindingBytes = this.bindable;
    this.storageAlignment = limits.minStorageBufferOffsetAlignment;
    this.uniformAlignment = limits.minUniformBufferOffsetAlignment;
    this.maxTextureDimension = limits.maxTextureDimension2D;
    this.maxWorkgroupBytes = limits.maxComputeWorkgroupStorageSize;
    this.account = new MemoryAccount(options.maxBytes);
    this.watch = watchDevice(device);
    // Not a race with `watch.lost`: each race would leave a reaction on that promise for as long as the device lives.
    void this.watch.lost.then(() => {
      for (const release of this.awaitingLoss) release();
    });
  }

  get memory(): GpuMemory {
    return this.account.state;
  }

  get maxBytes(): number | undefined {
    return this.account.maxBytes;
  }

  get lost(): boolean {
    return this.watch.loss !== undefined;
  }

  checkRoom(label: string, size: number): void {
    this.account.checkRoom(label, size);
  }

  createBuffer(label: string, size: number, usage = DEFAULT_USAGE): GPUBuffer {
    const { limits } = this.device;
    const padded = Math.max(16, Math.ceil(size / 16) * 16);
    if (padded > limits.maxBufferSize) {
      throw new GpuOutOfMemoryError(
        `${label}: a buffer of ${padded} bytes is over this adapter's limit of ${limits.maxBufferSize}`,
      );
    }
    // A kernel could see only a part of it: whoever makes it has to split what it is for.
    if (usage & BufferUsage.STORAGE && padded > this.bindable) {
      throw new GpuOutOfMemoryError(
        `${label}: a storage buffer of ${padded} bytes is over the ${this.bindable} that this adapter binds at once`,
      );
    }
    this.account.checkRoom(label, padded);
    const buffer = this.device.createBuffer({ label, size: padded, usage });
    this.account.add(buffer, padded);
    return buffer;
  }

  destroyBuffer(buffer: GPUBuffer): void {
    this.account.destroy(buffer);
  }

  createTexture(label: string, { width, height, format }: TextureShape): GPUTexture {
    const usage = TextureUsage.COPY_SRC | TextureUsage.COPY_DST | TextureUsage.STORAGE_BINDING;
    const bytes = width * height * 16;
    this.account.checkRoom(label, bytes);
    const texture = this.device.createTexture({ label, size: { width, height }, format, usage });
    this.account.add(texture, bytes);
    return texture;
  }

  destroyTexture(texture: GPUTexture): void {
    this.account.destroy(texture);
  }

  pipeline(label: string, code: string): Promise<GPUComputePipeline> {
    const known = this.pipelines.get(code);
    if (known) return known;
    const compiling = settle(compilePipeline(this.device, label, code)).catch((error: unknown) => {
      this.pipelines.delete(code); // asked for again, it has to fail again
      this.watch.check(); // a lost device compiles nothing
      throw error;
    });
    compiling.catch(() => {}); // told to whoever waits for it
    this.pipelines.set(code, compiling);
    return compiling;
  }

  bind(label: string, pipeline: GPUComputePipeline, resources: readonly (BoundResource | undefined)[]): GPUBindGroup {
    // Dawn makes a new layout whenever it is asked for one.
    const layout = this.layouts.get(pipeline) ?? pipeline.getBindGroupLayout(0);
    this.layouts.set(pipeline, layout);
    const entries = resources.flatMap((resource, binding) => (resource ? [{ binding, resource }] : []));
    return this.device.createBindGroup({ label, layout, entries });
  }

  timestamps(label: string, count: number): GPUQuerySet {
    return this.device.createQuerySet({ label, type: "timestamp", count });
  }

  async idle(likely = 0): Promise<void> {
    this.watch.check();
    const slept = await this.sleepUntil(likely);
    await settle(this.orLost(this.device.queue.onSubmittedWorkDone()), slept);
    this.watch.check();
  }

  /** Sleeps while work will hardly be done, if that is worth a timer; resolves with the milliseconds. */
  private async sleepUntil(likely: number): Promise<number> {
    if (likely <= 1) return 0;
    await sleep(likely);
    return likely;
  }

  /** Ends with the device, if not before: not every promise of Dawn's does. */
  private async orLost(done: Promise<undefined>): Promise<void> {
    let release = () => {};
    const lost = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.awaitingLoss.add(release);
    try {
      await Promise.race([done, lost]);
    } finally {
      this.awaitingLoss.delete(release);
    }
  }

  write(buffer: GPUBuffer, offset: number, bytes: Uint8Array | ArrayBuffer): void {
    this.device.queue.writeBuffer(buffer, offset, bytes);
  }

  submit(label: string, encode: (encoder: GPUCommandEncoder) => void): void {
    const encoder = this.device.createCommandEncoder({ label });
    encode(encoder);
    this.device.queue.submit([encoder.finish({ label })]);
  }

  stagingBuffer(label: string, size: number): GPUBuffer {
    return this.createBuffer(label, size, BufferUsage.MAP_READ | BufferUsage.COPY_DST);
  }

  read(buffer: GPUBuffer, offset: number, size: number, staging?: GPUBuffer): Promise<Uint8Array> {
    return this.submitAndRead("read-back", () => {}, { buffer, offset, size }, staging && { staging });
  }

  async submitAndRead(
    label: string,
    encode: (encoder: GPUCommandEncoder) => void,
    { buffer, offset, size }: { readonly buffer: GPUBuffer; readonly offset: number; readonly size: number },
    { staging, likely = 0 }: { readonly staging?: GPUBuffer; readonly likely?: number } = {},
  ): Promise<Uint8Array> {
    const isFree = staging !== undefined && !this.reading.has(staging);
    const way = isFree ? staging : this.stagingBuffer("read-back", size);
    this.reading.add(way);
    const padded = Math.ceil(size / 4) * 4;
    try {
      this.submit(label, (encoder) => {
        encode(encoder);
        encoder.copyBufferToBuffer(buffer, offset, way, 0, padded);
      });
      const slept = await this.sleepUntil(likely);
      try {
        await settle(this.orLost(way.mapAsync(MAP_MODE_READ, 0, padded)), slept);
      } catch (error) {
        this.watch.check();
        throw toGpuError(error, label);
      }
      this.watch.check();
      try {
        const copying = copyMapped(way, size);
        return await (size > PIECE_BYTES ? inTurns(copying) : atOnce(copying));
      } finally {
        way.unmap();
      }
    } finally {
      this.reading.delete(way);
      if (!isFree) this.destroyBuffer(way);
    }
  }

  check(): void {
    this.watch.check();
  }

  close(): void {
    this.account.destroyAll();
    this.pipelines.clear();
    if (!this.shared) this.device.destroy();
  }
}

/** Throws a typed error with the compiler's lines. */
async function compilePipeline(device: GPUDevice, label: string, code: string): Promise<GPUComputePipeline> {
  device.pushErrorScope("validation"); // a module's fault is told again by its pipeline
  const module = device.createShaderModule({ label, code });
  device.popErrorScope().catch(() => {});
  try {
    return await device.createComputePipelineAsync({ label, layout: "auto", compute: { module, entryPoint: "main" } });
  } catch (error) {
    const info = await module.getCompilationInfo();
    const lines = info.messages.map((m) => `  ${m.lineNum}:${m.linePos} ${m.message}`);
    throw toGpuError(error, [`kernel ${label}`, ...lines].join("\n"));
  }
}

/** Bytes of a mapped buffer that are copied at a time: a millisecond or less. */
const PIECE_BYTES = 2 ** 20;

function* copyMapped(buffer: GPUBuffer, size: number): Generator<void, Uint8Array<ArrayBuffer>, void> {
  const copy = new Uint8Array(size);
  for (let at = 0; at < size; at += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, size - at);
    copy.set(new Uint8Array(buffer.getMappedRange(at, Math.ceil(length / 4) * 4), 0, length), at);
    yield;
  }
  return copy;
}
