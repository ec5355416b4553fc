import { describe, expect, it } from "vitest";
import { builtInFile, changedModel } from "../../test/changed-weights.ts";
import { folderFiles } from "../platform/folder-files.ts";
import { memoryFiles } from "../platform/memory-files.ts";
import { distilledRun } from "./distilled.ts";
import { openFamily } from "./registry.ts";

const TRAILING = { timestep_spacing: "trailing", prediction_type: "epsilon" };
const scheduler = (className: string, config: Record<string, unknown> = {}) => ({ className, config });
const PNDM = scheduler("PNDMScheduler");

describe("steps and guidance of distilled checkpoints", () => {
  it.each<[string, ReturnType<typeof scheduler>, number, number]>([
    ["stabilityai/sd-turbo", scheduler("EulerDiscreteScheduler", TRAILING), 1, 0],
    ["sdxl-turbo", scheduler("EulerAncestralDiscreteScheduler", TRAILING), 1, 0],
    ["models/SD_Turbo", PNDM, 1, 0],
    ["Lykon/dreamshaper-xl-v2-turbo", PNDM, 6, 2],
    ["DreamShaperXL_Turbo", PNDM, 6, 2],
    ["ByteDance/SDXL-Lightning", PNDM, 4, 0],
    ["sdxl_lightning_8step", PNDM, 8, 0],
    ["SDXL-Lightning-2steps-mine", PNDM, 2, 0],
    ["SG161222/RealVisXL_V4.0_Lightning", PNDM, 4, 2],
    ["ByteDance/Hyper-SD", PNDM, 4, 0],
    ["Hyper-SDXL-1step", PNDM, 1, 0],
    ["Hyper-SD15-12steps-CFG", PNDM, 12, 5],
    ["my-sd15-lcm", PNDM, 4, 1],
    ["anything", scheduler("LCMScheduler"), 4, 1],
    ["unnamed", scheduler("EulerDiscreteScheduler", TRAILING), 4, 0],
  ])("%s", (name, scheduler, steps, guidanceScale) => {
    expect(distilledRun({ names: [name], scheduler, embedsGuidance: false })).toEqual({ steps, guidanceScale });
  });

  it("a UNet that reads the guidance scale wants one", () => {
    const lcm = { names: ["lcm-sdxl"], scheduler: scheduler("LCMScheduler"), embedsGuidance: true };
    expect(distilledRun(lcm)).toEqual({ steps: 4, guidanceScale: 8 });
  });

  it.each<[string, ReturnType<typeof scheduler>]>([
    ["runwayml/stable-diffusion-v1-5", PNDM],
    ["a model in steps", scheduler("EulerDiscreteScheduler", { timestep_spacing: "leading" })],
    ["zero terminal signal", scheduler("EulerDiscreteScheduler", { ...TRAILING, rescale_betas_zero_snr: true })],
    ["velocities", scheduler("EulerDiscreteScheduler", { ...TRAILING, prediction_type: "v_prediction" })],
    ["DDIM", scheduler("DDIMScheduler", TRAILING)],
  ])("none of %s", (name, scheduler) => {
    expect(distilledRun({ names: [name, undefined], scheduler, embedsGuidance: false })).toBeUndefined();
  });
});

describe("a model's folder", () => {
  it("a snapshot of a hub cache has the repository's name", () => {
    const hash = "b261bac6fd2cf515557d5d0707481eafa0485ec2";
    const cache = "/home/me/.cache/huggingface/hub";
    expect(folderFiles(`${cache}/models--stabilityai--sd-turbo/snapshots/${hash}`).name).toBe("stabilityai/sd-turbo");
    expect(folderFiles(`${cache}/models--gpt2/snapshots/${hash}/`).name).toBe("gpt2");
    expect(folderFiles(`/models/${hash}`).name).toBe(hash);
    expect(folderFiles("models/mine/").name).toBe("mine");
  });

  const json = (file: string) => JSON.parse(new TextDecoder().decode(builtInFile(file)));

  it("says by its name, or that of the folder it was saved from, how it is run; its makers' own word counts more", async () => {
    const folder = (recommendation: object, index: object = {}) => {
      const files = changedModel({
        "daguerre.json": JSON.stringify(recommendation),
        "model_index.json": JSON.stringify({ ...json("model_index.json"), ...index }),
      });
      return { ...files, name: "stabilityai/sd-turbo" };
    };
    const turbo = await openFamily(folder({}));
    expect(turbo.facts).toMatchObject({ name: "stabilityai/sd-turbo", defaults: { steps: 1, guidanceScale: 0 } });
    const saved = { ...folder({}, { _name_or_path: "ByteDance/SDXL-Lightning" }), name: "mine" };
    expect((await openFamily(saved)).facts.defaults).toMatchObject({ steps: 4, guidanceScale: 0 });
    const told = await openFamily(folder({ num_inference_steps: 3, guidance_scale: 1.5 }));
    expect(told.facts.defaults).toMatchObject({ steps: 3, guidanceScale: 1.5 });
    expect(memoryFiles({}).name).toBe("memory");
  });

  it.each([
    [13, /^unet\/config\.json: in_channels: is 13, and the vae has 12 latent channels$/],
    [8, /^unet\/config\.json: in_channels: is 8/],
  ])("a UNet of %d channels is refused by its configuration", async (in_channels, message) => {
    const config = JSON.stringify({ ...json("unet/config.json"), in_channels });
    await expect(openFamily(changedModel({ "unet/config.json": config }))).rejects.toThrow(message);
  });

  it.each([
    [8, "an InstructPix2Pix UNet"],
    [7, "an upscaler's UNet"],
    [5, "a depth UNet"],
  ])("a UNet of %d channels for latents of 4 is called %s", async (in_channels, kind) => {
    const config = JSON.stringify({ ...json("unet/config.json"), in_channels, out_channels: 4 });
    const vae = JSON.stringify({ ...json("vae/config.json"), latent_channels: 4 });
    const model = changedModel({ "unet/config.json": config, "vae/config.json": vae });
    await expect(openFamily(model)).rejects.toThrow(
      `in_channels: is ${in_channels}, and the vae has 4 latent channels: ${kind}`,
    );
  });
});
