/**
 * An open GPU: buffers with labels and owners, pipelines compiled once, submission, read-back, memory accounts, faults.
 *
 * Everything above works through this one object; it knows buffers and kernels, never tensors or pictures. Errors that
 * WebGPU reports late come out of `submit`'s promise and `read` as typed errors (`errors.ts`).
 */

import { setTimeout as sleep } from "node:timers/promises";
import { atOnce, inTurns } from "../platform/turns.ts";
import { type AdapterChoice, type AdapterFacts, openAdapter, requestDevice } from "./drivers/adapter.ts";
import { GpuOutOfMemoryError, MemoryLimitError, toGpuError } from "./errors.ts";
import { watchDevice } from "./faults.ts";
import { chooseMatrixUnit, type MatrixUnit, type SubgroupMatrixConfig } from "./matrix-unit.ts";
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

/** Bytes on the device, of buffers and textures. */
export interface GpuMemory {
  readonly bytes: number;
  readonly peakBytes: number;
  /** How many there are, textures among them. */
  readonly buffers: number;
  /** Of the largest there has been. */
  readonly largestBytes: number;
}

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
  /** A buffer that reads of up to `size` bytes go by way of. The owner destroys it. */
  stagingBuffer(label: string, size: number): GPUBuffer;
  /** Throws what the device has reported since the last time. */
  check(): void;
  close(): void;
}

export interface OpenOptions {
  adapter?: AdapterChoice;
  /** Most bytes that buffers and textures may take together. */
  maxBytes?: number;
  /** Pretends that subgroups are absent, so that the workgroup-tiled kernels run (tests, comparisons). */
  withoutSubgroups?: boolean;
}

const KNOWN_LANES = [4, 8, 16, 32, 64];
const DEFAULT_USAGE = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;

/** Opens an adapter and its device. Throws `AdapterError` where there is none that fits. */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  const { adapter, gpu, facts } = await openAdapter(options.adapter);
  const device = await requestDevice(adapter, "daguerre");
  const watch = watchDevice(device);
  const pipelines = new Map<string, Promise<GPUComputePipeline>>();
  const layouts = new WeakMap<GPUComputePipeline, GPUBindGroupLayout>();
  let bytes = 0;
  let peakBytes = 0;
  let largestBytes = 0;
  const live = new Map<GPUBuffer | GPUTexture, number>();
  const { maxBytes } = options;
  const admit = (label: string, size: number) => {
    if (maxBytes === undefined || bytes + size <= maxBytes) return;
    const reason = `${size} bytes beside the ${bytes} in use are over the limit of ${maxBytes}`;
    throw new MemoryLimitError(`${label}: ${reason}`, size, maxBytes);
  };
  const account = (made: GPUBuffer | GPUTexture, size: number) => {
    live.set(made, size);
    bytes += size;
    peakBytes = Math.max(peakBytes, bytes);
    largestBytes = Math.max(largestBytes, size);
  };
  const release = (made: GPUBuffer | GPUTexture) => {
    const size = live.get(made);
    if (size === undefined) return;
    live.delete(made);
    bytes -= size;
    made.destroy();
  };

  const fixed = facts.subgroupMinSize !== undefined && facts.subgroupMinSize === facts.subgroupMaxSize;
  const usable = !options.withoutSubgroups && device.features.has("subgroups") && fixed;
  const lanes = usable && KNOWN_LANES.includes(facts.subgroupMinSize ?? 0) ? facts.subgroupMinSize : undefined;

  // Not in @webgpu/types yet.
  const info = adapter.info as GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  const hasMatrices = ["chromium-experimental-subgroup-matrix", "shader-f16"].every((name) =>
    device.features.has(name),
  );

  // Not a race with `watch.lost`: each race would leave a reaction on that promise for as long as the device lives.
  const awaitingLoss = new Set<() => void>();
  void watch.lost.then(() => {
    for (const release of awaitingLoss) release();
  });
  const doneOrLost = async (): Promise<void> => {
    let release = () => {};
    const lost = new Promise<void>((resolve) => {
      release = resolve;
    });
    awaitingLoss.add(release);
    try {
      await Promise.race([device.queue.onSubmittedWorkDone(), lost]);
    } finally {
      awaitingLoss.delete(release);
    }
  };

  const self: Gpu & { readonly keptAlive: unknown } = {
    keptAlive: gpu, // collected, it would take the process with it
    device,
    facts,
    lanes,
    matrixUnit: lanes && hasMatrices ? chooseMatrixUnit(info.subgroupMatrixConfigs ?? []) : undefined,
    hasTimestamps: device.features.has("timestamp-query"),
    maxBindingBytes: Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize),
    storageAlignment: device.limits.minStorageBufferOffsetAlignment,
    uniformAlignment: device.limits.minUniformBufferOffsetAlignment,
    maxTextureDimension: device.limits.maxTextureDimension2D,
    maxWorkgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
    get memory() {
      return { bytes, peakBytes, buffers: live.size, largestBytes };
    },
    maxBytes,
    checkRoom: admit,
    get lost() {
      return watch.loss !== undefined;
    },
    createBuffer(label, size, usage = DEFAULT_USAGE) {
      const padded = Math.max(16, Math.ceil(size / 16) * 16);
      if (padded > device.limits.maxBufferSize) {
        throw new GpuOutOfMemoryError(
          `${label}: a buffer of ${padded} bytes is over this adapter's limit of ${device.limits.maxBufferSize}`,
        );
      }
      // A kernel could see only a part of it: whoever makes it has to split what it is for.
      if (usage & BufferUsage.STORAGE && padded > self.maxBindingBytes) {
        throw new GpuOutOfMemoryError(
          `${label}: a storage buffer of ${padded} bytes is over the ${self.maxBindingBytes} that this adapter binds at once`,
        );
      }
      admit(label, padded);
      const buffer = device.createBuffer({ label, size: padded, usage });
      account(buffer, padded);
      return buffer;
    },
    destroyBuffer: release,
    createTexture(label, { width, height, format }) {
      const usage = TextureUsage.COPY_SRC | TextureUsage.COPY_DST | TextureUsage.STORAGE_BINDING;
      admit(label, width * height * 16);
      const texture = device.createTexture({ label, size: { width, height }, format, usage });
      account(texture, width * height * 16);
      return texture;
    },
    destroyTexture: release,
    pipeline(label, code) {
      const known = pipelines.get(code);
      if (known) return known;
      const compiling = settle(compilePipeline(device, label, code)).catch((error: unknown) => {
        pipelines.delete(code); // asked for again, it has to fail again
        watch.check(); // a lost device compiles nothing
        throw error;
      });
      compiling.catch(() => {}); // told to whoever waits for it
      pipelines.set(code, compiling);
      return compiling;
    },
    bind(label, pipeline, resources) {
      // Dawn makes a new layout whenever it is asked for one.
      const layout = layouts.get(pipeline) ?? pipeline.getBindGroupLayout(0);
      layouts.set(pipeline, layout);
      const entries = resources.flatMap((resource, binding) => (resource ? [{ binding, resource }] : []));
      return device.createBindGroup({ label, layout, entries });
    },
    timestamps: (label, count) => device.createQuerySet({ label, type: "timestamp", count }),
    async idle(likely = 0) {
      watch.check();
      const slept = likely > 1 ? likely : 0;
      if (slept > 0) await sleep(slept);
      await settle(doneOrLost(), slept);
      watch.check();
    },
    write: (buffer, offset, bytes) => device.queue.writeBuffer(buffer, offset, bytes),
    submit(label, encode) {
      const encoder = device.createCommandEncoder({ label });
      encode(encoder);
      device.queue.submit([encoder.finish({ label })]);
    },
    stagingBuffer: (label, size) => self.createBuffer(label, size, BufferUsage.MAP_READ | BufferUsage.COPY_DST),
    async read(buffer, offset, size, given) {
      const isFree = given?.mapState === "unmapped";
      const staging = isFree ? given : self.stagingBuffer("read-back", size);
      try {
        const encoder = device.createCommandEncoder({ label: "read-back" });
        encoder.copyBufferToBuffer(buffer, offset, staging, 0, Math.ceil(size / 4) * 4);
        device.queue.submit([encoder.finish()]);
        try {
          await settle(staging.mapAsync(MAP_MODE_READ, 0, Math.ceil(size / 4) * 4));
        } catch (error) {
          watch.check();
          throw toGpuError(error, "read-back");
        }
        watch.check();
        try {
          const copying = copyMapped(staging, size);
          return await (size > PIECE_BYTES ? inTurns(copying) : atOnce(copying));
        } finally {
          staging.unmap();
        }
      } finally {
        if (!isFree) self.destroyBuffer(staging);
      }
    },
    check: () => watch.check(),
    close() {
      for (const made of [...live.keys()]) release(made);
      pipelines.clear();
      device.destroy();
    },
  };
  return self;
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
