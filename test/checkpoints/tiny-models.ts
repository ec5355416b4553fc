/**
 * Tiny models with seeded weights, as a folder in diffusers' layout and as the tensors of one file in the original layout.
 * The original names are made here from diffusers' by the rules of its own script to convert back
 * (`convert_diffusers_to_original_stable_diffusion.py`), so that they owe nothing to the product's.
 */

import { UnetStep } from "../../src/families/unet-step.ts";
import { Recorder } from "../../src/graph/recorder.ts";
import { autoencoder } from "../../src/models/autoencoder.ts";
import { clipText, parseClipTextConfig } from "../../src/models/clip.ts";
import { parseUnetConfig } from "../../src/models/unet-config.ts";
import { normals } from "../generated-weights.ts";
import { halves, safetensors, type Tensor } from "./tensors.ts";

export interface TinyModel {
  /** By component, under diffusers' names. */
  readonly components: Readonly<Record<string, readonly Tensor[]>>;
  readonly configs: Readonly<Record<string, object>>;
  readonly index: object;
  readonly scheduler: object;
}

const BETAS = { num_train_timesteps: 1000, beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" };
/** Rows of CLIP's table: its vocabulary is the package's own. */
const VOCABULARY = 49_408;
const LAYERS = 1;
/** Values that are drawn for a tensor; a table of words repeats them, and being prime, at another column each time. */
const DRAWN = 65_521;

const VAE = {
  _class_name: "AutoencoderKL",
  latent_channels: 4,
  block_out_channels: [32, 32],
  layers_per_block: 1,
};

function clip(layers: number, activation: string, projection?: number) {
  return {
    architectures: [projection === undefined ? "CLIPTextModel" : "CLIPTextModelWithProjection"],
    vocab_size: VOCABULARY,
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: layers,
    num_attention_heads: 1,
    max_position_embeddings: 77,
    hidden_act: activation,
    eos_token_id: 2,
    ...(projection !== undefined && { projection_dim: projection }),
  };
}

/** A model like Stable Diffusion 1. */
export function tinySd1(change: object = {}): TinyModel {
  const unet = {
    ...unetOf([32, 64], { heads: 8, linear: false, text: 64, attentions: [true, false] }),
    sample_size: 64,
    ...change,
  };
  return model(
    "StableDiffusionPipeline",
    { unet, vae: { ...VAE, scaling_factor: 0.18215 }, text_encoder: clip(1, "quick_gelu") },
    { _class_name: "PNDMScheduler", ...BETAS, steps_offset: 1, skip_prk_steps: true, set_alpha_to_one: false },
  );
}

/** A model like Stable Diffusion 2: linear projections, velocities. */
export function tinySd2(): TinyModel {
  const unet = {
    ...unetOf([64, 64], { heads: [1, 1], linear: true, text: 64, attentions: [true, false] }),
    sample_size: 96,
  };
  return model(
    "StableDiffusionPipeline",
    { unet, vae: { ...VAE, scaling_factor: 0.18215 }, text_encoder: clip(1, "gelu") },
    {
      _class_name: "DDIMScheduler",
      ...BETAS,
      steps_offset: 1,
      clip_sample: false,
      set_alpha_to_one: false,
      prediction_type: "v_prediction",
    },
  );
}

/** A model like Stable Diffusion XL: two text encoders, sizes, no attention at the largest level. */
export function tinySdxl(): TinyModel {
  const unet = {
    ...unetOf([32, 64], { heads: [1, 1], linear: true, text: 128, attentions: [false, true] }),
    transformer_layers_per_block: [1, 2],
    addition_embed_type: "text_time",
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 32 + 6 * 256,
    sample_size: 128,
  };
  return model(
    "StableDiffusionXLPipeline",
    {
      unet,
      vae: { ...VAE, scaling_factor: 0.13025 },
      text_encoder: clip(1, "quick_gelu"),
      text_encoder_2: clip(2, "gelu", 32),
    },
    { _class_name: "EulerDiscreteScheduler", ...BETAS, steps_offset: 1, timestep_spacing: "leading" },
  );
}

interface UnetShape {
  readonly heads: number | readonly number[];
  readonly linear: boolean;
  readonly text: number;
  /** By level. */
  readonly attentions: readonly boolean[];
}

function unetOf(channels: readonly number[], { heads, linear, text, attentions }: UnetShape) {
  return {
    _class_name: "UNet2DConditionModel",
    in_channels: 4,
    out_channels: 4,
    block_out_channels: channels,
    layers_per_block: LAYERS,
    down_block_types: attentions.map((has) => (has ? "CrossAttnDownBlock2D" : "DownBlock2D")),
    up_block_types: [...attentions].reverse().map((has) => (has ? "CrossAttnUpBlock2D" : "UpBlock2D")),
    attention_head_dim: heads,
    use_linear_projection: linear,
    cross_attention_dim: text,
  };
}

function model(pipeline: string, configs: Readonly<Record<string, object>>, scheduler: object): TinyModel {
  const components = Object.fromEntries(
    Object.entries(configs).map(([name, config], index) => [name, weightsOf(name, config, 100 * index)]),
  );
  const encoders = Object.keys(configs).filter((name) => name.startsWith("text_encoder"));
  const index = {
    _class_name: pipeline,
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
    scheduler: ["diffusers", (scheduler as { _class_name: string })._class_name],
    ...Object.fromEntries(
      encoders.flatMap((name) => [
        [name, ["transformers", (configs[name] as { architectures: string[] }).architectures[0]]],
        [name.replace("text_encoder", "tokenizer"), ["transformers", "CLIPTokenizer"]],
      ]),
    ),
  };
  return { components, configs, index, scheduler };
}

function weightsOf(component: string, config: object, seed: number): Tensor[] {
  const parts = parametersOf(component, config).flatMap((parameter) => parameter.parts);
  return parts.map(({ name, shape }, index) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const inputs = shape.slice(1).reduce((product, size) => product * size, 1);
    const values = normals(Math.min(count, DRAWN), seed + index, shape.length > 1 ? 1 / Math.sqrt(inputs) : 0.1);
    if (/norm.*\.weight$/.test(name)) for (let i = 0; i < count; i++) values[i]! += 1;
    const tensor = halves(name, shape, values);
    return { ...tensor, bytes: repeated(tensor.bytes, 2 * count) };
  });
}

function repeated(bytes: Uint8Array, length: number): Uint8Array {
  const all = new Uint8Array(length);
  for (let at = 0; at < length; at += bytes.length) all.set(bytes.subarray(0, length - at), at);
  return all;
}

function parametersOf(component: string, config: object) {
  if (component === "unet") return new UnetStep(parseUnetConfig(config), 77).parameters();
  const g = new Recorder();
  if (component === "vae") {
    const coder = autoencoder({ className: "AutoencoderKL", config: config as Record<string, unknown> });
    coder.decode(g, g.input("latents", [1, 8, 8, coder.latentChannels]));
    coder.encode(g, g.input("picture", [1, 16, 16, 3]));
  } else {
    const parsed = parseClipTextConfig(component, config);
    const encoded = clipText(g, parsed, g.input("ids", [77], { element: "u32" }), 1);
    if (parsed.withProjection) encoded.pooled(g.input("end", [1], { element: "u32" }));
  }
  return [...g.parameters.values()];
}

/** The files of the model's folder; `tokenizer` are those of the one that all its encoders read. */
export function folderOf(
  { components, configs, index, scheduler }: TinyModel,
  tokenizers: Readonly<Record<string, Readonly<Record<string, string>>>>,
): Record<string, Uint8Array | string> {
  const files: Record<string, Uint8Array | string> = {
    "model_index.json": JSON.stringify(index),
    "scheduler/scheduler_config.json": JSON.stringify(scheduler),
  };
  for (const [name, tensors] of Object.entries(components)) {
    const stem = name.startsWith("text_encoder") ? "model" : "diffusion_pytorch_model";
    files[`${name}/config.json`] = JSON.stringify(configs[name]);
    files[`${name}/${stem}.safetensors`] = safetensors(tensors);
  }
  for (const [folder, contents] of Object.entries(tokenizers)) {
    for (const [name, content] of Object.entries(contents)) files[`${folder}/${name}`] = content;
  }
  return files;
}

/** All tensors under the names of one file, with some that a reader must leave alone. */
export function originalTensors({ components, index }: TinyModel): Tensor[] {
  const isXl = "text_encoder_2" in index;
  const isOpen =
    !isXl && components.unet!.some(({ name, shape }) => /proj_in\.weight$/.test(name) && shape.length === 2);
  const clipPrefix = isXl ? "conditioner.embedders.0.transformer." : "cond_stage_model.transformer.";
  const unetPrefix = "model.diffusion_model.";
  // The upsampler stands behind the attention, if its level has one.
  const upsampler = components.unet!.some(({ name }) => name.startsWith("up_blocks.0.attentions.")) ? 2 : 1;
  const positions = new Uint8Array(BigInt64Array.from({ length: 77 }, (_, i) => BigInt(i)).buffer);
  const ids: Tensor = {
    name: `${clipPrefix}text_model.embeddings.position_ids`,
    type: "I64",
    shape: [1, 77],
    bytes: positions,
  };
  return [
    ...components.unet!.map((tensor) => ({ ...tensor, name: unetPrefix + unetName(tensor.name, upsampler) })),
    ...components.vae!.map((tensor) => vaeTensor(tensor)),
    ...(isOpen
      ? openClip(components.text_encoder!, "cond_stage_model.model.", 2)
      : components.text_encoder!.map((tensor) => ({ ...tensor, name: clipPrefix + tensor.name }))),
    ...(isXl ? openClip(components.text_encoder_2!, "conditioner.embedders.1.model.", 2) : []),
    ...(isOpen ? [] : [ids]),
    halves("model_ema.decay", [], [0.5]),
  ];
}

const PER_LEVEL = LAYERS + 1;

const RESNET: Readonly<Record<string, string>> = {
  norm1: "in_layers.0",
  conv1: "in_layers.2",
  time_emb_proj: "emb_layers.1",
  norm2: "out_layers.0",
  conv2: "out_layers.3",
  conv_shortcut: "skip_connection",
};

function unetName(name: string, upsampler: number): string {
  const fixed = name
    .replace(/^time_embedding\.linear_1/, "time_embed.0")
    .replace(/^time_embedding\.linear_2/, "time_embed.2")
    .replace(/^add_embedding\.linear_1/, "label_emb.0.0")
    .replace(/^add_embedding\.linear_2/, "label_emb.0.2")
    .replace(/^conv_in/, "input_blocks.0.0")
    .replace(/^conv_norm_out/, "out.0")
    .replace(/^conv_out/, "out.2");
  if (fixed !== name) return fixed;
  const [, side, block = "0", part, index, rest] =
    /^(down|mid|up)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(name) ?? [];
  const [level, layer] = [Number(block), Number(index)];
  const inner = part === "resnets" ? rest!.replace(/^\w+/, (own) => RESNET[own]!) : rest!;
  if (side === "mid") return `middle_block.${part === "attentions" ? 1 : 2 * layer}.${inner}`;
  if (side === "down") {
    if (part === "downsamplers") return `input_blocks.${PER_LEVEL * (level + 1)}.0.op${rest!.replace(/^conv/, "")}`;
    return `input_blocks.${PER_LEVEL * level + layer + 1}.${part === "resnets" ? 0 : 1}.${inner}`;
  }
  if (part === "upsamplers") return `output_blocks.${PER_LEVEL * level + LAYERS}.${upsampler}.${rest}`;
  return `output_blocks.${PER_LEVEL * level + layer}.${part === "resnets" ? 0 : 1}.${inner}`;
}

function vaeTensor(tensor: Tensor): Tensor {
  const levels = 2;
  const name = tensor.name
    .replace(/mid_block\.resnets\.(\d)/, (_, i: string) => `mid.block_${Number(i) + 1}`)
    .replace(/mid_block\.attentions\.0/, "mid.attn_1")
    .replace(/down_blocks\.(\d)\.resnets\.(\d)/, "down.$1.block.$2")
    .replace(/down_blocks\.(\d)\.downsamplers\.0/, "down.$1.downsample")
    .replace(/up_blocks\.(\d)\.resnets\.(\d)/, (_, i: string, j: string) => `up.${levels - 1 - Number(i)}.block.${j}`)
    .replace(/up_blocks\.(\d)\.upsamplers\.0/, (_, i: string) => `up.${levels - 1 - Number(i)}.upsample`)
    .replace("conv_norm_out", "norm_out")
    .replace("conv_shortcut", "nin_shortcut")
    .replace("group_norm", "norm")
    .replace("to_out.0", "proj_out")
    .replace(/to_([qkv])\./, "$1.");
  const isProjection = /attn_1\.(?:[qkv]|proj_out)\.weight$/.test(name);
  return { ...tensor, name: `first_stage_model.${name}`, shape: isProjection ? [...tensor.shape, 1, 1] : tensor.shape };
}

const OPEN_CLIP: Readonly<Record<string, string>> = {
  layer_norm1: "ln_1",
  layer_norm2: "ln_2",
  "mlp.fc1": "mlp.c_fc",
  "mlp.fc2": "mlp.c_proj",
  "self_attn.out_proj": "attn.out_proj",
};

/** @param layers of the file; those beyond the encoder's are copies of its last, which nothing reads */
function openClip(tensors: readonly Tensor[], prefix: string, layers: number): Tensor[] {
  const find = (name: string) => tensors.find((tensor) => tensor.name === name);
  const own = tensors.filter(({ name }) => /layers\.\d+\.layer_norm1\.weight$/.test(name)).length;
  const all: Tensor[] = [];
  const add = (tensor: Tensor | undefined, name: string) => {
    if (tensor) all.push({ ...tensor, name: prefix + name });
  };
  add(find("text_model.embeddings.token_embedding.weight"), "token_embedding.weight");
  add(find("text_model.embeddings.position_embedding.weight"), "positional_embedding");
  for (const end of ["weight", "bias"]) add(find(`text_model.final_layer_norm.${end}`), `ln_final.${end}`);
  for (let layer = 0; layer < layers; layer++) {
    const from = `text_model.encoder.layers.${Math.min(layer, own - 1)}`;
    const to = `transformer.resblocks.${layer}`;
    for (const end of ["weight", "bias"]) {
      for (const [name, other] of Object.entries(OPEN_CLIP))
        add(find(`${from}.${name}.${end}`), `${to}.${other}.${end}`);
      const parts = ["q_proj", "k_proj", "v_proj"].map((part) => find(`${from}.self_attn.${part}.${end}`)!);
      const [rows, ...rest] = parts[0]!.shape;
      const bytes = Buffer.concat(parts.map((part) => part.bytes));
      all.push({ ...parts[0]!, name: `${prefix}${to}.attn.in_proj_${end}`, shape: [3 * rows!, ...rest], bytes });
    }
  }
  const projection = find("text_projection.weight");
  if (projection) all.push({ ...transposed(projection), name: `${prefix}text_projection` });
  else all.push(halves(`${prefix}text_projection`, [64, 64], new Float32Array(64 * 64)));
  all.push(halves(`${prefix}logit_scale`, [], [4.6]));
  return all;
}

function transposed(tensor: Tensor): Tensor {
  const [rows, columns] = tensor.shape as [number, number];
  const from = new Uint16Array(tensor.bytes.slice().buffer);
  const to = new Uint16Array(from.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) to[column * rows + row] = from[row * columns + column]!;
  return { ...tensor, shape: [columns, rows], bytes: new Uint8Array(to.buffer) };
}
