import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import { encodePicture } from "../image/encode.ts";
import { Updates } from "../jobs/updates.ts";
import type { Runtime } from "./contract.ts";
import { RequestError } from "./errors.ts";
import type { Picture, PreviewEvent, ResultEvent, RunEvent } from "./events.ts";
import { builtInModel, createRuntime } from "./runtime.ts";

// The built-in model on whatever GPU there is; four steps are enough to tell sky from sea.
const request = { prompt: "a beautiful sunset over the sea", num_inference_steps: 4, seed: 7, preview_every: 0 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime();
});
afterAll(() => runtime.close());

/** All events but those of waiting, which depend on how fast kernels are compiled. */
async function collect(run: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) if (event.type !== "preparing") events.push(event);
  return events;
}

async function resultOf(run: AsyncIterable<RunEvent>): Promise<ResultEvent> {
  const last = (await collect(run)).at(-1);
  expect(last?.type).toBe("result");
  return last as ResultEvent;
}

/** Mean of each colour over a band of rows, 0..255. */
function bandColour({ width, height, rgba }: Picture, from: number, to: number): [number, number, number] {
  const sums = [0, 0, 0];
  const [first, end] = [Math.floor(height * from), Math.floor(height * to)];
  for (let pixel = first * width; pixel < end * width; pixel++) {
    for (let colour = 0; colour < 3; colour++) sums[colour]! += rgba[pixel * 4 + colour]!;
  }
  return sums.map((sum) => sum / ((end - first) * width)) as [number, number, number];
}

function meanDifference(a: Picture, b: Picture): number {
  return a.rgba.reduce((sum, value, i) => sum + Math.abs(value - b.rgba[i]!), 0) / a.rgba.length;
}

describe("text to image", () => {
  it("says each step, then the picture with its seed", async () => {
    const events = await collect(runtime.textToImage(request));
    expect(events.map((event) => event.type)).toEqual(["progress", "progress", "progress", "progress", "result"]);
    expect(events[1]).toMatchObject({ type: "progress", step: 2, steps: 4, progress: 0.5 });
    const { pictures, seed, prompt } = events.at(-1) as ResultEvent;
    expect({ seed, prompt, count: pictures.length }).toEqual({ seed: 7, prompt: request.prompt, count: 1 });
    expect(pictures[0]).toMatchObject({ width: runtime.model.defaultWidth, height: runtime.model.defaultHeight });
  });

  it("draws what the prompt says: a sunset is warm, a blue noon is blue", async () => {
    const sunset = (await resultOf(runtime.textToImage(request))).pictures[0]!;
    const noon = (await resultOf(runtime.textToImage({ ...request, prompt: "green hills, blue sky at noon" })))
      .pictures[0]!;
    const warmth = (picture: Picture) => {
      const [red, , blue] = bandColour(picture, 0.1, 0.5);
      return red - blue;
    };
    expect(warmth(sunset)).toBeGreaterThan(warmth(noon) + 40);
  });

  it("gives the same picture for the same seed, and another for another, or for CUDA's noise", async () => {
    const [a, b, c, d] = [
      await resultOf(runtime.textToImage(request)),
      await resultOf(runtime.textToImage(request)),
      await resultOf(runtime.textToImage({ ...request, seed: 8 })),
      await resultOf(runtime.textToImage({ ...request, generator: "cuda" })),
    ].map((result) => result.pictures[0]!);
    expect(a!.rgba).toEqual(b!.rgba);
    expect(meanDifference(a!, c!)).toBeGreaterThan(2);
    expect(meanDifference(a!, d!)).toBeGreaterThan(2);
  });

  it("sends previews when asked, by each decoder the model has", async () => {
    for (const decoder of ["linear", "tiny", "full"] as const) {
      const events = await collect(runtime.textToImage({ ...request, preview_every: 2, preview_decoder: decoder }));
      const previews = events.filter((event): event is PreviewEvent => event.type === "preview");
      expect(previews.map(({ step, steps, decoder }) => ({ step, steps, decoder }))).toEqual([
        { step: 2, steps: 4, decoder },
      ]);
      // The top of the sky is already the colour that it will be.
      const final = (events.at(-1) as ResultEvent).pictures[0]!;
      const [seen, meant] = [bandColour(previews[0]!.picture, 0, 0.3), bandColour(final, 0, 0.3)];
      for (let colour = 0; colour < 3; colour++) expect(Math.abs(seen[colour]! - meant[colour]!)).toBeLessThan(50);
    }
  });

  it("makes several pictures, other sizes, and no guidance", async () => {
    const { pictures } = await resultOf(
      runtime.textToImage({ ...request, num_images: 2, width: 96, height: 64, guidance_scale: 1 }),
    );
    expect(pictures.map(({ width, height, rgba }) => [width, height, rgba.length])).toEqual([
      [96, 64, 96 * 64 * 4],
      [96, 64, 96 * 64 * 4],
    ]);
    expect(meanDifference(pictures[0]!, pictures[1]!)).toBeGreaterThan(2);
  });

  it("runs every scheduler to a picture that is neither grey nor noise", async () => {
    for (const scheduler of ["ddim", "euler", "euler_a", "dpm++ 2m", "pndm"]) {
      const { pictures } = await resultOf(runtime.textToImage({ ...request, num_inference_steps: 6, scheduler }));
      const [top, bottom] = [bandColour(pictures[0]!, 0, 0.2), bandColour(pictures[0]!, 0.8, 1)];
      const contrast = Math.hypot(...top.map((value, colour) => value - bottom[colour]!));
      expect(contrast, scheduler).toBeGreaterThan(10);
    }
  });

  it("warns of a prompt of which the model knows no word, and of one that is too long", async () => {
    const strange = await resultOf(runtime.textToImage({ ...request, prompt: "zxqv wqrtz" }));
    expect(strange.warnings?.join()).toMatch(/knows no word/);
    // English, and in the tokenizer's vocabulary, but nothing that the model was taught.
    const untaught = await resultOf(runtime.textToImage({ ...request, prompt: "the with and" }));
    expect(untaught.warnings?.join()).toMatch(/knows no word/);
    const long = await resultOf(runtime.textToImage({ ...request, prompt: "a sunset over the sea ".repeat(20) }));
    expect(long.warnings?.join()).toMatch(/left out/);
    expect((await resultOf(runtime.textToImage(request))).warnings).toBeUndefined();
  });
});

describe("image to image", () => {
  it("keeps more of the picture it starts from the lower the strength", async () => {
    const start = (await resultOf(runtime.textToImage(request))).pictures[0]!;
    const { bytes } = await encodePicture(start, { format: "png" });
    const again = async (strength: number) => {
      const input = {
        ...request,
        prompt: "a night sky with a full moon",
        num_inference_steps: 10,
        strength,
        image: bytes,
      };
      return (await resultOf(runtime.imageToImage(input))).pictures[0]!;
    };
    expect(meanDifference(start, await again(0.2))).toBeLessThan(meanDifference(start, await again(1)));
  });
});

describe("LoRA", () => {
  const folder = mkdtempSync(join(tmpdir(), "daguerre-lora-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it("changes the run that asks for it and leaves no trace in the next", async () => {
    const path = join(folder, "shift.safetensors");
    await writeSafetensors(path, loraTensors("unet.up_blocks.1.attentions.1.proj_out", 96, 96));
    const before = (await resultOf(runtime.textToImage(request))).pictures[0]!;
    const changed = (await resultOf(runtime.textToImage({ ...request, loras: [{ path, scale: 1 }] }))).pictures[0]!;
    const after = (await resultOf(runtime.textToImage(request))).pictures[0]!;
    expect(meanDifference(before, changed)).toBeGreaterThan(1);
    expect(after.rgba).toEqual(before.rgba);
  });

  it("that does not fit is refused by file and module", async () => {
    const path = join(folder, "stray.safetensors");
    await writeSafetensors(path, loraTensors("unet.mid_block.attentions.7.proj_in", 8, 8));
    const run = collect(runtime.textToImage({ ...request, loras: [{ path, scale: 1 }] }));
    await expect(run).rejects.toThrow(/stray\.safetensors.*attentions\.7/);
  });

  describe("of a model's own variants", () => {
    /** The built-in model with other variants, or none, in the place of its own. */
    function modelFolder(name: string): string {
      const model = join(folder, name);
      mkdirSync(model);
      for (const part of readdirSync(builtInModel())) {
        if (part !== "few-step" && part !== "large") symlinkSync(join(builtInModel(), part), join(model, part));
      }
      return model;
    }

    it("the one for few steps is run in its own number of them without guidance, and kept for the next run", async () => {
      const model = modelFolder("with");
      mkdirSync(join(model, "few-step"));
      const path = join(model, "few-step", "pytorch_lora_weights.safetensors");
      await writeSafetensors(path, loraTensors("unet.up_blocks.1.attentions.1.proj_out", 96, 96));
      const other = await createRuntime({ model });
      try {
        expect(other.model.fewStep).toEqual({ steps: 4, guidanceScale: 1 });
        const { num_inference_steps: _, ...asked } = request;
        const plain = { ...asked, num_inference_steps: 4, guidance_scale: 1 };
        const usual = await resultOf(other.textToImage(plain));
        const events = await collect(other.textToImage({ ...asked, few_step: true }));
        expect(events.map(({ type }) => type)).toEqual([...new Array(4).fill("progress"), "result"]);
        const { pictures } = events.at(-1) as ResultEvent;
        const asLora = await resultOf(other.textToImage({ ...plain, loras: [{ path, scale: 1 }] }));
        expect(pictures[0]!.rgba).toEqual(asLora.pictures[0]!.rgba);
        expect(meanDifference(pictures[0]!, usual.pictures[0]!)).toBeGreaterThan(1);

        const held = other.device.memoryBytes;
        rmSync(path);
        const again = await resultOf(other.textToImage({ ...asked, few_step: true }));
        expect(again.pictures[0]!.rgba).toEqual(pictures[0]!.rgba);
        expect(other.device.memoryBytes).toBe(held);
        expect((await resultOf(other.textToImage(plain))).pictures[0]!.rgba).toEqual(usual.pictures[0]!.rgba);
      } finally {
        await other.close();
      }
    });

    it("the one for large pictures is taken from half way to their size on", async () => {
      const model = modelFolder("large-pictures");
      mkdirSync(join(model, "large"));
      const path = join(model, "large", "pytorch_lora_weights.safetensors");
      await writeSafetensors(path, loraTensors("unet.up_blocks.1.attentions.1.proj_out", 96, 96));
      const other = await createRuntime({ model });
      try {
        const draw = async (size: { width: number; height: number }) =>
          (await resultOf(other.textToImage({ ...request, ...size }))).pictures[0]!;
        const small = { width: 128, height: 128 };
        const large = { width: 256, height: 128 };
        const plain = await resultOf(runtime.textToImage({ ...request, ...small }));
        expect((await draw(small)).rgba).toEqual(plain.pictures[0]!.rgba);
        const bare = await createRuntime({ model: modelFolder("bare") });
        try {
          const asLora = await resultOf(bare.textToImage({ ...request, ...large, loras: [{ path, scale: 1 }] }));
          expect((await draw(large)).rgba).toEqual(asLora.pictures[0]!.rgba);
        } finally {
          await bare.close();
        }
      } finally {
        await other.close();
      }
    });

    it("the one for few steps is refused by the field where the model has none", async () => {
      const other = await createRuntime({ model: modelFolder("without") });
      try {
        expect(other.model.fewStep).toBeUndefined();
        const run = collect(other.textToImage({ ...request, few_step: true }));
        await expect(run).rejects.toMatchObject({ name: "RequestError", field: "few_step" });
      } finally {
        await other.close();
      }
    });
  });

  /** A rank-1 change of a 1 × 1 projection, strong enough to be seen. */
  function loraTensors(module: string, inputs: number, outputs: number) {
    const wave = (count: number) =>
      new Uint8Array(Float32Array.from({ length: count }, (_, i) => 3 * Math.sin(i)).buffer);
    const tensor = (name: string, shape: number[]) => ({
      name,
      dtype: "F32" as const,
      shape,
      data: wave(shape[0]! * shape[1]!),
    });
    return [
      tensor(`${module}.lora_A.weight`, [1, inputs, 1, 1]),
      tensor(`${module}.lora_B.weight`, [outputs, 1, 1, 1]),
    ];
  }
});

describe("a model with a scheduler that we do not have", () => {
  it("is loaded; a run that needs it is refused with those that there are, another is drawn", async () => {
    const folder = mkdtempSync(join(tmpdir(), "daguerre-scheduler-"));
    for (const part of readdirSync(builtInModel())) {
      if (!["scheduler", "model_index.json"].includes(part))
        symlinkSync(join(builtInModel(), part), join(folder, part));
    }
    const name = "SomeNewerScheduler";
    const index = JSON.parse(readFileSync(join(builtInModel(), "model_index.json"), "utf8"));
    writeFileSync(join(folder, "model_index.json"), JSON.stringify({ ...index, scheduler: ["diffusers", name] }));
    mkdirSync(join(folder, "scheduler"));
    const config = JSON.parse(readFileSync(join(builtInModel(), "scheduler/scheduler_config.json"), "utf8"));
    writeFileSync(join(folder, "scheduler/scheduler_config.json"), JSON.stringify({ ...config, _class_name: name }));
    const other = await createRuntime({ model: folder });
    try {
      await expect(collect(other.textToImage(request))).rejects.toMatchObject({
        field: "scheduler",
        message: expect.stringMatching(
          /SomeNewerScheduler, is not a scheduler of this server; ask for one of Euler, Euler a, DPM\+\+ 2M/,
        ),
      });
      const asked = { ...request, scheduler: "ddim" };
      const drawn = await resultOf(other.textToImage(asked));
      expect(drawn.pictures[0]!.rgba).toEqual((await resultOf(runtime.textToImage(asked))).pictures[0]!.rgba);
    } finally {
      await other.close();
      rmSync(folder, { recursive: true });
    }
  });
});

describe("stopping and waiting", () => {
  it("stops before the next step when aborted, and is ready for the next run", async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const run = async () => {
      for await (const event of runtime.textToImage(
        { ...request, num_inference_steps: 50 },
        { signal: controller.signal },
      )) {
        if (event.type !== "progress") continue;
        seen.push(event.step);
        if (event.step === 2) controller.abort();
      }
    };
    await expect(run()).rejects.toThrow(/abort/i);
    expect(seen).toEqual([1, 2]);
    await resultOf(runtime.textToImage(request));
  });

  it("runs so many at once and tells those that wait their place", async () => {
    const seeds = Array.from({ length: runtime.runsAtOnce + 2 }, (_, seed) => seed);
    const runs = await Promise.all(seeds.map((seed) => collect(runtime.textToImage({ ...request, seed }))));
    const positions = runs.map((events) =>
      events.flatMap((event) => (event.type === "queued" ? [event.position] : [])),
    );
    // As behind a job store: 0 is next.
    expect(positions).toEqual([...Array(runtime.runsAtOnce).fill([]), [0], [1, 0]]);
    expect(new Set(runs.map((events) => events.at(-1)!.type))).toEqual(new Set(["result"]));
  });

  it("gives its place up when it is aborted while it waits", async () => {
    const controller = new AbortController();
    const running = Array.from({ length: runtime.runsAtOnce }, () => collect(runtime.textToImage(request)));
    const second = collect(runtime.textToImage(request, { signal: controller.signal }));
    const third = collect(runtime.textToImage(request));
    controller.abort();
    await expect(second).rejects.toThrow(/abort/i);
    for (const events of await Promise.all(running)) expect(events.at(-1)!.type).toBe("result");
    expect((await third).at(-1)!.type).toBe("result");
  });
});

describe("bad requests", () => {
  it.each([
    [{ num_inference_steps: 0 }, "num_inference_steps"],
    [{ width: 100 }, "width"],
    [{ scheduler: "nonsense" }, "scheduler"],
    [{ loras: [{ name: "nothing" }] }, "loras.0.name"],
  ])("%o names its field", async (fault, field) => {
    const error = await collect(runtime.textToImage({ ...request, ...fault })).catch((error) => error);
    expect(error).toBeInstanceOf(RequestError);
    expect(error.field).toBe(field);
  });
});

it("goes on with what was changed between two steps, from there on", async () => {
  const night = "a starry night over the mountains";
  /** The result of a run that is changed after a step; 0: before it begins. */
  const changedAfter = async (step: number) => {
    const updates = new Updates();
    const change = () => updates.push({ prompt: night, guidance_scale: 3 });
    if (step === 0) change();
    for await (const event of runtime.textToImage(request, { updates })) {
      if (event.type === "result") return event;
      if (event.type === "progress" && event.step === step) {
        change();
        await setImmediate();
      }
    }
    throw new Error("no result");
  };
  const [sunset, halfway, early] = [
    await resultOf(runtime.textToImage(request)),
    await changedAfter(2),
    await changedAfter(0),
  ];
  const asked = await resultOf(runtime.textToImage({ ...request, prompt: night, guidance_scale: 3 }));
  expect([sunset.prompt, halfway.prompt, early.prompt]).toEqual([request.prompt, night, night]);
  // Changed before the first step, it is the other request; changed halfway, it is neither.
  expect(meanDifference(early.pictures[0]!, asked.pictures[0]!)).toBe(0);
  expect(meanDifference(halfway.pictures[0]!, asked.pictures[0]!)).toBeGreaterThan(1);
  expect(meanDifference(halfway.pictures[0]!, sunset.pictures[0]!)).toBeGreaterThan(1);
});

it("decodes no preview that nobody wants, and the picture is the same", async () => {
  const asked = { ...request, num_inference_steps: 5, preview_every: 1 };
  const shown = await collect(runtime.textToImage(asked));
  let asks = 0;
  const some = await collect(runtime.textToImage(asked, { wants: () => asks++ === 2 }));
  const previews = (events: RunEvent[]) => events.flatMap((event) => (event.type === "preview" ? [event.step] : []));
  expect(previews(shown)).toEqual([1, 2, 3, 4]);
  expect(previews(some)).toEqual([3]);
  const [one, other] = [shown, some].map((events) => events.at(-1) as ResultEvent);
  expect(meanDifference(one!.pictures[0]!, other!.pictures[0]!)).toBe(0);
});
