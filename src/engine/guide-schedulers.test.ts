/** The schedulers of guides, from a request to pixels of the built-in model. */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Runtime } from "./contract.ts";
import { RequestError } from "./errors.ts";
import type { RunEvent } from "./events.ts";
import type { TextToImageInput } from "./request.ts";
import { createRuntime } from "./runtime.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({ precision: "f32" });
});
afterAll(() => runtime.close());

const REQUEST = {
  prompt: "a lake under mountains",
  width: 64,
  height: 64,
  guidance_scale: 3,
  seed: 1,
  preview_every: 0,
};

async function eventsOf(changes: Partial<TextToImageInput>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of runtime.textToImage({
    ...REQUEST,
    num_inference_steps: 4,
    output_format: "png",
    ...changes,
  })) {
    events.push(event);
  }
  return events;
}

async function pixelsOf(changes: Partial<TextToImageInput>): Promise<string> {
  const result = (await eventsOf(changes)).find((event) => event.type === "result")!;
  return Buffer.from(result.pictures[0]!.rgba).toString("base64");
}

test("each draws a picture of its own, and the same one again", async () => {
  const names = ["Euler", "DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM++ 2S", "Heun", "DPM2 a", "UniPC bh2", "DEIS"];
  const pictures = new Map<string, string>();
  for (const scheduler of names) pictures.set(await pixelsOf({ scheduler }), scheduler);
  expect([...pictures.values()]).toEqual(names);
  for (const [picture, scheduler] of [...pictures].slice(1, 4)) expect(await pixelsOf({ scheduler })).toBe(picture);
});

test("a step is what was asked for, however often the model is called in it", async () => {
  for (const scheduler of ["Heun", "DPM++ SDE Karras", "KDPM2DiscreteScheduler"]) {
    const events = await eventsOf({ scheduler, preview_every: 2 });
    const progress = events.filter((event) => event.type === "progress");
    expect(progress.map(({ step, steps }) => [step, steps])).toEqual([
      [1, 4],
      [2, 4],
      [3, 4],
      [4, 4],
    ]);
    expect(events.filter((event) => event.type === "preview").map(({ step }) => step)).toEqual([2]);
  }
});

test("levels by name, as a field, or as a list", async () => {
  const named = await pixelsOf({ scheduler: "Euler Karras" });
  expect(await pixelsOf({ scheduler: "euler", sigma_schedule: "karras" })).toBe(named);
  expect(await pixelsOf({ scheduler: "euler" })).not.toBe(named);
  const listed = await pixelsOf({ scheduler: "euler", sigmas: [14, 5, 2, 0.5, 0] });
  expect(await pixelsOf({ scheduler: "euler", sigmas: [14, 5, 2, 0.6, 0] })).not.toBe(listed);
  expect(await pixelsOf({ scheduler: "Euler a Karras" })).not.toBe(await pixelsOf({ scheduler: "Euler a" }));
});

test("rescaled guidance changes a guided picture, and no unguided one", async () => {
  const plain = await pixelsOf({});
  expect(await pixelsOf({ guidance_rescale: 0 })).toBe(plain);
  expect(await pixelsOf({ guidance_rescale: 0.7 })).not.toBe(plain);
  const unguided = { guidance_scale: 1 };
  expect(await pixelsOf({ ...unguided, guidance_rescale: 0.7 })).toBe(await pixelsOf(unguided));
});

test.each<[string, Partial<TextToImageInput>, RegExp]>([
  ["scheduler", { scheduler: "DPM++ 2N Karas" }, /no scheduler of this server; near it: .*DPM\+\+ 2M/],
  ["sigma_schedule", { scheduler: "DDIM", sigma_schedule: "karras" }, /cannot be karras for this scheduler/],
  ["sigmas", { scheduler: "euler", sigmas: [1, 2, 0] }, /each below the one before/],
  ["sigmas", { scheduler: "ddim", sigmas: [2, 0] }, /cannot be chosen for this scheduler/],
  ["timesteps", { scheduler: "euler", timesteps: [5000] }, /below num_train_timesteps/],
  ["timesteps", { timesteps: [900, 100], sigmas: [2, 0] }, /cannot be combined/],
  ["eta", { eta: 2 }, /less than or equal to 1/],
  ["guidance_rescale", { guidance_rescale: -1 }, /greater than or equal to 0/],
])("%s is refused by name: %j", async (field, changes, reason) => {
  const failing = eventsOf(changes);
  await expect(failing).rejects.toThrow(RequestError);
  await expect(failing).rejects.toMatchObject({ field, message: expect.stringMatching(reason) });
});
