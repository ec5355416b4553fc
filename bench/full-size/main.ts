/**
 * `npm run bench:full-size -- sd15|sd-turbo|sdxl`: a real architecture with generated weights, from its files on disk to
 * one denoising step and one decoded picture. Nothing is downloaded.
 *
 * It shows that models of this size load and run on this machine: time, memory, dispatches, and that the numbers stay
 * finite. Components are loaded one after another and freed, so that the peak is that of the largest. Pictures mean nothing.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseBytes } from "../../cli/flags.ts";
import { type BandOptions, decodeInBands, isTooSliced } from "../../src/diffusion/bands.ts";
import { type LatentSize, latentBytes, recordDecoder, writeDecoderScale } from "../../src/diffusion/latents.ts";
import type { StepShape } from "../../src/diffusion/model.ts";
import { createSchedule } from "../../src/diffusion/schedulers/create-schedule.ts";
import { recordStep, writeStep } from "../../src/diffusion/step.ts";
import { UnetStep } from "../../src/families/unet-step.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { compile, footprint, type Plan } from "../../src/graph/plan.ts";
import type { Storage } from "../../src/graph/tensor.ts";
import { activationStorage, loadComponent } from "../../src/memory/component.ts";
import type { LoadedParameters } from "../../src/memory/load.ts";
import { type Autoencoder, autoencoder } from "../../src/models/autoencoder.ts";
import { parseClipTextConfig, poolingPosition } from "../../src/models/clip.ts";
import { parseUnetConfig } from "../../src/models/unet-config.ts";
import { timestepSinusoids } from "../../src/models/unet-time.ts";
import {
  type Component,
  type ModelDirectory,
  openComponentFolder,
  openModelDirectory,
} from "../../src/weights/model-directory.ts";
import { randomValues } from "../random.ts";
import { ARCHITECTURES, type Architecture } from "./architectures.ts";
import { type ParameterCounts, writeComponentFolder, writeModelFolder } from "./generated-folder.ts";
import { availableBytes, peakResidentBytes, resetPeak, withHeapWatched } from "./process-memory.ts";
import { recordTextEncoder, wantedParameters } from "./wanted-parameters.ts";

const USAGE = `npm run bench:full-size -- ${Object.keys(ARCHITECTURES).join("|")} [options]
  --size N        side of the picture in pixels, a multiple of 64 (default: 512, and 1024 too for sdxl)
  --precision P   f16 or f32: how weights are stored (default f16)
  --adapter A     auto, hardware or software (default auto)
  --only vae      the decoder alone
  --max-gpu-memory N   as the product's own: the picture is decoded in bands where it does not fit in one piece
  --repeat        a second step where the first took long too (kernels are compiled during the first)
  --dir DIR       where the weights are written and deleted again (default: the system's temporary folder)`;

const MB = 1e6;
// The most that loading may add to what JavaScript holds.
const MOST_HEAP_GROWTH = 200 * MB;
// Bytes that a process needs beside buffers while they are at their peak: Node, Dawn, the driver's compiler.
const HEADROOM = 1e9;
// A step that took longer is not run again unasked.
const LONG_STEP_MS = 60_000;

interface Settings {
  readonly architecture: Architecture;
  readonly sides: readonly number[];
  readonly storage: Storage;
  readonly activations: Storage;
  readonly repeat: boolean;
}

interface Conditioning {
  /** `[tokens, width]` */
  readonly embedding: Float32Array;
  readonly tokens: number;
  readonly pooled?: Float32Array;
}

/** Lines of the report, as they become known. */
function say(label: string, ...facts: string[]): void {
  console.log(`${label.padEnd(28)} ${facts.join(" · ")}`);
}

const megabytes = (bytes: number) => `${(bytes / MB).toFixed(0)} MB`;
const seconds = (ms: number) => (ms < 10_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** True if all values are numbers, and how large they are; throws where they are not. */
function spread(what: string, values: Float32Array): string {
  let sum = 0;
  let largest = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) throw new Error(`${what}: not all values are finite`);
    sum += value * value;
    largest = Math.max(largest, Math.abs(value));
  }
  if (sum === 0) throw new Error(`${what}: all values are zero`);
  return `finite, rms ${Math.sqrt(sum / values.length).toPrecision(3)}, largest ${largest.toPrecision(3)}`;
}

async function load(gpu: Gpu, component: Component, { storage }: Settings): Promise<LoadedParameters> {
  resetPeak();
  const began = performance.now();
  const { result, growth } = await withHeapWatched((sample) =>
    loadComponent(gpu, component, wantedParameters(component), { precision: storage, onProgress: sample }),
  );
  say(
    `load ${component.name}`,
    seconds(performance.now() - began),
    `${megabytes(result.bytes)} of weights`,
    `JavaScript +${megabytes(growth)}`,
    `process peak ${megabytes(peakResidentBytes())}`,
  );
  if (growth > MOST_HEAP_GROWTH) {
    throw new Error(
      `loading ${component.name} made JavaScript hold ${megabytes(growth)} more, over ${megabytes(MOST_HEAP_GROWTH)}`,
    );
  }
  return result;
}

/** Replays a plan, and again to know its time without the compilation of its kernels. */
async function replay(gpu: Gpu, plan: Plan, what: string, repeat: boolean): Promise<void> {
  const time = async () => {
    const began = performance.now();
    plan.run();
    await gpu.idle();
    return performance.now() - began;
  };
  const first = await time();
  const times = [`first ${seconds(first)}, kernels compiled in it`];
  if (repeat || first < LONG_STEP_MS) times.unshift(seconds(await time()));
  say(
    what,
    ...times,
    `${plan.dispatches} dispatches`,
    `arenas ${megabytes(plan.arenaBytes)}`,
    `process peak ${megabytes(peakResidentBytes())}`,
    `GPU peak ${megabytes(gpu.memory.peakBytes)}`,
  );
}

/** True if so many bytes more can be taken. A GPU with memory of its own does not tell what is free. */
function fits(gpu: Gpu, bytes: number): boolean {
  return gpu.facts.kind !== "software" || bytes + HEADROOM <= availableBytes();
}

async function encodeText(gpu: Gpu, directory: ModelDirectory, settings: Settings): Promise<Conditioning[]> {
  const { architecture, activations: storage } = settings;
  const tokens = 77;
  const prompts = [0, 1].map((prompt) => {
    const words = randomValues(`prompt ${prompt}`, 20, { deviation: 9000, mean: 25_000 });
    const ids = [...words].map((word) => Math.min(Math.max(Math.round(word), 0), 49_405));
    // Begin, a prompt, and ends up to the full length, as the tokenizer gives them.
    return Uint32Array.from({ length: tokens }, (_, i) => (i === 0 ? 49_406 : (ids[i - 1] ?? 49_407)));
  });
  const hidden: Float32Array[][] = prompts.map(() => []);
  const pooled: (Float32Array | undefined)[] = prompts.map(() => undefined);
  const names = Object.keys(architecture.components).filter((name) => name.startsWith("text_encoder"));
  for (const name of names) {
    const component = directory.component(name)!;
    const config = parseClipTextConfig(name, component.config);
    const parameters = await load(gpu, component, settings);
    const recorder = recordTextEncoder(config, architecture.hidden);
    const plan = await compile(gpu, recorder, { label: name, storage, parameters });
    resetPeak();
    for (const [prompt, ids] of prompts.entries()) {
      plan.write("ids", ids);
      if (config.withProjection) plan.write("end", Uint32Array.of(poolingPosition(config, ids)));
      if (prompt === 0) await replay(gpu, plan, `  ${name}`, settings.repeat);
      else plan.run();
      hidden[prompt]!.push((await plan.read("hidden")) as Float32Array);
      if (config.withProjection) pooled[prompt] = (await plan.read("pooled")) as Float32Array;
    }
    plan.destroy();
    parameters.destroy();
  }
  return prompts.map((_, prompt) => {
    const parts = hidden[prompt]!;
    const widths = parts.map((part) => part.length / tokens);
    const width = widths.reduce((sum, size) => sum + size, 0);
    const embedding = new Float32Array(tokens * width);
    let start = 0;
    for (const [index, part] of parts.entries()) {
      const size = widths[index]!;
      for (let token = 0; token < tokens; token++) {
        embedding.set(part.subarray(token * size, (token + 1) * size), token * width + start);
      }
      start += size;
    }
    return { embedding, tokens, pooled: pooled[prompt] };
  });
}

/** One step at each size. */
async function denoise(
  gpu: Gpu,
  directory: ModelDirectory,
  prompts: readonly Conditioning[],
  settings: Settings,
): Promise<void> {
  const { architecture, activations: storage } = settings;
  const component = directory.component("unet")!;
  const config = parseUnetConfig(component.config);
  const parameters = await load(gpu, component, settings);
  const schedule = createSchedule(architecture.scheduler.className, architecture.scheduler.config, { steps: 25 });
  const guidance = architecture.branches === 2 ? 7.5 : 1;
  for (const side of settings.sides) {
    const size = { height: side / 8, width: side / 8, channels: config.in_channels };
    const { tokens } = prompts[0]!;
    const step = new UnetStep(config, tokens);
    let shape: StepShape = { ...size, slots: 1, branches: architecture.branches, tokens };
    const what = () => `  unet step ${side}² × ${shape.branches}`;
    const bytesOf = (of: StepShape) =>
      footprint(gpu, recordStep(step, of), { storage, weightStorage: parameters.storage }).peak;
    if (shape.branches === 2 && !fits(gpu, bytesOf(shape))) {
      say(what(), `too little memory (${megabytes(availableBytes())} available) for guidance in one batch: half of it`);
      shape = { ...shape, branches: 1 };
    }
    const need = bytesOf(shape);
    if (!fits(gpu, need)) {
      say(what(), `skipped: takes ${megabytes(need)}, and ${megabytes(availableBytes())} are available`);
      continue;
    }
    resetPeak();
    const label = `unet ${side}²`;
    const plan = await compile(gpu, recordStep(step, shape), { label, storage, parameters, reads: ["latents"] });
    try {
      const used = prompts.slice(-shape.branches);
      plan.write("text", joined(used.map((prompt) => prompt.embedding)));
      if (config.projection_class_embeddings_input_dim) {
        const numbers = timestepSinusoids([side, side, 0, 0, side, side], config.addition_time_embed_dim!);
        plan.write("added", joined(used.flatMap((prompt) => [prompt.pooled!, numbers])));
      }
      plan.write("latents", startLatents(size, schedule.initNoiseSigma));
      writeStep(plan, step, shape, 0, { rows: schedule.rows, index: 0, joins: true, guidanceScale: guidance });
      await replay(gpu, plan, what(), settings.repeat);
      say("", `prediction ${spread("unet", (await plan.read("model")) as Float32Array)}`);
      say("", `latents ${spread("scheduler", (await plan.read("latents")) as Float32Array)}`);
    } finally {
      plan.destroy();
    }
  }
  parameters.destroy();
}

async function decode(gpu: Gpu, component: Component, settings: Settings): Promise<void> {
  const coder = autoencoder(component);
  const parameters = await load(gpu, component, settings);
  const storage = coder.forceUpcast ? "f32" : settings.activations;
  for (const side of settings.sides) {
    const size = { height: side / coder.downscale, width: side / coder.downscale, channels: coder.latentChannels };
    const what = `  vae decode ${side}²`;
    const options = { label: "vae", storage, parameters };
    resetPeak();
    if (isTooSliced(gpu, recordDecoder(coder, size), storage)) {
      await decodeBands(gpu, coder, size, what, options);
      continue;
    }
    const { peak } = footprint(gpu, recordDecoder(coder, size), { storage, weightStorage: parameters.storage });
    if (gpu.maxBytes !== undefined && gpu.memory.bytes + peak > gpu.maxBytes) {
      await decodeBands(gpu, coder, size, what, options);
      continue;
    }
    if (!fits(gpu, peak)) {
      say(what, `skipped: takes ${megabytes(peak)}, and ${megabytes(availableBytes())} are available`);
      continue;
    }
    const plan = await compile(gpu, recordDecoder(coder, size), { ...options, reads: ["rgba"] });
    writeDecoderScale(plan, coder);
    try {
      plan.write("latents", startLatents(size, 1));
      await replay(gpu, plan, what, settings.repeat);
      const rgba = (await plan.read("rgba")) as Uint32Array;
      say("", pictureFacts(new Uint8Array(rgba.buffer, rgba.byteOffset, rgba.byteLength)), `activations ${storage}`);
    } finally {
      plan.destroy();
    }
  }
  parameters.destroy();
}

async function decodeBands(gpu: Gpu, coder: Autoencoder, size: LatentSize, what: string, options: BandOptions) {
  const latents = startLatents(size, 1);
  const buffer = gpu.createBuffer("latents", latentBytes(size));
  const moves: string[] = [];
  try {
    gpu.write(buffer, 0, new Uint8Array(latents.buffer)); // four channels: no padding
    const began = performance.now();
    const range = { buffer, offset: 0, size: buffer.size };
    const { rgba } = await decodeInBands(gpu, coder, range, size, {
      ...options,
      onPass(moved) {
        moves.push(`${seconds(performance.now() - began)} (moved ${moved.toPrecision(2)})`);
        say(`    pass ${moves.length}`, moves.at(-1)!, `largest buffer ${gpu.memory.largestBytes} bytes`);
      },
    });
    say(
      what,
      `in bands ${seconds(performance.now() - began)}, kernels compiled in it`,
      `${moves.length || 1} passes`,
      `process peak ${megabytes(peakResidentBytes())}`,
      `GPU peak ${megabytes(gpu.memory.peakBytes)}`,
    );
    say("", pictureFacts(rgba), `activations ${options.storage}`);
  } finally {
    gpu.destroyBuffer(buffer);
  }
}

function pictureFacts(rgba: Uint8Array): string {
  const levels = new Set(rgba.filter((_, i) => i % 4 !== 3));
  if (levels.size < 2) throw new Error("the picture is of one colour");
  return `picture of ${levels.size} levels`;
}

function startLatents({ height, width, channels }: LatentSize, deviation: number): Float32Array {
  return randomValues("latents", height * width * channels, { deviation });
}

function joined(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let end = 0;
  for (const array of arrays) {
    all.set(array, end);
    end += array.length;
  }
  return all;
}

async function measure(gpu: Gpu, folder: string, settings: Settings): Promise<void> {
  const { components } = settings.architecture;
  const began = performance.now();
  if (components["unet"]) {
    reportWritten(await writeModelFolder(folder, settings.architecture), began, settings);
    const directory = await openModelDirectory(folder);
    const prompts = await encodeText(gpu, directory, settings);
    await denoise(gpu, directory, prompts, settings);
    await decode(gpu, directory.component("vae")!, settings);
  } else {
    const path = join(folder, "vae");
    reportWritten(new Map([["vae", await writeComponentFolder(path, components["vae"]!)]]), began, settings);
    await decode(gpu, await openComponentFolder(path), settings);
  }
  const { peakBytes, largestBytes, buffers, bytes } = gpu.memory;
  say("GPU memory", `peak ${megabytes(peakBytes)}`, `now ${megabytes(bytes)} in ${buffers} buffers`);
  say("largest buffer", `${largestBytes} bytes`, `the adapter binds ${gpu.maxBindingBytes}`);
}

function reportWritten(counts: ParameterCounts, began: number, { architecture }: Settings): void {
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  say("weights written", seconds(performance.now() - began), `${megabytes(total * 2)} of f16`);
  for (const [name, count] of counts) {
    const published = architecture.components[name]!.parameters;
    if (count !== published) throw new Error(`${name} has ${count} parameters, the published one has ${published}`);
    say(`  ${name}`, `${count} parameters, as published`);
  }
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      size: { type: "string" },
      precision: { type: "string", default: "f16" },
      adapter: { type: "string", default: "auto" },
      repeat: { type: "boolean", default: false },
      dir: { type: "string", default: tmpdir() },
      only: { type: "string" },
      "max-gpu-memory": { type: "string" },
    },
  });
  const known = Object.hasOwn(ARCHITECTURES, positionals[0] ?? "") ? ARCHITECTURES[positionals[0]!] : undefined;
  const architecture =
    known && values.only === "vae" ? { ...known, components: { vae: known.components["vae"]! } } : known;
  const maxBytes = values["max-gpu-memory"] === undefined ? undefined : parseBytes(values["max-gpu-memory"]);
  const badLimit = values["max-gpu-memory"] !== undefined && maxBytes === undefined;
  const badPart = values.only !== undefined && values.only !== "vae";
  const side = values.size === undefined ? undefined : Number(values.size);
  const prefer = (["auto", "hardware", "software"] as const).find((name) => name === values.adapter);
  const storage = (["f16", "f32"] as const).find((name) => name === values.precision);
  const badSide = side !== undefined && !(Number.isInteger(side) && side > 0 && side % 64 === 0);
  if (!architecture || positionals.length !== 1 || badSide || badLimit || badPart || !prefer || !storage) {
    console.error(USAGE);
    process.exitCode = 2;
    return;
  }

  const components = Object.values(architecture.components);
  const wanted = components.reduce((sum, component) => sum + component.parameters * 2, 0);
  const disk = await statfs(values.dir);
  if (disk.bavail * disk.bsize < wanted + HEADROOM) {
    throw new Error(
      `${values.dir} has ${megabytes(disk.bavail * disk.bsize)} free, and the weights take ${megabytes(wanted)}: name another with --dir`,
    );
  }
  const gpu = await openGpu({ adapter: { prefer }, maxBytes });
  const folder = mkdtempSync(join(values.dir, "daguerre-full-size-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      remove();
      process.exit(1);
    });
  }
  try {
    say(architecture.name, `storage ${storage}`, gpu.facts.name, `subgroups of ${gpu.lanes ?? "unknown size"}`);
    await measure(gpu, folder, {
      architecture,
      sides: side ? [side] : architecture.sides,
      storage,
      activations: activationStorage(gpu, storage),
      repeat: values.repeat,
    });
  } finally {
    remove();
    gpu.close();
  }
}

await main();
