/**
 * Names of tensors in checkpoints of one file, as Stable Diffusion's authors saved them (CompVis' `latent-diffusion`,
 * Stability's `generative-models`, OpenCLIP), and the names of the same tensors in diffusers' and transformers' layout,
 * which are those of `src/models`.
 */

import type { TensorMap, TensorOrigin } from "../../weights/mapped-tensors.ts";

/** Names by the part of a checkpoint that they belong to, without its prefix. */
export function withoutPrefix(names: Iterable<string>, prefix: string): string[] {
  return Array.from(names)
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length));
}

/** The longest prefix of `name` in `prefixes` replaced. */
function replaced(name: string, prefixes: ReadonlyMap<string, string>): string | undefined {
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) {
    const other = prefixes.get(name.slice(0, dot));
    if (other !== undefined) return other + name.slice(dot);
  }
  return undefined;
}

const UNET_RESNET: readonly (readonly [string, string])[] = [
  ["in_layers.0", "norm1"],
  ["in_layers.2", "conv1"],
  ["emb_layers.1", "time_emb_proj"],
  ["out_layers.0", "norm2"],
  ["out_layers.3", "conv2"],
  ["skip_connection", "conv_shortcut"],
];

const UNET_FIXED: readonly (readonly [string, string])[] = [
  ["input_blocks.0.0", "conv_in"],
  ["time_embed.0", "time_embedding.linear_1"],
  ["time_embed.2", "time_embedding.linear_2"],
  ["time_embed.cond_proj", "time_embedding.cond_proj"],
  ["label_emb.0.0", "add_embedding.linear_1"],
  ["label_emb.0.2", "add_embedding.linear_2"],
  ["out.0", "conv_norm_out"],
  ["out.2", "conv_out"],
];

/**
 * A UNet's tensors by diffusers' names. Blocks are numbered through in the file; a level ends with its convolution that
 * halves or doubles the size. Numbers may be missing where distilling has left out layers.
 * @param names without the prefix; those of diffusers stay as they are
 */
export function unetNames(names: readonly string[]): Map<string, string> {
  if (names.some((name) => name.startsWith("down_blocks."))) return new Map(names.map((name) => [name, name]));
  const prefixes = new Map<string, string>(UNET_FIXED);
  const resnet = (from: string, to: string) => {
    for (const [inner, own] of UNET_RESNET) prefixes.set(`${from}.${inner}`, `${to}.${own}`);
  };
  inputBlocks(names, prefixes, resnet);
  const counts = { resnets: 0, attentions: 0 };
  for (const part of numbersIn(names, /^middle_block\.(\d+)\./)) {
    const from = `middle_block.${part}`;
    if (names.includes(`${from}.in_layers.0.weight`)) resnet(from, `mid_block.resnets.${counts.resnets++}`);
    else prefixes.set(from, `mid_block.attentions.${counts.attentions++}`);
  }
  outputBlocks(names, prefixes, resnet);
  return renamed(names, (name) => replaced(name, prefixes));
}

type Resnet = (from: string, to: string) => void;

function inputBlocks(names: readonly string[], prefixes: Map<string, string>, resnet: Resnet): void {
  let [level, layer] = [0, 0];
  for (const block of numbersIn(names, /^input_blocks\.(\d+)\./)) {
    if (block === 0) continue;
    const from = `input_blocks.${block}`;
    if (names.includes(`${from}.0.op.weight`)) {
      prefixes.set(`${from}.0.op`, `down_blocks.${level}.downsamplers.0.conv`);
      [level, layer] = [level + 1, 0];
      continue;
    }
    resnet(`${from}.0`, `down_blocks.${level}.resnets.${layer}`);
    prefixes.set(`${from}.1`, `down_blocks.${level}.attentions.${layer}`);
    layer++;
  }
}

function outputBlocks(names: readonly string[], prefixes: Map<string, string>, resnet: Resnet): void {
  let [level, layer] = [0, 0];
  for (const block of numbersIn(names, /^output_blocks\.(\d+)\./)) {
    const from = `output_blocks.${block}`;
    const upsampler = [1, 2].find((part) => names.includes(`${from}.${part}.conv.weight`));
    if (names.includes(`${from}.0.in_layers.0.weight`)) {
      resnet(`${from}.0`, `up_blocks.${level}.resnets.${layer}`);
      if (upsampler !== 1) prefixes.set(`${from}.1`, `up_blocks.${level}.attentions.${layer}`);
      layer++;
    }
    if (upsampler === undefined) continue;
    prefixes.set(`${from}.${upsampler}`, `up_blocks.${level}.upsamplers.0`);
    [level, layer] = [level + 1, 0];
  }
}

/** The numbers at a place of the names, in order. */
export function numbersIn(names: Iterable<string>, pattern: RegExp): number[] {
  const numbers = new Set<number>();
  for (const name of names) {
    const found = pattern.exec(name);
    if (found) numbers.add(Number(found[1]));
  }
  return [...numbers].sort((a, b) => a - b);
}

/** Old names by new ones; a name that `rename` does not know stays, so that it is told as one that no model has. */
function renamed(names: readonly string[], rename: (name: string) => string | undefined): Map<string, string> {
  return new Map(names.map((name) => [rename(name) ?? name, name]));
}

const VAE_PARTS: readonly (readonly [RegExp, string])[] = [
  [/\.mid\.block_1\./, ".mid_block.resnets.0."],
  [/\.mid\.block_2\./, ".mid_block.resnets.1."],
  [/\.mid\.attn_1\./, ".mid_block.attentions.0."],
  [/\.down\.(\d+)\.block\.(\d+)\./, ".down_blocks.$1.resnets.$2."],
  [/\.down\.(\d+)\.downsample\./, ".down_blocks.$1.downsamplers.0."],
  [/\.norm_out\./, ".conv_norm_out."],
  [/\.nin_shortcut\./, ".conv_shortcut."],
  [/\.attentions\.0\.norm\./, ".attentions.0.group_norm."],
  [/\.attentions\.0\.q\./, ".attentions.0.to_q."],
  [/\.attentions\.0\.k\./, ".attentions.0.to_k."],
  [/\.attentions\.0\.v\./, ".attentions.0.to_v."],
  [/\.attentions\.0\.proj_out\./, ".attentions.0.to_out.0."],
];

/** Beside an autoencoder's tensors: those of its training, and how often it was updated. */
const VAE_UNNEEDED = /^(?:loss\.|model_ema\.|discriminator\.|logvar$|scale$)/;

/**
 * An autoencoder's tensors by diffusers' names. The file counts the levels of the decoder from the largest pictures on.
 * @param names without the prefix; those of diffusers stay as they are
 */
export function vaeNames(names: readonly string[]): Map<string, string> {
  const needed = names.filter((name) => !VAE_UNNEEDED.test(name));
  const levels = (numbersIn(needed, /^decoder\.up\.(\d+)\./).at(-1) ?? 0) + 1;
  return renamed(needed, (name) => {
    const up = name.replace(/^decoder\.up\.(\d+)\.(block|upsample)\./, (_, level: string, part: string) => {
      const block = `decoder.up_blocks.${levels - 1 - Number(level)}`;
      return part === "block" ? `${block}.resnets.` : `${block}.upsamplers.0.`;
    });
    return VAE_PARTS.reduce((text, [pattern, own]) => text.replace(pattern, own), up);
  });
}

const CLIP_LAYER: Readonly<Record<string, string>> = {
  ln_1: "layer_norm1",
  ln_2: "layer_norm2",
  "mlp.c_fc": "mlp.fc1",
  "mlp.c_proj": "mlp.fc2",
  "attn.out_proj": "self_attn.out_proj",
};

const CLIP_FIXED: Readonly<Record<string, string>> = {
  "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
  positional_embedding: "text_model.embeddings.position_embedding.weight",
  "ln_final.weight": "text_model.final_layer_norm.weight",
  "ln_final.bias": "text_model.final_layer_norm.bias",
};

const PROJECTIONS = ["q_proj", "k_proj", "v_proj"];

/**
 * The tensors of OpenCLIP's text tower by transformers' names. Queries, keys and values are one matrix in the file, and the
 * projection is transposed.
 * @param names without the prefix
 * @param layers that are used: Stable Diffusion 2 leaves out the last one
 */
export function openClipNames(
  names: readonly string[],
  { layers, withProjection }: { readonly layers: number; readonly withProjection: boolean },
): TensorMap {
  const map = new Map<string, TensorOrigin>();
  for (const name of names) {
    if (Object.hasOwn(CLIP_FIXED, name)) map.set(CLIP_FIXED[name]!, { from: name });
    if (name === "text_projection" && withProjection)
      map.set("text_projection.weight", { from: name, transposed: true });
    if (name === "text_projection.weight" && withProjection) map.set(name, { from: name });
    const [, number, inner] = /^transformer\.resblocks\.(\d+)\.(.+)$/.exec(name) ?? [];
    if (inner === undefined || Number(number) >= layers) continue;
    const layer = `text_model.encoder.layers.${number}`;
    const fused = /^attn\.in_proj_(weight|bias)$/.exec(inner);
    if (fused) {
      for (const [part, projection] of PROJECTIONS.entries())
        map.set(`${layer}.self_attn.${projection}.${fused[1]}`, { from: name, rows: { part, parts: 3 } });
      continue;
    }
    const dot = inner.lastIndexOf(".");
    const own = CLIP_LAYER[inner.slice(0, dot)];
    map.set(own === undefined ? name : `${layer}.${own}${inner.slice(dot)}`, { from: name });
  }
  return map;
}

/**
 * The tensors of a tiny autoencoder by diffusers' names. In the original layout each half is one sequence whose layers are
 * numbered, those without weights too; diffusers leaves out the first of the decoder, which clamps.
 * @param half the half that the file has, if its names do not say
 */
export function tinyNames(names: readonly string[], half?: "encoder" | "decoder"): Map<string, string> {
  return renamed(names, (name) => {
    if (/^(?:encoder|decoder)\.layers\./.test(name)) return name;
    const [, named, number, rest] = /^(?:(?:taesd_)?(encoder|decoder)\.)?(\d+)\.(.+)$/.exec(name) ?? [];
    const part = named ?? half;
    if (rest === undefined || part === undefined) return undefined;
    return `${part}.layers.${Number(number) - (part === "decoder" ? 1 : 0)}.${rest}`;
  });
}
