/** The configuration of a UNet: its file's fields, checked. A ControlNet's has the same ones. */

import { z } from "zod";
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
    /** By level: the first attention of a layer reads the text as well, and none the picture alone (SDXS). */
    only_cross_attention: z.union([z.boolean(), size.levels(z.boolean())]).default(false),
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
      "only_cross_attention",
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

/** Throws `ModelConfigError` naming the field that is wrong or not supported; `component` is whose configuration it is. */
export function parseUnetConfig(config: unknown, component = "unet"): UnetConfig {
  return parseConfig(component, configSchema, config);
}

/** SDXL: pooled text and sizes are added to the time embedding. */
export function hasAddedConditions(config: UnetConfig): boolean {
  return config.addition_embed_type === "text_time";
}
/** Transformer layers of an attention of a level. */
export function depthOf(depths: Depths, level: number, attention: number): number {
  const ofLevel = typeof depths === "number" ? depths : (depths[level] ?? 0);
  return typeof ofLevel === "number" ? ofLevel : (ofLevel[attention] ?? 0);
}

export function atLevel<T extends number | boolean>(value: T | readonly T[], level: number): T {
  return Array.isArray(value) ? (value as readonly T[])[level]! : (value as T);
}
