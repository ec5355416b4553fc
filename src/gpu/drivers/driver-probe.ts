/**
 * Trying Vulkan drivers without risk: in a child process, since a broken driver takes its process with it.
 *
 * Not for opening a GPU to work with (that is `adapter.ts`) but for finding out, for `daguerre doctor`, what each driver
 * is good for and, where Dawn refuses it, why. Dawn says why on stderr, which only a child's parent can read.
 */

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { type AdapterFacts, type Described, factsOf } from "../adapter-facts.ts";
import { DAWN_FLAGS, LISTING_FLAG, parseListing } from "./adapter.ts";
import { dawnModule } from "./dawn.ts";
import { dawnComplaints } from "./driver-messages.ts";

/** An adapter that opened, with the limits that matter to us. */
export interface ProbedAdapter {
  readonly facts: AdapterFacts;
  /** In bytes. */
  readonly maxBufferSize: number;
  /** In bytes. */
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
}

export interface DriverProbe {
  /** Devices were opened and closed on these. */
  readonly adapters: readonly ProbedAdapter[];
  /** The process died, hung, or could not load Dawn: `reason` says which. */
  readonly failed: boolean;
  /** Where there are no adapters: why, in Dawn's, the driver's or the system's words. */
  readonly reason?: string;
  /** Where the driver's library lies, if it was named and opened. */
  readonly libraryPath?: string;
}

export interface ProbeOptions {
  /** The ICD file to use alone. Without it: whatever the machine (or `VK_DRIVER_FILES`) offers. */
  readonly driverFile?: string;
  /** The driver's library, opened first to find out where it lies or what it lacks. */
  readonly library?: string;
  /** Path of the Vulkan loader, where the system has none. */
  readonly loader?: string;
  readonly timeoutMs?: number;
}

interface ChildReport {
  listing: string;
  adapters: (Described & { limits: Record<string, number> })[];
  libraryProblem?: string;
  libraryPath?: string;
}

// Runs as plain JavaScript whether this file is TypeScript in a checkout or bundled in a package.
const CHILD = `
import { readFileSync } from "node:fs";
import { constants } from "node:os";
const { webgpu, flags, listingFlag, pattern, loader, library } = JSON.parse(process.argv[1]);
const report = { listing: "", adapters: [] };
function open(path) {
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_NOW | constants.dlopen.RTLD_GLOBAL | 0x1000);
  } catch (error) {
    if (!/did not self-register/.test(error.message)) return error.message;
  }
}
if (loader) open(loader);
if (library) {
  report.libraryProblem = open(library);
  const name = library.slice(library.lastIndexOf("/") + 1).replace(/\\.so.*/, ".so");
  const maps = readFileSync("/proc/self/maps", "utf8");
  report.libraryPath = maps.split("\\n").map((l) => l.slice(l.indexOf("/"))).find((path) => path.includes(name));
}
const { create } = await import(webgpu);
const kept = [];
const request = (flag) => {
  const gpu = create([...flags, flag]);
  kept.push(gpu);
  return gpu.requestAdapter({ powerPreference: "high-performance" });
};
await request(listingFlag).catch((error) => { report.listing = error.message; });
for (const [, name] of report.listing.matchAll(new RegExp(pattern, "gm"))) {
  const adapter = await request("adapter=" + name);
  if (adapter === null) continue;
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = adapter.limits;
  report.adapters.push({
    info: { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize },
    features: [...adapter.features],
    limits: { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage },
  });
  (await adapter.requestDevice()).destroy();
}
process.stdout.write(JSON.stringify(report), () => process.exit(0));
`;

/** Dawn's complaint among what it printed: the last that is one. */
function complaintIn(stderr: string): string | undefined {
  // Said of each healthy lavapipe and of no interest here.
  return dawnComplaints(stderr).findLast((text) => !/artificially reduced/.test(text));
}

/** Tries one driver, or all that the machine offers, in a child process. Never throws. */
export async function probeDriver(options: ProbeOptions = {}): Promise<DriverProbe> {
  let webgpu: string;
  try {
    webgpu = await dawnModule();
  } catch (error) {
    return { adapters: [], failed: true, reason: error instanceof Error ? error.message : String(error) };
  }
  const argument = JSON.stringify({
    webgpu,
    flags: DAWN_FLAGS,
    listingFlag: LISTING_FLAG,
    pattern: "name: '(.*)'$",
    loader: options.loader,
    library: options.library,
  });
  const env = { ...process.env };
  if (options.driverFile !== undefined) {
    env.VK_DRIVER_FILES = options.driverFile;
    env.VK_ICD_FILENAMES = options.driverFile;
  }
  const timeout = options.timeoutMs ?? 30_000;
  return new Promise((resolve) => {
    const args = ["--input-type=module", "-e", CHILD, argument];
    execFile(process.execPath, args, { env, timeout, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      if (error !== null) {
        resolve({ adapters: [], failed: true, reason: reasonOfDeath(error, stderr, timeout) });
        return;
      }
      const report = JSON.parse(stdout) as ChildReport;
      const listed = parseListing(report.listing);
      const adapters = report.adapters.map((adapter, i) => ({
        facts: factsOf(adapter, listed[i] ?? { name: adapter.info.description, backend: "unknown" }),
        maxBufferSize: adapter.limits.maxBufferSize ?? 0,
        maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize ?? 0,
        maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage ?? 0,
      }));
      const reason = report.libraryProblem ?? complaintIn(stderr);
      resolve({
        adapters,
        failed: false,
        ...(adapters.length > 0 || reason === undefined ? {} : { reason }),
        ...(report.libraryPath === undefined ? {} : { libraryPath: report.libraryPath }),
      });
    });
  });
}

function reasonOfDeath(error: Error & { killed?: boolean; signal?: unknown }, stderr: string, timeout: number): string {
  if (error.killed) return `no answer within ${timeout / 1000} s`;
  if (error.signal) return `the process died (${String(error.signal)})`;
  const thrown = /^(?:\w*Error): (.*)$/m.exec(stderr)?.[1];
  return thrown ?? stderr.trim().split("\n").at(-1) ?? error.message;
}

/** The version in a driver library of Mesa's, such as "25.0.7"; undefined where it is not Mesa's. */
export async function mesaVersionIn(library: string): Promise<string | undefined> {
  try {
    // Mesa builds its driver description from a literal "Mesa 25.0.7".
    return /Mesa (\d+\.\d+\.\d+)/.exec(await readFile(library, "latin1"))?.[1];
  } catch {
    return undefined;
  }
}
