/**
 * Configurations that a checkpoint of one file lacks, from the names and shapes of its tensors (in diffusers' layout). Numbers
 * that shapes do not say are those of the published models: 32 groups, 8 heads or heads 64 wide.
 */

import { ModelConfigError } from "../../models/config.ts";
import { numbersIn } from "./names.ts";

/** Shapes by the names of `src/models`. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

export type Config = Record<string, unknown>;

/** Width of a head where projections are linear: Stable Diffusion 2 and XL. Version 1 has 8 heads everywhere. */
const HEAD_WIDTH = 64;
const HEADS = 8;
/** CLIP's heads. */
const CLIP_HEAD_WIDTH = 64;
/** Numbers for each of SDXL's size conditions. */
const SIZE_WIDTH = 256;

const size = (shapes: Shapes, name: string, axis: number): number | undefined => shapes.get(name)?.[axis];

/** The configuration of a UNet. @throws ModelConfigError if the shapes are not those of one */
export function unetConfig(shapes: Shapes): Config {
  const names = [...shapes.keys()];
  const levels = numbersIn(names, /^down_blocks\.(\d+)\./).length;
  const channels = Array.from({ length: levels }, (_, level) => {
    const name = `down_blocks.${level}.resnets.0.conv1.weight`;
    return size(shapes, name, 0) ?? missing("unet", name);
  });
  const layers = numbersIn(names, /^down_blocks\.0\.resnets\.(\d+)\./).length;
  const hasAttention = (block: string) => names.some((name) => name.startsWith(`${block}.attentions.`));
  const isLinear = names.some((name) => /\.proj_in\.weight$/.test(name) && shapes.get(name)!.length === 2);
  const keys = names.find((name) => name.endsWith(".attn2.to_k.weight"));
  const width = keys === undefined ? missing("unet", "attn2.to_k.weight") : shapes.get(keys)![1]!;
  const sizes = size(shapes, "add_embedding.linear_1.weight", 1);
  const blocks = (side: "down" | "up") => Array.from({ length: levels }, (_, block) => `${side}_blocks.${block}`);
  return {
    _class_name: "UNet2DConditionModel",
    in_channels: size(shapes, "conv_in.weight", 1) ?? missing("unet", "conv_in.weight"),
    out_channels: size(shapes, "conv_out.weight", 0) ?? missing("unet", "conv_out.weight"),
    block_out_channels: channels,
    layers_per_block: layers,
    down_block_types: blocks("down").map((block) => (hasAttention(block) ? "CrossAttnDownBlock2D" : "DownBlock2D")),
    up_block_types: blocks("up").map((block) => (hasAttention(block) ? "CrossAttnUpBlock2D" : "UpBlock2D")),
    mid_block_type: midBlockType(names),
    ...depths(names, levels, layers),
    attention_head_dim: isLinear ? channels.map((count) => Math.max(1, Math.floor(count / HEAD_WIDTH))) : HEADS,
    use_linear_projection: isLinear,
    cross_attention_dim: width,
    ...onlyCrossAttention(shapes, channels, width),
    time_cond_proj_dim: size(shapes, "time_embedding.cond_proj.weight", 1) ?? null,
    ...(sizes !== undefined && {
      addition_embed_type: "text_time",
      addition_time_embed_dim: SIZE_WIDTH,
      projection_class_embeddings_input_dim: sizes,
    }),
  };
}

function midBlockType(names: readonly string[]): string | null {
  if (!names.some((name) => name.startsWith("mid_block."))) return null;
  return names.some((name) => name.startsWith("mid_block.attentions.")) ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D";
}

/** Transformer layers of each attention, as numbers where a level's are the same. */
function depths(names: readonly string[], levels: number, layers: number): Config {
  const depthOf = (attention: string) =>
    numbersIn(
      names.filter((name) => name.startsWith(`${attention}.`)),
      /\.transformer_blocks\.(\d+)\./,
    ).length;
  const ofBlock = (block: string, attentions: number): number[] | undefined =>
    names.some((name) => name.startsWith(`${block}.attentions.`))
      ? Array.from({ length: attentions }, (_, layer) => depthOf(`${block}.attentions.${layer}`))
      : undefined;
  const middle = depthOf("mid_block.attentions.0");
  const down = Array.from({ length: levels }, (_, level) => ofBlock(`down_blocks.${level}`, layers));
  const up = Array.from({ length: levels }, (_, block) => ofBlock(`up_blocks.${block}`, layers + 1));
  // The middle block takes the depth of the last level, which may have no attention of its own.
  const brief = (entry: number[] | undefined, level: number) =>
    entry === undefined ? (level === levels - 1 && middle > 0 ? middle : 1) : isSame(entry) ? entry[0]! : entry;
  const downwards = down.map(brief);
  const upwards = up.map((entry, block) => (entry === undefined ? 1 : brief(entry, levels - 1 - block)));
  const isMirrored = upwards.every((entry, block) => {
    return up[block] === undefined || (typeof entry === "number" && entry === downwards[levels - 1 - block]);
  });
  return {
    transformer_layers_per_block: downwards,
    ...(!isMirrored && { reverse_transformer_layers_per_block: upwards }),
  };
}

function isSame(entries: readonly number[]): boolean {
  return entries.every((entry) => entry === entries[0]);
}

/** Levels whose first attention reads the text too (SDXS 0.9), told by the width of its keys. */
function onlyCrossAttention(shapes: Shapes, channels: readonly number[], width: number): Config {
  const levels = channels.map((count, level) => {
    const keys = size(shapes, `down_blocks.${level}.attentions.0.transformer_blocks.0.attn1.to_k.weight`, 1);
    return keys !== undefined && keys === width && keys !== count;
  });
  return levels.some(Boolean) ? { only_cross_attention: levels } : {};
}

/** The configuration of an autoencoder, but for its scaling factor. @throws ModelConfigError */
export function vaeConfig(shapes: Shapes): Config {
  const names = [...shapes.keys()];
  const levels = numbersIn(names, /^encoder\.down_blocks\.(\d+)\./).length;
  const input = "decoder.conv_in.weight";
  return {
    _class_name: "AutoencoderKL",
    latent_channels: size(shapes, input, 1) ?? missing("vae", input),
    block_out_channels: Array.from({ length: levels }, (_, level) => {
      const name = `encoder.down_blocks.${level}.resnets.0.conv1.weight`;
      return size(shapes, name, 0) ?? missing("vae", name);
    }),
    layers_per_block: numbersIn(names, /^encoder\.down_blocks\.0\.resnets\.(\d+)\./).length,
    mid_block_add_attention: names.some((name) => name.startsWith("decoder.mid_block.attentions.")),
    use_quant_conv: shapes.has("quant_conv.weight"),
    use_post_quant_conv: shapes.has("post_quant_conv.weight"),
  };
}

/** The configuration of a CLIP text encoder, by transformers' names. @throws ModelConfigError */
export function clipConfig(
  component: string,
  shapes: Shapes,
  { activation, withProjection }: { readonly activation: "quick_gelu" | "gelu"; readonly withProjection: boolean },
): Config {
  const find = (ending: string) => {
    const name = [...shapes.keys()].find((one) => one.endsWith(ending));
    return name === undefined ? missing(component, ending) : shapes.get(name)!;
  };
  const [vocabulary, hidden] = find("embeddings.token_embedding.weight") as [number, number];
  const projection = withProjection ? find("text_projection.weight")[0] : undefined;
  return {
    architectures: [withProjection ? "CLIPTextModelWithProjection" : "CLIPTextModel"],
    vocab_size: vocabulary,
    hidden_size: hidden,
    intermediate_size: find("layers.0.mlp.fc1.weight")[0],
    num_hidden_layers: numbersIn(shapes.keys(), /encoder\.layers\.(\d+)\./).length,
    num_attention_heads: Math.max(1, Math.floor(hidden / CLIP_HEAD_WIDTH)),
    max_position_embeddings: find("embeddings.position_embedding.weight")[0],
    hidden_act: activation,
    // The largest id of a row is the end token, as in all files of old.
    eos_token_id: 2,
    ...(projection !== undefined && { projection_dim: projection }),
  };
}

/** The configuration of a tiny autoencoder. @throws ModelConfigError */
export function tinyConfig(shapes: Shapes): Config {
  const decoder = tinyLevels(shapes, "decoder");
  const encoder = tinyLevels(shapes, "encoder");
  return {
    _class_name: "AutoencoderTiny",
    latent_channels: size(shapes, "decoder.layers.0.weight", 1) ?? missing("tiny_vae", "decoder.layers.0.weight"),
    encoder_block_out_channels: encoder.channels,
    decoder_block_out_channels: decoder.channels,
    num_encoder_blocks: encoder.blocks,
    num_decoder_blocks: decoder.blocks,
    pooled_blocks: [...shapes.keys()].some((name) => /\.pool\./.test(name)),
  };
}

/** Residual blocks of each level of a half, and the channels there: a convolution that is no block's begins a level. */
function tinyLevels(shapes: Shapes, half: "encoder" | "decoder"): { blocks: number[]; channels: number[] } {
  const layers = numbersIn(shapes.keys(), new RegExp(`^${half}\\.layers\\.(\\d+)\\.`));
  const blocks: number[] = [];
  const channels: number[] = [];
  let count = 0;
  let width = 0;
  for (const [index, layer] of layers.entries()) {
    const plain = shapes.get(`${half}.layers.${layer}.weight`);
    if (plain === undefined) {
      count++;
      width = size(shapes, `${half}.layers.${layer}.conv.0.weight`, 0) ?? width;
      continue;
    }
    if (index > 0) {
      blocks.push(count);
      // The encoder widens as a level begins, the decoder as one ends.
      channels.push(half === "encoder" || index === layers.length - 1 ? width : plain[0]!);
    }
    count = 0;
    width = plain[0]!;
  }
  return { blocks, channels };
}

function missing(component: string, tensor: string): never {
  throw new ModelConfigError(
    component,
    "(shapes)",
    `the file has no tensor ${tensor}, from whose shape it would follow`,
  );
}
