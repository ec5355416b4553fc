/** `daguerre bench`: what a picture costs on this machine, phase by phase, and what would make it cheaper. */

import type { LoadedModel } from "../src/diffusion/loaded-model.ts";
import { hasTiny } from "../src/diffusion/pictures.ts";
import type { PipelineEvent } from "../src/diffusion/request.ts";
import { generate } from "../src/diffusion/run.ts";
import { stepShape } from "../src/diffusion/shape.ts";
import { warmUp } from "../src/diffusion/warm-up.ts";
import type { AdapterFacts } from "../src/gpu/adapter-facts.ts";
import type { Precision } from "../src/memory/component.ts";
import { type ModelOptions, type Subject, subjectOf, withModel } from "./model.ts";

export interface BenchOptions extends ModelOptions {
  /** Without it the model's own. */
  readonly steps?: number;
  /** Pictures of which the median counts. */
  readonly rounds: number;
}

/** Milliseconds, and bytes on the device. */
export interface BenchTimes {
  readonly load: number;
  readonly compile: number;
  readonly text: number;
  readonly step: number;
  readonly decode: number;
  /** One preview; undefined where the model has no such decoder. */
  readonly linearPreview?: number;
  readonly tinyPreview?: number;
  readonly picture: number;
  readonly steps: number;
  readonly width: number;
  readonly height: number;
  readonly modelBytes: number;
  readonly peakBytes: number;
}

/** The report in JSON. */
export interface BenchReport extends Subject {
  readonly steps: number;
  /** True if the kernels were tuned on this GPU. */
  readonly tuned: boolean;
  readonly load_ms: number;
  readonly compile_ms: number;
  readonly text_ms: number;
  readonly step_ms: number;
  readonly decode_ms: number;
  /** null if the model has no such decoder. */
  readonly linear_preview_ms: number | null;
  readonly tiny_preview_ms: number | null;
  readonly picture_ms: number;
  /** On the device. */
  readonly model_bytes: number;
  readonly peak_bytes: number;
  /** Sentences. */
  readonly advice: readonly string[];
}

/** Loads, compiles, draws `rounds` pictures, and prints one table and what follows from it. */
export function bench(options: BenchOptions, write: (line: string) => void): Promise<BenchReport> {
  const begun = performance.now();
  return withModel(options, async (open) => {
    const { gpu, model, precision, size, isTuned: tuned } = open;
    const measured = await measure(model, { ...options, size }, performance.now() - begun);
    for (const line of table(model, precision, measured)) write(line);
    write("");
    const [component] = model.family.step.needs(stepShape(model.family, model.family.facts.defaults));
    const weights = model.memory.weightSets.base.weights(component!).storage;
    const advice = adviceOn(gpu.facts, weights, { ...measured, tuned });
    for (const line of advice) write(`- ${line}`);
    return {
      ...subjectOf(open),
      steps: measured.steps,
      tuned,
      load_ms: measured.load,
      compile_ms: measured.compile,
      text_ms: measured.text,
      step_ms: measured.step,
      decode_ms: measured.decode,
      linear_preview_ms: measured.linearPreview ?? null,
      tiny_preview_ms: measured.tinyPreview ?? null,
      picture_ms: measured.picture,
      model_bytes: measured.modelBytes,
      peak_bytes: measured.peakBytes,
      advice,
    };
  });
}

type Result = Extract<PipelineEvent, { type: "result" }>;

async function measure(model: LoadedModel, options: BenchOptions, load: number): Promise<BenchTimes> {
  const { family, memory } = model;
  const { gpu } = memory;
  const { defaults } = family.facts;
  const { width, height } = options.size ?? defaults;
  const { steps = defaults.steps, rounds } = options;
  const { guidanceScale } = defaults;
  const modelBytes = gpu.memory.bytes;
  const warming = performance.now();
  await warmUp(model, { width, height, guidanceScale }, { onProgress: options.onProgress });
  const compile = performance.now() - warming;

  let seed = 0;
  const draw = async (previewDecoder?: "linear" | "tiny"): Promise<Result["timings"]> => {
    memory.weightSets.base.prompts.clear(); // each run reads its prompt
    const request = { prompt: "a lake under mountains", seed: seed++, width, height, steps, guidanceScale };
    const previews = previewDecoder ? { previewEvery: 1, previewDecoder } : {};
    for await (const event of generate(model, { ...request, ...previews })) {
      if (event.type === "result") return event.timings;
    }
    throw new Error("the run ended without a picture");
  };
  const hasPreviews = {
    linear: family.picture.linear !== undefined && steps > 1,
    tiny: hasTiny(family.picture) && steps > 1,
  };
  await draw(); // the first run of all finds nothing in the processor's caches
  const plain: Result["timings"][] = [];
  const previews = { linear: [] as number[], tiny: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    plain.push(await draw());
    for (const decoder of ["linear", "tiny"] as const) {
      if (hasPreviews[decoder]) previews[decoder].push((await draw(decoder)).preview / (steps - 1));
    }
  }
  const phase = (name: keyof Result["timings"]) => median(plain.map((timings) => timings[name]));
  return {
    load,
    compile,
    text: phase("prompt"),
    step: phase("denoise") / steps,
    decode: phase("decode"),
    linearPreview: hasPreviews.linear ? median(previews.linear) : undefined,
    tinyPreview: hasPreviews.tiny ? median(previews.tiny) : undefined,
    picture: phase("total"),
    steps,
    width,
    height,
    modelBytes,
    peakBytes: gpu.memory.peakBytes,
  };
}

function table({ family, memory }: LoadedModel, precision: Precision, measured: BenchTimes): string[] {
  const { facts } = memory.gpu;
  const { width, height, steps } = measured;
  const rows: [string, string][] = [
    ["load the model", milliseconds(measured.load)],
    ["compile its kernels", milliseconds(measured.compile)],
    ["read a prompt", milliseconds(measured.text)],
    ["a denoising step", milliseconds(measured.step)],
    ["decode the picture", milliseconds(measured.decode)],
    ...present("a linear preview", measured.linearPreview),
    ...present("a tiny preview", measured.tinyPreview),
    [`a picture of ${steps} steps`, milliseconds(measured.picture)],
    ["the model's memory", mebibytes(measured.modelBytes)],
    ["most memory at a time", mebibytes(measured.peakBytes)],
  ];
  const where = `${facts.name}${facts.kind === "software" ? ", a software GPU" : ""} (${facts.backend})`;
  return [
    `${family.facts.name} at ${width}x${height}, ${precision}, on ${where}`,
    "",
    ...rows.map(([what, value]) => `  ${what.padEnd(26)} ${value.padStart(12)}`),
  ];
}

function present(name: string, value: number | undefined): [string, string][] {
  return value === undefined ? [] : [[name, milliseconds(value)]];
}

const SLOW_PICTURE_MS = 10_000;
/** A compile that took so long was the first of its kind; the next start finds its kernels in the cache. */
const COLD_COMPILE_MS = 4000;

/** Advice that follows from the figures, each in a sentence. */
export function adviceOn(
  adapter: Pick<AdapterFacts, "kind" | "driver" | "features">,
  weights: Precision,
  measured: BenchTimes & { readonly tuned: boolean },
): string[] {
  const { step, decode, picture, steps, width, height, tinyPreview, compile } = measured;
  const advice: string[] = [];
  if (adapter.kind === "software") {
    advice.push(
      "The CPU does the GPU's work here: any GPU with a Vulkan driver is many times faster (daguerre doctor).",
    );
  }
  if (adapter.driver === "swiftshader") {
    advice.push("Mesa's lavapipe is several times faster than SwiftShader: apt install mesa-vulkan-drivers.");
  }
  if (picture > SLOW_PICTURE_MS) {
    if (steps > 8 && steps * step > picture / 2) {
      advice.push(
        `Steps are ${share(steps * step, picture)} of the time: 8 instead of ${steps} take ${seconds(picture - (steps - 8) * step)} (--steps 8); a model distilled for few steps keeps its quality.`,
      );
    }
    const [half, other] = [width, height].map((side) => Math.max(64, Math.floor(side / 2 / 64) * 64));
    if (half! < width)
      advice.push(`A picture of ${half}x${other} takes about a quarter of the time (--size ${half}x${other}).`);
  }
  if (decode > picture / 2)
    advice.push(`Decoding is ${share(decode, picture)} of the time: a tiny decoder would save most of it.`);
  if (weights === "f32" && adapter.kind === "hardware" && adapter.features.includes("shader-f16")) {
    advice.push("This GPU computes with f16: --precision f16 halves memory, and is faster.");
  }
  if (weights === "f32" && adapter.kind === "software") {
    advice.push("--precision f16 halves the memory of the weights; here the time stays the same.");
  }
  if (tinyPreview !== undefined && tinyPreview > step) {
    advice.push(
      `A tiny preview costs ${(tinyPreview / step).toFixed(1)} steps: show linear ones, or fewer (preview_decoder, preview_every).`,
    );
  }
  if (!measured.tuned) advice.push("daguerre tune times the kernels on this GPU and remembers the fastest.");
  if (compile > COLD_COMPILE_MS) advice.push("Kernels were compiled anew; the next start finds them in the cache.");
  return advice;
}

function share(part: number, whole: number): string {
  return `${Math.round((100 * part) / whole)}%`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function milliseconds(ms: number): string {
  if (ms >= 10_000) return seconds(ms);
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
