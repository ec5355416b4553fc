/** The machine as `daguerre doctor` describes it: system, Node, the GPUs on its bus, and whether Dawn loads. */

import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { probeDriver } from "../src/gpu/drivers/driver-probe.ts";
import { type Distribution, type GpuVendor, readDistribution } from "./mending.ts";

const MIN_NODE = [20, 19] as const;

/** Writes one line about the machine. */
export function describeMachine(write: (line: string) => void): Distribution {
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
export async function whyDawnFails(): Promise<string | undefined> {
  const probe = await probeDriver({ driverFile: "/no-driver.json" });
  if (!probe.failed) return undefined;
  const reason = probe.reason ?? "for no reason given";
  if (process.platform !== "linux") return reason;
  if (glibcVersion() === undefined) return `${reason} (its build for Node needs glibc, which this Linux lacks)`;
  // The versions that the symbols of dawn.node 0.6.2 ask for.
  return /GLIBC/.test(reason) ? `${reason} (it needs glibc 2.34 and libstdc++ of GCC 12, or later)` : reason;
}

interface BusGpu {
  readonly text: string;
  readonly vendor: GpuVendor | undefined;
}

const VENDORS: Record<string, GpuVendor> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };

/** Display controllers (PCI class 3) as the kernel lists them, driver or no driver. */
export function gpusOnBus(): BusGpu[] {
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

/** Vendors of GPUs on the bus that are worth using, each once. */
export function gpuVendors(gpus: readonly BusGpu[] = gpusOnBus()): GpuVendor[] {
  return [...new Set(gpus.flatMap((gpu) => gpu.vendor ?? []))];
}

/** A GPU's device file that exists and that this user may not open. */
export function forbiddenDevice(): string | undefined {
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
