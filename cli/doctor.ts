/**
 * `daguerre doctor`: what this machine has to compute on, whether it works, and the command that mends what does not.
 *
 * Everything that could crash (a driver) is tried in a child process first; the GPU that a run would take is then
 * opened in this one, by the very code that a run uses, and has to compute something.
 */

import { existsSync } from "node:fs";
import { type ProbedAdapter, probeDriver } from "../src/gpu/drivers/driver-probe.ts";
import type { LoaderSource } from "../src/gpu/drivers/software-driver.ts";
import { advise } from "./advise.ts";
import { type DriverFindings, describeDrivers, describeLoader, loaderOption } from "./examine.ts";
import { describeMachine, forbiddenDevice, gpusOnBus, whyDawnFails } from "./machine.ts";
import { tryOut } from "./trial.ts";

type Write = (line: string) => void;

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
