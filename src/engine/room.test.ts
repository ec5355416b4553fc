/** Pictures that are too large for what the device binds at once: refused with the size that fits. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { PipelineError, type PipelineRequest } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { loadModel } from "./load-model.ts";
import { builtInModel } from "./runtime.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

const request: PipelineRequest = { prompt: "a lake", width: 64, height: 64, steps: 1, guidanceScale: 3, seed: 1 };

it.each([0.75, 1.5])("a device that binds %d MiB", async (mebibytes) => {
  const small: Gpu = Object.create(gpu, { maxBindingBytes: { value: mebibytes * 2 ** 20 } });
  const model = await loadModel(small, builtInModel(), { precision: "f32" });
  const draw = async (width: number, height: number) => {
    for await (const _ of generate(model, { ...request, width, height }));
  };
  try {
    const error = await draw(2048, 1024).catch((error) => error);
    expect(error).toBeInstanceOf(PipelineError);
    expect(error.field).toBe("width");
    expect(error.reason).toMatch(/^a picture of 2048x1024 does not fit into what this device binds at once/);
    const [, width, height] = /; (\d+)x(\d+) fits$/.exec(error.reason)!.map(Number) as [number, number, number];
    expect(width).toBeLessThan(2048);
    await draw(width, height);
    await expect(warmUp(model, { ...request, width: 2048, height: 1024 })).rejects.toMatchObject({ field: "width" });
  } finally {
    model.memory.destroy();
  }
});
