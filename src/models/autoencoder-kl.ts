/**
 * AutoencoderKL: pictures to latents and back.
 *
 * Rombach et al. 2022 (arXiv 2112.10752, appendix G); names are those of diffusers. Every group norm here has eps 1e-6. The
 * encoder pads below and right only before its stride-2 convolutions.
 */

import { z } from "zod";
import { headPadding, type Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor } from "../graph/tensor.ts";
import { checkGroups, number, parseConfig, size } from "./config.ts";

const configSchema = z
  .object({
    in_channels: size.channels.default(3),
    out_channels: size.channels.default(3),
    latent_channels: size.channels.default(4),
    block_out_channels: size.levels(size.channels),
    layers_per_block: size.layersOfLevel.default(1),
    norm_num_groups: size.channels.default(32),
    act_fn: z.literal("silu").default("silu"),
    down_block_types: z.array(z.literal("DownEncoderBlock2D")).optional(),
    up_block_types: z.array(z.literal("UpDecoderBlock2D")).optional(),
    mid_block_add_attention: z.boolean().default(true),
    use_quant_conv: z.boolean().default(true),
    use_post_quant_conv: z.boolean().default(true),
    scaling_factor: number.scale.default(0.18215),
    shift_factor: number.shift.nullish(),
    /** The model overflows in f16: activations stay f32. */
    force_upcast: z.boolean().default(true),
    latents_mean: z.null().default(null),
    latents_std: z.null().default(null),
  })
  .superRefine(checkGroups);

export type AutoencoderKlConfig = z.infer<typeof configSchema>;

/** Throws `ModelConfigError` naming the field. */
export function parseAutoencoderKlConfig(config: unknown): AutoencoderKlConfig {
  return parseConfig("vae", configSchema, config);
}

const EPS = 1e-6;

/** Decoder input (latents / scaling_factor + shift_factor) `[n, h, w, latent]` → picture `[n, 8h, 8w, 3]`, about [-1, 1]. */
export function decodeKl(g: Recorder, config: AutoencoderKlConfig, latents: Tensor): Tensor {
  return decodeKlOuter(g, config, decodeKlInner(g, config, latents));
}

/** The half of `decodeKl` at the latents' size, attention among it: `[n, h, w, latent]` → `[n, h, w, c]`. */
export function decodeKlInner(g: Recorder, config: AutoencoderKlConfig, latents: Tensor): Tensor {
  const outputs = config.block_out_channels.at(-1)!;
  let x = latents;
  if (config.use_post_quant_conv) {
    x = g.conv2d(x, "post_quant_conv", { outputs: config.latent_channels, kernel: 1 });
  }
  return g.scope("decoder", () => {
    x = g.conv2d(x, "conv_in", { outputs, padding: 1 });
    x = middle(g, x, config);
    return g.scope("up_blocks.0", () => resnets(g, x, outputs, config.layers_per_block + 1, config));
  });
}

/** The half of `decodeKl` beyond the latents' size, convolutions and group norms: `[n, h, w, c]` → `[n, 8h, 8w, 3]`. */
export function decodeKlOuter(g: Recorder, config: AutoencoderKlConfig, inner: Tensor): Tensor {
  const levels = [...config.block_out_channels].reverse();
  return g.scope("decoder", () => {
    let x = inner;
    levels.forEach((outputs, level) => {
      g.scope(`up_blocks.${level}`, () => {
        if (level > 0) x = resnets(g, x, outputs, config.layers_per_block + 1, config);
        if (level === levels.length - 1) return;
        const [, height, width] = x.shape as [number, number, number];
        x = g.upsampleNearest(x, "upsamplers.0", { height: height * 2, width: width * 2 });
        x = g.conv2d(x, "upsamplers.0.conv", { outputs, padding: 1 });
      });
    });
    return head(g, x, config.out_channels, config);
  });
}

/** Picture in [-1, 1] `[n, h, w, 3]` → moments `[n, h/8, w/8, 2 · latent]`: mean and log-variance, not clamped. */
export function encodeKl(g: Recorder, config: AutoencoderKlConfig, picture: Tensor): Tensor {
  return encodeKlInner(g, config, encodeKlOuter(g, config, picture));
}

/** The half of `encodeKl` beyond the latents' size, convolutions and group norms: `[n, h, w, 3]` → `[n, h/8, w/8, c]`. */
export function encodeKlOuter(g: Recorder, config: AutoencoderKlConfig, picture: Tensor): Tensor {
  const levels = config.block_out_channels.slice(0, -1);
  return g.scope("encoder", () => {
    let x = g.conv2d(picture, "conv_in", { outputs: config.block_out_channels[0]!, padding: 1 });
    levels.forEach((outputs, level) => {
      g.scope(`down_blocks.${level}`, () => {
        x = resnets(g, x, outputs, config.layers_per_block, config);
        x = g.conv2d(x, "downsamplers.0.conv", { outputs, stride: 2, padding: { before: 0, after: 1 } });
      });
    });
    return x;
  });
}

/** The half of `encodeKl` at the latents' size, attention among it: `[n, h, w, c]` → `[n, h, w, 2 · latent]`. */
export function encodeKlInner(g: Recorder, config: AutoencoderKlConfig, outer: Tensor): Tensor {
  const outputs = config.block_out_channels.at(-1)!;
  const last = config.block_out_channels.length - 1;
  const moments = g.scope("encoder", () => {
    const x = g.scope(`down_blocks.${last}`, () => resnets(g, outer, outputs, config.layers_per_block, config));
    return head(g, middle(g, x, config), 2 * config.latent_channels, config);
  });
  if (!config.use_quant_conv) return moments;
  return g.conv2d(moments, "quant_conv", { outputs: 2 * config.latent_channels, kernel: 1 });
}

function resnets(g: Recorder, x: Tensor, outputs: number, count: number, config: AutoencoderKlConfig): Tensor {
  for (let layer = 0; layer < count; layer++) x = resnetBlock(g, x, `resnets.${layer}`, outputs, config);
  return x;
}

function head(g: Recorder, x: Tensor, outputs: number, config: AutoencoderKlConfig): Tensor {
  const norm = g.groupNorm(x, "conv_norm_out", { groups: config.norm_num_groups, eps: EPS });
  return g.conv2d(g.activation(norm, "silu"), "conv_out", { outputs, padding: 1 });
}

function middle(g: Recorder, x: Tensor, config: AutoencoderKlConfig): Tensor {
  const channels = channelsOf(x);
  return g.scope("mid_block", () => {
    let h = resnetBlock(g, x, "resnets.0", channels, config);
    if (config.mid_block_add_attention) h = attention(g, h, "attentions.0", config);
    return resnetBlock(g, h, "resnets.1", channels, config);
  });
}

function resnetBlock(g: Recorder, x: Tensor, name: string, outputs: number, config: AutoencoderKlConfig): Tensor {
  const norm = { groups: config.norm_num_groups, eps: EPS };
  return g.scope(name, () => {
    let h = g.activation(g.groupNorm(x, "norm1", norm), "silu");
    h = g.conv2d(h, "conv1", { outputs, padding: 1 });
    h = g.activation(g.groupNorm(h, "norm2", norm), "silu");
    h = g.conv2d(h, "conv2", { outputs, padding: 1 });
    const shortcut = channelsOf(x) === outputs ? x : g.conv2d(x, "conv_shortcut", { outputs, kernel: 1 });
    return g.add(shortcut, h);
  });
}

/** One head as wide as the channels, over all pixels. Old files name its layers query, key, value, proj_attn. */
function attention(g: Recorder, x: Tensor, name: string, config: AutoencoderKlConfig): Tensor {
  const channels = channelsOf(x);
  const head = headPadding(channels);
  const project = (input: Tensor, layer: string, old: string) =>
    g.linear(input, layer, { outputs: channels, aliases: [old] });
  return g.scope(name, () => {
    const h = g.groupNorm(x, "group_norm", { groups: config.norm_num_groups, eps: EPS });
    const attended = g.attention(
      "",
      {
        query: { tensor: project(h, "to_q", "query"), offset: 0 },
        key: { tensor: project(h, "to_k", "key"), offset: 0 },
        value: { tensor: project(h, "to_v", "value"), offset: 0 },
      },
      { heads: 1, head },
    );
    return g.reshape(g.add(project(attended, "to_out.0", "proj_attn"), x), x.shape);
  });
}
