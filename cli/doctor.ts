/**
 * `daguerre doctor`: what this machine has to compute on, whether it works, and the command that mends what does not.
 *
 * Everything that could crash (a driver) is tried in a child process first; the GPU that a run would take is then
 * opened in this one, by the very code that a run uses, and has to compute something.
 */

import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { dirname, join } from "node:path";
import { type AdapterFacts, type OpenAdapter, openAdapter, requestDevice } from "../src/gpu/drivers/adapter.ts";
import { mesaVersionIn, type ProbedAdapter, probeDriver } from "../src/gpu/drivers/driver-probe.ts";
import {
  chosenDriverFiles,
  ensureLoader,
  installedDrivers,
  type LoaderSource,
  readDriver,
  swiftShaderDriver,
  swiftShaderPackage,
  type UnreadableDriver,
  type VulkanDriver,
} from "../src/gpu/drivers/software-driver.ts";
import { watchDevice } from "../src/gpu/faults.ts";
import { settle } from "../src/gpu/waiting.ts";
import { type Distribution, type GpuVendor, installGpuDriver, installMesa, readDistribution } from "./mending.ts";

type Write = (line: string) => void;

const MIN_NODE = [20, 19] as const;

/** What the examination found: the advice is a function of it. */
export interface Findings {
  readonly distribution: Distribution;
  /** Whether apt's sources are in the newer format. */
  readonly deb822: boolean;
  /** Why Dawn itself cannot be loaded, before any driver comes into it. */
  readonly dawnProblem: string | undefined;
  /** SwiftShader: there, not there, or not made for this processor. */
  readonly swiftShader: "installed" | "missing" | "impossible";
  /** GPUs of vendors that make some worth using, by what is on the PCI bus. */
  readonly gpus: readonly GpuVendor[];
  /** A GPU's device file that this user may not open. */
  readonly forbidden: string | undefined;
  /** lavapipe's Mesa, where one is installed, and whether Dawn takes it. */
  readonly lavapipe: { readonly version: string | undefined; readonly accepted: boolean } | undefined;
  /** Drivers that took their process with them. */
  readonly crashing: readonly string[];
  /** Drivers that work alone. */
  readonly working: readonly string[];
  /** What a run would use, and whether it computed correctly. */
  readonly chosen: AdapterFacts | undefined;
  readonly platform: NodeJS.Platform;
}

/**
 * Examines this machine and says in one line what to do, the last that is written.
 * @param write is given one line at a time, without its end.
 * @returns the exit code: 0 if there is something usable, else 1.
 */
export async function doctor(write: Write): Promise<number> {
  write("Machine");
  const distribution = describeMachine(write);
  const gpus = gpusOnBus();
  const forbidden = forbiddenDevice();
  const base = {
    distribution,
    deb822: existsSync("/etc/apt/sources.list.d/debian.sources"),
    gpus: [...new Set(gpus.map((gpu) => gpu.vendor).filter((vendor) => vendor !== undefined))],
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
    adapters: [],
  };
  if (base.dawnProblem !== undefined) {
    write(`  Dawn (npm package webgpu) cannot be loaded: ${base.dawnProblem}`);
    write("");
    write(advise({ ...base, ...drivers, chosen: undefined }));
    return 1;
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

  write("");
  write(advise({ ...base, ...drivers, chosen }));
  return chosen === undefined ? 1 : 0;
}

function describeMachine(write: Write): Distribution {
  let distribution = readDistribution("");
  try {
    distribution = readDistribution(readFileSync("/etc/os-release", "utf8"));
  } catch {
    // Not Linux, or a very bare one.
  }
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const old = major < MIN_NODE[0] || (major === MIN_NODE[0] && minor < MIN_NODE[1]);
  const parts = [`Node ${process.versions.node}${old ? ` (too old: ${MIN_NODE.join(".")} is needed)` : ""}`];
  parts.push(`${process.platform} ${process.arch}`);
  if (process.platform === "linux") {
    const glibc = glibcVersion();
    parts.push(distribution.name, glibc === undefined ? "no glibc (Dawn's build for Node needs it)" : `glibc ${glibc}`);
  }
  parts.push(`${Math.round(totalmem() / 2 ** 30)} GiB of memory`);
  write(`  ${parts.join(", ")}`);
  return distribution;
}

/** The version of glibc that this process runs on; undefined with musl or off Linux. */
function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime;
}

/** Loads Dawn in a child process with no driver at all: what goes wrong then is no driver's fault. */
async function whyDawnFails(): Promise<string | undefined> {
  const probe = await probeDriver({ driverFile: "/no-driver.json" });
  if (!probe.failed) return undefined;
  const reason = probe.reason ?? "for no reason given";
  if (process.platform !== "linux") return reason;
  if (glibcVersion() === undefined) return `${reason} (its build for Node needs glibc, which this Linux lacks)`;
  // What the symbols of dawn.node 0.6.2 ask for.
  return /GLIBC/.test(reason) ? `${reason} (it needs glibc 2.34 and libstdc++ of GCC 12, or later)` : reason;
}

interface BusGpu {
  readonly text: string;
  readonly vendor: GpuVendor | undefined;
}

const VENDORS: Record<string, GpuVendor> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };

/** Display controllers (PCI class 3) as the kernel lists them, driver or no driver. */
function gpusOnBus(): BusGpu[] {
  const root = "/sys/bus/pci/devices";
  const read = (device: string, file: string) => readFileSync(join(root, device, file), "utf8").trim();
  try {
    return readdirSync(root)
      .filter((device) => read(device, "class").startsWith("0x03"))
      .map((device) => {
        const id = read(device, "vendor");
        const vendor = VENDORS[id];
        return { vendor, text: `${vendor ?? `vendor ${id}`} ${read(device, "device")}` };
      });
  } catch {
    return []; // No sysfs, as in some containers.
  }
}

/** A GPU's device file that exists and that this user may not open. */
function forbiddenDevice(): string | undefined {
  let names: string[];
  try {
    names = readdirSync("/dev/dri").filter((name) => name.startsWith("renderD"));
  } catch {
    return undefined;
  }
  return names
    .map((name) => join("/dev/dri", name))
    .find((path) => {
      try {
        accessSync(path, constants.R_OK | constants.W_OK);
        return false;
      } catch {
        return true;
      }
    });
}

async function describeLoader(write: Write): Promise<LoaderSource | undefined> {
  let loader: LoaderSource | undefined;
  try {
    loader = await ensureLoader();
  } catch (error) {
    write(`  unpacking SwiftShader failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  const from =
    loader === undefined ? "missing" : loader === "system" ? "the system's" : `missing; the one in ${loader} is used`;
  write(`  Vulkan loader (libvulkan.so.1): ${from}`);
  const files = chosenDriverFiles();
  if (files !== undefined) write(`  VK_DRIVER_FILES restricts Vulkan to: ${files.join(", ")}`);
  return loader;
}

/** Where a child finds the loader that the system lacks. */
async function loaderOption(loader: LoaderSource | undefined): Promise<{ loader?: string }> {
  if (loader !== "@sparticuz/chromium") return {};
  const icd = await swiftShaderDriver();
  return icd === undefined ? {} : { loader: join(dirname(icd), "libvulkan.so.1") };
}

interface DriverFindings {
  crashing: string[];
  working: string[];
  lavapipe: Findings["lavapipe"];
  swiftShader: Findings["swiftShader"];
  /** Of the drivers that work alone. */
  adapters: ProbedAdapter[];
}

async function describeDrivers(write: Write, loader: LoaderSource | undefined): Promise<DriverFindings> {
  const findings: DriverFindings = {
    crashing: [],
    working: [],
    lavapipe: undefined,
    swiftShader: "installed",
    adapters: [],
  };
  const option = await loaderOption(loader);
  const listed = (chosenDriverFiles() ?? []).map(readDriver);
  const swiftShader = await swiftShaderDriver().catch(() => undefined);
  const candidates = [
    ...installedDrivers(),
    ...listed,
    ...(swiftShader === undefined ? [] : [readDriver(swiftShader)]),
  ];
  const seen = new Set<string>();
  for (const driver of candidates) {
    if (seen.has(driver.file)) continue;
    seen.add(driver.file);
    write(`  ${driver.file}: ${await examine(driver, option, findings)}`);
  }
  if (seen.size === 0) write("  none installed");
  if (swiftShader === undefined) {
    findings.swiftShader = process.arch === "x64" ? "missing" : "impossible";
    const why = process.arch === "x64" ? "not installed" : "not for this processor: its package is for x64 only";
    write(`  SwiftShader (optional npm package @sparticuz/chromium): ${why}`);
  } else {
    const version = swiftShaderPackage()?.version;
    if (version !== undefined) write(`  SwiftShader: @sparticuz/chromium ${version} is installed`);
  }
  return findings;
}

async function examine(
  driver: VulkanDriver | UnreadableDriver,
  option: { loader?: string },
  findings: DriverFindings,
): Promise<string> {
  if ("problem" in driver) return `unusable: ${driver.problem}`;
  const probe = await probeDriver({ ...option, driverFile: driver.file, library: driver.library });
  const version = probe.libraryPath === undefined ? undefined : await mesaVersionIn(probe.libraryPath);
  const accepted = probe.adapters.length > 0;
  if (driver.software === "lavapipe" && !findings.lavapipe?.accepted) findings.lavapipe = { version, accepted };
  const called = driver.software === "swiftshader" ? "SwiftShader" : driver.software;
  const what = [called, version === undefined ? undefined : `Mesa ${version}`].filter(Boolean).join(", ");
  const prefix = what === "" ? "" : `${what}: `;
  if (accepted) {
    findings.working.push(driver.file);
    findings.adapters.push(...probe.adapters);
    return `${prefix}accepted (${probe.adapters.map((a) => a.facts.name).join(", ")})`;
  }
  if (probe.failed) {
    findings.crashing.push(driver.file);
    return `${prefix}BROKEN: ${probe.reason}`;
  }
  // Mesa installs its drivers for all GPUs it knows; most find none of theirs.
  if (probe.reason === undefined || /vkEnumeratePhysicalDevices|no drivers|INCOMPATIBLE_DRIVER/i.test(probe.reason)) {
    return `${prefix}finds no GPU of its kind`;
  }
  return `${prefix}refused by Dawn: ${probe.reason}`;
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

/** Opens what a run would open and lets it compute. */
async function tryOut(write: Write): Promise<AdapterFacts | undefined> {
  let opened: OpenAdapter;
  try {
    opened = await openAdapter();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    write(`  ${message.replace(/ Run "daguerre doctor".*$/, "")}`); // this is it
    return undefined;
  }
  const { facts } = opened;
  write(`  a run would use ${facts.name} (${facts.kind})${facts.note === undefined ? "" : `: ${facts.note}`}`);
  try {
    const device = await requestDevice(opened.adapter, "doctor");
    try {
      const { firstMs, againMs } = await computeSquares(device);
      write(`  1024 squares came out right: ${firstMs.toFixed(1)} ms with compiling, ${againMs.toFixed(1)} ms again`);
      return facts;
    } finally {
      device.destroy();
    }
  } catch (error) {
    write(`  it does not work: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

const SQUARES = `
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  values[id.x] = values[id.x] * values[id.x];
}`;

// WebGPU's GPUBufferUsage flags.
const MAP_READ = 1;
const COPY_SRC = 4;
const COPY_DST = 8;
const STORAGE = 128;

/**
 * Squares 0 … 1023 on the device, twice, and checks each.
 * @throws GpuError what the device reported; Error where a value is wrong.
 */
async function computeSquares(device: GPUDevice): Promise<{ firstMs: number; againMs: number }> {
  const watch = watchDevice(device);
  const input = Uint32Array.from({ length: 1024 }, (_, i) => i);
  const module = device.createShaderModule({ label: "squares", code: SQUARES });
  const pipeline = device.createComputePipeline({ label: "squares", layout: "auto", compute: { module } });
  const values = device.createBuffer({ label: "values", size: input.byteLength, usage: STORAGE | COPY_SRC | COPY_DST });
  const staging = device.createBuffer({ label: "staging", size: input.byteLength, usage: MAP_READ | COPY_DST });
  const layout = pipeline.getBindGroupLayout(0);
  const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: values } }] });
  const times: number[] = [];
  for (let round = 0; round < 2; round++) {
    const start = performance.now();
    device.queue.writeBuffer(values, 0, input);
    const encoder = device.createCommandEncoder({ label: "doctor" });
    const pass = encoder.beginComputePass({ label: "squares" });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(input.length / 64);
    pass.end();
    encoder.copyBufferToBuffer(values, 0, staging, 0, input.byteLength);
    device.queue.submit([encoder.finish()]);
    try {
      await settle(staging.mapAsync(MAP_READ));
    } catch (error) {
      watch.check(); // says more than "mapping failed"
      throw error;
    }
    watch.check();
    const output = new Uint32Array(staging.getMappedRange());
    const wrong = input.findIndex((value, i) => output[i] !== value * value);
    if (wrong >= 0) throw new Error(`it computes wrongly: ${wrong}² gave ${output[wrong]}`);
    staging.unmap();
    times.push(performance.now() - start);
  }
  return { firstMs: times[0] ?? 0, againMs: times[1] ?? 0 };
}

/** One line: what is the matter and what to do, the most useful first. */
export function advise(findings: Findings): string {
  const { distribution, deb822, chosen, gpus, crashing, working, lavapipe } = findings;
  const mesa = installMesa(distribution, deb822);
  const asRoot = mesa === undefined ? "install Mesa's lavapipe (version 25 or later)" : `as root: ${mesa}`;

  if (findings.dawnProblem !== undefined) {
    return "Not usable: Dawn cannot be loaded. Run `npm ci` again on this machine, or use a Linux that is recent enough, such as Debian 12.";
  }
  if (crashing.length > 0 && chosen === undefined) {
    const way =
      working.length > 0 ? `export VK_DRIVER_FILES=${working.join(":")}` : `remove or mend ${crashing.join(", ")}`;
    return `Not usable: a Vulkan driver breaks the process. To go round it: ${way}`;
  }
  if (chosen === undefined) {
    if (findings.platform !== "linux") return "Not usable: Dawn offers no GPU here. Update the graphics driver.";
    if (lavapipe !== undefined && !lavapipe.accepted) {
      return `Not usable: Dawn refuses this Mesa${lavapipe.version === undefined ? "" : ` (${lavapipe.version})`}. ${upper(asRoot)}`;
    }
    const without = findings.swiftShader === "missing" ? "; or, without root: npm install @sparticuz/chromium" : "";
    return `Not usable: there is no GPU driver. ${upper(asRoot)}${without}`;
  }
  if (chosen.kind === "hardware") return `Ready: ${chosen.name}. There is nothing to mend.`;

  const ready = `Ready, on a software GPU (${chosen.name}).`;
  const vendor = gpus[0];
  if (vendor !== undefined) {
    if (findings.forbidden !== undefined) {
      return `${ready} This machine has a GPU (${vendor}) whose ${findings.forbidden} is not open to this user: add the user to the group "render".`;
    }
    return `${ready} This machine has a GPU (${vendor}) that Vulkan does not show: ${installGpuDriver(vendor, distribution, deb822)}`;
  }
  if (chosen.driver === "swiftshader") {
    const why =
      lavapipe === undefined
        ? "Mesa's lavapipe is several times faster"
        : `Dawn refuses this machine's Mesa${lavapipe.version === undefined ? "" : ` (${lavapipe.version})`}; a newer one is several times faster`;
    return `${ready} ${why}, ${asRoot}`;
  }
  return `${ready} It is the fastest there is without a GPU: nothing to mend.`;
}

function upper(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
