/** Refusals of a run, each with the field at fault in the words of the request. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generate as drawToFile } from "../../cli/generate.ts";
import { builtInFile, changedModel } from "../../test/changed-weights.ts";
import { faultOf } from "../faults/fault.ts";
import { encodePicture } from "../image/encode.ts";
import type { Runtime } from "./contract.ts";
import type { ResultEvent, RunEvent } from "./events.ts";
import type { GenerationInput } from "./request.ts";
import { createRuntime } from "./runtime.ts";

const folder = mkdtempSync(join(tmpdir(), "daguerre-errors-"));
writeFileSync(join(folder, "broken.safetensors"), "<!doctype html>");
const image = (await encodePicture({ width: 64, height: 64, rgba: new Uint8Array(64 * 64 * 4).fill(99) })).bytes;
const small = {
  prompt: "a sailboat at sunset",
  width: 64,
  height: 64,
  num_inference_steps: 1,
  preview_every: 0,
  seed: 1,
};

async function last(run: AsyncIterable<RunEvent>): Promise<ResultEvent> {
  let event: RunEvent | undefined;
  for await (event of run);
  return event as ResultEvent;
}

async function faultIn(runtime: Runtime, input: Partial<GenerationInput>) {
  try {
    await last(runtime.textToImage({ ...small, ...input } as GenerationInput));
  } catch (error) {
    return faultOf(error);
  }
  throw new Error("it ran");
}

describe("the built-in model", () => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await createRuntime({ loraFolder: folder });
  });
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true });
  });

  const lcm = { scheduler: "lcm", num_inference_steps: 60 };
  it.each<[string, Partial<GenerationInput>, string, RegExp]>([
    [
      "steps that strength leaves none of",
      { image, strength: 0.2, num_inference_steps: 4 },
      "strength",
      /^0\.2 of 4 steps leaves none to run; raise strength or num_inference_steps \(DDIMScheduler\)$/,
    ],
    ["one step from a picture", { image, num_inference_steps: 1 }, "strength", /^0\.8 of 1 steps leaves none to run/],
    [
      "more steps than LCM was distilled with",
      lcm,
      "num_inference_steps",
      /^must be an integer from 1 to 50: .* \(LCMScheduler\)$/,
    ],
    [
      "PNDM's Runge-Kutta steps",
      { scheduler: "pndm", num_inference_steps: 2 },
      "num_inference_steps",
      /^must be at least 4/,
    ],
    [
      "LCM's timesteps, spaced",
      { scheduler: "lcm", timestep_spacing: "trailing" },
      "timestep_spacing",
      /^cannot be chosen for this scheduler; leave it out \(LCMScheduler\)$/,
    ],
    [
      "a scheduler there is not",
      { scheduler: "DPM++ 2N Karas" },
      "scheduler",
      /^"DPM\+\+ 2N Karas" is no scheduler of this server; near it: .*DPM\+\+ 2M.*; GET \/schedulers lists all$/,
    ],
    ["steps beyond all", { num_inference_steps: 201 }, "num_inference_steps", /less than or equal to 200/],
    ["an odd width", { width: 100 }, "width", /multiple of 8/],
    ["an odd height", { height: 100 }, "height", /multiple of 8/],
    ["a LoRA that is none", { loras: [{ name: "broken" }] }, "loras.0", /broken\.safetensors/],
    ["a second LoRA that is not there", { loras: [{ name: "broken" }, { name: "absent" }] }, "loras.1.name", /absent/],
    [
      "a picture that is none",
      { image: new TextEncoder().encode("hello") },
      "image",
      /is not a JPEG, PNG or WebP picture/,
    ],
    ["a mask by another name", { image, mask_image: "AAAA" } as object, "mask_image", /did you mean mask\?/],
    ["a mask without a picture", { mask: "AAAA" }, "mask", /needs an image/],
    ["margins without a picture", { outpaint: { left: 8 } }, "outpaint", /needs an image/],
    ["a margin below 0", { image, outpaint: { left: -8 } }, "outpaint.left", /greater than or equal to 0/],
  ])("%s", async (_, input, field, message) => {
    const fault = await faultIn(runtime, input);
    expect(fault).toMatchObject({ status: 422, field });
    expect(fault.issues![0]!.path.join(".")).toBe(field);
    expect(fault.issues![0]!.message).toMatch(message);
    expect(fault.message).not.toMatch(/from 1 to 0|\/tmp/);
  });

  it("steps left out, from a picture: as many as leave one to run", async () => {
    const { num_inference_steps: _, ...rest } = small;
    const event = await last(runtime.imageToImage({ ...rest, image, strength: 0.1, few_step: true }));
    expect(event.type).toBe("result");
  });

  it("LCM's strength that leaves nothing is the strength's fault, and no empty range is printed", async () => {
    const fault = await faultIn(runtime, { image, strength: 0.001, scheduler: "lcm", num_inference_steps: 50 });
    expect(fault).toMatchObject({ status: 422, field: "strength" });
  });

  it("timestep_spacing changes the timesteps, and so the picture", async () => {
    const pictures = [];
    for (const timestep_spacing of ["trailing", "leading", "linspace"] as const) {
      const event = await last(runtime.textToImage({ ...small, num_inference_steps: 2, timestep_spacing }));
      pictures.push(event.pictures[0]!.rgba);
    }
    expect(pictures[0]).not.toEqual(pictures[1]);
    expect(pictures[1]).not.toEqual(pictures[2]);
    const own = await last(runtime.textToImage({ ...small, num_inference_steps: 2 }));
    expect(own.pictures[0]!.rgba).toEqual(pictures[0]); // the model's own configuration has trailing ones
  });

  it.each<[string, object, RegExp[]]>([
    ["freeu", { freeu: true }, [/^The field freeu was ignored: this server does not have it\.$/]],
    [
      "several, in other spellings",
      { hiresFix: true, highNoiseFrac: 0.8 },
      [/^The fields hiresFix, highNoiseFrac were ignored/],
    ],
    ["fields that ask for nothing", { clip_skip: 0, guidance_rescale: null, mask: "", controlnets: [] }, []],
    ["harmless fields", { sync_mode: true, enable_safety_checker: true }, []],
    [
      "a LoRA in the prompt",
      { prompt: "a lake <lora:ink:0.8>" },
      [/^"<lora:ink:0\.8>" in the prompt is read as plain words: ask for LoRAs with the field loras, or for /],
    ],
    ["a weight in the prompt", { prompt: "a lake, (snow:1.5)" }, [/^"\(snow:1\.5\)" in the prompt/]],
    [
      "a weight in the negative prompt",
      { negative_prompt: "((snow))", guidance_scale: 3 },
      [/^"\(\(snow\)\)" in the negative prompt/],
    ],
    ["brackets of plain language", { prompt: "a lake (blue), a boat [small]" }, []],
    [
      "a long negative prompt",
      { negative_prompt: "snow ".repeat(100), guidance_scale: 3 },
      [/^The negative prompt has \d+ tokens; this model reads \d+, so its end was left out\.$/],
    ],
    ["a long negative prompt that nothing reads", { negative_prompt: "snow ".repeat(100), guidance_scale: 1 }, []],
  ])("warns of %s", async (_, input, expected) => {
    const { warnings = [] } = await last(runtime.textToImage({ ...small, ...input } as GenerationInput));
    expect(warnings).toHaveLength(expected.length);
    for (const [index, warning] of expected.entries()) expect(warnings[index]).toMatch(warning);
  });

  it("the command says before it draws that no word is known, and once", async () => {
    const written: string[] = [];
    const { Writable } = await import("node:stream");
    const screen = new Writable({
      write(chunk, _, done) {
        written.push(String(chunk));
        done();
      },
    });
    const output = { file: join(folder, "out.png"), format: "png" as const };
    const input = { ...small, prompt: "xyzzy plugh" };
    await drawToFile(runtime, { input, output }, screen);
    expect(written[0]).toBe(
      "warning: This model knows no word of the prompt; the picture will have little to do with it.\n",
    );
    expect(written.join("").match(/knows no word/g)).toHaveLength(1);
  });

  describe("from a picture without a size", () => {
    async function sizeFrom(width: number, height: number, asked: object = {}) {
      const { bytes } = await encodePicture({ width, height, rgba: new Uint8Array(width * height * 4).fill(150) });
      const { width: _, height: __, ...rest } = small;
      const request = { ...rest, num_inference_steps: 2, image: bytes, ...asked };
      const { pictures } = await last(runtime.imageToImage(request));
      return [pictures[0]!.width, pictures[0]!.height];
    }

    it.each([
      [512, 128, {}, [256, 64]],
      [100, 200, {}, [88, 184]],
      [640, 640, {}, [128, 128]],
      [400, 300, { width: 96 }, [96, 72]],
      [400, 300, { height: 96 }, [128, 96]],
      [400, 300, { width: 64, height: 72 }, [64, 72]],
    ])("%d × %d, asked for %j", async (width, height, asked, expected) => {
      expect(await sizeFrom(width, height, asked)).toEqual(expected);
    });
  });
});

describe("a model's folder", () => {
  async function withModel(contents: Record<string, string | Uint8Array>, use: (runtime: Runtime) => Promise<void>) {
    const runtime = await createRuntime({ model: changedModel(contents) });
    try {
      await use(runtime);
    } finally {
      await runtime.close();
    }
  }

  it("with broken variants: few_step is named, and the server's fault for large pictures", async () => {
    const broken = {
      "few-step/pytorch_lora_weights.safetensors": "nothing",
      "large/pytorch_lora_weights.safetensors": "nothing",
    };
    await withModel(broken, async (runtime) => {
      expect(await faultIn(runtime, { few_step: true })).toMatchObject({ status: 422, field: "few_step" });
      const fault = await faultIn(runtime, { width: 256, height: 256 });
      expect(fault).toMatchObject({ status: 500 });
      expect(fault.field).toBeUndefined();
      expect(fault.message).toMatch(/^The model's variant for large pictures cannot be used: large\/pytorch_lora/);
    });
  });

  it("with a scheduler that we do not have: the run that needs it is refused, with the list", async () => {
    const index = JSON.parse(new TextDecoder().decode(builtInFile("model_index.json")));
    const config = JSON.parse(new TextDecoder().decode(builtInFile("scheduler/scheduler_config.json")));
    const contents = {
      "model_index.json": JSON.stringify({ ...index, scheduler: ["diffusers", "SASolverScheduler"] }),
      "scheduler/scheduler_config.json": JSON.stringify({ ...config, _class_name: "SASolverScheduler" }),
    };
    await withModel(contents, async (runtime) => {
      const fault = await faultIn(runtime, {});
      expect(fault).toMatchObject({ status: 422, field: "scheduler" });
      expect(fault.message).toContain("the model's own, SASolverScheduler, is not a scheduler of this server");
      expect((await last(runtime.textToImage({ ...small, scheduler: "euler" }))).type).toBe("result");
    });
  });
});
