/** A run that waits for kernels or weights says how far they are, and an abort ends the wait: on every adapter. */

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import { closeAll, openAdapters } from "../graph/testing/devices.ts";
import type { Preparation } from "../memory/preparation.ts";
import type { PreparingEvent, RunEvent } from "./events.ts";
import { loadModel } from "./load-model.ts";
import { builtInModel, createRuntime } from "./runtime.ts";

process.env.MESA_SHADER_CACHE_DISABLE = "true"; // every kernel is compiled here
const devices = await openAdapters();
afterAll(() => closeAll(devices));

const request: PipelineRequest = { prompt: "a hill", width: 64, height: 64, steps: 2, guidanceScale: 3, seed: 1 };

// In the order in which they stand: each finds fewer kernels that have never run.
describe.each(devices)("on $name", ({ gpu }) => {
  let model: LoadedModel;
  beforeAll(async () => {
    model = await loadModel(gpu, builtInModel(), { precision: "f32" });
  });
  afterAll(() => model.memory.destroy());

  it("a run that has to wait for kernels says how many are ready, and stops before the next if it is aborted", async () => {
    const abort = new AbortController();
    const told: PreparingEvent[] = [];
    const run = (async () => {
      for await (const event of generate(model, request, { signal: abort.signal })) {
        if (event.type !== "preparing") continue;
        told.push(event);
        if (event.done > 0) abort.abort(new Error("enough"));
      }
    })();
    await expect(run).rejects.toThrow("enough");
    const last = told.at(-1)!;
    expect(last).toMatchObject({ type: "preparing", what: "kernels" });
    expect(last.done).toBeGreaterThan(0);
    expect(last.done).toBeLessThanOrEqual(last.total);
    expect(model.memory.plans.size).toBeLessThan(2); // text is read before
  });

  it("one whose reader leaves meanwhile compiles no further", async () => {
    for await (const { type } of generate(model, request)) if (type === "preparing") break;
    expect(model.memory.plans.size).toBeLessThan(2); // text is read before
  });

  it("a warm-up counts each kernel as it is ready, not all of them when the last one is made", async () => {
    const { device } = gpu;
    let made = 0;
    const original = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = async (descriptor) => {
      const pipeline = await original(descriptor);
      made++;
      return pipeline;
    };
    const told: (Preparation & { readonly made: number })[] = [];
    try {
      await warmUp(model, request, { onProgress: (progress) => told.push({ ...progress, made }) });
    } finally {
      delete (device as { createComputePipelineAsync?: unknown }).createComputePipelineAsync;
    }
    const total = told.at(-1)!.total;
    expect(total).toBeGreaterThan(5);
    const counts = [...new Set(told.map(({ done }) => done))];
    expect(counts).toEqual(Array.from({ length: total + 1 }, (_, done) => done));
    expect(told.find(({ done }) => done === 1)!.made).toBeLessThan(made);
  });

  it("nothing is waited for twice", async () => {
    const types = new Set<string>();
    for await (const { type } of generate(model, request)) types.add(type);
    expect(types).toEqual(new Set(["step", "result"]));
  });

  it("a LoRA that is merged counts the matrices that it changes, and an abort ends that, too", async () => {
    const { weightSets } = model.memory;
    const loras = [{ path: join(builtInModel(), "few-step", "pytorch_lora_weights.safetensors"), scale: 1 }];
    const abort = new AbortController();
    const onProgress = ({ done }: Preparation) => done === 2 && abort.abort(new Error("enough"));
    await expect(weightSets.lease(loras, { signal: abort.signal, onProgress })).rejects.toThrow("enough");
    const told: Preparation[] = [];
    const lease = await weightSets.lease(loras, { onProgress: (progress) => told.push(progress) });
    lease.release();
    expect(told.every(({ what }) => what === "weights")).toBe(true);
    expect(told.map(({ done }) => done)).toEqual(Array.from({ length: told[0]!.total }, (_, done) => done));
  });
});

it("a run that comes while a runtime warms up is told how far that is, before its own steps", async () => {
  const runtime = await createRuntime({ adapter: { prefer: "software" } });
  try {
    const warming = runtime.warmUp({ width: 64, height: 64 });
    const events: RunEvent[] = [];
    const input = { prompt: "a hill", width: 64, height: 64, num_inference_steps: 2, preview_every: 0, seed: 1 };
    for await (const event of runtime.textToImage(input)) events.push(event);
    await warming;
    const types = events.map(({ type }) => type).filter((type, index, all) => type !== all[index - 1]);
    expect(types).toEqual(["queued", "preparing", "progress", "result"]);
    const done = events.flatMap((event) => (event.type === "preparing" ? [event.done] : []));
    expect(done.length).toBeGreaterThan(2);
    expect(done).toEqual([...done].sort((one, other) => one - other));
  } finally {
    await runtime.close();
  }
});

it("an abort ends a warm-up before the next kernel", async () => {
  const abort = new AbortController();
  const told: Preparation[] = [];
  const runtime = await createRuntime({
    adapter: { prefer: "software" },
    onProgress({ what, done, total }) {
      if (what !== "kernels") return;
      told.push({ what, done, total });
      if (done === 2) abort.abort(new Error("enough"));
    },
  });
  try {
    await expect(runtime.warmUp({ width: 64, height: 64 }, { signal: abort.signal })).rejects.toThrow("enough");
    // Those that are on their way are made; of four plans that are compiled beside each other, one each.
    expect(Math.max(...told.map(({ done }) => done))).toBeLessThan(8);
  } finally {
    await runtime.close();
  }
});
