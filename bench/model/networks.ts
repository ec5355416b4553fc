/**
 * The whole networks that are measured, at the shapes of Stable Diffusion 1.5 with generated weights, and of the built-in
 * model with its own.
 */

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Recorder } from "../../src/graph/recorder.ts";
import { channelsOf, type Tensor } from "../../src/graph/tensor.ts";
import { autoencoder } from "../../src/models/autoencoder.ts";
import { clipText, parseClipTextConfig } from "../../src/models/clip.ts";
import { unet } from "../../src/models/unet.ts";
import { parseUnetConfig } from "../../src/models/unet-config.ts";
import { timeProjections } from "../../src/models/unet-time.ts";
import { type FloatType, toFloat32 } from "../../src/weights/element-types.ts";
import { type Component, openModelDirectory } from "../../src/weights/model-directory.ts";
import type { StorageChoice, TensorFile } from "../peers/peer.ts";
import { generatedWeights, type Window } from "./generated-weights.ts";

export interface NetworkWork {
  readonly kind: "network";
  readonly network: string;
  readonly tensors: Readonly<Record<string, TensorFile>>;
  readonly onnx: readonly string[];
  readonly storage?: StorageChoice;
  /** A UNet with generated weights, for who builds it from its configuration: the pool, and the windows by name. */
  readonly unet?: {
    readonly config: unknown;
    readonly pool: TensorFile;
    readonly tensors: Readonly<Record<string, Window>>;
  };
}

/** A network recorded, and where its weights come from. Its one output is called `out`. */
export interface RecordedNetwork {
  readonly recorder: Recorder;
  readonly weights: (name: string) => Float32Array;
}

export interface NetworkCase {
  readonly name: string;
  /** How Daguerre stores it; without f32 where two copies of a large network would not fit beside the peers'. */
  readonly storages: readonly StorageChoice[];
  readonly bar?: { readonly against: "ort-webgpu" | "ort-cpu"; readonly require: number; readonly aim: number }[];
  build(): Promise<RecordedNetwork>;
}

export const SD15_UNET = {
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [320, 640, 1280, 1280],
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 768,
  attention_head_dim: 8,
};
const SD15_TEXT = {
  vocab_size: 49408,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
};
const SD_VAE = {
  _class_name: "AutoencoderKL",
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [128, 256, 512, 512],
  down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
  layers_per_block: 2,
  norm_num_groups: 32,
  act_fn: "silu",
  scaling_factor: 0.18215,
};
const TAESD = {
  _class_name: "AutoencoderTiny",
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  encoder_block_out_channels: [64, 64, 64, 64],
  decoder_block_out_channels: [64, 64, 64, 64],
  num_encoder_blocks: [1, 3, 3, 3],
  num_decoder_blocks: [3, 3, 3, 1],
  act_fn: "relu",
  scaling_factor: 1,
};
const BUILT_IN = fileURLToPath(new URL("../../models/landscapes", import.meta.url));

const UNET_BARS: NetworkCase["bar"] = [
  { against: "ort-webgpu", require: 7, aim: 12 },
  { against: "ort-cpu", require: 0.15, aim: 0.3 },
];
const BOTH: readonly StorageChoice[] = ["f32", "packed"];

export const NETWORKS: readonly NetworkCase[] = [
  {
    name: "UNet step, built-in model, 128², guided",
    storages: BOTH,
    build: () => builtIn("unet", (config) => recordUnet(config, 2, 16, 77)),
  },
  {
    name: "text encoding, built-in model",
    storages: BOTH,
    build: () => builtIn("text_encoder", (config) => recordText(config)),
  },
  {
    name: "decode, built-in model, 128²",
    storages: BOTH,
    build: () => builtIn("vae", (_, component) => recordDecoder(component, 16)),
  },
  {
    name: "text encoding, SD 1.5",
    storages: BOTH,
    build: async () => ({ recorder: recordText(SD15_TEXT), weights: generatedWeights }),
  },
  {
    name: "TAESD decode, 512²",
    storages: BOTH,
    build: async () => ({
      recorder: recordDecoder({ className: "AutoencoderTiny", config: TAESD }, 64),
      weights: generatedWeights,
    }),
  },
  ...[32, 64].map(
    (side): NetworkCase => ({
      name: `VAE decode, ${side * 8}²`,
      storages: ["packed"],
      ...(side === 64 ? { bar: [{ against: "ort-webgpu", require: 8, aim: 14 }] } : {}),
      build: async () => ({
        recorder: recordDecoder({ className: "AutoencoderKL", config: SD_VAE }, side),
        weights: generatedWeights,
      }),
    }),
  ),
  ...[32, 64].map(
    (side): NetworkCase => ({
      name: `UNet step, SD 1.5, ${side * 8}²`,
      storages: ["packed"],
      bar: UNET_BARS,
      build: async () => ({ recorder: recordUnet(SD15_UNET, 1, side, 77), weights: generatedWeights }),
    }),
  ),
];

export function recordUnet(raw: unknown, rows: number, side: number, tokens: number): Recorder {
  const config = parseUnetConfig(raw);
  const g = new Recorder();
  const sample = g.input("sample", [rows, side, side, config.in_channels]);
  const timesteps = g.input("timestep", [rows, config.block_out_channels[0]!]);
  // As in the product: keys and values of the prompt are computed once, outside the step.
  const text = g.input("text", [rows, tokens, config.cross_attention_dim], { constant: true });
  g.output("out", unet(g, config, { sample, text, time: timeProjections(g, config, { timesteps }) }));
  return g;
}

function recordText(raw: unknown): Recorder {
  const config = parseClipTextConfig("text_encoder", raw);
  const g = new Recorder();
  const ids = g.input("ids", [config.max_position_embeddings], { element: "u32" });
  g.output("out", clipText(g, config, ids, 1).lastHiddenState);
  return g;
}

function recordDecoder(component: Pick<Component, "className" | "config">, side: number): Recorder {
  const vae = autoencoder(component as Component);
  const g = new Recorder();
  const picture = vae.decode(g, g.input("latents", [1, side, side, vae.latentChannels]));
  g.output("out", picture);
  return g;
}

async function builtIn(
  name: string,
  record: (config: unknown, component: Component) => Recorder,
): Promise<RecordedNetwork> {
  const directory = await openModelDirectory(resolve(BUILT_IN));
  const component = directory.components.get(name)!;
  const recorder = record(component.config, component);
  const tensors = await component.weights();
  const values = new Map<string, Float32Array>();
  for (const parameter of recorder.parameters.values()) {
    for (const part of parameter.parts) {
      const entry = [part.name, ...(part.aliases ?? [])].map((known) => tensors.get(known)).find((found) => found)!;
      const bytes = new Uint8Array(entry.byteLength);
      await entry.read(bytes);
      values.set(part.name, toFloat32(bytes, entry.dtype as FloatType));
    }
  }
  await tensors.close();
  return { recorder, weights: (part) => values.get(part)! };
}

/** The inputs' shapes as ONNX has them. */
export function inputShape(tensor: Tensor): readonly number[] {
  if (tensor.shape.length !== 4) return tensor.shape;
  const [n, h, w] = tensor.shape as [number, number, number];
  return [n, channelsOf(tensor), h, w];
}
