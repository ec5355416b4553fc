/**
 * Choosing a GPU.
 *
 * An *adapter* is a GPU together with its driver, as Dawn (the WebGPU implementation behind npm's `webgpu`) offers it.
 * On Linux Dawn speaks Vulkan, and `requestAdapter()` gives null if no usable driver is installed: then a software driver
 * is brought along (`software-driver.ts`), and `AdapterFacts.note` says so. On macOS and Windows Dawn speaks Metal and
 * D3D12, and nothing needs to be brought.
 *
 * A *device*, a connection to an adapter, is made in `device-request.ts`.
 *
 * Dawn writes two warnings to stderr for each Vulkan adapter that it sees ("maxDynamic…BuffersPerPipelineLayout
 * artificially reduced"), before anything is asked of it; there is no switch for them. The commands hide them
 * (`cli/supervisor.ts`).
 */

import { isMainThread } from "node:worker_threads";
import { type AdapterFacts, factsOf, type Listed, type SoftwareDriver } from "../adapter-facts.ts";
import { AdapterError } from "../errors.ts";
import { settle } from "../waiting.ts";
import { loadDawn } from "./dawn.ts";
import {
  chooseDriverFiles,
  chosenDriverFiles,
  ensureLoader,
  keepMesaShaders,
  lavapipeDriver,
  swiftShaderDriver,
} from "./software-driver.ts";

export type AdapterPreference = "auto" | "hardware" | "software";

export interface AdapterChoice {
  /** `auto` (the default) takes a hardware GPU where there is one and a software one where there is none. */
  readonly prefer?: AdapterPreference;
  /** Part of the adapter's name, description, vendor, device or architecture, in any case. */
  readonly name?: string;
  /** Which software driver; only with `software` or `auto`. Without it lavapipe, then SwiftShader. */
  readonly driver?: SoftwareDriver;
}

export interface OpenAdapter {
  readonly adapter: GPUAdapter;
  readonly gpu: GPU;
  readonly facts: AdapterFacts;
}

/**
 * Dawn's toggles (names from its Toggles.cpp; a misspelt one is ignored without a word). They are given to `create()`,
 * which hands them on to every adapter and device made from it.
 */
export const DAWN_FLAGS: readonly string[] = [
  // allow_unsafe_apis: `chromium-experimental-subgroup-matrix` (tensor cores) is offered only with it.
  // vulkan_enable_f16_on_nvidia: Dawn hides `shader-f16` from NVIDIA's Vulkan driver otherwise.
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
  // Timestamps are rounded to 65 µs otherwise, against timing attacks by web pages. Kernels take less than that.
  "disable-dawn-features=timestamp_quantization",
];

// The result of `create()` must stay referenced: if it is collected, the process aborts. One is kept for each set of
// flags and drivers, so opening again after a loss adds none.
const entries = new Map<string, GPU>();

/**
 * An entry into Dawn with our flags and these. Dawn's library is loaded here and not by importing this file, so that a
 * machine that cannot load it is told why, by `doctor` among others.
 */
async function dawn(flags: readonly string[]): Promise<GPU> {
  let create: (options: string[]) => GPU;
  try {
    ({ create } = await loadDawn());
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new AdapterError(`Dawn (npm package webgpu) cannot be loaded on this machine: ${reason}`, [], error);
  }
  const key = JSON.stringify([flags, process.env.VK_DRIVER_FILES, process.env.VK_ICD_FILENAMES]);
  let gpu = entries.get(key);
  if (gpu === undefined) {
    gpu = create([...DAWN_FLAGS, ...flags]);
    entries.set(key, gpu);
  }
  return gpu;
}

/** Asked for an adapter by a name that none has, dawn.node lists in its message those that it sees. */
export const LISTING_FLAG = "adapter=?";

/** Reads the message that {@link LISTING_FLAG} leads to. */
export function parseListing(message: string): Listed[] {
  const lines = message.matchAll(/backend: '([^']*)', name: '(.*)'$/gm);
  return [...lines].map(([, backend = "", name = ""]) => ({ backend, name }));
}

/** The adapters that Dawn sees, the most powerful first. WebGPU has no call for it. */
async function listAdapters(): Promise<Listed[]> {
  const gpu = await dawn([LISTING_FLAG]);
  try {
    await settle(gpu.requestAdapter({ powerPreference: "high-performance" }));
  } catch (error) {
    return parseListing(error instanceof Error ? error.message : String(error));
  }
  return []; // null: no driver at all
}

function isNamed(facts: AdapterFacts, adapter: GPUAdapter, part: string): boolean {
  const { info } = adapter;
  return [facts.name, info.description, info.vendor, info.device, info.architecture].some((text) =>
    text.toLowerCase().includes(part.toLowerCase()),
  );
}

/** Hardware before software, lavapipe (several times faster, and has f16) before the rest; else Dawn's own order. */
function rank(facts: AdapterFacts): number {
  if (facts.kind === "hardware") return 0;
  return facts.driver === "lavapipe" ? 1 : facts.driver === "swiftshader" ? 3 : 2;
}

/** The adapters of the drivers that are in force now, best first. */
async function offered(): Promise<OpenAdapter[]> {
  const listed = await listAdapters();
  const open: OpenAdapter[] = [];
  const names = new Set<string>();
  for (const entry of listed) {
    if (names.has(entry.name)) continue; // Two equal GPUs have one name, and Dawn gives the first for it.
    names.add(entry.name);
    const gpu = await dawn([`adapter=${entry.name}`]);
    const adapter = await settle(gpu.requestAdapter({ powerPreference: "high-performance" }));
    if (adapter !== null) open.push({ adapter, gpu, facts: factsOf(adapter, entry) });
  }
  return open.sort((a, b) => rank(a.facts) - rank(b.facts));
}

function fits(choice: AdapterChoice, { facts, adapter }: OpenAdapter): boolean {
  const prefer = choice.prefer ?? "auto";
  if (prefer !== "auto" && facts.kind !== prefer) return false;
  if (choice.driver !== undefined && facts.driver !== choice.driver) return false;
  return choice.name === undefined || isNamed(facts, adapter, choice.name);
}

function describe(choice: AdapterChoice): string {
  const prefer = choice.prefer ?? "auto";
  const words = [prefer === "auto" ? "GPU" : `${prefer} GPU`];
  if (choice.driver !== undefined) words.push(`with driver "${choice.driver}"`);
  if (choice.name !== undefined) words.push(`named like "${choice.name}"`);
  return words.join(" ");
}

/** Advice to a user about the adapter that was taken. */
function noteOn(facts: AdapterFacts, brought: SoftwareDriver | undefined, isExplicit: boolean): string | undefined {
  const parts: string[] = [];
  const called = facts.driver === "swiftshader" ? "SwiftShader" : facts.driver === "lavapipe" ? "lavapipe" : facts.name;
  if (facts.kind === "software" && !isExplicit) {
    parts.push(
      brought === undefined
        ? `no hardware GPU was found: using ${called}, a software GPU`
        : `no usable GPU driver was found: using ${called}, a software GPU`,
    );
  }
  const lacking = [
    facts.features.includes("shader-f16") ? "" : "f16",
    facts.features.includes("subgroups") ? "" : "subgroups",
  ].filter((word) => word !== "");
  if (lacking.length > 0) parts.push(`it has no ${lacking.join(" and no ")}, so slower kernels are used`);
  if (facts.driver === "swiftshader") parts.push("Mesa's lavapipe is several times faster (see: daguerre doctor)");
  return parts.length === 0 ? undefined : parts.join("; ");
}

// Opening may change VK_DRIVER_FILES, which is the whole process's: one at a time.
let previous: Promise<unknown> = Promise.resolve();

/** The drivers that were in force when the process started; those that we chose later do not count as the user's. */
const usersDriverFiles = chosenDriverFiles();

/**
 * Opens the adapter that fits `choice` best.
 *
 * Drivers are tried in this order: those of `VK_DRIVER_FILES` or of the machine; then, unless `hardware` is asked for,
 * an installed lavapipe; then SwiftShader. If it is one of the latter two, `VK_DRIVER_FILES` stays set to it: a later
 * worker thread, which cannot change the process's environment, then finds the same one.
 *
 * Each call gives a fresh adapter, of which one device can be made.
 * @throws AdapterError where none fits: the message lists what was found.
 */
export function openAdapter(choice: AdapterChoice = {}): Promise<OpenAdapter> {
  const opening = previous.then(() => open(choice));
  previous = opening.catch(() => undefined);
  return opening;
}

async function open(choice: AdapterChoice): Promise<OpenAdapter> {
  const found = new Set<string>();
  const problems: string[] = [];
  const asked = choice.prefer === "software" || choice.driver !== undefined || choice.name !== undefined;

  const attempt = async (brought?: SoftwareDriver): Promise<OpenAdapter | undefined> => {
    const adapters = await offered();
    if (adapters.length === 0 && brought !== undefined) problems.push(`${brought} was refused by Dawn`);
    for (const { facts } of adapters) found.add(`${facts.name} (${facts.kind})`);
    const fitting = adapters.find((a) => fits(choice, a));
    if (fitting === undefined) return undefined;
    const note = noteOn(fitting.facts, brought, asked);
    return note === undefined ? fitting : { ...fitting, facts: { ...fitting.facts, note } };
  };

  if (process.platform !== "linux") {
    const opened = await attempt();
    if (opened !== undefined) return opened;
    throw refusal(choice, found, problems);
  }

  keepMesaShaders();
  const loader = await ensureLoader().catch((error: unknown) => {
    problems.push(`unpacking SwiftShader failed: ${String(error)}`);
    return undefined;
  });
  if (loader === undefined) problems.push("the Vulkan loader (libvulkan.so.1) is missing");

  if (isMainThread) chooseDriverFiles(usersDriverFiles);
  const opened = await attempt();
  if (opened !== undefined) return opened;
  if (choice.prefer === "hardware") throw refusal(choice, found, problems);

  for (const driver of ["lavapipe", "swiftshader"] as const) {
    if (choice.driver !== undefined && choice.driver !== driver) continue;
    const file = await bring(driver, problems);
    if (file === undefined) continue;
    chooseDriverFiles([file]);
    const software = await attempt(driver);
    if (software !== undefined) return software;
  }
  chooseDriverFiles(usersDriverFiles);
  if (!isMainThread) {
    problems.push("a worker thread cannot change the Vulkan driver: open an adapter in the main thread first");
  }
  throw refusal(choice, found, problems);
}

async function bring(driver: SoftwareDriver, problems: string[]): Promise<string | undefined> {
  if (driver === "lavapipe") {
    const file = lavapipeDriver();
    if (file === undefined) problems.push("lavapipe is not installed");
    return file;
  }
  try {
    const file = await swiftShaderDriver();
    if (file === undefined) problems.push("SwiftShader, which comes with Daguerre, is made for Linux on x64 only");
    return file;
  } catch (error) {
    problems.push(`unpacking SwiftShader failed: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

function refusal(choice: AdapterChoice, found: ReadonlySet<string>, problems: readonly string[]): AdapterError {
  const list = found.size === 0 ? "no adapter at all" : [...found].join(", ");
  const because = problems.length === 0 ? "" : ` (${[...new Set(problems)].join("; ")})`;
  return new AdapterError(
    `no ${describe(choice)} was found; there is ${list}${because}. Run "daguerre doctor": it says how to mend it.`,
    [...found],
  );
}
