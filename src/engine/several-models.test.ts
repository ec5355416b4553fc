/** Several models in one runtime: they share the device and its memory, and no picture depends on the others. */

import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { builtInFile, changedModel, changedTensors, WEIGHTS } from "../../test/changed-weights.ts";
import { fewModels, hashOf, MODEL_NAMES } from "../../test/many/requests.ts";
import type { ModelChange, ModelSource, Runtime, RuntimeOptions } from "./contract.ts";
import type { RunEvent } from "./events.ts";
import type { TextToImageInput } from "./request.ts";
import { createRuntime } from "./runtime.ts";

const SMALL: TextToImageInput = {
  prompt: "northern lights over a lake",
  width: 64,
  height: 64,
  num_inference_steps: 2,
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

/** A model whose last component turns out to hold NaN, once the others are on the device. */
function brokenModel(): ModelSource {
  const broken = changedTensors(builtInFile(WEIGHTS.vae), /^decoder\.layers\.\d+\.weight$/, (values) =>
    values.fill(NaN),
  );
  return { model: changedModel({ [WEIGHTS.vae]: broken }) };
}

async function open(options: RuntimeOptions = {}): Promise<Runtime> {
  runtime = await createRuntime({ models: { ...fewModels(), broken: brokenModel() }, ...options });
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

/**
 * The hashes of each model's picture, alone on a device (the soak `jobs` draws them in a process of their own), and the
 * bytes that one takes with its plans.
 */
const alone: Record<string, string> = {};
let bytesOfOne = 0;
beforeAll(async () => {
  await open({ keepAlive: 0 });
  for (const name of MODEL_NAMES) {
    await vi.waitFor(() => expect(runtime!.device.memoryBytes).toBe(0));
    alone[name] = await drawn(name);
  }
  bytesOfOne = runtime!.device.peakMemoryBytes;
  await runtime!.close();
  expect(new Set(Object.values(alone)).size).toBe(MODEL_NAMES.length);
});

it("draws what each model draws alone, whichever was asked for before, and the default for whoever names none", async () => {
  await open();
  expect(states()).toEqual(["loaded", "absent", "absent", "absent"]);
  for (const name of ["darker", "brighter", "darker"] as const) expect(await drawn(name)).toBe(alone[name]);
  expect(await drawn(undefined)).toBe(alone.landscapes);
  const { models, device } = runtime!;
  expect(models.map(({ loads }) => loads)).toEqual([1, 1, 1, 0]); // there is no limit of memory
  expect(models.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(device.memoryBytes);

  // A name that is not there is refused with those that are.
  await expect(drawn("sdxl")).rejects.toMatchObject({
    code: "model-not-found",
    status: 404,
    field: "model",
    message: 'model: there is no model "sdxl" here; there are landscapes, darker, brighter, broken',
  });
});

describe("with room for two of three", () => {
  const limit = () => Math.floor(2.4 * bytesOfOne);

  it("random requests draw what each model draws alone, two models at once, and memory stays within the limit", async () => {
    await open({ maxGpuMemory: limit() });
    const order = [0, 1, 2, 2, 1, 0, 2].map((index) => MODEL_NAMES[index]!);
    const running = new Set<string>();
    let most = 0;
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
    expect(changes.some(({ change }) => change === "evicted")).toBe(true);
    // It was not loaded anew for each request.
    expect(changes.filter(({ change }) => change === "loaded").length).toBeLessThan(order.length - 1);

    // One that waits for its turn is told how long about, now that runs have been measured.
    const [, ...queued] = await Promise.all(["landscapes", "darker", "brighter"].map((model) => eventsOf(model)));
    const [first] = queued.at(-1)!;
    expect(first).toMatchObject({ type: "queued", position: 0, seconds: expect.any(Number) });
    const { seconds = 0 } = first as { seconds?: number };
    expect(seconds).toBeGreaterThanOrEqual(1);
    expect(seconds).toBeLessThan(60);

    // A loading that fails brings back the model that gave way for it.
    await drawn("landscapes");
    await drawn("darker");
    changes.length = 0;
    await expect(drawn("broken")).rejects.toMatchObject({ code: "weights-not-finite", status: 500 });
    await vi.waitFor(() => expect(changes.at(-1)).toMatchObject({ model: "landscapes", change: "loaded" }), 60_000);
    expect(changes.map(({ model, change }) => `${model} ${change}`)).toEqual([
      "landscapes evicted",
      "broken load failed",
      "landscapes loaded",
    ]);
    expect(runtime!.device.peakMemoryBytes).toBeLessThanOrEqual(limit());
  });
});

it("a loading that nobody waits for any more is cancelled, and one that somebody waits for goes on", async () => {
  await open({ keepAlive: 0 });
  await vi.waitFor(() => expect(states()[0]).toBe("absent")); // nobody has used it since it was loaded
  changes.length = 0;
  const [first, second] = [new AbortController(), new AbortController()];
  const runs = [first, second].map(({ signal }) => drawn("darker", {}, signal));
  const outcomes = Promise.allSettled(runs);
  await vi.waitFor(() => expect(states()[1]).toBe("loading"));
  first.abort(new Error("enough"));
  second.abort(new Error("enough"));
  for (const outcome of await outcomes)
    expect(outcome).toMatchObject({ status: "rejected", reason: { message: "enough" } });
  await vi.waitFor(() => expect(states()[1]).toBe("absent"));
  expect(changes.map(({ change }) => change)).toEqual(["load cancelled"]);
  expect(runtime!.device.memoryBytes).toBe(0);

  const cancel = new AbortController();
  const cancelled = drawn("darker", {}, cancel.signal);
  const waiting = drawn("darker");
  cancelled.catch(() => {});
  await vi.waitFor(() => expect(states()[1]).toBe("loading"));
  cancel.abort(new Error("enough"));
  await expect(cancelled).rejects.toThrow("enough");
  expect(await waiting).toBe(alone.darker);
  // It leaves the device once nobody uses it.
  await vi.waitFor(() => expect(changes.at(-1)).toMatchObject({ model: "darker", change: "expired" }));
  expect(runtime!.device.memoryBytes).toBe(0);
});
