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

it("prints", async () => {
  await open();
  console.log(bytesOfOne / MIB, runtime!.models);
  for (const name of [...MODEL_NAMES, ...MODEL_NAMES]) expect(await drawn(name)).toBe(alone[name]);
  console.log(runtime!.device.memoryBytes / MIB, runtime!.device.peakMemoryBytes / MIB, runtime!.models);
  console.log(changes);
});
