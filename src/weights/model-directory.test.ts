import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { WeightsError } from "./errors.ts";
import { openComponentFolder, openModelDirectory } from "./model-directory.ts";

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-model-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Files = Readonly<Record<string, Uint8Array | string | object | undefined>>;

async function folderWith(files: Files): Promise<string> {
  const folder = join(root, `case-${count++}`);
  for (const [name, content] of Object.entries(files)) {
    if (content === undefined) continue;
    await mkdir(dirname(join(folder, name)), { recursive: true });
    const raw = typeof content === "string" || content instanceof Uint8Array;
    await writeFile(join(folder, name), raw ? content : JSON.stringify(content));
  }
  return folder;
}

const INDEX = {
  _class_name: "StableDiffusionPipeline",
  _diffusers_version: "0.30.3",
  feature_extractor: ["transformers", "CLIPImageProcessor"],
  image_encoder: [null, null],
  requires_safety_checker: false,
  safety_checker: ["stable_diffusion", "StableDiffusionSafetyChecker"],
  scheduler: ["diffusers", "DDIMScheduler"],
  text_encoder: ["transformers", "CLIPTextModel"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: ["diffusers", "AutoencoderKL"],
};

const MODEL: Files = {
  "model_index.json": INDEX,
  "scheduler/scheduler_config.json": { _class_name: "DDIMScheduler", beta_start: 0.00085 },
  "text_encoder/config.json": { architectures: ["CLIPTextModel"] },
  "text_encoder/model.safetensors": zeroTensors({ "text_model.final_layer_norm.weight": ["F16", [4]] }),
  "tokenizer/tokenizer_config.json": { tokenizer_class: "CLIPTokenizer" },
  "unet/config.json": { _class_name: "UNet2DConditionModel", in_channels: 4 },
  "unet/diffusion_pytorch_model.safetensors": zeroTensors({ "conv_in.weight": ["F32", [8, 4, 3, 3]] }),
  "unet/diffusion_pytorch_model.fp16.safetensors": zeroTensors({ "conv_in.weight": ["F16", [8, 4, 3, 3]] }),
  "vae/config.json": { _class_name: "AutoencoderKL" },
};

async function refusal(files: Files): Promise<WeightsError> {
  const error = await openModelDirectory(await folderWith({ ...MODEL, ...files })).catch((thrown: unknown) => thrown);
  if (!(error instanceof WeightsError)) throw new Error(`no WeightsError but ${error}`);
  expect(error.message).not.toContain(root);
  return error;
}

describe("a model folder", () => {
  it("gives its pipeline, flags and components", async () => {
    const path = await folderWith(MODEL);
    const model = await openModelDirectory(path);
    expect(model.pipelineClass).toBe("StableDiffusionPipeline");
    expect(model.flags).toEqual({ requires_safety_checker: false });
    expect([...model.components.keys()].sort()).toEqual(["scheduler", "text_encoder", "tokenizer", "unet", "vae"]);
    expect([...model.ignored].sort()).toEqual(["feature_extractor", "safety_checker"]);
    expect(model.component("safety_checker")).toBeUndefined();
    expect(model.component("unet")).toMatchObject({
      name: "unet",
      className: "UNet2DConditionModel",
      kind: "denoiser",
      config: { in_channels: 4 },
    });
    expect(await model.component("unet")!.files.list()).toContain("config.json");
    expect(model.component("scheduler")).toMatchObject({ className: "DDIMScheduler", config: { beta_start: 0.00085 } });
    const weights = await model.component("unet")!.weights();
    expect(weights.source).toBe("unet/diffusion_pytorch_model.safetensors");
    expect(weights.get("conv_in.weight")!.dtype).toBe("F32");
    await weights.close();
  });

  it("gives the wished variant of the weights", async () => {
    const model = await openModelDirectory(await folderWith(MODEL), { variant: "fp16" });
    const weights = await model.component("unet")!.weights();
    expect(weights.get("conv_in.weight")!.dtype).toBe("F16");
    await weights.close();
    // A component without that variant takes what it has.
    const text = await model.component("text_encoder")!.weights();
    expect([...text.names()]).toHaveLength(1);
    await text.close();
  });

  it("says which variants there are if none of its components has the wished one", async () => {
    const opening = openModelDirectory(await folderWith(MODEL), { variant: "bf16" });
    await expect(opening).rejects.toMatchObject({
      code: "weights-variant",
      message: 'the model has no variant "bf16"; it has plain weights, "fp16"',
    });
  });

  it("has no weights for a scheduler", async () => {
    const model = await openModelDirectory(await folderWith(MODEL));
    await expect(model.component("scheduler")!.weights()).rejects.toThrow("a scheduler has no weights");
  });

  it("may be of SDXL's refiner, without the first text encoder", async () => {
    const model = await openModelDirectory(
      await folderWith({
        ...MODEL,
        "model_index.json": {
          ...INDEX,
          _class_name: "StableDiffusionXLImg2ImgPipeline",
          force_zeros_for_empty_prompt: false,
          text_encoder: [null, null],
          tokenizer: null,
          text_encoder_2: ["transformers", "CLIPTextModelWithProjection"],
          tokenizer_2: ["transformers", "CLIPTokenizerFast"],
        },
        "text_encoder_2/config.json": {},
        "tokenizer_2/tokenizer_config.json": {},
      }),
    );
    expect(model.component("text_encoder")).toBeUndefined();
    expect(model.component("tokenizer")).toBeUndefined();
    expect(model.component("text_encoder_2")!.className).toBe("CLIPTextModelWithProjection");
    expect(model.flags).toMatchObject({ force_zeros_for_empty_prompt: false });
  });

  it("is what the built-in model is", async () => {
    const model = await openModelDirectory(fileURLToPath(new URL("../../models/landscapes", import.meta.url)));
    for (const name of ["unet", "vae", "text_encoder"]) {
      const weights = await model.component(name)!.weights();
      expect(weights.totalBytes).toBeGreaterThan(100_000);
      await weights.close();
    }
  });

  const named = (changes: object): Files => ({ "model_index.json": { ...INDEX, ...changes } });
  it.each<[string, Files, string, string, RegExp]>([
    ["no index", { "model_index.json": undefined }, "weights-not-found", "model_index.json", /no such file/],
    ["an index that is no JSON", { "model_index.json": "<html>" }, "model-config", "model_index.json", /is not JSON/],
    [
      "an index that is an array",
      { "model_index.json": "[]" },
      "model-config",
      "model_index.json",
      /not a JSON object/,
    ],
    [
      "an index of megabytes",
      { "model_index.json": `{"a":"${"x".repeat(2 ** 20)}"}` },
      "model-config",
      "model_index.json",
      /bytes long, more than the 1048576 allowed/,
    ],
    ["no class", named({ _class_name: undefined }), "model-config", "model_index.json", /no _class_name/],
    [
      "an unknown pipeline",
      named({ _class_name: "FluxPipeline" }),
      "model-class",
      "model_index.json",
      /unknown pipeline class "FluxPipeline"; known are StableDiffusionPipeline, .*LatentConsistencyModelImg2ImgPipeline/,
    ],
    [
      "a pipeline out of Object.prototype",
      named({ _class_name: "toString" }),
      "model-class",
      "model_index.json",
      /unknown/,
    ],
    [
      "an unknown component",
      named({ unet: ["diffusers", "FluxTransformer2DModel"] }),
      "model-class",
      "model_index.json",
      /unknown class "FluxTransformer2DModel" of "diffusers" for component "unet"; known are UNet2DConditionModel, .*CLIPTokenizerFast/,
    ],
    [
      "a component of the author's own library",
      named({ unet: ["my_code", "UNet2DConditionModel"] }),
      "model-class",
      "model_index.json",
      /of "my_code"/,
    ],
    [
      "a component in the wrong place",
      named({ unet: ["diffusers", "AutoencoderKL"] }),
      "model-class",
      "model_index.json",
      /component "unet" must be of kind denoiser, and AutoencoderKL is of kind autoencoder/,
    ],
    ["half a component", named({ unet: ["diffusers"] }), "model-config", "model_index.json", /"unet" is not a pair/],
    [
      "a component whose name leads out",
      named({ "../vae": ["diffusers", "AutoencoderKL"] }),
      "model-config",
      "model_index.json",
      /component "\.\.\/vae"/,
    ],
    ["no VAE", named({ vae: [null, null] }), "model-config", "model_index.json", /needs a component "vae"/],
    [
      "a component without folder",
      { "vae/config.json": undefined },
      "weights-not-found",
      "vae/config.json",
      /no such file/,
    ],
    ["a config that is no JSON", { "unet/config.json": "{" }, "model-config", "unet/config.json", /is not JSON/],
  ])("with %s is refused", async (_, files, code, file, reason) => {
    const error = await refusal(files);
    expect({ code: error.code, file: error.file }).toEqual({ code, file });
    expect(error.message).toMatch(reason);
  });
});

describe("a component's own folder", () => {
  it.each<[string, Files, string]>([
    ["_class_name", { "config.json": { _class_name: "AutoencoderTiny" } }, "AutoencoderTiny"],
    ["architectures", { "config.json": { architectures: ["CLIPTextModel"] } }, "CLIPTextModel"],
    ["a scheduler's config", { "scheduler_config.json": { _class_name: "LCMScheduler" } }, "LCMScheduler"],
    ["a tokenizer's config", { "tokenizer_config.json": { tokenizer_class: "CLIPTokenizer" } }, "CLIPTokenizer"],
  ])("says its class by %s", async (_, files, className) => {
    expect((await openComponentFolder(await folderWith(files))).className).toBe(className);
  });

  it("gives its weights", async () => {
    const files = {
      "config.json": { _class_name: "AutoencoderTiny" },
      "diffusion_pytorch_model.safetensors": zeroTensors({ "decoder.layers.1.weight": ["F16", [4]] }),
    };
    const component = await openComponentFolder(await folderWith(files));
    const weights = await component.weights();
    expect(weights.source).toBe("diffusion_pytorch_model.safetensors");
    await weights.close();
  });

  it.each<[string, Files, string, RegExp]>([
    ["without a config", { "readme.md": "" }, "weights-not-found", /^config.json: no such file/],
    ["without a class", { "config.json": {} }, "model-config", /^config.json: names no class/],
    [
      "of an unknown class",
      { "config.json": { _class_name: "Whisper" } },
      "model-class",
      /unknown class "Whisper"; known are/,
    ],
  ])("%s is refused", async (_, files, code, message) => {
    const error = await openComponentFolder(await folderWith(files)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toMatch(message);
  });
});
