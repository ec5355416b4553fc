/**
 * UNet2DConditionModel: the denoiser of Stable Diffusion 1.x, 2.x, XL and of latent consistency models.
 *
 * Rombach et al. 2022 (arXiv 2112.10752); block and layer names are those of diffusers, and so are the shapes, in NHWC.
 * Reads like its diagram: down blocks, middle, up blocks with the skips taken from the other side. The vectors
 * that the blocks add for the timestep do not depend on the sample; a network of its own computes them:
 * `timeProjections`.
 */

import type { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import {
  type Context,
  downPath,
  middle,
  type Reference,
  referencePlaces,
  resnetBlock,
  transformer,
} from "./unet-blocks.ts";
import { atLevel, depthOf, type UnetConfig } from "./unet-config.ts";
import { additionsOf } from "./unet-time.ts";

/** A tensor times a column of factors. */
export interface Scaled {
  readonly tensor: Tensor;
  /** f32 `[rows, columns]` */
  readonly factors: Tensor;
  readonly column: number;
}

/** The parts that other networks add to a UNet. */
export interface UnetControl {
  /** ControlNets: residuals of each skip, in their order, and of the middle. */
  readonly residuals?: readonly { readonly skips: readonly Scaled[]; readonly middle: Scaled }[];
  /** T2I-Adapters: a feature at the end of each down block. */
  readonly features?: readonly (readonly Scaled[])[];
  /** IP-Adapters. */
  readonly references?: readonly Reference[];
}

/** The UNet's inputs beside the sample; `rows` is the batch. */
export interface UnetInputs {
  /** `[rows, h, w, in_channels]` */
  readonly sample: Tensor;
  /** The ResNet blocks' addends for each row's timestep, side by side: `timeProjections`. */
  readonly time: Tensor;
  /** `[rows, tokens, cross_attention_dim]` */
  readonly text: Tensor;
  readonly control?: UnetControl;
}

/** `sample` → the prediction, `[rows, h, w, out_channels]`. */
export function unet(g: Recorder, config: UnetConfig, inputs: UnetInputs): Tensor {
  const { block_out_channels: channels, layers_per_block: layers } = config;
  const levels = channels.length;
  const { residuals = [], features = [], references = [] } = inputs.control ?? {};
  const time = additionsOf(inputs.time, config).values();
  const nextTime = () => time.next().value!;
  const places = references.length > 0 ? referencePlaces(config) : undefined;
  const context: Context = { text: inputs.text, references, places };

  const start = g.conv2d(inputs.sample, "conv_in", { outputs: channels[0]!, padding: 1 });
  const skips = downPath(g, config, start, nextTime, context, (level, x) =>
    features.reduce((sum, { [level]: own }) => (own && hasShape(own.tensor, x) ? scaledSum(g, sum, own) : sum), x),
  );
  let x = middle(g, config, skips.at(-1)!, nextTime, context);
  // Once the whole path down has been taken, as in the reference: no down block reads them.
  for (const { skips: ofSkips, middle: ofMiddle } of residuals) {
    for (const [index, residual] of ofSkips.entries()) skips[index] = scaledSum(g, skips[index]!, residual);
    x = scaledSum(g, x, ofMiddle);
  }

  // T2I-Adapters of SDXL have one more, for what the middle gives.
  for (const ofLevels of features) if (ofLevels[levels]) x = scaledSum(g, x, ofLevels[levels]);

  config.up_block_types.forEach((type, block) => {
    const level = levels - 1 - block;
    g.scope(`up_blocks.${block}`, () => {
      for (let layer = 0; layer < layers + 1; layer++) {
        x = resnetBlock(g, g.concat(x, skips.pop()!), nextTime(), `resnets.${layer}`, channels[level]!, config);
        if (type === "CrossAttnUpBlock2D") {
          const { transformer_layers_per_block: down, reverse_transformer_layers_per_block: up } = config;
          const depth = up ? depthOf(up, block, layer) : depthOf(down, level, layer);
          const readsText = atLevel(config.only_cross_attention, level);
          x = transformer(g, x, context, { name: `attentions.${layer}`, level, depth, readsText }, config);
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

function hasShape(tensor: Tensor, { shape }: Tensor): boolean {
  return shape.every((size, axis) => tensor.shape[axis] === size);
}

function scaledSum(g: Recorder, x: Tensor, { tensor, factors, column }: Scaled): Tensor {
  return g.addScaled(x, tensor, { tensor: factors, column }, "control");
}
