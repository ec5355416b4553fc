/** What a denoising step may cost, on the built-in model: nothing is made in the loop, and nothing is computed twice. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { builtInModel } from "../engine/runtime.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { type DiffusionModel, loadDiffusionModel } from "./diffusion-model.ts";
import { generate, type PipelineEvent, type PipelineRequest, warmUp } from "./pipeline.ts";

let gpu: Gpu;
let model: DiffusionModel;
beforeAll(async () => {
  gpu = await openGpu();
  model = await loadDiffusionModel(gpu, builtInModel(), { precision: "f32" });
});
afterAll(() => {
  model.destroy();
  gpu.close();
});

const request: PipelineRequest = {
  prompt: "a lake under mountains",
  width: 128,
  height: 128,
  steps: 6,
  guidanceScale: 3,
  seed: 1,
};

/** What WebGPU can make that costs more than a command. */
const MAKERS = [
  "createBuffer",
  "createBindGroup",
  "createShaderModule",
  "createComputePipeline",
  "createComputePipelineAsync",
  "createQuerySet",
  "createTexture",
] as const;

/** Counts what is made on the device while `use` runs. */
async function counted(use: (made: Record<string, number>) => Promise<void>): Promise<void> {
  const made: Record<string, number> = {};
  const { device } = gpu;
  for (const maker of MAKERS) {
    const original = device[maker] as (...args: unknown[]) => unknown;
    Object.defineProperty(device, maker, {
      configurable: true,
      value: (...args: unknown[]) => {
        made[maker] = (made[maker] ?? 0) + 1;
        return original.apply(device, args);
      },
    });
  }
  try {
    await use(made);
  } finally {
    for (const maker of MAKERS) delete (device as unknown as Record<string, unknown>)[maker];
  }
}

async function eventsOf(changes: Partial<PipelineRequest> = {}): Promise<PipelineEvent[]> {
  const events: PipelineEvent[] = [];
  for await (const event of generate(model, { ...request, ...changes })) events.push(event);
  return events;
}

describe("after a warm-up", () => {
  beforeAll(() => warmUp(model, request));

  it("even the first run compiles nothing", async () => {
    await counted(async (made) => {
      const events = await eventsOf({ prompt: "a hill" });
      expect(events.at(-1)!.type).toBe("result");
      expect(made.createShaderModule ?? 0).toBe(0);
      expect(made.createComputePipelineAsync ?? 0).toBe(0);
      expect(made.createBindGroup ?? 0).toBe(0);
      // What results are read by way of, once a plan: the text, the picture.
      expect(made.createBuffer ?? 0).toBeLessThanOrEqual(3);
    });
  });

  it.each([
    ["without previews", {}],
    ["with linear previews", { previewEvery: 1, previewDecoder: "linear" }],
    ["with tiny previews", { previewEvery: 1, previewDecoder: "tiny" }],
    ["without guidance", { guidanceScale: 1 }],
    ["of several pictures", { images: 2, previewEvery: 2, previewDecoder: "linear" }],
  ] as const)("the loop makes nothing on the device %s", async (_, changes) => {
    await eventsOf(changes); // plans and read-back buffers of shapes that were not warmed up
    await counted(async (made) => {
      let steps = 0;
      let previews = 0;
      for await (const event of generate(model, { ...request, ...changes, prompt: "a hill" })) {
        if (event.type === "step") steps++;
        if (event.type === "preview") previews++;
        expect(made, `after ${steps} steps and ${previews} previews`).toEqual({});
      }
      expect(steps).toBe(request.steps);
      expect(previews > 0).toBe("previewEvery" in changes);
    });
  });
});

describe("classifier-free guidance", () => {
  it("is one batch of two, and left out where its scale is 1", async () => {
    const shapes: unknown[] = [];
    const { plans } = model;
    const watched: DiffusionModel = {
      ...model,
      plans: {
        ...plans,
        borrow() {
          const loan = plans.borrow();
          return {
            ...loan,
            get(key, make) {
              if (key.startsWith("unet ")) shapes.push(JSON.parse(key.slice(5)));
              return loan.get(key, make);
            },
          };
        },
      },
    };
    for (const guidanceScale of [3, 1]) {
      for await (const _ of generate(watched, { ...request, guidanceScale }));
    }
    expect(shapes).toMatchObject([{ branches: 2 }, { branches: 1 }]);
  });

  it("at scale 1 does not even read the negative prompt", async () => {
    model.prompts.clear();
    await eventsOf({ guidanceScale: 1, negativePrompt: "fog" });
    expect([...model.prompts.keys()]).toEqual([request.prompt]);
    await eventsOf({ negativePrompt: "fog" });
    expect([...model.prompts.keys()]).toEqual([request.prompt, "fog"]);
  });
});
