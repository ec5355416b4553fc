/** A family of a test's own, through the engine and over HTTP: nothing of the house knows it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createApp, createRuntime, encodePicture, listen, type Runtime } from "../../index.ts";
import type { LoadedModel } from "../../src/diffusion/loaded-model.ts";
import type { StepShape } from "../../src/diffusion/model.ts";
import type { PipelineEvent, PipelineRequest } from "../../src/diffusion/request.ts";
import { generate } from "../../src/diffusion/run.ts";
import { applyStepRow } from "../../src/diffusion/schedulers/schedule.ts";
import { stepShape } from "../../src/diffusion/shape.ts";
import type { ResultEvent, RunEvent } from "../../src/engine/events.ts";
import { loadModel } from "../../src/engine/load-model.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/plan.ts";
import { Recorder } from "../../src/graph/recorder.ts";
import { sketch } from "./sketch-family.ts";
import { writeSketch } from "./sketch-folder.ts";

let folder: string;
let gpu: Gpu;
let model: LoadedModel;
let runtime: Runtime;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-sketch-"));
  await writeSketch(folder);
  gpu = await openGpu();
  model = await loadModel(gpu, folder, { precision: "f32", families: [sketch] });
  runtime = await createRuntime({ model: folder, families: [sketch] });
});
afterAll(async () => {
  await runtime?.close();
  model?.memory.destroy();
  gpu?.close();
  await rm(folder, { recursive: true, force: true });
});

const SHORT = "a lake";
const LONG = "a lake under mountains at night with a full moon and a small boat by the shore";
const request: PipelineRequest = { prompt: SHORT, width: 32, height: 24, steps: 5, guidanceScale: 3, seed: 3 };

async function eventsOf(changes: Partial<PipelineRequest> = {}, takeUpdate?: () => { prompt: string } | undefined) {
  const events: PipelineEvent[] = [];
  const latents: Float32Array[] = [];
  for await (const event of generate(model, { ...request, ...changes }, { takeUpdate })) {
    events.push(event);
    if (event.type === "step") latents.push(await event.latents());
  }
  const result = events.at(-1) as Extract<PipelineEvent, { type: "result" }>;
  return { events, latents, pictures: result.pictures.map(({ rgba }) => rgba) };
}

describe("a family with another network, other latents and another kind of prediction", () => {
  it("takes each step as the scheduler's table says, from its own network's prediction", async () => {
    const { latents } = await eventsOf();
    const shape = stepShape(model.family, request);
    const { rows } = model.family.schedule(request);
    for (let index = 1; index < rows.length; index++) {
      const sample = latents[index - 1]!;
      const { next } = applyStepRow(rows[index]!, {
        sample,
        model: await predicted(shape, sample, index),
        history: [],
      });
      const difference = Math.max(...latents[index]!.map((value, i) => Math.abs(value - next[i]!)));
      expect(difference, `step ${index + 1}`).toBeLessThan(1e-4);
    }
  });

  it("shifts its levels by the picture's size", () => {
    const small = model.family.schedule(request).sigmas!;
    const large = model.family.schedule({ ...request, width: 128, height: 128 }).sigmas!;
    expect(large[1]!).toBeGreaterThan(small[1]!);
  });

  it("reads a long prompt in more windows, which is another plan", async () => {
    const shape = (prompt: string) => stepShape(model.family, { ...request, prompt });
    expect([shape(SHORT).windows, shape(LONG).windows]).toEqual([1, 3]);
    const [short, long] = [await eventsOf(), await eventsOf({ prompt: LONG })];
    expect(short.pictures[0]).not.toEqual(long.pictures[0]);
    expect((await eventsOf()).pictures[0]).toEqual(short.pictures[0]);
  });

  it("goes on with a longer prompt in the middle of a run", async () => {
    let steps = 0;
    const changed = await eventsOf({}, () => (steps++ === 2 ? { prompt: LONG } : undefined));
    const [short, long] = [await eventsOf(), await eventsOf({ prompt: LONG })];
    expect(changed.latents[1]).toEqual(short.latents[1]);
    expect(changed.latents[2]).not.toEqual(short.latents[2]);
    expect(changed.pictures[0]).not.toEqual(long.pictures[0]);
  });

  it("draws several pictures, each in a slot, and the first of them like one alone", async () => {
    const { pictures } = await eventsOf({ images: 3 });
    const [alone] = (await eventsOf()).pictures;
    const differences = pictures[0]!.map((value, i) => Math.abs(value - alone![i]!));
    expect(Math.max(...differences)).toBeLessThanOrEqual(1);
    expect(new Set(pictures.map((rgba) => rgba.join())).size).toBe(3);
    expect(pictures.every((rgba) => rgba.length === 32 * 24 * 4)).toBe(true);
  });

  it("says which sides it can make", async () => {
    await expect(eventsOf({ width: 30 })).rejects.toMatchObject({
      field: "width",
      reason: expect.stringContaining("4"),
    });
  });
});

/** The guided prediction for latents `[c, h, w]`, from the network alone. */
async function predicted(shape: StepShape, sample: Float32Array, index: number): Promise<Float64Array> {
  const { step } = model.family;
  const { height, width, channels } = shape;
  const g = new Recorder();
  g.output("prediction", step.predict(g, shape, g.input("sample", [2, height, width, channels])));
  const parameters = model.memory.weightSets.base.weights("transformer");
  const plan = await compile(gpu, g, { label: "alone", storage: "f32", parameters });
  const encoders = model.family.encoders;
  const text = await Promise.all(encoders.map((spec) => model.memory.compile(spec, model.memory.weightSets.base)));
  try {
    const conditioning = await model.family.encode(request, shape, {
      plans: async () => text,
      remember: (_, make) => make(),
      picture: () => Promise.reject(new Error("this family reads no pictures")),
    });
    await step.writeConditioning(plan, shape, 0, conditioning);
    step.writeTimestep(plan, shape, 0, { rows: model.family.schedule(request).rows, index, joins: true });
    const pixels = height * width;
    const nhwc = Float32Array.from(sample, (_, at) => sample[(at % channels) * pixels + Math.floor(at / channels)]!);
    plan.write("sample", nhwc, 0);
    plan.write("sample", nhwc, 1);
    plan.run();
    const both = (await plan.read("prediction")) as Float32Array;
    const half = both.length / 2;
    return Float64Array.from(sample, (_, at) => {
      const place = (at % pixels) * channels + Math.floor(at / pixels);
      const [negative, positive] = [both[place]!, both[half + place]!];
      return negative + request.guidanceScale * (positive - negative);
    });
  } finally {
    plan.destroy();
    for (const one of text) one.destroy();
  }
}

describe("through the engine", () => {
  it("makes ready, draws, shows previews, and starts from a picture", async () => {
    await runtime.warmUp();
    const collect = async (run: AsyncIterable<RunEvent>) => {
      const events: RunEvent[] = [];
      for await (const event of run) events.push(event);
      return events;
    };
    const input = { prompt: SHORT, seed: 3, preview_every: 2, preview_decoder: "full" as const };
    const events = await collect(runtime.textToImage(input));
    expect(events.map(({ type }) => type).join(" ")).toBe("progress progress preview progress progress result");
    const [picture] = (events.at(-1) as ResultEvent).pictures;
    expect(picture).toMatchObject({ width: 32, height: 24 });
    const { bytes } = await encodePicture(picture!, { format: "png" });
    const again = await collect(runtime.imageToImage({ ...input, image: bytes, strength: 0.5 }));
    expect(again.filter(({ type }) => type === "progress")).toHaveLength(2);
  });

  it("is served over HTTP", async () => {
    const app = createApp({
      run: (asked, context) => runtime.textToImage(asked, context),
      health: () => ({ model: runtime.model.name }),
    });
    const server = await listen(app, 0, "127.0.0.1");
    try {
      const answer = await fetch(`http://127.0.0.1:${server.port}/`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: LONG, seed: 3 }),
      });
      expect(answer.status).toBe(200);
      expect(await answer.json()).toMatchObject({ images: [{ width: 32, height: 24 }] });
    } finally {
      await server.close();
    }
  });
});
