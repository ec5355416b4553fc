/** The cost of a denoising step of the built-in model: nothing is made in the loop, and nothing is computed twice. */

import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import { Pictures } from "../diffusion/pictures.ts";
import type { PipelineEvent, PipelineRequest } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { Refinements } from "../graph/compile/refinement.ts";
import { PlanCache } from "../memory/plan-cache.ts";
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

const request: PipelineRequest = {
  prompt: "a lake under mountains",
  width: 128,
  height: 128,
  steps: 6,
  guidanceScale: 3,
  seed: 1,
};

/** Calls of WebGPU that cost more than a command. */
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
  beforeAll(async () => {
    await warmUp(model, request);
    await Refinements.of(gpu).makeAll(); // else it may find the device idle while the calls are counted
  });

  it("even the first run compiles nothing", async () => {
    await counted(async (made) => {
      const events = await eventsOf({ prompt: "a hill" });
      expect(events.at(-1)!.type).toBe("result");
      expect(made.createShaderModule ?? 0).toBe(0);
      expect(made.createComputePipelineAsync ?? 0).toBe(0);
      expect(made.createBindGroup ?? 0).toBe(0);
      // Buffers by way of which results are read, once a plan: the text, the picture.
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
        if (event.type === "result") break; // the pictures have the run's latents copied for them
        expect(made, `after ${steps} steps and ${previews} previews`).toEqual({});
      }
      expect(steps).toBe(request.steps);
      expect(previews > 0).toBe("previewEvery" in changes);
    });
  });
});

describe("previews that nobody would look at", () => {
  it("are not decoded, and come again when somebody would", async () => {
    const decode = vi.spyOn(Pictures.prototype, "begin");
    const asked = { ...request, previewEvery: 1, previewDecoder: "linear" } as const;
    const previewsAt = async (wantsPreview: (step: number) => boolean) => {
      decode.mockClear();
      const seen: number[] = [];
      let step = 0;
      for await (const event of generate(model, asked, { wantsPreview: () => wantsPreview(step) })) {
        if (event.type === "step") step = event.step;
        if (event.type === "preview") seen.push(event.step);
      }
      const decoded = decode.mock.calls.filter(([decoder]) => decoder === "linear").length;
      expect(decoded).toBe(seen.length);
      return seen;
    };
    expect(await previewsAt(() => true)).toEqual([1, 2, 3, 4, 5]);
    expect(await previewsAt(() => false)).toEqual([]);
    // It is asked as soon as the step has been taken, before its event.
    expect(await previewsAt((step) => step >= 3)).toEqual([4, 5]);
    decode.mockRestore();
  });
});

describe("a prompt that changes on the way", () => {
  const last = async (changes: Partial<PipelineRequest>, wordsOf?: (step: number) => string) => {
    let step = 0;
    const takeUpdate = wordsOf && (() => ({ prompt: wordsOf(step) }));
    let latents: Float32Array | undefined;
    for await (const event of generate(model, { ...request, ...changes }, { takeUpdate })) {
      if (event.type === "step") [step, latents] = [event.step, await event.latents()];
    }
    return latents;
  };
  const weighted = { promptSyntax: "weighted" } as const;

  it.each<[string, Partial<PipelineRequest>, (step: number) => string]>([
    ["once", { prompt: "a [lake:city:3]" }, (step) => (step <= 3 ? "a lake" : "a city")],
    ["with each step", { prompt: "a [lake|city]" }, (step) => (step < 2 || step % 2 === 1 ? "a lake" : "a city")],
    [
      "into one of more chunks",
      { prompt: `a lake[${", snow".repeat(60)}:0.5]` },
      (step) => (step <= 3 ? "a lake" : `a lake${", snow".repeat(60)}`),
    ],
  ])("does so %s, as if somebody changed it then", async (_, changes, wordsOf) => {
    const drawn = await last({ ...weighted, ...changes });
    expect(drawn).toEqual(await last({ ...weighted, prompt: wordsOf(0) }, wordsOf));
    expect(drawn).not.toEqual(await last({ ...weighted, prompt: wordsOf(0) }));
  });

  it("is plain text in the plain syntax, and its steps are those of the sampler's calls", async () => {
    expect(await last({ prompt: "a [lake:city:3]" })).not.toEqual(
      await last({ prompt: "a [lake:city:3]", ...weighted }),
    );
    const heun = { ...weighted, steps: 3, scheduler: { className: "HeunDiscreteScheduler" } };
    const [early, late] = [
      await last({ ...heun, prompt: "a [lake:city:1]" }),
      await last({ ...heun, prompt: "a lake" }),
    ];
    expect(early).not.toEqual(late);
    // Five calls: the fourth is the last that three steps of the schedule are for.
    expect(await last({ ...heun, prompt: "a [lake:city:4]" })).toEqual(late);
  });
});

describe("classifier-free guidance", () => {
  it("is turned on and off on the way, with another plan", async () => {
    const latentsOf = async (guidanceScales: readonly number[]) => {
      const latents: Float32Array[] = [];
      const takeUpdate = () => ({ guidanceScale: guidanceScales[latents.length]! });
      for await (const event of generate(model, { ...request, guidanceScale: guidanceScales[0]! }, { takeUpdate })) {
        if (event.type === "step") latents.push(await event.latents());
      }
      return latents;
    };
    const [never, always, later] = [
      await latentsOf([1, 1, 1, 1, 1, 1]),
      await latentsOf([3, 3, 3, 3, 3, 3]),
      await latentsOf([1, 1, 3, 3, 1, 1]),
    ];
    expect(later[1]).toEqual(never[1]);
    expect(later[2]).not.toEqual(never[2]);
    expect(later[5]).not.toEqual(never[5]);
    expect(later[5]).not.toEqual(always[5]);
  });

  it("is one batch of two, and left out where its scale is 1", async () => {
    const shapes: unknown[] = [];
    const { plans } = model.memory;
    const borrow = vi.spyOn(plans, "borrow").mockImplementation(() => {
      const loan = PlanCache.prototype.borrow.call(plans);
      return {
        get(key, make) {
          if (key.part === "unet") shapes.push(key.shape);
          return loan.get(key, make);
        },
        giveBack: () => loan.giveBack(),
      };
    });
    for (const guidanceScale of [3, 1]) {
      for await (const _ of generate(model, { ...request, guidanceScale }));
    }
    borrow.mockRestore();
    expect(shapes).toMatchObject([{ branches: 2 }, { branches: 1 }]);
  });

  it("at scale 1 does not even read the negative prompt", async () => {
    const { prompts } = model.memory.weightSets.base;
    prompts.clear();
    const read = () => [...prompts.keys()].map((key) => JSON.parse(key)[0]);
    await eventsOf({ guidanceScale: 1, negativePrompt: "fog" });
    expect(read()).toEqual([request.prompt]);
    await eventsOf({ negativePrompt: "fog" });
    expect(read().sort()).toEqual([request.prompt, "fog"].sort());
  });
});
