/** Facts about an adapter (a GPU together with its driver), from its own description. */

export type SoftwareDriver = "lavapipe" | "swiftshader";

/** Facts about an adapter: plain data, for logs, `doctor` and `GET /`. */
export interface AdapterFacts {
  readonly kind: "hardware" | "software";
  /** The driver's name for the GPU, for people: "NVIDIA H100", "llvmpipe (LLVM 15.0.6, 256 bits)". */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  /** `vulkan`, `metal`, `d3d12`, …; `webgpu` if an embedding program brought the GPU, since WebGPU does not tell. */
  readonly backend: string;
  readonly driver?: SoftwareDriver;
  /** Smallest and largest subgroup (warp, wave, vector register) in lanes, if the adapter has `subgroups`. */
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  /** All features of the adapter (of the device, if an embedding program brought one), sorted. */
  readonly features: readonly string[];
  /** One sentence that a user should know about this choice: that it is a software GPU, or which features it lacks. */
  readonly note?: string;
}

/** An adapter as Dawn lists it. */
export interface Listed {
  readonly name: string;
  readonly backend: string;
}

/** An adapter's own description. Needs no live adapter, so that a child process can send one's description. */
export interface Described {
  readonly info: Omit<GPUAdapterInfo, "__brand" | "subgroupMinSize" | "subgroupMaxSize"> & {
    readonly subgroupMinSize?: number;
    readonly subgroupMaxSize?: number;
  };
  readonly features: Iterable<string>;
}

/** The facts of an adapter, from its own description and Dawn's listing of it. */
export function factsOf(adapter: Described, listed: Listed): AdapterFacts {
  const { info } = adapter;
  const driver = softwareDriverOf(info);
  // Dawn calls every adapter of Vulkan's type "CPU" a fallback adapter; D3D12's WARP as well.
  const software = driver !== undefined || info.isFallbackAdapter;
  const features = [...adapter.features].sort();
  const { subgroupMinSize, subgroupMaxSize } = info;
  const subgroups = features.includes("subgroups") ? { subgroupMinSize, subgroupMaxSize } : {};
  return {
    kind: software ? "software" : "hardware",
    name: listed.name,
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description,
    backend: listed.backend,
    ...(driver === undefined ? {} : { driver }),
    ...subgroups,
    features,
  };
}

function softwareDriverOf(info: Described["info"]): SoftwareDriver | undefined {
  if (/swiftshader/i.test(`${info.architecture} ${info.device} ${info.description}`)) return "swiftshader";
  if (/llvmpipe|lavapipe/i.test(`${info.device} ${info.description}`)) return "lavapipe";
  return undefined;
}
