/** The built-in model in less memory than all of it takes: its components take turns, to the same picture. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import { PipelineError, type PipelineEvent, type PipelineOptions, type PipelineRequest } from "../diffusion/request.ts";
import { tooLarge } from "../diffusion/room.ts";
import { generate } from "../diffusion/run.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { loadModel } from "./load-model.ts";
import { builtInModel } from "./runtime.ts";

const MIB = 2 ** 20;
const request: PipelineRequest = {
  prompt: "a lake under mountains",
  width: 64,
  height: 64,
  steps: 3,
  guidanceScale: 3,
  seed: 1,
};

type Result = Extract<PipelineEvent, { type: "result" }>;

async function run(model: LoadedModel, changes: Partial<PipelineRequest> = {}, options?: PipelineOptions) {
  const events: PipelineEvent[] = [];
  for await (const event of generate(model, { ...request, ...changes }, options)) {
    events.push(event);
    if (event.type === "result") await event.latents();
  }
  return { events, result: events.at(-1) as Result };
}

const components = ({ memory }: LoadedModel) => [...memory.components.values()];

let expected: Result;
let modelBytes: number;
let unetBytes: number;
beforeAll(async () => {
  const gpu = await openGpu();
  const model = await loadModel(gpu, builtInModel(), { precision: "f32" });
  expected = (await run(model)).result;
  modelBytes = components(model).reduce((sum, { bytes }) => sum + bytes, 0);
  unetBytes = model.memory.components.get("unet")!.bytes;
  gpu.close();
});

/** Components, each time that one was loaded. */
const loads: string[] = [];
let gpu: Gpu | undefined;
afterEach(() => {
  gpu?.close();
  gpu = undefined;
});

async function load(maxBytes: number | undefined): Promise<LoadedModel> {
  gpu = await openGpu({ maxBytes });
  loads.length = 0;
  const onProgress = (component: string, done: number, total: number) => {
    if (done === total) loads.push(component);
  };
  return loadModel(gpu, builtInModel(), { precision: "f32", onProgress });
}

/** Memory that loading takes on top, for a moment: a piece of a file, and a weight before it is a texture. */
const STAGING = 3 * MIB;

describe("with room for the largest component and no more", () => {
  it("gives the same picture, and never takes more", async () => {
    const limit = unetBytes + STAGING;
    const model = await load(limit);
    const loadedOnce = loads.length;
    await warmUp(model, request);
    for (let again = 0; again < 2; again++) {
      const { result } = await run(model);
      expect(result.pictures[0]!.rgba.length).toBe(expected.pictures[0]!.rgba.length);
      const difference = result.pictures[0]!.rgba.map((value, i) => Math.abs(value - expected.pictures[0]!.rgba[i]!));
      // Without room for transformed weights other kernels run: the same numbers, rounded otherwise.
      expect(Math.max(...difference)).toBeLessThanOrEqual(1);
    }
    expect(gpu!.memory.peakBytes).toBeLessThanOrEqual(limit);
    expect(loads.length).toBeGreaterThan(loadedOnce); // it was tight
    model.memory.destroy();
    expect(gpu!.memory.bytes).toBe(0);
  });

  it("leaves out what does not find room beside the denoiser, and says so", async () => {
    const model = await load(unetBytes + STAGING);
    const takeUpdate = () => (model.memory.weightSets.base.prompts.size > 1 ? { prompt: "a night sky" } : undefined);
    const { events, result } = await run(model, { previewEvery: 1, previewDecoder: "linear" }, { takeUpdate });
    expect(events.some(({ type }) => type === "preview")).toBe(true);
    expect(result.pictures[0]!.rgba.length).toBe(64 * 64 * 4);
    for (const warning of result.warnings) expect(warning).toMatch(/prompt stayed|no previews/);
  });
});

it("with room for everything nothing moves", async () => {
  const model = await load(modelBytes + 512 * MIB);
  await run(model);
  expect(components(model).every(({ resident }) => resident)).toBe(true);
  expect(loads).toHaveLength(components(model).length);
});

it("a component that never fits is refused by name, with what would fit", async () => {
  const limit = Math.floor(unetBytes / 2);
  const error = await load(limit).catch((error) => error);
  expect(error).toBeInstanceOf(MemoryLimitError);
  expect(error.message).toMatch(/weights of \w+ take \d+ MiB .* may be used/);
  expect(gpu!.memory.bytes).toBe(0);
});

it("a picture that does not fit is refused with the largest that does", async () => {
  const limit = unetBytes + 5 * MIB;
  const model = await load(limit);
  const refused = (width: number, height: number) => run(model, { width, height, steps: 1 }).catch((error) => error);
  const error = await refused(1024, 512);
  expect(error).toBeInstanceOf(PipelineError);
  expect(error.field).toBe("width");
  const [, width, height] = /; (\d+)x(\d+) fits$/.exec(error.message)!.map(Number) as [number, number, number];
  expect(width / height).toBeCloseTo(2, 0);
  const { result } = await run(model, { width, height, steps: 1 });
  expect(result.pictures[0]).toMatchObject({ width, height });
  expect(gpu!.memory.peakBytes).toBeLessThanOrEqual(limit);
  expect(await refused(width + 64, Math.round((width + 64) / 128) * 64)).toBeInstanceOf(PipelineError);
});

it("pictures that are too many are refused with the number that fits", async () => {
  const limit = unetBytes + 5 * MIB;
  const model = await load(limit);
  // The error as a run meets it; a run of so many pictures would take minutes before.
  const refusal = (changes: { images: number; width: number; height: number }) => {
    const error = new MemoryLimitError("slots", limit + 1, limit);
    return tooLarge(model, model.memory.weightSets.base, { ...request, ...changes }, error);
  };
  const { field, reason } = await refusal({ images: 100_000, width: 64, height: 64 });
  expect(field).toBe("num_images");
  expect(reason).toMatch(
    /^100000 pictures of 64x64 do not fit into the \d+ MiB of device memory that may be used; \d+ do$/,
  );
  expect(Number(/; (\d+) do$/.exec(reason)![1])).toBeGreaterThan(1);
  const large = await refusal({ images: 2, width: 1024, height: 512 });
  expect(large.message).toMatch(/^width: a picture of 1024x512 does not fit .*; \d+x\d+ fits$/);
});

it("does without transformed weights before any component leaves", async () => {
  const model = await load(modelBytes + STAGING + 3 * MIB);
  const { result } = await run(model);
  expect(result.pictures[0]!.rgba.length).toBe(expected.pictures[0]!.rgba.length);
  expect(components(model).every(({ resident }) => resident)).toBe(true);
  expect(loads).toHaveLength(components(model).length);
  expect(gpu!.memory.peakBytes).toBeLessThanOrEqual(modelBytes + STAGING + 3 * MIB);
});

it("pictures that do not fit in one piece are encoded and decoded in bands, and come out the same", async () => {
  const changes = { width: 256, height: 256, steps: 2, strength: 0.5 };
  const rgba = Uint8Array.from({ length: 256 * 256 * 4 }, (_, i) => (i % 4) * 40 + (Math.floor(i / 16) % 80));
  const pictures: Uint8Array[] = [];
  const limit = unetBytes + 9 * MIB;
  for (const maxBytes of [undefined, limit]) {
    gpu?.close();
    const loaded = await load(maxBytes);
    // The variant for large pictures finds no room in the second, which says so and goes without.
    const model = maxBytes ? loaded : { ...loaded, family: { ...loaded.family, large: undefined } };
    const image = { width: 256, height: 256, rgba };
    const { result } = await run(model, { ...changes, image });
    pictures.push(result.pictures[0]!.rgba);
    expect(result.warnings.filter((warning) => /without the model's variant/.test(warning))).toHaveLength(
      maxBytes ? 1 : 0,
    );
    if (maxBytes) expect(gpu!.memory.peakBytes).toBeLessThanOrEqual(maxBytes);
    else expect(gpu!.memory.peakBytes).toBeGreaterThan(limit);
  }
  const difference = pictures[0]!.map((value, i) => Math.abs(value - pictures[1]![i]!));
  expect(Math.max(...new Set(difference))).toBeLessThanOrEqual(1);
});

afterAll(() => gpu?.close());
