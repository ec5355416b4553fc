/** Requests of many kinds by a seed, and the hashes of the pictures that they draw. */
import { createHash } from "node:crypto";
import type { ModelSource, Runtime } from "../../src/engine/contract.ts";
import type { RunEvent } from "../../src/engine/events.ts";
import type { TextToImageInput } from "../../src/engine/request.ts";
import { builtInModel } from "../../src/engine/runtime.ts";
import { builtInFile, changedModel, changedTensors, WEIGHTS } from "../changed-weights.ts";

/** 0..1, the same for a seed on every machine (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const PROMPTS = [
  "northern lights over a lake",
  "a sailboat at sunset",
  "dunes at noon",
  "a cabin in snow",
  "an island",
];
const SCHEDULERS = [undefined, undefined, "euler_a", "dpmpp_2m", "ddim", "heun", "unipc"];
const SIDES = [64, 64, 64, 96];

/** Models that draw unlike pictures: the built-in one, and the same with other weights at its denoiser's end. */
export function fewModels(): Record<string, ModelSource> {
  const changed = (factor: number): ModelSource => {
    const scale = (values: Float32Array) => {
      for (const index of values.keys()) values[index]! *= factor;
    };
    const unet = changedTensors(builtInFile(WEIGHTS.unet), /^conv_out\.weight$/, scale, "F16");
    return { model: changedModel({ [WEIGHTS.unet]: unet }) };
  };
  return { landscapes: { model: builtInModel() }, darker: changed(0.875), brighter: changed(1.125) };
}

export const MODEL_NAMES = ["landscapes", "darker", "brighter"] as const;

/** The request of this number, for one of the models if there are several. */
export function requestOf(seed: number, models?: readonly string[]): TextToImageInput {
  const next = random(seed);
  const one = <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)]!;
  const isFewStep = next() < 0.15;
  return {
    ...(models && { model: models[seed % models.length] }),
    prompt: one(PROMPTS),
    negative_prompt: next() < 0.3 ? "fog" : "",
    seed,
    width: one(SIDES),
    height: one(SIDES),
    num_images: one([1, 1, 1, 2, 3]),
    preview_every: one([0, 0, 2]),
    ...(isFewStep
      ? { few_step: true, num_inference_steps: one([1, 2, 4]) }
      : { num_inference_steps: one([2, 3, 5, 8]), guidance_scale: one([1, 3, 6.5]), scheduler: one(SCHEDULERS) }),
  };
}

/** The hash of a result's pictures. */
export function hashOf(events: readonly RunEvent[]): string {
  const result = events.findLast((event) => event.type === "result");
  if (result === undefined) throw new Error("there is no result");
  const hash = createHash("sha256");
  for (const { rgba } of result.pictures) hash.update(rgba);
  return hash.digest("hex");
}

/** The hashes of these requests' pictures, drawn one after the other. */
export async function drawnAlone(runtime: Runtime, seeds: Iterable<number>): Promise<Map<number, string>> {
  const hashes = new Map<number, string>();
  for (const seed of new Set(seeds)) {
    const events: RunEvent[] = [];
    for await (const event of runtime.textToImage(requestOf(seed))) events.push(event);
    hashes.set(seed, hashOf(events));
  }
  return hashes;
}
