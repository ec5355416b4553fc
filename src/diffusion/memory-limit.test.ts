/** The built-in model in less memory than all of it takes: its components take turns, to the same picture. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { builtInModel } from "../engine/runtime.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { type DiffusionModel, loadDiffusionModel } from "./diffusion-model.ts";
import {
  generate,
  PipelineError,
  type PipelineEvent,
  type PipelineOptions,
  type PipelineRequest,
  warmUp,
} from "./pipeline.ts";

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

async function run(model: DiffusionModel, changes: Partial<PipelineRequest> = {}, options?: PipelineOptions) {
  const events: PipelineEvent[] = [];
  for await (const event of generate(model, { ...request, ...changes }, options)) {
    events.push(event);
    if (event.type === "result") await event.latents();
  }
  return { events, result: events.at(-1) as Result };
}

let expected: Result;
let modelBytes: number;
let unetBytes: number;
beforeAll(async () => {
  const gpu = await openGpu();
  const model = await loadDiffusionModel(gpu, builtInModel(), { precision: "f32" });
  expected = (await run(model)).result;
  modelBytes = model.components.reduce((sum, { weights }) => sum + weights.bytes, 0);
  unetBytes = model.unet.weights.bytes;
  gpu.close();
});

/** Components, each time that one was loaded. */
const loads: string[] = [];
let gpu: Gpu | undefined;
afterEach(() => {
  gpu?.close();
  gpu = undefined;
});

async function load(maxBytes: number): Promise<DiffusionModel> {
  gpu = await openGpu({ maxBytes });
  loads.length = 0;
  const onProgress = (component: string, done: number, total: number) => {
    if (done === total) loads.push(component);
  };
  return loadDiffusionModel(gpu, builtInModel(), { precision: "f32", onProgress });
}

/** What loading takes on top, for a moment: a piece of a file, and a weight before it is a texture. */
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
    model.destroy();
    expect(gpu!.memory.bytes).toBe(0);
  });

  it("leaves out what does not find room beside the denoiser, and says so", async () => {
    const model = await load(unetBytes + STAGING);
    const takeUpdate = () => (model.prompts.size > 1 ? { prompt: "a night sky" } : undefined);
    const { events, result } = await run(model, { previewEvery: 1, previewDecoder: "linear" }, { takeUpdate });
    expect(events.some(({ type }) => type === "preview")).toBe(true);
    expect(result.pictures[0]!.rgba.length).toBe(64 * 64 * 4);
    for (const warning of result.warnings) expect(warning).toMatch(/prompt stayed|no previews/);
  });
});

it("with room for everything nothing moves", async () => {
  const model = await load(modelBytes + 512 * MIB);
  await run(model);
  expect(model.components.every(({ weights }) => weights.resident)).toBe(true);
  expect(loads).toHaveLength(model.components.length);
});

it("a component that never fits is refused by name, with what would fit", async () => {
  const limit = Math.floor(unetBytes / 2);
  const error = await load(limit).catch((error) => error);
  expect(error).toBeInstanceOf(MemoryLimitError);
  expect(error.message).toMatch(/weights of \w+ take \d+ MiB .* may be used/);
  expect(gpu!.memory.bytes).toBe(0);
});

it("a picture that does not fit is refused with one that does", async () => {
  const model = await load(modelBytes + STAGING + 16 * MIB);
  const error = await run(model, { width: 1024, height: 512 }).catch((error) => error);
  expect(error).toBeInstanceOf(PipelineError);
  expect(error.field).toBe("width");
  const [, width, height] = /; (\d+)x(\d+) fits$/.exec(error.message)!.map(Number);
  expect(width! / height!).toBeCloseTo(2, 0);
  const { result } = await run(model, { width: width!, height: height!, steps: 1 });
  expect(result.pictures[0]).toMatchObject({ width, height });
});

afterAll(() => gpu?.close());
