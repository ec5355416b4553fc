/** The timestep's part in a UNet: sinusoids, and the vectors that its blocks add for them. */

import type { Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor, type View } from "../graph/tensor.ts";
import type { UnetConfig } from "./unet-config.ts";

/** The inputs from which the blocks' addends for the timestep follow. */
export interface TimeInputs {
  /** Sinusoids of timesteps, `[n, block_out_channels[0]]` or `[n, steps, block_out_channels[0]]`: `timestepSinusoids`. */
  readonly timesteps: Tensor;
  /** LCM: the embedding of the guidance scale, `[n, time_cond_proj_dim]`. */
  readonly guidance?: Tensor;
  /** SDXL: pooled text and size sinusoids side by side, `[n, projection_class_embeddings_input_dim]`. */
  readonly added?: Tensor;
  /** Union ControlNets: sinusoids of the kinds of control, side by side. */
  readonly kinds?: Tensor;
}

/** The blocks that there are: a ControlNet has none upwards. */
export type Half = "whole" | "down";

/**
 * The addends of each ResNet block's channels for a timestep: `[…, Σ channels]` of timesteps `[…, block_out_channels[0]]`,
 * the blocks side by side in their order.
 */
export function timeProjections(g: Recorder, config: UnetConfig, inputs: TimeInputs, half: Half = "whole"): Tensor {
  const embedding = g.activation(timeEmbedding(g, config, inputs), "silu");
  const blocks = resnetBlocks(config, half);
  const layers = blocks.map(({ name }) => `${name}.time_emb_proj`);
  return g.linear(embedding, layers, { outputs: blocks.map(({ channels }) => channels), name: "time_emb_proj" });
}

/** The ResNet blocks in the order that they run in, and the channels that each gives. */
function resnetBlocks(config: UnetConfig, half: Half) {
  const { block_out_channels: levels, layers_per_block: layers, mid_block_type: mid } = config;
  const blocks = (scope: string, count: number, channels: number) =>
    Array.from({ length: count }, (_, layer) => ({ name: `${scope}.resnets.${layer}`, channels }));
  return [
    ...levels.flatMap((channels, level) => blocks(`down_blocks.${level}`, layers, channels)),
    ...blocks("mid_block", mid === null ? 0 : mid === "UNetMidBlock2D" ? 1 : 2, levels.at(-1)!),
    ...(half === "whole" ? [...levels].reverse() : []).flatMap((channels, block) =>
      blocks(`up_blocks.${block}`, layers + 1, channels),
    ),
  ];
}

/** Each block's part of `timeProjections`. */
export function additionsOf(tensor: Tensor, config: UnetConfig, half: Half = "whole"): View[] {
  let end = 0;
  return resnetBlocks(config, half).map(({ channels }) => {
    const offset = end;
    end += channels;
    return { tensor, offset };
  });
}

/** Timestep, guidance scale and added conditions into one vector each, `[…, 4 · block_out_channels[0]]`. */
function timeEmbedding(g: Recorder, config: UnetConfig, { timesteps, guidance, added, kinds }: TimeInputs): Tensor {
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
  let time = perceptron(x, "time_embedding");
  if (kinds) time = g.add(time, perceptron(kinds, "control_add_embedding"), "control_add_embedding");
  return added ? g.add(time, perceptron(added, "add_embedding"), "add_embedding") : time;
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
