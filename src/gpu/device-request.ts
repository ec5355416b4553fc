/**
 * Features and limits that a device is asked for, each with its reason; and devices that an embedding program brought.
 */

import { type AdapterFacts, factsOf } from "./adapter-facts.ts";
import { AdapterError, toGpuError } from "./errors.ts";
import { settle } from "./waiting.ts";

/** Features asked for if the adapter has them. None is required: each has a kernel that does without. */
const FEATURES: readonly string[] = [
  "shader-f16", // half-precision storage and arithmetic: half the memory
  "subgroups", // lanes that exchange values without memory: the fast convolution, attention and normalisation kernels
  "timestamp-query", // `daguerre profile`, and the tuner's times
  "chromium-experimental-subgroup-matrix", // tensor cores
];

/**
 * Limits for which the adapter's own value is asked; WebGPU gives the (small) defaults otherwise, and those are enough for
 * the rest: no kernel binds more than eight storage buffers, or has more than 256 invocations in a workgroup.
 */
const LIMITS: readonly string[] = [
  "maxBufferSize", // an arena holds all activations of a plan: default 256 MiB
  "maxStorageBufferBindingSize", // one weight may be 150 MB: default 128 MiB
  "maxComputeWorkgroupStorageSize", // tiles of the matrix kernels: default 16 KiB
  "minStorageBufferOffsetAlignment", // denser arenas: default 256 bytes
  "minUniformBufferOffsetAlignment", // denser parameters of a plan's dispatches: likewise
];

/** Limits below which a device is refused, with WebGPU's own defaults: only a device in compatibility mode has less. */
const REQUIRED: Readonly<Record<string, number>> = {
  maxStorageBuffersPerShaderStage: 8, // fused kernels bind inputs, weights, bias, residual and output
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupStorageSize: 16384,
};

/**
 * The features and limits to make a device with, if a program makes one for Daguerre itself:
 * `adapter.requestDevice(deviceDescriptor(adapter))`. They are the adapter's own limits, and every feature of ours that it has.
 */
export function deviceDescriptor(adapter: GPUAdapter): GPUDeviceDescriptor {
  const limits = adapter.limits as unknown as Record<string, number | undefined>;
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) {
    const value = limits[name];
    if (value !== undefined) requiredLimits[name] = value; // An older Dawn may not know one.
  }
  const requiredFeatures = FEATURES.filter((name) => adapter.features.has(name)) as GPUFeatureName[];
  return { requiredFeatures, requiredLimits };
}

/**
 * Opens a device with the adapter's own limits and every feature of ours that it has.
 * @throws GpuError if the driver refuses.
 */
export async function requestDevice(adapter: GPUAdapter, label = "daguerre"): Promise<GPUDevice> {
  try {
    return await settle(adapter.requestDevice({ label, ...deviceDescriptor(adapter), defaultQueue: { label } }));
  } catch (error) {
    throw toGpuError(error, `opening a device on ${adapter.info.description || adapter.info.device}`);
  }
}

/** A device, and facts about the adapter behind it. */
export interface BroughtDevice {
  readonly device: GPUDevice;
  readonly info: GPUAdapterInfo;
  readonly facts: AdapterFacts;
  /** True if it is the embedding program's own, which alone may destroy it. */
  readonly shared: boolean;
}

/**
 * The device of an embedding program, or one that is made from its `GPU` (`navigator.gpu`, or what Dawn's `create()` gives).
 * @throws AdapterError if the `GPU` offers no adapter, or the device was made without limits that the kernels need.
 */
export async function bringDevice(gpu: GPU | GPUDevice): Promise<BroughtDevice> {
  if (isDevice(gpu)) return ownDevice(gpu);
  const adapter = await settle(gpu.requestAdapter({ powerPreference: "high-performance" }));
  if (adapter === null) throw new AdapterError("the GPU object that was passed offers no adapter");
  const { info } = adapter;
  const facts = factsOf(adapter, { name: nameOf(info), backend: "webgpu" });
  return { device: await requestDevice(adapter), info, facts, shared: false };
}

function ownDevice(device: GPUDevice): BroughtDevice {
  const limits = device.limits as unknown as Record<string, number>;
  const small = Object.entries(REQUIRED).filter(([name, least]) => !(limits[name]! >= least));
  if (small.length > 0) {
    const list = small.map(([name, least]) => `${name} (it is ${limits[name]}, and ${least} is needed)`).join(", ");
    throw new AdapterError(
      `the device that was passed was made with too small limits: ${list}. Make it with deviceDescriptor(adapter).`,
    );
  }
  const info = device.adapterInfo;
  const facts = factsOf({ info, features: device.features }, { name: nameOf(info), backend: "webgpu" });
  const note = noteOn(device);
  return { device, info, facts: note === undefined ? facts : { ...facts, note }, shared: true };
}

/** The `maxBufferSize` of a device for which nothing was asked, in bytes. */
const DEFAULT_BUFFER_SIZE = 2 ** 28;

/** Names the things that the device lacks and most adapters have. */
function noteOn({ features, limits }: GPUDevice): string | undefined {
  const lacking = ["shader-f16", "subgroups"].filter((name) => !features.has(name as GPUFeatureName));
  const small = limits.maxBufferSize <= DEFAULT_BUFFER_SIZE;
  const parts = [
    ...(lacking.length > 0 ? [`has no ${lacking.join(" and no ")}, so slower kernels are used`] : []),
    ...(small ? [`allows no buffer over ${limits.maxBufferSize} bytes, so large pictures may not fit`] : []),
  ];
  if (parts.length === 0) return undefined;
  return `the device that was passed ${parts.join(", and ")}; deviceDescriptor(adapter) asks for all that the adapter has`;
}

function nameOf(info: GPUAdapterInfo): string {
  return info.description || info.device || info.vendor || "GPU";
}

function isDevice(gpu: GPU | GPUDevice): gpu is GPUDevice {
  return "queue" in gpu;
}
