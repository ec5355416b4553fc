/** Checkpoints of one file by names and shapes: the kind that each is found to be, and the configurations that follow. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { halves, safetensors, type Tensor } from "../../../test/checkpoints/tensors.ts";
import { originalTensors, type TinyModel, tinySd1, tinySd2, tinySdxl } from "../../../test/checkpoints/tiny-models.ts";
import { zeroTensors } from "../../../test/fixtures/safetensors-bytes.ts";
import { fileOf } from "../../platform/folder-files.ts";
import type { ModelDirectory } from "../../weights/model-directory.ts";
import { openFamily } from "../registry.ts";
import { openCheckpoint } from "./open-checkpoint.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-kinds-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function opened(
  tensors: readonly Tensor[],
  name: string,
  metadata?: Record<string, string>,
): Promise<ModelDirectory> {
  const path = join(root, `${name}.safetensors`);
  await writeFile(path, safetensors(tensors, metadata));
  return openCheckpoint(fileOf(path));
}

const MODELS = { sd1: tinySd1(), sd2: tinySd2(), sdxl: tinySdxl() };

it.each(Object.entries(MODELS))("the configurations of a folder follow from the shapes: %s", async (name, model) => {
  const directory = await opened(originalTensors(model), name);
  for (const [component, config] of Object.entries(model.configs)) {
    expect(directory.component(component)!.config, component).toMatchObject(asFound(config));
  }
  const { _class_name: className, ...scheduler } = model.scheduler as { _class_name: string };
  expect(directory.component("scheduler")).toMatchObject({ className, config: scheduler });
});

/** Depths stand by level in what is found. */
function asFound(config: object): object {
  return "block_out_channels" in config && "cross_attention_dim" in config
    ? { transformer_layers_per_block: [1, 1], ...config }
    : config;
}

it("every tensor of every component has its place: none is left over, and none is missing", async () => {
  for (const [name, model] of Object.entries(MODELS)) {
    const directory = await opened(originalTensors(model), name);
    for (const [component, tensors] of Object.entries(model.components)) {
      const set = await directory.component(component)!.weights();
      const names = [...set.names()].filter((one) => !one.endsWith("position_ids")).sort();
      expect(names).toEqual(tensors.map((tensor) => tensor.name).sort());
      await set.close();
    }
  }
});

/** Names of a file in which distilling has left out layers, and the others have kept their numbers of three a level. */
function withGaps(name: string): string {
  return name
    .replace(/input_blocks\.([123])\./, (_, block: string) => `input_blocks.${[0, 1, 3, 4][Number(block)]}.`)
    .replace(/output_blocks\.1\.([12])\.conv\./, "output_blocks.2.$1.conv.")
    .replace(/output_blocks\.([23])\.(?!\d\.conv\.)/, (_, block: string) => `output_blocks.${Number(block) + 1}.`);
}

it("a distilled UNet keeps its numbers, without a middle block's second half or without any", async () => {
  const expected = {
    block_out_channels: [32, 64],
    layers_per_block: 1,
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
  };
  const tensors = originalTensors(MODELS.sd1).map((tensor) => ({ ...tensor, name: withGaps(tensor.name) }));
  const names = new Set(tensors.map(({ name }) => name));
  expect(names.has("model.diffusion_model.output_blocks.2.1.conv.weight")).toBe(true);
  const whole = await opened(tensors, "tiny-sd");
  expect(whole.component("unet")!.config).toMatchObject({ ...expected, mid_block_type: "UNetMidBlock2DCrossAttn" });
  const set = await whole.component("unet")!.weights();
  expect([...set.names()].sort()).toEqual(MODELS.sd1.components.unet!.map(({ name }) => name).sort());
  await set.close();
  const half = await opened(
    tensors.filter(({ name }) => !/middle_block\.[12]\./.test(name)),
    "ssd",
  );
  expect(half.component("unet")!.config).toMatchObject({ ...expected, mid_block_type: "UNetMidBlock2D" });
  const none = await opened(
    tensors.filter(({ name }) => !/middle_block\./.test(name)),
    "bk-sdm",
  );
  expect(none.component("unet")!.config).toMatchObject({ ...expected, mid_block_type: null });
});

describe("what it is found to be", () => {
  const described = async (
    model: TinyModel,
    name: string,
    metadata?: Record<string, string>,
    more: readonly Tensor[] = [],
  ) => (await opened([...originalTensors(model), ...more], name, metadata)).description;

  it.each([
    ["photo", MODELS.sd1, "Stable Diffusion 1, one file (safetensors, F16), VAE in it"],
    ["landscape", MODELS.sdxl, "Stable Diffusion XL, one file (safetensors, F16), VAE in it"],
    ["v2-1_768", MODELS.sd2, "Stable Diffusion 2, v-prediction, one file (safetensors, F16), VAE in it"],
    ["v2-1_512-base", MODELS.sd2, "Stable Diffusion 2, one file (safetensors, F16), VAE in it"],
    ["noob_vpred", MODELS.sdxl, "Stable Diffusion XL, v-prediction, one file (safetensors, F16), VAE in it"],
  ])("%s", async (name, model, expected) => {
    expect(await described(model, name)).toBe(expected);
  });

  it("by its metadata and its markers", async () => {
    expect(await described(MODELS.sd1, "a", { "modelspec.predict_key": "v" })).toContain("v-prediction");
    expect(await described(MODELS.sd2, "b", { "modelspec.predict_key": "epsilon" })).not.toContain("v-prediction");
    const marked = await opened(
      [...originalTensors(MODELS.sdxl), halves("v_pred", [0], []), halves("ztsnr", [0], [])],
      "c",
    );
    expect(marked.component("scheduler")!.config).toMatchObject({
      prediction_type: "v_prediction",
      rescale_betas_zero_snr: true,
    });
    expect(await described(MODELS.sd2, "d", undefined, [halves("global_step", [1], [875_000])])).toContain(
      "v-prediction",
    );
  });

  it.each([
    ["sd_xl_turbo_1.0_fp16", "EulerAncestralDiscreteScheduler", { timestep_spacing: "trailing" }],
    ["dreamshaperXL_lightning", "EulerDiscreteScheduler", { timestep_spacing: "trailing" }],
    ["realistic-lcm", "LCMScheduler", {}],
    ["juggernautXL", "EulerDiscreteScheduler", { timestep_spacing: "leading" }],
  ])("the schedule of %s follows from its name", async (name, className, config) => {
    expect((await opened(originalTensors(MODELS.sdxl), name)).component("scheduler")).toMatchObject({
      className,
      config,
    });
  });
});

describe("a file that cannot be drawn with says what it is", () => {
  const refusal = async (tensors: Uint8Array, name: string) => {
    const path = join(root, `${name}.safetensors`);
    await writeFile(path, tensors);
    const error = await openFamily(fileOf(path)).then(
      () => expect.fail("should have been refused"),
      (thrown: unknown) => thrown as Error,
    );
    expect(error.message.split("\n")).toHaveLength(1);
    return error.message;
  };
  const zeros = (...names: string[]) => zeroTensors(Object.fromEntries(names.map((name) => [name, ["F16", [2]]])));

  it.each<[string, Uint8Array, RegExp]>([
    ["a LoRA", zeros("lora_unet_conv_in.lora_down.weight"), /is a LoRA, not a model: give it with --lora/],
    ["a VAE", zeros("decoder.conv_in.weight"), /is an autoencoder, not a model: give it with --vae/],
    [
      "FLUX",
      zeros("model.diffusion_model.double_blocks.0.img_mod.lin.bias"),
      /is a FLUX checkpoint, which is not supported/,
    ],
    [
      "Stable Diffusion 3",
      zeros("model.diffusion_model.joint_blocks.0.x_block.bias"),
      /is a Stable Diffusion 3 checkpoint/,
    ],
    ["Playground 2.5", zeros("edm_mean", "conv_in.weight"), /is a checkpoint of Playground 2.5's kind/],
    [
      "something else",
      zeros("layers.0.bias"),
      /has no UNet of Stable Diffusion: it holds weights of an unknown kind \(its first tensor is "layers.0.bias"\)/,
    ],
  ])("%s", async (name, content, said) => {
    expect(await refusal(content, name.replaceAll(" ", "-"))).toMatch(said);
  });

  const isOf = (prefix: RegExp) => (tensor: Tensor) => prefix.test(tensor.name);
  it("one without text encoders", async () => {
    const rest = originalTensors(MODELS.sd1).filter((tensor) => !isOf(/^cond_stage_model\./)(tensor));
    expect(await refusal(safetensors(rest), "no-text")).toMatch(
      /is Stable Diffusion 1, one file \(safetensors, F16\), VAE in it, without a text encoder; get the checkpoint that has/,
    );
  });

  it("one for inpainting", async () => {
    const wide = originalTensors(MODELS.sd1).map((tensor) =>
      tensor.name === "model.diffusion_model.input_blocks.0.0.weight"
        ? halves(tensor.name, [32, 9, 3, 3], new Float32Array(32 * 81))
        : tensor,
    );
    expect((await opened(wide, "sd-inpainting")).description).toMatch(/^Stable Diffusion 1, inpainting, one file/);
  });
});
