/**
 * ControlNet: a copy of a UNet's way down that reads a picture as well, and adds to the UNet's skips and middle (Zhang et al.
 * 2023, arXiv 2302.05543). ControlNet-Union is the same with several kinds of pictures in one network (diffusers'
 * `ControlNetUnionModel`). Names and shapes are those of diffusers, in NHWC.
 */

import { z } from "zod";
import { headPadding, type Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor } from "../graph/tensor.ts";
import { ModelConfigError, parseConfig, size } from "./config.ts";
import { downPath, middle } from "./unet-blocks.ts";
import { parseUnetConfig, type UnetConfig } from "./unet-config.ts";
import { additionsOf } from "./unet-time.ts";

const configSchema = z.object({
  conditioning_channels: z.literal(3).default(3),
  conditioning_embedding_out_channels: size.levels(size.channels).default([16, 32, 96, 256]),
  controlnet_conditioning_channel_order: z.enum(["rgb", "bgr"]).default("rgb"),
  global_pool_conditions: z.boolean().default(false),
});

const unionSchema = z.object({
  num_control_type: z.number().int().min(1).max(64).default(6),
  num_trans_channel: size.channels.default(320),
  num_trans_head: size.channels.default(8),
  num_trans_layer: size.layers.default(1),
});

export interface ControlNetConfig extends z.infer<typeof configSchema> {
  /** The UNet whose way down it is a copy of. */
  readonly unet: UnetConfig;
  /** Numbers of a union of several kinds of control. */
  readonly union?: z.infer<typeof unionSchema>;
}

/** @throws ModelConfigError naming the field; `component` is how messages call the network */
export function parseControlNetConfig(
  component: string,
  config: Readonly<Record<string, unknown>>,
  isUnion: boolean,
): ControlNetConfig {
  const types = config.down_block_types;
  const downwards = Array.isArray(types) ? types : [];
  // The half that it does not have mirrors the one that it has, so the UNet's checks hold for it.
  const upwards = [...downwards].reverse().map((type) => String(type).replace(/Down/g, "Up"));
  const unet = parseUnetConfig({ ...config, out_channels: config.in_channels, up_block_types: upwards }, component);
  const own = parseConfig(component, configSchema, config);
  const union = isUnion ? parseConfig(component, unionSchema, config) : undefined;
  if (union && union.num_trans_channel !== unet.block_out_channels[0]) {
    const reason = `is ${union.num_trans_channel}, and the first level has ${unet.block_out_channels[0]} channels`;
    throw new ModelConfigError(component, "num_trans_channel", reason);
  }
  return { ...own, unet, union };
}

/** Pixels of a side for one latent. */
export function controlDownscale(config: ControlNetConfig): number {
  return 2 ** (config.conditioning_embedding_out_channels.length - 1);
}

/** A picture in [0, 1], `[n, h, w, 3]` → its embedding, `[n, h / 8, w / 8, block_out_channels[0]]`. */
export function controlEmbedding(g: Recorder, config: ControlNetConfig, picture: Tensor): Tensor {
  const channels = config.conditioning_embedding_out_channels;
  return g.scope("controlnet_cond_embedding", () => {
    let x = g.activation(g.conv2d(picture, "conv_in", { outputs: channels[0]!, padding: 1 }), "silu");
    for (let level = 0; level < channels.length - 1; level++) {
      const [from, to] = [channels[level]!, channels[level + 1]!];
      x = g.activation(g.conv2d(x, `blocks.${2 * level}`, { outputs: from, padding: 1 }), "silu");
      x = g.activation(g.conv2d(x, `blocks.${2 * level + 1}`, { outputs: to, stride: 2, padding: 1 }), "silu");
    }
    return g.conv2d(x, "conv_out", { outputs: config.unet.block_out_channels[0]!, padding: 1 });
  });
}

/** A control picture: its embedding, and its kind, which unions read. */
export interface Condition {
  /** `[rows, h, w, block_out_channels[0]]` */
  readonly embedding: Tensor;
  /** 1 at the kind of the picture, `[rows, num_control_type]`. */
  readonly kind?: Tensor;
}

export interface ControlNetInputs {
  /** `[rows, h, w, in_channels]` */
  readonly sample: Tensor;
  /** `timeProjections` of its own, of the half "down". */
  readonly time: Tensor;
  /** `[rows, tokens, cross_attention_dim]` */
  readonly text: Tensor;
  /** One; of a union several. */
  readonly conditions: readonly Condition[];
  /** Unions: rows read each other, as in the reference, where a batch is of one request. Default: each row by itself. */
  readonly attendsBatch?: boolean;
}

/** The tensors that a ControlNet adds to a UNet: a residual for each skip, and one for the middle; one row an image if it pools them. */
export interface ControlResiduals {
  readonly skips: readonly Tensor[];
  readonly middle: Tensor;
}

export function controlnet(g: Recorder, config: ControlNetConfig, inputs: ControlNetInputs): ControlResiduals {
  const { unet } = config;
  const time = additionsOf(inputs.time, unet, "down").values();
  const nextTime = () => time.next().value!;
  let x = g.conv2d(inputs.sample, "conv_in", { outputs: unet.block_out_channels[0]!, padding: 1 });
  for (const condition of inputs.conditions) {
    x = g.add(x, condition.embedding, "condition");
    if (config.union) x = g.add(x, unionShift(g, config.union, condition, inputs.attendsBatch ?? false), "condition");
  }
  const context = { text: inputs.text };
  const skips = downPath(g, unet, x, nextTime, context);
  const deepest = middle(g, unet, skips.at(-1)!, nextTime, context);
  const residual = (tensor: Tensor, name: string) => {
    const made = g.conv2d(tensor, name, { outputs: channelsOf(tensor), kernel: 1 });
    return config.global_pool_conditions ? g.averagePool(made, `${name}.pooled`) : made;
  };
  return {
    skips: skips.map((skip, index) => residual(skip, `controlnet_down_blocks.${index}`)),
    middle: residual(deepest, "controlnet_mid_block"),
  };
}

/** Residuals of the skips of a UNet: `conv_in`, each layer, and what lies between two levels. */
export function skipCount({ block_out_channels: levels, layers_per_block: layers }: UnetConfig): number {
  return levels.length * (layers + 1);
}

/**
 * The vector that a union adds to the channels of a condition, `[rows, channels]`: its mean and kind as a token, through attention.
 * The reference gives its attention `[batch, tokens, channels]` where it reads `[tokens, batch, channels]`: tokens of one
 * row never read each other, but the same token of the other rows.
 */
function unionShift(
  g: Recorder,
  union: NonNullable<ControlNetConfig["union"]>,
  { embedding, kind }: Condition,
  attendsBatch: boolean,
): Tensor {
  const channels = channelsOf(embedding);
  const rows = embedding.shape[0]!;
  const mean = g.reshape(g.averagePool(embedding, "condition.mean"), [rows, channels]);
  const task = g.linear(kind!, "task_embedding", { outputs: channels, bias: false });
  let x = g.reshape(g.add(mean, task, "task_embedding"), attendsBatch ? [1, rows, channels] : [rows, 1, channels]);
  const head = headPadding(channels / union.num_trans_head);
  const inner = union.num_trans_head * head.padded;
  for (let layer = 0; layer < union.num_trans_layer; layer++) {
    // The file's own spelling.
    x = g.scope(`transformer_layes.${layer}`, () => {
      const normed = g.layerNorm(x, "ln_1", { eps: 1e-5 });
      const qkv = g.scope("attn", () =>
        g.linear(normed, ["q_proj", "k_proj", "v_proj"], { outputs: [channels, channels, channels], outputHead: head }),
      );
      const view = (part: number) => ({ tensor: qkv, offset: part * inner });
      const views = { query: view(0), key: view(1), value: view(2) };
      const attended = g.attention("attn", views, { heads: union.num_trans_head, head });
      const y = g.add(g.linear(attended, "attn.out_proj", { outputs: channels, inputHead: head }), x);
      const hidden = g.linear(g.layerNorm(y, "ln_2", { eps: 1e-5 }), "mlp.c_fc", { outputs: channels * 4 });
      return g.add(g.linear(g.activation(hidden, "quick_gelu"), "mlp.c_proj", { outputs: channels }), y);
    });
  }
  return g.linear(g.reshape(x, [rows, channels]), "spatial_ch_projs", { outputs: channels });
}
