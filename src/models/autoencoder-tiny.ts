/**
 * AutoencoderTiny: a small decoder (and encoder) for previews, after TAESD (Ollin Boer Bohan, github.com/madebyollin/taesd).
 * Layer names are those of diffusers: `decoder.layers.N` counts every layer of the sequence, those without weights too.
 */

import { z } from "zod";
import type { Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor } from "../graph/tensor.ts";
import { parseConfig, size } from "./config.ts";

const configSchema = z.object({
  in_channels: size.channels.default(3),
  out_channels: size.channels.default(3),
  latent_channels: size.channels.default(4),
  encoder_block_out_channels: size.levels(size.channels),
  decoder_block_out_channels: size.levels(size.channels),
  num_encoder_blocks: size.levels(size.layers),
  num_decoder_blocks: size.levels(size.layers),
  act_fn: z.literal("relu").default("relu"),
  upsampling_scaling_factor: z.literal(2).default(2),
  upsample_fn: z.literal("nearest").default("nearest"),
  latent_magnitude: z.number().default(3),
  latent_shift: z.number().default(0.5),
  scaling_factor: z.number().default(1),
  shift_factor: z.number().nullish(),
});

export type AutoencoderTinyConfig = z.infer<typeof configSchema>;

/** Throws `ModelConfigError` naming the field. */
export function parseAutoencoderTinyConfig(config: unknown): AutoencoderTinyConfig {
  return parseConfig("vae", configSchema, config);
}

/** Latents `[n, h, w, latent]` → picture `[n, 8h, 8w, 3]`, about [-1, 1]. */
export function decodeTiny(g: Recorder, config: AutoencoderTinyConfig, latents: Tensor): Tensor {
  const channels = config.decoder_block_out_channels;
  let layer = 0;
  const next = () => `layers.${layer++}`;
  return g.scope("decoder", () => {
    // 3 · tanh(z / 3): what was trained on latents within ±3 should not see others.
    let x = g.affine(latents, "clamp", { inputScale: 1 / 3, activation: "tanh", scale: 3 });
    x = g.activation(g.conv2d(x, next(), { outputs: channels[0]!, padding: 1 }), "relu");
    next(); // the activation counts as a layer
    config.num_decoder_blocks.forEach((blocks, level) => {
      const isLast = level === config.num_decoder_blocks.length - 1;
      for (let block = 0; block < blocks; block++) x = residualBlock(g, x, next(), channels[level]!);
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
  const channels = config.encoder_block_out_channels;
  let layer = 0;
  const next = () => `layers.${layer++}`;
  return g.scope("encoder", () => {
    let x = g.affine(picture, "to_unsigned", { scale: 0.5, shift: 0.5 });
    config.num_encoder_blocks.forEach((blocks, level) => {
      const outputs = channels[level]!;
      const options = level === 0 ? { outputs, padding: 1 } : { outputs, padding: 1, stride: 2, bias: false };
      x = g.conv2d(x, next(), options);
      for (let block = 0; block < blocks; block++) x = residualBlock(g, x, next(), outputs);
    });
    return g.conv2d(x, next(), { outputs: config.latent_channels, padding: 1 });
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
