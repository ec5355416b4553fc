/** Several models in one runtime: they share the device and its memory, and no picture depends on the others. */

import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { fewModels, hashOf, MODEL_NAMES } from "../../test/many/requests.ts";
import type { ModelChange, Runtime, RuntimeOptions } from "./contract.ts";
import type { RunEvent } from "./events.ts";
import type { TextToImageInput } from "./request.ts";
import { createRuntime } from "./runtime.ts";

const MIB = 2 ** 20;
const SMALL: TextToImageInput = {
  prompt: "northern lights over a lake",
  width: 64,
  height: 64,
  num_inference_steps: 3,
  guidance_scale: 3,
  preview_every: 0,
  seed: 1,
};

let runtime: Runtime | undefined;
afterEach(async () => {
  await runtime?.close();
  runtime = undefined;
});

const changes: ModelChange[] = [];

async function open(options: RuntimeOptions = {}): Promise<Runtime> {
  runtime = await createRuntime({ models: fewModels(), ...options });
  changes.length = 0;
  runtime.watchModels((change) => changes.push(change));
  return runtime;
}

async function eventsOf(model: string | undefined, more: Partial<TextToImageInput> = {}, signal?: AbortSignal) {
  const events: RunEvent[] = [];
  for await (const event of runtime!.textToImage({ ...SMALL, ...more, model }, { signal })) events.push(event);
  return events;
}

const drawn = async (...of: Parameters<typeof eventsOf>) => hashOf(await eventsOf(...of));
const states = () => runtime!.models.map(({ state }) => state);

/** The hashes of each model's picture, alone in a runtime, and the bytes that one takes with its plans. */
const alone: Record<string, string> = {};
let bytesOfOne = 0;
beforeAll(async () => {
  for (const [name, source] of Object.entries(fewModels())) {
    runtime = await createRuntime({ model: source.model });
    alone[name] = await drawn(undefined);
    bytesOfOne = runtime.device.peakMemoryBytes;
    await runtime.close();
  }
  expect(new Set(Object.values(alone)).size).toBe(MODEL_NAMES.length);
});

it("draws what each model draws alone, whichever was asked for before, and the default for whoever names none", async () => {
  await open();
  expect(states()).toEqual(["loaded", "absent", "absent"]);
  for (const name of ["darker", "landscapes", "brighter", "darker"] as const)
    expect(await drawn(name)).toBe(alone[name]);
  expect(await drawn(undefined)).toBe(alone.landscapes);
  const { models, device } = runtime!;
  expect(models.map(({ loads }) => loads)).toEqual([1, 1, 1]); // there is no limit of memory
  expect(models.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(device.memoryBytes);
});

it("refuses a model that is not there, with the names of those that are", async () => {
  await open();
  await expect(drawn("sdxl")).rejects.toMatchObject({
    code: "model-not-found",
    status: 404,
    field: "model",
    message: 'model: there is no model "sdxl" here; there are landscapes, darker, brighter',
  });
});

describe("with room for two of three", () => {
  const limit = () => Math.floor(2.4 * bytesOfOne);

  it("random requests draw what each model draws alone, two models at once, and memory stays within the limit", async () => {
    await open({ maxGpuMemory: limit() });
    const order = [0, 1, 2, 2, 1, 0, 2, 0, 1, 1, 2, 0].map((index) => MODEL_NAMES[index]!);
    let [running, most] = [new Set<string>(), 0];
    const all = order.map(async (model) => {
      const events: RunEvent[] = [];
      for await (const event of runtime!.textToImage({ ...SMALL, model })) {
        if (event.type === "progress") running.add(model);
        most = Math.max(most, running.size);
        if (event.type === "result") running.delete(model);
        events.push(event);
      }
      return hashOf(events);
    });
    expect(await Promise.all(all)).toEqual(order.map((model) => alone[model]));
    expect(runtime!.device.peakMemoryBytes).toBeLessThanOrEqual(limit());
    expect(most).toBe(2);
    console.log(changes, await (runtime as any).models);
    expect(changes.some(({ change }) => change === "evicted")).toBe(true);
    // Each was not loaded anew for each of its requests.
    expect(changes.filter(({ change }) => change === "loaded").length).toBeLessThan(order.length);
  });
});
