/** The blocks of a UNet, and the halves of it that a ControlNet has as well: down, and the middle. */

import { headPadding, type Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor, type View } from "../graph/tensor.ts";
import { atLevel, depthOf, type UnetConfig } from "./unet-config.ts";

/** A picture that attention reads beside the text (IP-Adapter): its tokens, and how much they count. */
export interface Reference {
  /** The component of the weights that make keys and values of the tokens. */
  readonly component: string;
  /** `[rows, tokens, cross_attention_dim]` */
  readonly tokens: Tensor;
  /** f32 `[rows, columns]`, and the column of the first attention. */
  readonly factors: Tensor;
  readonly firstColumn: number;
}

/** All that the cross-attentions read. */
export interface Context {
  /** `[rows, tokens, cross_attention_dim]` */
  readonly text: Tensor;
  readonly references?: readonly Reference[];
  /** The place of each attention among those that read references, by its name. */
  readonly places?: ReadonlyMap<string, number>;
}

/**
 * The down blocks: `x` after `conv_in` → the skips, which begin with it.
 * @param features adds what other networks have of this shape for the end of a block: before it is halved, or after
 */
export function downPath(
  g: Recorder,
  config: UnetConfig,
  x: Tensor,
  nextTime: () => View,
  context: Context,
  features: (level: number, x: Tensor) => Tensor = (_, same) => same,
): Tensor[] {
  const { block_out_channels: channels, layers_per_block: layers } = config;
  const skips = [x];
  config.down_block_types.forEach((type, level) => {
    g.scope(`down_blocks.${level}`, () => {
      const [isCross, isLast] = [type === "CrossAttnDownBlock2D", level === channels.length - 1];
      for (let layer = 0; layer < layers; layer++) {
        x = resnetBlock(g, x, nextTime(), `resnets.${layer}`, channels[level]!, config);
        if (isCross) {
          const depth = depthOf(config.transformer_layers_per_block, level, layer);
          const readsText = atLevel(config.only_cross_attention, level);
          x = transformer(g, x, context, { name: `attentions.${layer}`, level, depth, readsText }, config);
        }
        if (layer === layers - 1) x = features(level, x);
        skips.push(x);
      }
      if (isLast) return;
      x = g.conv2d(x, "downsamplers.0.conv", { outputs: channels[level]!, stride: 2, padding: 1 });
      if (!isCross) x = features(level, x);
      skips.push(x);
    });
  });
  return skips;
}

/** The middle block; `x` as it is, if there is none. */
export function middle(g: Recorder, config: UnetConfig, x: Tensor, nextTime: () => View, context: Context): Tensor {
  const { block_out_channels: channels, mid_block_type: type } = config;
  if (type === null) return x;
  const level = channels.length - 1;
  return g.scope("mid_block", () => {
    let h = resnetBlock(g, x, nextTime(), "resnets.0", channels[level]!, config);
    if (type === "UNetMidBlock2D") return h;
    const depth = depthOf(config.transformer_layers_per_block, level, 0);
    h = transformer(g, h, context, { name: "attentions.0", level, depth, readsText: false }, config);
    return resnetBlock(g, h, nextTime(), "resnets.1", channels[level]!, config);
  });
}

/** ResnetBlock2D with the addend of its timestep. */
export function resnetBlock(
  g: Recorder,
  x: Tensor,
  time: View,
  name: string,
  outputs: number,
  config: UnetConfig,
): Tensor {
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

/** The place of a transformer in the UNet. */
export interface TransformerPlace {
  readonly name: string;
  readonly level: number;
  readonly depth: number;
  /** Its first attention reads the text too. */
  readonly readsText: boolean;
}

/** Transformer2DModel: a picture's pixels as tokens, through blocks of self-attention, cross-attention and feed-forward. */
export function transformer(
  g: Recorder,
  x: Tensor,
  context: Context,
  { name, level, depth, readsText }: TransformerPlace,
  config: UnetConfig,
): Tensor {
  const channels = channelsOf(x);
  // `attention_head_dim` is, for historical reasons, the number of heads.
  const heads = atLevel(config.num_attention_heads ?? config.attention_head_dim, level);
  const [n, h, w] = x.shape as [number, number, number];
  const asConvolution = !config.use_linear_projection;
  return g.scope(name, () => {
    let tokens = g.groupNorm(x, "norm", { groups: config.norm_num_groups, eps: 1e-6 });
    tokens = g.linear(tokens, "proj_in", { outputs: channels, asConvolution });
    for (let block = 0; block < depth; block++) {
      tokens = g.scope(`transformer_blocks.${block}`, () => transformerBlock(g, tokens, context, heads, readsText));
    }
    tokens = g.linear(tokens, "proj_out", { outputs: channels, asConvolution });
    return g.reshape(g.add(tokens, x), [n, h, w, channels]);
  });
}

function transformerBlock(g: Recorder, x: Tensor, context: Context, heads: number, readsText: boolean): Tensor {
  const norm = { eps: 1e-5 };
  const first = g.layerNorm(x, "norm1", norm);
  x = g.add(readsText ? crossAttention(g, first, context, "attn1", heads) : selfAttention(g, first, heads), x);
  x = g.add(crossAttention(g, g.layerNorm(x, "norm2", norm), context, "attn2", heads), x);
  const channels = channelsOf(x);
  let h = g.layerNorm(x, "norm3", norm);
  h = g.geglu(g.linear(h, "ff.net.0.proj", { outputs: channels * 8 }), "ff.net.0");
  return g.add(g.linear(h, "ff.net.2", { outputs: channels }), x);
}

function selfAttention(g: Recorder, h: Tensor, heads: number): Tensor {
  const channels = channelsOf(h);
  const head = headPadding(channels / heads);
  const inner = heads * head.padded;
  const qkv = g.scope("attn1", () =>
    g.linear(h, ["to_q", "to_k", "to_v"], { outputs: [channels, channels, channels], bias: false, outputHead: head }),
  );
  const attended = g.attention(
    "attn1",
    {
      query: { tensor: qkv, offset: 0 },
      key: { tensor: qkv, offset: inner },
      value: { tensor: qkv, offset: 2 * inner },
    },
    { heads, head },
  );
  return g.linear(attended, "attn1.to_out.0", { outputs: channels, inputHead: head });
}

function crossAttention(g: Recorder, h: Tensor, context: Context, name: string, heads: number): Tensor {
  const channels = channelsOf(h);
  const head = headPadding(channels / heads);
  const inner = heads * head.padded;
  const query = g.linear(h, `${name}.to_q`, { outputs: channels, bias: false, outputHead: head });
  const kv = g.scope(name, () =>
    g.linear(context.text, ["to_k", "to_v"], { outputs: [channels, channels], bias: false, outputHead: head }),
  );
  const read = (keysAndValues: Tensor) =>
    g.attention(
      name,
      {
        query: { tensor: query, offset: 0 },
        key: { tensor: keysAndValues, offset: 0 },
        value: { tensor: keysAndValues, offset: inner },
      },
      { heads, head },
    );
  let attended = read(kv);
  const place = context.places?.get(g.path(name));
  for (const { component, tokens, factors, firstColumn } of place === undefined ? [] : (context.references ?? [])) {
    // Numbers of the file: 1, 3, 5, …
    const layers = ["to_k_ip", "to_v_ip"].map((layer) => `ip_adapter.${2 * place! + 1}.${layer}`);
    const ofPicture = g.component(component, () =>
      g.linear(tokens, layers, { outputs: [channels, channels], bias: false, outputHead: head }),
    );
    attended = g.addScaled(attended, read(ofPicture), { tensor: factors, column: firstColumn + place! }, name);
  }
  return g.linear(attended, `${name}.to_out.0`, { outputs: channels, inputHead: head });
}

/** The names of the attentions that a reference is read by, in the order of its file: down, up, middle. */
export function referencePlaces(config: UnetConfig): ReadonlyMap<string, number> {
  const { layers_per_block: layers, down_block_types, up_block_types, mid_block_type } = config;
  const { transformer_layers_per_block: down, reverse_transformer_layers_per_block: up } = config;
  const levels = config.block_out_channels.length;
  const names: string[] = [];
  const add = (attention: string, depth: number) => {
    for (let block = 0; block < depth; block++) names.push(`${attention}.transformer_blocks.${block}.attn2`);
  };
  for (const [level, type] of down_block_types.entries()) {
    if (type !== "CrossAttnDownBlock2D") continue;
    for (let layer = 0; layer < layers; layer++)
      add(`down_blocks.${level}.attentions.${layer}`, depthOf(down, level, layer));
  }
  for (const [block, type] of up_block_types.entries()) {
    if (type !== "CrossAttnUpBlock2D") continue;
    for (let layer = 0; layer < layers + 1; layer++)
      add(
        `up_blocks.${block}.attentions.${layer}`,
        up ? depthOf(up, block, layer) : depthOf(down, levels - 1 - block, layer),
      );
  }
  if (mid_block_type === "UNetMidBlock2DCrossAttn") add("mid_block.attentions.0", depthOf(down, levels - 1, 0));
  return new Map(names.map((name, place) => [name, place]));
}
