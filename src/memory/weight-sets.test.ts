/** Weight sets of the built-in model: kept by what they are, and never mixed up. */

import { mkdtemp, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineEvent, PipelineRequest } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { loadModel } from "../engine/load-model.ts";
import { builtInModel } from "../engine/runtime.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { GpuOutOfMemoryError } from "../gpu/errors.ts";
import * as merging from "./merge-loras.ts";

vi.mock("./merge-loras.ts", { spy: true });

let gpu: Gpu;
let folder: string;
let path: string;
beforeAll(async () => {
  gpu = await openGpu();
  folder = await mkdtemp(join(tmpdir(), "daguerre-weight-sets-"));
  path = await lora("strong", 3);
});
afterAll(async () => {
  gpu.close();
  await rm(folder, { recursive: true });
});
beforeEach(() => {
  vi.mocked(merging.mergeLoras).mockClear();
});

/** A rank-1 change of a projection of the UNet. */
async function lora(name: string, size: number): Promise<string> {
  const file = join(folder, `${name}.safetensors`);
  const module = "unet.up_blocks.1.attentions.1.proj_out";
  const wave = new Uint8Array(Float32Array.from({ length: 96 }, (_, i) => size * Math.sin(i)).buffer);
  await writeSafetensors(file, [
    { name: `${module}.lora_A.weight`, dtype: "F32", shape: [1, 96, 1, 1], data: wave },
    { name: `${module}.lora_B.weight`, dtype: "F32", shape: [96, 1, 1, 1], data: wave },
  ]);
  return file;
}

const load = (maxKeptBytes?: number) => loadModel(gpu, builtInModel(), { precision: "f32", maxKeptBytes });
const request: PipelineRequest = { prompt: "a lake", width: 64, height: 64, steps: 2, guidanceScale: 3, seed: 1 };

async function draw(model: LoadedModel, changes: Partial<PipelineRequest> = {}): Promise<Uint8Array> {
  let last: PipelineEvent | undefined;
  for await (const event of generate(model, { ...request, ...changes })) last = event;
  return (last as Extract<PipelineEvent, { type: "result" }>).pictures[0]!.rgba;
}

const merges = () => vi.mocked(merging.mergeLoras).mock.calls.length;

describe("a merged set", () => {
  it("is kept for the next run, with its plans", async () => {
    const model = await load();
    try {
      const { plans, weightSets } = model.memory;
      const loras = [{ path, scale: 1 }];
      const first = await draw(model, { loras });
      const [made, bytes] = [plans.size, gpu.memory.bytes];
      expect(merges()).toBe(1);
      expect(await draw(model, { loras })).toEqual(first);
      expect([merges(), plans.size, gpu.memory.bytes, weightSets.size]).toEqual([1, made, bytes, 1]);
      expect(await draw(model)).not.toEqual(first);
      expect(await draw(model, { loras })).toEqual(first);
      expect(merges()).toBe(1);
    } finally {
      model.memory.destroy();
    }
  });

  it("is another for another scale, another order, or a file that was written since", async () => {
    const model = await load();
    try {
      const other = await lora("weak", 1);
      await draw(model, { loras: [{ path, scale: 1 }] });
      await draw(model, { loras: [{ path, scale: 0.5 }] });
      await draw(model, { loras: [{ path: other, scale: 1 }] });
      await draw(model, { loras: [{ path: other, scale: 1 }, { path, scale: 1 }] }); // biome-ignore format: one thing
      expect(merges()).toBe(4);
      await utimes(other, new Date(), new Date(Date.now() + 5000));
      await draw(model, { loras: [{ path: other, scale: 1 }] });
      expect(merges()).toBe(5);
    } finally {
      model.memory.destroy();
    }
  });

  it("goes when what is kept is over its bound, and leaves nothing behind", async () => {
    const model = await load(1);
    try {
      await draw(model); // weights that are transformed for their kernels stay
      model.memory.buffers.dropUnused();
      const before = gpu.memory.bytes;
      for (let again = 0; again < 2; again++) {
        await draw(model, { loras: [{ path, scale: 1 }] });
        expect(model.memory.weightSets.size).toBe(0);
        model.memory.buffers.dropUnused();
        expect(gpu.memory.bytes).toBe(before);
      }
      expect(merges()).toBe(2);
    } finally {
      model.memory.destroy();
    }
  });

  it("stays while it is in use, whatever the bound", async () => {
    const model = await load(1);
    try {
      const lease = await model.memory.weightSets.lease([{ path, scale: 1 }]);
      await draw(model, { loras: [{ path, scale: 0.5 }] });
      expect(model.memory.weightSets.size).toBe(1);
      expect(model.memory.weightSets.dropUnused()).toBe(false);
      lease.release();
      lease.release(); // harmless when repeated
      expect(model.memory.weightSets.size).toBe(0);
    } finally {
      model.memory.destroy();
    }
  });

  it("gives way, with its plans, if the device itself is out of memory", async () => {
    const model = await load();
    try {
      const { memory } = model;
      await draw(model, { loras: [{ path, scale: 1 }] });
      let calls = 0;
      const full = new GpuOutOfMemoryError("no more memory on this device");
      const made = await memory.withRoom([], async () => {
        if (++calls < 3) throw full;
        return "made";
      });
      expect([made, calls, memory.plans.size, memory.weightSets.size]).toEqual(["made", 3, 0, 0]);
      const never = memory.withRoom([], () => Promise.reject(full));
      await expect(never).rejects.toBe(full);
      await draw(model, { loras: [{ path, scale: 1 }] });
    } finally {
      model.memory.destroy();
    }
  });

  it("that cannot be merged is an error each time, and is not kept", async () => {
    const model = await load();
    try {
      const missing = { path: join(folder, "missing.safetensors"), scale: 1 };
      for (let again = 0; again < 2; again++) {
        await expect(draw(model, { loras: [missing] })).rejects.toMatchObject({
          name: "PipelineError",
          field: "loras.0",
        });
      }
      expect(model.memory.weightSets.size).toBe(0);
    } finally {
      model.memory.destroy();
    }
  });
});

describe("prompts", () => {
  // Texts that look like parts of keys, of this design or of the one before.
  const prompts = ["a lake", "lora 1 a lake", " a lake", '["a lake"]', 'a lake"]', "unet a lake", "\na lake", ""];

  it("are each read as they are, whatever was read before and with whichever weights", async () => {
    const fresh = new Map<string, Uint8Array>();
    for (const prompt of prompts) {
      const model = await load();
      fresh.set(prompt, await draw(model, { prompt }));
      model.memory.destroy();
    }
    const model = await load();
    try {
      for (const prompt of prompts) await draw(model, { prompt, fewStep: true, guidanceScale: 1 });
      for (const prompt of prompts) await draw(model, { prompt, loras: [{ path, scale: 1 }] });
      for (const prompt of prompts) expect(await draw(model, { prompt }), prompt).toEqual(fresh.get(prompt));
    } finally {
      model.memory.destroy();
    }
  });

  it("the least recently used is forgotten first", async () => {
    const model = await load();
    try {
      const { prompts } = model.memory.weightSets.base;
      await draw(model, { prompt: "first", guidanceScale: 1 });
      const one = { steps: 1, guidanceScale: 1 };
      for (let other = 0; other < 70; other++) {
        await draw(model, { ...one, prompt: `other ${other}` });
        await draw(model, { ...one, prompt: "first" });
      }
      expect(prompts.size).toBe(64);
      expect(prompts.has(JSON.stringify(["first"]))).toBe(true);
      expect(prompts.has(JSON.stringify(["other 0"]))).toBe(false);
    } finally {
      model.memory.destroy();
    }
  });
});
