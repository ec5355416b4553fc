/**
 * UNet2DConditionModel: the denoiser of Stable Diffusion 1.x, 2.x, XL and of latent consistency models.
 *
 * Rombach et al. 2022 (arXiv 2112.10752); block and layer names are those of diffusers, and so are the shapes, in NHWC.
 * Reads like its diagram: down blocks, middle, up blocks with the skips taken from the other side. The vectors
 * that the blocks add for the timestep do not depend on the sample; a network of its own computes them:
 * `timeProjections`.
 */

import { z } from "zod";
import { headPadding, type Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor, type View } from "../graph/tensor.ts";
import { checkGroups, number, parseConfig, size } from "./config.ts";

/** Latents of a picture's side: 64 to 128. */
const side = z.number().int().positive().max(2048);
/** A vector of sines and cosines; of fewer than four numbers their frequencies are not defined. */
const sinusoids = size.channels.min(4);
/** Transformer layers of all levels together: SDXL has 70. Each is a score of operations to record and compile. */
const MOST_TRANSFORMER_LAYERS = 2048;

const perBlock = z.union([size.channels, size.levels(size.channels)]);
/** Transformer layers of each level; of each of a level's attentions, where distilling has left them different depths. */
const depth = z.number().int().nonnegative().max(256);
const depths = size.levels(z.union([depth, z.array(depth).min(1).max(33)]));
type Depths = number | z.infer<typeof depths>;

const MID_BLOCKS = ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"] as const;

const configSchema = z
  .object({
    in_channels: size.channels,
    out_channels: size.channels,
    block_out_channels: size.levels(size.channels),
    down_block_types: z.array(z.enum(["DownBlock2D", "CrossAttnDownBlock2D"])),
    up_block_types: z.array(z.enum(["UpBlock2D", "CrossAttnUpBlock2D"])),
    /** Null: there is none, as in BK-SDM-Small and Tiny. */
    mid_block_type: z.enum(MID_BLOCKS).nullable().default("UNetMidBlock2DCrossAttn"),
    layers_per_block: size.layersOfLevel.default(2),
    attention_head_dim: perBlock.default(8),
    num_attention_heads: perBlock.nullish(),
    transformer_layers_per_block: z.union([size.layers, depths]).default(1),
    cross_attention_dim: size.channels,
    norm_num_groups: size.channels.default(32),
    norm_eps: number.eps.default(1e-5),
    act_fn: z.literal("silu").default("silu"),
    use_linear_projection: z.boolean().default(false),
    flip_sin_to_cos: z.boolean().default(true),
    freq_shift: z.number().min(0).max(1).default(0),
    downsample_padding: z.literal(1).default(1),
    mid_block_scale_factor: z.literal(1).default(1),
    center_input_sample: z.literal(false).default(false),
    time_cond_proj_dim: sinusoids.nullish(),
    addition_embed_type: z.enum(["text_time"]).nullish(),
    addition_time_embed_dim: sinusoids.nullish(),
    projection_class_embeddings_input_dim: size.channels.nullish(),
    sample_size: z.union([side, z.array(side).length(2)]).nullish(),
    // Options of the reference that no model of these families uses; anything else would silently be another network.
    only_cross_attention: z.literal(false).default(false),
    dual_cross_attention: z.literal(false).default(false),
    class_embed_type: z.null().default(null),
    encoder_hid_dim: z.null().default(null),
    encoder_hid_dim_type: z.null().default(null),
    resnet_time_scale_shift: z.literal("default").default("default"),
    time_embedding_type: z.literal("positional").default("positional"),
    conv_in_kernel: z.literal(3).default(3),
    conv_out_kernel: z.literal(3).default(3),
    attention_type: z.literal("default").default("default"),
    reverse_transformer_layers_per_block: depths.nullable().default(null),
    resnet_skip_time_act: z.literal(false).default(false),
    resnet_out_scale_factor: z.literal(1).default(1),
    cross_attention_norm: z.null().default(null),
    time_embedding_act_fn: z.null().default(null),
    timestep_post_act: z.null().default(null),
  })
  .superRefine((config, context) => {
    const levels = config.block_out_channels.length;
    const fault = (field: keyof typeof config, message: string) =>
      context.addIssue({ code: "custom", path: [field], message });
    for (const field of ["down_block_types", "up_block_types"] as const) {
      if (config[field].length !== levels) fault(field, `names ${config[field].length} blocks for ${levels} levels`);
    }
    const perLevel = [
      "attention_head_dim",
      "num_attention_heads",
      "transformer_layers_per_block",
      "reverse_transformer_layers_per_block",
    ] as const;
    for (const field of perLevel) {
      const value = config[field];
      if (Array.isArray(value) && value.length !== levels)
        fault(field, `has ${value.length} entries for ${levels} levels`);
    }
    checkGroups(config, context);
    if (config.block_out_channels[0]! < 4) fault("block_out_channels", "has a first level of fewer than 4 channels");
    const { transformer_layers_per_block: down, reverse_transformer_layers_per_block: up, layers_per_block } = config;
    const differs = (entry: number | number[]) => typeof entry !== "number";
    if (Array.isArray(down) && down.some(differs) && up === null) {
      fault("reverse_transformer_layers_per_block", "is needed if transformer_layers_per_block differs within a level");
    }
    const lists = [
      { field: "transformer_layers_per_block", entries: down, attentions: layers_per_block },
      { field: "reverse_transformer_layers_per_block", entries: up, attentions: layers_per_block + 1 },
    ] as const;
    for (const { field, entries, attentions } of lists) {
      if (!Array.isArray(entries)) continue;
      const odd = entries.find((entry) => typeof entry !== "number" && entry.length !== attentions);
      if (Array.isArray(odd)) fault(field, `has a level of ${odd.length} entries for ${attentions} attentions`);
    }
    const transformers = config.block_out_channels.reduce((sum, _, level) => {
      // Findings about single fields are no reason for zod to stop before this.
      const layers = Array.from({ length: Math.min(layers_per_block, 32) + 1 }, (_, layer) => layer);
      const both = layers.map((layer) => depthOf(down, level, layer) + depthOf(up ?? down, level, layer));
      return both.reduce((a, b) => a + b, sum);
    }, 0);
    if (transformers > MOST_TRANSFORMER_LAYERS) {
      fault("transformer_layers_per_block", `makes ${transformers} layers, more than ${MOST_TRANSFORMER_LAYERS}`);
    }
    const heads = config.num_attention_heads ?? config.attention_head_dim;
    config.block_out_channels.forEach((channels, level) => {
      const crossed = level === levels - 1 || /^Cross/.test(config.down_block_types[level] ?? "");
      const count = Array.isArray(heads) ? heads[level] : heads;
      if (crossed && count && channels % count !== 0) {
        fault("attention_head_dim", `${channels} channels do not divide into ${count} heads`);
      }
    });
    if (config.addition_embed_type === "text_time") {
      for (const field of ["addition_time_embed_dim", "projection_class_embeddings_input_dim"] as const) {
        if (!config[field]) fault(field, "is needed for text_time conditions");
      }
    }
  });

export type UnetConfig = z.infer<typeof configSchema>;

/** Throws `ModelConfigError` naming the field that is wrong or not supported. */
export function parseUnetConfig(config: unknown): UnetConfig {
  return parseConfig("unet", configSchema, config);
}

/** SDXL: pooled text and sizes are added to the time embedding. */
export function hasAddedConditions(config: UnetConfig): boolean {
  return config.addition_embed_type === "text_time";
}

/** The UNet's inputs beside the sample; `rows` is the batch. */
export interface UnetInputs {
  /** `[rows, h, w, in_channels]` */
  readonly sample: Tensor;
  /** The ResNet blocks' addends for each row's timestep, side by side: `timeProjections`. */
  readonly time: Tensor;
  /** `[rows, tokens, cross_attention_dim]` */
  readonly text: Tensor;
}

/** The inputs from which the blocks' addends for the timestep follow. */
export interface TimeInputs {
  /** Sinusoids of timesteps, `[n, block_out_channels[0]]` or `[n, steps, block_out_channels[0]]`: `timestepSinusoids`. */
  readonly timesteps: Tensor;
  /** LCM: the embedding of the guidance scale, `[n, time_cond_proj_dim]`. */
  readonly guidance?: Tensor;
  /** SDXL: pooled text and size sinusoids side by side, `[n, projection_class_embeddings_input_dim]`. */
  readonly added?: Tensor;
}

/** `sample` → the prediction, `[rows, h, w, out_channels]`. */
export function unet(g: Recorder, config: UnetConfig, inputs: UnetInputs): Tensor {
  const { block_out_channels: channels, layers_per_block: layers } = config;
  const levels = channels.length;
  const time = additionsOf(inputs.time, config).values();
  const nextTime = () => time.next().value!;

  let x = g.conv2d(inputs.sample, "conv_in", { outputs: channels[0]!, padding: 1 });
  const skips = [x];

  config.down_block_types.forEach((type, level) => {
    g.scope(`down_blocks.${level}`, () => {
      for (let layer = 0; layer < layers; layer++) {
        x = resnetBlock(g, x, nextTime(), `resnets.${layer}`, channels[level]!, config);
        if (type === "CrossAttnDownBlock2D") {
          const depth = depthOf(config.transformer_layers_per_block, level, layer);
          x = transformer(g, x, inputs.text, { name: `attentions.${layer}`, level, depth }, config);
        }
        skips.push(x);
      }
      if (level < levels - 1) {
        x = g.conv2d(x, "downsamplers.0.conv", { outputs: channels[level]!, stride: 2, padding: 1 });
        skips.push(x);
      }
    });
  });

  g.scope("mid_block", () => {
    const deepest = channels[levels - 1]!;
    if (config.mid_block_type === null) return;
    x = resnetBlock(g, x, nextTime(), "resnets.0", deepest, config);
    if (config.mid_block_type === "UNetMidBlock2D") return;
    const depth = depthOf(config.transformer_layers_per_block, levels - 1, 0);
    x = transformer(g, x, inputs.text, { name: "attentions.0", level: levels - 1, depth }, config);
    x = resnetBlock(g, x, nextTime(), "resnets.1", deepest, config);
  });

  config.up_block_types.forEach((type, block) => {
    const level = levels - 1 - block;
    g.scope(`up_blocks.${block}`, () => {
      for (let layer = 0; layer < layers + 1; layer++) {
        x = resnetBlock(g, g.concat(x, skips.pop()!), nextTime(), `resnets.${layer}`, channels[level]!, config);
        if (type === "CrossAttnUpBlock2D") {
          const { transformer_layers_per_block: down, reverse_transformer_layers_per_block: up } = config;
          const depth = up ? depthOf(up, block, layer) : depthOf(down, level, layer);
          x = transformer(g, x, inputs.text, { name: `attentions.${layer}`, level, depth }, config);
        }
      }
      if (level > 0) {
        // The size of the skip it will meet, which is not twice its own where a size on the way down was odd.
        const [, height, width] = skips.at(-1)!.shape as [number, number, number];
        x = g.upsampleNearest(x, "upsamplers.0", { height, width });
        x = g.conv2d(x, "upsamplers.0.conv", { outputs: channels[level]!, padding: 1 });
      }
    });
  });

  x = g.groupNorm(x, "conv_norm_out", { groups: config.norm_num_groups, eps: config.norm_eps });
  return g.conv2d(g.activation(x, "silu"), "conv_out", { outputs: config.out_channels, padding: 1 });
}

/**
 * The addends of each ResNet block's channels for a timestep: `[…, Σ channels]` of timesteps `[…, block_out_channels[0]]`,
 * the blocks side by side in their order.
 */
export function timeProjections(g: Recorder, config: UnetConfig, inputs: TimeInputs): Tensor {
  const embedding = g.activation(timeEmbedding(g, config, inputs), "silu");
  const blocks = resnetBlocks(config);
  const layers = blocks.map(({ name }) => `${name}.time_emb_proj`);
  return g.linear(embedding, layers, { outputs: blocks.map(({ channels }) => channels), name: "time_emb_proj" });
}

/** The ResNet blocks in the order that they run in, and the channels that each gives. */
function resnetBlocks({ block_out_channels: levels, layers_per_block: layers, mid_block_type: mid }: UnetConfig) {
  const blocks = (scope: string, count: number, channels: number) =>
    Array.from({ length: count }, (_, layer) => ({ name: `${scope}.resnets.${layer}`, channels }));
  return [
    ...levels.flatMap((channels, level) => blocks(`down_blocks.${level}`, layers, channels)),
    ...blocks("mid_block", mid === null ? 0 : mid === "UNetMidBlock2D" ? 1 : 2, levels.at(-1)!),
    ...[...levels].reverse().flatMap((channels, block) => blocks(`up_blocks.${block}`, layers + 1, channels)),
  ];
}

/** Each block's part of `timeProjections`. */
function additionsOf(tensor: Tensor, config: UnetConfig): View[] {
  let end = 0;
  return resnetBlocks(config).map(({ channels }) => {
    const offset = end;
    end += channels;
    return { tensor, offset };
  });
}

/** Timestep, guidance scale and added conditions into one vector each, `[…, 4 · block_out_channels[0]]`. */
function timeEmbedding(g: Recorder, config: UnetConfig, { timesteps, guidance, added }: TimeInputs): Tensor {
  const outputs = config.block_out_channels[0]! * 4;
  let x = timesteps;
  if (guidance) {
    const projected = g.linear(guidance, "time_embedding.cond_proj", { outputs: channelsOf(timesteps), bias: false });
    x = g.add(timesteps, projected, "time_embedding.cond_proj");
  }
  const perceptron = (input: Tensor, name: string) => {
    const hidden = g.activation(g.linear(input, `${name}.linear_1`, { outputs }), "silu");
    return g.linear(hidden, `${name}.linear_2`, { outputs });
  };
  const time = perceptron(x, "time_embedding");
  return added ? g.add(time, perceptron(added, "add_embedding"), "add_embedding") : time;
}

function resnetBlock(g: Recorder, x: Tensor, time: View, name: string, outputs: number, config: UnetConfig): Tensor {
  const norm = { groups: config.norm_num_groups, eps: config.norm_eps };
  return g.scope(name, () => {
    let h = g.activation(g.groupNorm(x, "norm1", norm), "silu");
    h = g.conv2d(h, "conv1", { outputs, padding: 1 });
    h = g.add(h, time, "time_emb_proj");
    h = g.activation(g.groupNorm(h, "norm2", norm), "silu");
    h = g.conv2d(h, "conv2", { outputs, padding: 1 });
    const shortcut = channelsOf(x) === outputs ? x : g.conv2d(x, "conv_shortcut", { outputs, kernel: 1 });
    return g.add(shortcut, h);
  });
}

/** Transformer2DModel: a picture's pixels as tokens, through blocks of self-attention, cross-attention and feed-forward. */
function transformer(
  g: Recorder,
  x: Tensor,
  text: Tensor,
  { name, level, depth }: { readonly name: string; readonly level: number; readonly depth: number },
  config: UnetConfig,
): Tensor {
  const channels = channelsOf(x);
  // `attention_head_dim` is, for historical reasons, the number of heads.
  const heads = at(config.num_attention_heads ?? config.attention_head_dim, level);
  const [n, h, w] = x.shape as [number, number, number];
  const asConvolution = !config.use_linear_projection;
  return g.scope(name, () => {
    let tokens = g.groupNorm(x, "norm", { groups: config.norm_num_groups, eps: 1e-6 });
    tokens = g.linear(tokens, "proj_in", { outputs: channels, asConvolution });
    for (let block = 0; block < depth; block++) {
      tokens = g.scope(`transformer_blocks.${block}`, () => transformerBlock(g, tokens, text, heads));
    }
    tokens = g.linear(tokens, "proj_out", { outputs: channels, asConvolution });
    return g.reshape(g.add(tokens, x), [n, h, w, channels]);
  });
}

function transformerBlock(g: Recorder, x: Tensor, text: Tensor, heads: number): Tensor {
  const channels = channelsOf(x);
  const head = headPadding(channels / heads);
  const inner = heads * head.padded;
  const norm = { eps: 1e-5 };

  let h = g.layerNorm(x, "norm1", norm);
  const qkv = g.scope("attn1", () =>
    g.linear(h, ["to_q", "to_k", "to_v"], { outputs: [channels, channels, channels], bias: false, outputHead: head }),
  );
  h = g.attention(
    "attn1",
    {
      query: { tensor: qkv, offset: 0 },
      key: { tensor: qkv, offset: inner },
      value: { tensor: qkv, offset: 2 * inner },
    },
    { heads, head },
  );
  x = g.add(g.linear(h, "attn1.to_out.0", { outputs: channels, inputHead: head }), x);

  h = g.layerNorm(x, "norm2", norm);
  const query = g.linear(h, "attn2.to_q", { outputs: channels, bias: false, outputHead: head });
  const kv = g.scope("attn2", () =>
    g.linear(text, ["to_k", "to_v"], { outputs: [channels, channels], bias: false, outputHead: head }),
  );
  h = g.attention(
    "attn2",
    { query: { tensor: query, offset: 0 }, key: { tensor: kv, offset: 0 }, value: { tensor: kv, offset: inner } },
    { heads, head },
  );
  x = g.add(g.linear(h, "attn2.to_out.0", { outputs: channels, inputHead: head }), x);

  h = g.layerNorm(x, "norm3", norm);
  h = g.geglu(g.linear(h, "ff.net.0.proj", { outputs: channels * 8 }), "ff.net.0");
  return g.add(g.linear(h, "ff.net.2", { outputs: channels }), x);
}

/** Transformer layers of an attention of a level. */
function depthOf(depths: Depths, level: number, attention: number): number {
  const ofLevel = typeof depths === "number" ? depths : (depths[level] ?? 0);
  return typeof ofLevel === "number" ? ofLevel : (ofLevel[attention] ?? 0);
}

function at(value: number | readonly number[], level: number): number {
  return typeof value === "number" ? value : value[level]!;
}

/**
 * Sinusoids of timesteps, `[timesteps, width]`: `cos(t·f_i) ‖ sin(t·f_i)` where `flip` (as all these models have it),
 * `f_i = 10000^(−i / (width/2 − freqShift))` (Vaswani et al. 2017; diffusers' `get_timestep_embedding`).
 * Rounded to f32 where the reference rounds: at t = 999 an f32 angle is 3e-5 away from the exact one.
 */
export function timestepSinusoids(
  timesteps: ArrayLike<number>,
  width: number,
  { flip = true, freqShift = 0 }: { flip?: boolean; freqShift?: number } = {},
): Float32Array {
  const f32 = Math.fround;
  const half = Math.floor(width / 2);
  const values = new Float32Array(timesteps.length * width);
  for (let row = 0; row < timesteps.length; row++) {
    for (let i = 0; i < half; i++) {
      const exponent = f32(f32(f32(-Math.log(10000)) * i) / (half - freqShift));
      const angle = f32(f32(timesteps[row]!) * f32(Math.exp(exponent)));
      values[row * width + i] = flip ? Math.cos(angle) : Math.sin(angle);
      values[row * width + half + i] = flip ? Math.sin(angle) : Math.cos(angle);
    }
  }
  return values;
}

/**
 * LCM's embedding of the guidance scale w = scale − 1, `[1, width]`: `sin ‖ cos` of `1000 · w · f_i`,
 * `f_i = 10000^(−i / (width/2 − 1))` (Luo et al. 2023, arXiv 2310.04378; diffusers' `get_guidance_scale_embedding`).
 */
export function guidanceEmbedding(guidanceScale: number, width: number): Float32Array {
  return timestepSinusoids([1000 * (guidanceScale - 1)], width, { flip: false, freqShift: 1 });
}
