/**
 * `daguerre doctor`: what this machine has to compute on, whether it works, and the command that mends what does not.
 *
 * Everything that could crash (a driver) is tried in a child process first; the GPU that a run would take is then
 * opened in this one, by the very code that a run uses, and has to compute something.
 */

import { existsSync } from "node:fs";
import type { AdapterFacts } from "../src/gpu/adapter-facts.ts";
import { type ProbedAdapter, probeDriver } from "../src/gpu/drivers/driver-probe.ts";
import type { LoaderSource } from "../src/gpu/drivers/software-driver.ts";
import { advise } from "./advise.ts";
import { type DriverFindings, describeDrivers, describeLoader, loaderOption } from "./examine.ts";
import type { ModelReport } from "./examine-model.ts";
import { describeMachine, forbiddenDevice, gpusOnBus, gpuVendors, whyDawnFails } from "./machine.ts";
import { tryOut } from "./trial.ts";

type Write = (line: string) => void;

/** The report in JSON. */
export interface DoctorReport {
  /** True if a run would find something to compute on, and it computes rightly. */
  readonly usable: boolean;
  /** One sentence: what to do, or that there is nothing to do. */
  readonly advice: string;
  readonly node: string;
  readonly platform: string;
  readonly arch: string;
  readonly system: string;
  /** Display controllers on the PCI bus; Linux only. */
  readonly gpus: readonly string[];
  /** Why Dawn cannot be loaded; null if it can. */
  readonly dawn_problem: string | null;
  readonly vulkan_loader: LoaderSource | null;
  readonly drivers: readonly { readonly file: string; readonly result: string }[];
  readonly adapters: readonly {
    readonly name: string;
    readonly kind: "hardware" | "software";
    readonly backend: string;
    readonly description: string;
    readonly features: readonly string[];
    readonly max_buffer_bytes: number;
    readonly max_binding_bytes: number;
    readonly max_buffers_per_kernel: number;
    /** True if Dawn offers it by itself, false if only when its driver is chosen. */
    readonly offered: boolean;
  }[];
  /** The adapter that a run would use. */
  readonly chosen: string | null;
  /** The model that was asked about; null without one. */
  readonly model: ModelReport | null;
}

/** A model to be looked at besides the machine. */
export interface AskedModel {
  readonly model?: string;
  readonly vae?: string;
  readonly tinyVae?: string;
}

/** Examines a model. The code for it is loaded if there is one: the engine comes with it. */
async function examined(path: string, asked: AskedModel, write: Write): Promise<ModelReport> {
  const { examineModel } = await import("./examine-model.ts");
  return examineModel(path, asked, write);
}

/**
 * Examines this machine and says in one line what to do, the last that is written.
 * @param write is given one line at a time, without its end.
 * @throws WeightsError, ModelConfigError if there is to be a model at a path, and it is none
 */
export async function doctor(write: Write, asked: AskedModel = {}): Promise<DoctorReport> {
  const model = asked.model === undefined ? null : await examined(asked.model, asked, write);
  write("Machine");
  const distribution = describeMachine(write);
  const gpus = gpusOnBus();
  const forbidden = forbiddenDevice();
  const base = {
    distribution,
    deb822: existsSync("/etc/apt/sources.list.d/debian.sources"),
    gpus: gpuVendors(gpus),
    forbidden,
    platform: process.platform,
    dawnProblem: await whyDawnFails(),
  };
  let loader: LoaderSource | undefined;
  let drivers: DriverFindings = {
    crashing: [],
    working: [],
    lavapipe: undefined,
    swiftShader: "impossible",
    drivers: [],
    adapters: [],
  };
  const conclude = (offered: readonly ProbedAdapter[], others: readonly ProbedAdapter[], chosen?: AdapterFacts) => {
    const advice = advise({ ...base, ...drivers, adapter: chosen });
    write("");
    write(advice);
    return {
      usable: chosen !== undefined,
      advice,
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
      system: distribution.name,
      gpus: gpus.map((gpu) => gpu.text),
      dawn_problem: base.dawnProblem ?? null,
      vulkan_loader: loader ?? null,
      drivers: drivers.drivers,
      adapters: [
        ...offered.map((adapter) => reported(adapter, true)),
        ...others.map((adapter) => reported(adapter, false)),
      ],
      chosen: chosen?.name ?? null,
      model,
    };
  };
  if (base.dawnProblem !== undefined) {
    write(`  Dawn (npm package webgpu) cannot be loaded: ${base.dawnProblem}`);
    return conclude([], []);
  }
  if (process.platform === "linux") {
    write(`  GPUs on the PCI bus: ${gpus.length === 0 ? "none" : gpus.map((gpu) => gpu.text).join(", ")}`);
    if (forbidden !== undefined) write(`  ${forbidden} cannot be opened by this user`);
    loader = await describeLoader(write);
    write("");
    write("Vulkan drivers");
    drivers = await describeDrivers(write, loader);
  }

  write("");
  write("Adapters that Dawn offers");
  const everything = await probeDriver(await loaderOption(loader));
  describeAdapters(write, everything.adapters);
  if (everything.adapters.length === 0) {
    write(`  none by itself${everything.reason === undefined ? "" : `: ${everything.reason}`}`);
  }
  const names = new Set(everything.adapters.map((adapter) => adapter.facts.name));
  const others = drivers.adapters.filter((adapter) => !names.has(adapter.facts.name));
  describeAdapters(write, others, ", if its driver is chosen");

  write("");
  write("Trial");
  // With a driver that crashes among them, opening would end this process too.
  const chosen = everything.failed ? undefined : await tryOut(write);
  if (everything.failed) write(`  not opened: ${everything.reason}`);

  return conclude(everything.adapters, others, chosen);
}

function reported({ facts, ...limits }: ProbedAdapter, offered: boolean): DoctorReport["adapters"][number] {
  const { name, kind, backend, description, features } = facts;
  return {
    ...{ name, kind, backend, description, features, offered },
    max_buffer_bytes: limits.maxBufferSize,
    max_binding_bytes: limits.maxStorageBufferBindingSize,
    max_buffers_per_kernel: limits.maxStorageBuffersPerShaderStage,
  };
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

function describeAdapters(write: Write, adapters: readonly ProbedAdapter[], condition = ""): void {
  for (const { facts, ...limits } of adapters) {
    const has = (feature: string) => (facts.features.includes(feature) ? "yes" : "no");
    const { subgroupMinSize: min, subgroupMaxSize: max } = facts;
    const subgroups = min === undefined ? "no" : min === max ? `${min} lanes` : `${min} to ${max} lanes`;
    write(`  ${facts.name} (${facts.kind}, ${facts.backend}${condition})`);
    write(`    ${facts.description || "no description"}`);
    write(
      `    f16 ${has("shader-f16")}; subgroups ${subgroups}; timestamps ${has("timestamp-query")}; ` +
        `tensor cores ${has("chromium-experimental-subgroup-matrix")}`,
    );
    write(
      `    largest buffer ${mebibytes(limits.maxBufferSize)}, of which a kernel sees ` +
        `${mebibytes(limits.maxStorageBufferBindingSize)} at once; ${limits.maxStorageBuffersPerShaderStage} buffers a kernel`,
    );
  }
}
