/** Runs that go on at once: no picture depends on its company, and steps share replays. */

import { createHash } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Batch } from "../diffusion/batch.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import { Pictures } from "../diffusion/pictures.ts";
import type { PipelineOptions, PipelineRequest } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { loadModel } from "./load-model.ts";
import { builtInModel } from "./runtime.ts";

let gpu: Gpu;
let model: LoadedModel;
beforeAll(async () => {
  gpu = await openGpu();
  model = await loadModel(gpu, builtInModel(), { precision: "f32" });
});
afterAll(() => {
  model.memory.destroy();
  gpu.close();
});
afterEach(() => vi.restoreAllMocks());

const SMALL = { width: 64, height: 64, steps: 4, guidanceScale: 3 } as const;

/** A picture, and the left or right part of it. */
const image = {
  width: 64,
  height: 64,
  rgba: Uint8Array.from({ length: 64 * 64 * 4 }, (_, i) => ((i * 7) % 256) | 128),
};
const part = (from: number, to: number) => ({
  width: 64,
  height: 64,
  values: Uint8Array.from({ length: 64 * 64 }, (_, i) => (i % 64 >= from && i % 64 < to ? 255 : 0)),
});

/** Requests that differ in all that one batch may hold, and some that cannot share one. */
const REQUESTS: readonly PipelineRequest[] = [
  { ...SMALL, prompt: "northern lights over a lake", seed: 1 },
  { ...SMALL, prompt: "a sailboat at sunset", seed: 2, steps: 7 },
  { ...SMALL, prompt: "dunes at noon", negativePrompt: "fog", seed: 3, guidanceScale: 6.5 },
  { ...SMALL, prompt: "a cabin in snow", seed: 4, scheduler: { className: "EulerAncestralDiscreteScheduler" } },
  { ...SMALL, prompt: "mountains", seed: 5, steps: 5, scheduler: { className: "DPMSolverMultistepScheduler" } },
  { ...SMALL, prompt: "an island", seed: 6, images: 3 },
  { ...SMALL, prompt: "a forest in autumn", seed: 7, guidanceScale: 1 },
  { ...SMALL, prompt: "a windmill", seed: 8, width: 96 },
  { ...SMALL, prompt: "waves", seed: 9, fewStep: true, guidanceScale: 1 },
  { ...SMALL, prompt: "a lighthouse", seed: 10, image, strength: 1, mask: part(0, 32) },
  { ...SMALL, prompt: "dunes", seed: 11, image, strength: 0.6, mask: part(40, 64), images: 2 },
];

/** The hash of a run's latents and pictures. */
async function drawn(asked: PipelineRequest, options: PipelineOptions = {}): Promise<string> {
  const hash = createHash("sha256");
  for await (const event of generate(model, asked, options)) {
    if (event.type !== "result") continue;
    hash.update(new Uint8Array((await event.latents()).buffer));
    for (const { rgba } of event.pictures) hash.update(rgba);
  }
  return hash.digest("hex");
}

async function alone(): Promise<string[]> {
  const hashes = [];
  for (const asked of REQUESTS) hashes.push(await drawn(asked));
  return hashes;
}

it("draws what each would have drawn alone", async () => {
  const expected = await alone();
  expect(await Promise.all(REQUESTS.map((asked) => drawn(asked)))).toEqual(expected);
  // Again, now that all plans are there, in another order, and each with a neighbour of its own kind.
  const [first, ...others] = REQUESTS;
  const twice = [...others, first!, ...REQUESTS];
  const [head, ...tail] = expected;
  expect(await Promise.all(twice.map((asked) => drawn(asked)))).toEqual([...tail, head, ...expected]);
});

/** The latents of a run, `[n, c, h, w]`. */
async function latentsOf(asked: PipelineRequest): Promise<Float32Array> {
  for await (const event of generate(model, asked)) if (event.type === "result") return event.latents();
  throw new Error("no result");
}

it("a mask leaves the latents outside to the picture, whatever is drawn inside", async () => {
  const asked = { ...SMALL, seed: 1, image, strength: 1, mask: part(0, 32) };
  const [one, other] = [
    await latentsOf({ ...asked, prompt: "a lake" }),
    await latentsOf({ ...asked, prompt: "a fire" }),
  ];
  const side = Math.sqrt(one.length / model.family.latent.channels);
  const isInside = (i: number) => i % side < side / 2;
  expect(one.filter((value, i) => !isInside(i) && value !== other[i])).toHaveLength(0);
  expect(one.filter((value, i) => isInside(i) && value === other[i]).length).toBeLessThan(4);
  // The same picture's latents, drawn from the posterior with the same seed, are those of a run that draws the other half.
  const half = await latentsOf({ ...asked, prompt: "a lake", mask: part(32, 64) });
  const whole = half.map((value, i) => (isInside(i) ? value : one[i]!));
  expect(await latentsOf({ ...asked, prompt: "x", mask: part(0, 0) })).toEqual(whole);
});

it("a run in two parts is the run, from the latents that the first has left", async () => {
  const asked: PipelineRequest = {
    ...SMALL,
    prompt: "a lake",
    seed: 5,
    scheduler: { className: "EulerDiscreteScheduler" },
  };
  const first = await latentsOf({ ...asked, denoisingEnd: 0.5 });
  expect(await latentsOf({ ...asked, denoisingStart: 0.5, latents: first })).toEqual(await latentsOf(asked));
  await expect(latentsOf({ ...asked, latents: first.subarray(4) })).rejects.toThrow(/^latents: are \d+ numbers; \[1,/);
});

it("makes a plan that several want at once a single time", async () => {
  const compile = vi.spyOn(model.memory, "compile");
  const hashes = await Promise.all([1, 2, 3].map(() => drawn({ ...REQUESTS[0]!, width: 80, steps: 2 })));
  expect(new Set(hashes).size).toBe(1);
  const labels = compile.mock.calls.map(([{ label }]) => label);
  expect(labels).not.toHaveLength(0);
  expect(new Set(labels).size).toBe(labels.length);
});

it("goes on with a plan if the run that began it is cancelled", async () => {
  const asked: PipelineRequest = { ...REQUESTS[0]!, height: 80, steps: 2 };
  const compile = vi.spyOn(model.memory, "compile");
  const cancel = new AbortController();
  const cancelled = drawn(asked, { signal: cancel.signal });
  cancelled.catch(() => {});
  const others = [drawn(asked), drawn(asked)];
  await vi.waitFor(() => expect(compile).toHaveBeenCalled());
  cancel.abort(new Error("enough"));
  await expect(cancelled).rejects.toThrow("enough");
  const [first, second] = await Promise.all(others);
  expect(second).toBe(first);
  expect(await drawn(asked)).toBe(first);
});

describe("eight runs of one shape", () => {
  const eight = Array.from({ length: 8 }, (_, seed): PipelineRequest => ({ ...REQUESTS[0]!, steps: 8, seed }));
  const expected: string[] = [];
  beforeAll(async () => {
    for (const asked of eight) expected.push(await drawn(asked));
  });

  it("take their steps together, once the plan for them is there", async () => {
    await Promise.all(eight.map((asked) => drawn(asked))); // makes the plan
    const takes = vi.spyOn(Batch.prototype, "take");
    expect(await Promise.all(eight.map((asked) => drawn(asked)))).toEqual(expected);
    // Alone they take 64 replays.
    expect(takes.mock.calls.length).toBeLessThanOrEqual((8 * 8) / 4);
  });

  it("one that is cancelled, one that joins late and one that stops reading do not change the others", async () => {
    const cancel = new AbortController();
    const cancelled = drawn(eight[0]!, { signal: cancel.signal });
    cancelled.catch(() => {});
    const [stopped, late, ...others] = eight.slice(1);
    const halting = generate(model, stopped!);
    await halting.next();
    const together = others.map((asked) => drawn(asked));
    await halting.next();
    cancel.abort(new Error("enough"));
    together.push(drawn(late!));
    await expect(cancelled).rejects.toThrow("enough");
    const [, , lateHash, ...otherHashes] = expected;
    expect(await Promise.all(together)).toEqual([...otherHashes, lateHash]);
    // It comes back when it is read again.
    for await (const event of halting) {
      if (event.type === "result") expect(event.pictures).toHaveLength(1);
    }
  });

  it("one whose preview cannot be made fails alone", async () => {
    const begin = Pictures.prototype.begin;
    vi.spyOn(Pictures.prototype, "begin").mockImplementation(function (this: Pictures, decoder, ...rest) {
      return decoder === "linear" ? Promise.reject(new Error("no preview")) : begin.call(this, decoder, ...rest);
    });
    const failing = drawn({ ...eight[0]!, previewEvery: 2, previewDecoder: "linear" });
    const others = Promise.all(eight.slice(1).map((asked) => drawn(asked)));
    await expect(failing).rejects.toThrow("no preview");
    expect(await others).toEqual(expected.slice(1));
  });
});
