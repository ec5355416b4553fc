/**
 * The examination of Vulkan drivers for `daguerre doctor`: each is tried in a child process, since a broken one takes its
 * process with it.
 */

import { dirname, join } from "node:path";
import { mesaVersionIn, type ProbedAdapter, probeDriver } from "../src/gpu/drivers/driver-probe.ts";
import {
  chosenDriverFiles,
  ensureLoader,
  installedDrivers,
  type LoaderSource,
  packedSwiftShader,
  readDriver,
  swiftShaderDriver,
  type UnreadableDriver,
  type VulkanDriver,
} from "../src/gpu/drivers/software-driver.ts";
import type { Findings } from "./advise.ts";

type Write = (line: string) => void;

/** Writes one line about the Vulkan loader. */
export async function describeLoader(write: Write): Promise<LoaderSource | undefined> {
  let loader: LoaderSource | undefined;
  try {
    loader = await ensureLoader();
  } catch (error) {
    write(`  unpacking SwiftShader failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  const from =
    loader === undefined
      ? "missing"
      : loader === "system"
        ? "the system's"
        : "missing; the one that comes with Daguerre is used";
  write(`  Vulkan loader (libvulkan.so.1): ${from}`);
  const files = chosenDriverFiles();
  if (files !== undefined) write(`  VK_DRIVER_FILES restricts Vulkan to: ${files.join(", ")}`);
  return loader;
}

/** Where a child finds the loader that the system lacks. */
export async function loaderOption(loader: LoaderSource | undefined): Promise<{ loader?: string }> {
  if (loader !== "packed") return {};
  const icd = await swiftShaderDriver();
  return icd === undefined ? {} : { loader: join(dirname(icd), "libvulkan.so.1") };
}

export interface DriverFindings {
  crashing: string[];
  working: string[];
  lavapipe: Findings["lavapipe"];
  swiftShader: Findings["swiftShader"];
  /** Every ICD file that was tried, and what came of it. */
  drivers: { readonly file: string; readonly result: string }[];
  /** Adapters of the drivers that work alone. */
  adapters: ProbedAdapter[];
}

/** Writes one line for each driver. */
export async function describeDrivers(write: Write, loader: LoaderSource | undefined): Promise<DriverFindings> {
  const findings: DriverFindings = {
    crashing: [],
    working: [],
    lavapipe: undefined,
    swiftShader: "installed",
    drivers: [],
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
    const result = await examine(driver, option, findings);
    findings.drivers.push({ file: driver.file, result });
    write(`  ${driver.file}: ${result}`);
  }
  if (seen.size === 0) write("  none installed");
  if (swiftShader === undefined) {
    findings.swiftShader = process.arch === "x64" ? "missing" : "impossible";
    const why = process.arch === "x64" ? "missing in this checkout: npm run native -- swiftshader" : "for x64 only";
    write(`  SwiftShader, which comes with Daguerre: ${why}`);
  } else {
    const version = packedSwiftShader()?.version;
    if (version !== undefined) write(`  SwiftShader comes with Daguerre, from @sparticuz/chromium ${version}`);
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
