/**
 * AutoencoderTiny: a small decoder (and encoder) for previews, after TAESD (Ollin Boer Bohan, github.com/madebyollin/taesd).
 * Layer names are those of diffusers: `decoder.layers.N` counts every layer of the sequence, those without weights too.
 */

import { z } from "zod";
import type { Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor } from "../graph/tensor.ts";
import { number, parseConfig, size } from "./config.ts";

const configSchema = z.object({
  in_channels: size.channels.default(3),
  out_channels: size.channels.default(3),
  latent_channels: size.channels.default(4),
  encoder_block_out_channels: size.levels(size.channels),
  decoder_block_out_channels: size.levels(size.channels),
  num_encoder_blocks: size.levels(size.blocks),
  num_decoder_blocks: size.levels(size.blocks),
  /** The blocks at the latents' size see all of it, by a branch with a group norm: TAEF2. No field of diffusers. */
  pooled_blocks: z.boolean().default(false),
  act_fn: z.literal("relu").default("relu"),
  upsampling_scaling_factor: z.literal(2).default(2),
  upsample_fn: z.literal("nearest").default("nearest"),
  latent_magnitude: number.scale.default(3),
  latent_shift: number.shift.default(0.5),
  scaling_factor: number.scale.default(1),
  shift_factor: number.shift.nullish(),
});

export type AutoencoderTinyConfig = z.infer<typeof configSchema>;

/** Throws `ModelConfigError` naming the field. */
export function parseAutoencoderTinyConfig(config: unknown): AutoencoderTinyConfig {
  return parseConfig("vae", configSchema, config);
}

/** Latents `[n, h, w, latent]` → picture `[n, 8h, 8w, 3]`, about [-1, 1]. */
export function decodeTiny(g: Recorder, config: AutoencoderTinyConfig, latents: Tensor): Tensor {
  return decodeTinyOuter(g, config, decodeTinyInner(g, config, latents));
}

/** The half of `decodeTiny` at the latents' size: `[n, h, w, latent]` → `[n, h, w, c]`. */
export function decodeTinyInner(g: Recorder, config: AutoencoderTinyConfig, latents: Tensor): Tensor {
  const outputs = config.decoder_block_out_channels[0]!;
  const next = layerNames();
  return g.scope("decoder", () => {
    // 3 · tanh(z / 3): a network that was trained on latents within ±3 should not see others.
    let x = g.affine(latents, "clamp", { inputScale: 1 / 3, activation: "tanh", scale: 3 });
    x = g.activation(g.conv2d(x, next(), { outputs, padding: 1 }), "relu");
    next(); // the activation counts as a layer
    return residualBlocks(g, x, next, outputs, config.num_decoder_blocks[0]!, config.pooled_blocks);
  });
}

/** The half of `decodeTiny` beyond the latents' size: `[n, h, w, c]` → `[n, 8h, 8w, 3]`. */
export function decodeTinyOuter(g: Recorder, config: AutoencoderTinyConfig, inner: Tensor): Tensor {
  const channels = config.decoder_block_out_channels;
  const next = layerNames(2 + config.num_decoder_blocks[0]!);
  return g.scope("decoder", () => {
    let x = inner;
    config.num_decoder_blocks.forEach((blocks, level) => {
      const isLast = level === config.num_decoder_blocks.length - 1;
      if (level > 0) x = residualBlocks(g, x, next, channels[level]!, blocks);
      if (!isLast) {
        const [, height, width] = x.shape as [number, number, number];
        x = g.upsampleNearest(x, next(), { height: height * 2, width: width * 2 });
      }
      const outputs = isLast ? config.out_channels : channels[level]!;
      x = g.conv2d(x, next(), { outputs, padding: 1, bias: isLast });
    });
    return g.affine(x, "to_signed", { scale: 2, shift: -1 });
  });
}

/** Picture in [-1, 1] `[n, h, w, 3]` → latents `[n, h/8, w/8, latent]`. */
export function encodeTiny(g: Recorder, config: AutoencoderTinyConfig, picture: Tensor): Tensor {
  return encodeTinyInner(g, config, encodeTinyOuter(g, config, picture));
}

/** The half of `encodeTiny` down to the latents' size: `[n, h, w, 3]` → `[n, h/8, w/8, c]`. */
export function encodeTinyOuter(g: Recorder, config: AutoencoderTinyConfig, picture: Tensor): Tensor {
  const channels = config.encoder_block_out_channels;
  const next = layerNames();
  return g.scope("encoder", () => {
    let x = g.affine(picture, "to_unsigned", { scale: 0.5, shift: 0.5 });
    channels.forEach((outputs, level) => {
      const options = level === 0 ? { outputs, padding: 1 } : { outputs, padding: 1, stride: 2, bias: false };
      x = g.conv2d(x, next(), options);
      if (level < channels.length - 1) x = residualBlocks(g, x, next, outputs, config.num_encoder_blocks[level]!);
    });
    return x;
  });
}

/** The half of `encodeTiny` at the latents' size: `[n, h, w, c]` → `[n, h, w, latent]`. */
export function encodeTinyInner(g: Recorder, config: AutoencoderTinyConfig, outer: Tensor): Tensor {
  const blocks = config.num_encoder_blocks;
  // Before it, a convolution for each level and the blocks of all but the last.
  const next = layerNames(blocks.length + blocks.slice(0, -1).reduce((sum, count) => sum + count, 0));
  return g.scope("encoder", () => {
    const outputs = config.encoder_block_out_channels.at(-1)!;
    const x = residualBlocks(g, outer, next, outputs, blocks.at(-1)!, config.pooled_blocks);
    return g.conv2d(x, next(), { outputs: config.latent_channels, padding: 1 });
  });
}

/** `layers.N` from `first` on. */
function layerNames(first = 0): () => string {
  let layer = first;
  return () => `layers.${layer++}`;
}

function residualBlocks(
  g: Recorder,
  x: Tensor,
  next: () => string,
  outputs: number,
  count: number,
  isPooled = false,
): Tensor {
  for (let block = 0; block < count; block++) {
    const name = next();
    x = residualBlock(g, isPooled ? pooledBranch(g, x, name) : x, name, outputs);
  }
  return x;
}

/** x + conv(ReLU(GroupNorm(conv(x)))), four times as wide inside: the norm's statistics are of the whole picture. */
function pooledBranch(g: Recorder, x: Tensor, name: string): Tensor {
  const channels = channelsOf(x);
  return g.scope(`${name}.pool`, () => {
    const wide = g.conv2d(x, "0", { outputs: 4 * channels, kernel: 1, bias: false });
    const norm = g.activation(g.groupNorm(wide, "1", { groups: 4, eps: 1e-5 }), "relu");
    return g.add(x, g.conv2d(norm, "3", { outputs: channels, kernel: 1, bias: false }));
  });
}

function residualBlock(g: Recorder, x: Tensor, name: string, outputs: number): Tensor {
  return g.scope(name, () => {
    const options = { outputs, padding: 1 };
    let h = g.activation(g.conv2d(x, "conv.0", options), "relu");
    h = g.activation(g.conv2d(h, "conv.2", options), "relu");
    h = g.conv2d(h, "conv.4", options);
    const skip = channelsOf(x) === outputs ? x : g.conv2d(x, "skip", { outputs, kernel: 1, bias: false });
    return g.activation(g.add(h, skip), "relu");
  });
}
