/**
 * T2I-Adapter: a small network from a control picture to one feature a level of the UNet, which is added there at every step
 * (Mou et al. 2023, arXiv 2302.08453). Names and shapes are those of diffusers' `T2IAdapter`, in NHWC.
 */

import { z } from "zod";
import type { Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor } from "../graph/tensor.ts";
import { parseConfig, size } from "./config.ts";

const configSchema = z.object({
  adapter_type: z.enum(["full_adapter", "full_adapter_xl", "light_adapter"]).default("full_adapter"),
  in_channels: z.union([z.literal(1), z.literal(3)]).default(3),
  channels: size.levels(size.channels).default([320, 640, 1280, 1280]),
  num_res_blocks: size.layersOfLevel.default(2),
  downscale_factor: z.union([z.literal(8), z.literal(16)]).default(8),
});

export type T2iAdapterConfig = z.infer<typeof configSchema>;

/** @throws ModelConfigError naming the field; `component` is how messages call the network */
export function parseT2iAdapterConfig(component: string, config: unknown): T2iAdapterConfig {
  return parseConfig(component, configSchema, config);
}

/** Channels of each feature. */
export function featureChannels({ adapter_type: type, channels }: T2iAdapterConfig): number[] {
  return type === "light_adapter" ? [...channels, channels.at(-1)!] : [...channels];
}

/** Which features are of half the size of the one before. */
export function halves(config: T2iAdapterConfig, level: number): boolean {
  return config.adapter_type === "full_adapter_xl" ? level === 2 : level > 0;
}

/** A picture unshuffled, `[n, h / factor, w / factor, in_channels · factor²]` → its features, one a level. */
export function t2iAdapter(g: Recorder, config: T2iAdapterConfig, unshuffled: Tensor): Tensor[] {
  const isLight = config.adapter_type === "light_adapter";
  const features: Tensor[] = [];
  return g.scope("adapter", () => {
    let x = isLight ? unshuffled : g.conv2d(unshuffled, "conv_in", { outputs: config.channels[0]!, padding: 1 });
    for (const [level, outputs] of featureChannels(config).entries()) {
      x = g.scope(`body.${level}`, () => {
        let h = halves(config, level) ? g.averagePool(x, "downsample", 2) : x;
        const inner = isLight ? outputs / 4 : outputs;
        if (isLight || channelsOf(h) !== inner) h = g.conv2d(h, "in_conv", { outputs: inner, kernel: 1 });
        for (let block = 0; block < config.num_res_blocks; block++) {
          h = g.scope(`resnets.${block}`, () => residualBlock(g, h, isLight));
        }
        return isLight ? g.conv2d(h, "out_conv", { outputs, kernel: 1 }) : h;
      });
      features.push(x);
    }
    return features;
  });
}

function residualBlock(g: Recorder, x: Tensor, isLight: boolean): Tensor {
  const outputs = channelsOf(x);
  const h = g.activation(g.conv2d(x, "block1", { outputs, padding: 1 }), "relu");
  return g.add(g.conv2d(h, "block2", isLight ? { outputs, padding: 1 } : { outputs, kernel: 1 }), x);
}

/** Pixels as PyTorch's PixelUnshuffle has them: `[h, w, c]` → `[h / factor, w / factor, c · factor²]`, channel `(c, y, x)`. */
export function unshuffled(
  values: Float32Array,
  { height, width, channels }: { readonly height: number; readonly width: number; readonly channels: number },
  factor: number,
): Float32Array {
  const out = new Float32Array(values.length);
  const [rows, columns] = [height / factor, width / factor];
  const stride = channels * factor * factor;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let channel = 0; channel < stride; channel++) {
        const [c, y, x] = [
          Math.floor(channel / factor / factor),
          Math.floor(channel / factor) % factor,
          channel % factor,
        ];
        const from = ((row * factor + y) * width + column * factor + x) * channels + c;
        out[(row * columns + column) * stride + channel] = values[from]!;
      }
    }
  }
  return out;
}
