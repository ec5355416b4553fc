/**
 * Latents to pictures and back on the device: the full decoder, the tiny decoder of previews, the linear map, the encoder.
 * Host tensors are as PyTorch has them, NCHW; on the device everything is NHWC.
 */

import type { Gpu } from "../gpu/device.ts";
import { latentToRgb } from "../graph/ops/diffusion/latent-to-rgb.ts";
import { modelInput } from "../graph/ops/diffusion/model-input.ts";
import { packPicture } from "../graph/ops/diffusion/pack-picture.ts";
import { ROW_QUADS } from "../graph/ops/diffusion/rows.ts";
import type { Plan, Range } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import { quads, type Tensor } from "../graph/tensor.ts";
import type { ComponentId } from "../memory/component.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import type { Autoencoder } from "../models/autoencoder.ts";
import { inTurns } from "../platform/turns.ts";

/** RGBA8 pixels, row by row from the top left. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

/** A picture for the encoder. */
export interface EncoderPicture extends Pixels {
  /** One byte a pixel: where it is 1, the encoder sees grey, which is 0 to it. */
  readonly without?: Uint8Array;
}

export interface LatentSize {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** Bytes of one picture's latents on the device. */
export function latentBytes(size: LatentSize): number {
  return size.height * size.width * quads(size.channels) * 16;
}

/** Numbers in one picture's latents. */
export function latentCount({ channels, height, width }: LatentSize): number {
  return channels * height * width;
}

/** Records one picture's latents (input `latents`, as the diffusion loop has them) to RGBA8 (output `rgba`). */
export function recordDecoder(
  decoder: Autoencoder,
  size: LatentSize,
  { keepPicture = false }: { keepPicture?: boolean } = {},
): Recorder {
  const g = new Recorder();
  const picture = decoder.decode(g, recordLatentInput(g, decoder, size));
  if (keepPicture) g.output("picture", picture);
  g.output("rgba", packPicture(g, picture, "pack"));
  return g;
}

/** One picture's latents (input `latents`, as the diffusion loop has them) as the decoder wants them. */
export function recordLatentInput(g: Recorder, decoder: Autoencoder, size: LatentSize): Tensor {
  const latents = g.input("latents", [1, size.height, size.width, size.channels], { element: "f32" });
  const scale = g.input("scale", [ROW_QUADS, 4], { element: "f32" });
  const x = modelInput(g, latents, scale, 1, "unscale");
  return decoder.shiftFactor === 0 ? x : g.affine(x, "shift", { shift: decoder.shiftFactor });
}

/** An autoencoder, and the component that its weights are. */
export interface PictureCoder {
  readonly component: ComponentId;
  readonly autoencoder: Autoencoder;
}

/** The plan of one picture's decoder. */
export function decoderSpec(coder: PictureCoder, size: LatentSize): PlanSpec {
  const { autoencoder, component } = coder;
  const { height, width, channels } = size;
  return {
    part: "decoder",
    shape: { component, height, width, channels },
    label: `${component} decoder ${height}×${width}`,
    components: [component],
    upcast: autoencoder.forceUpcast,
    reads: ["rgba"],
    record: () => recordDecoder(autoencoder, size),
    prepare: (plan) => writeDecoderScale(plan, autoencoder),
  };
}

/** Writes the constant of a plan of `recordDecoder` or `recordLatentInput`. */
export function writeDecoderScale(plan: Plan, decoder: Autoencoder): void {
  const row = new Float32Array(ROW_QUADS * 4);
  row[0] = 1 / decoder.scalingFactor;
  plan.write("scale", row);
}

/** The linear map of latents to RGB: three rows of one number a channel, and a bias. */
export interface LatentRgb {
  readonly matrix: readonly (readonly number[])[];
  readonly bias: readonly number[];
}

/** The plan from one picture's latents to RGBA8 of the latents' own size. */
export function linearSpec(map: LatentRgb, size: LatentSize): PlanSpec {
  const { height, width, channels } = size;
  return {
    part: "linear preview",
    shape: { height, width, channels },
    label: "linear preview",
    components: [],
    upcast: true,
    record: () => recordLinear(size),
    prepare: (plan) => plan.write("matrix", linearMatrix(map, channels)),
  };
}

function recordLinear({ height, width, channels }: LatentSize): Recorder {
  const g = new Recorder();
  const latents = g.input("latents", [1, height, width, channels], { element: "f32" });
  const matrix = g.input("matrix", [quads(channels) * 4 + 1, 4], { element: "f32" });
  g.output("rgba", packPicture(g, latentToRgb(g, latents, matrix, "latent_to_rgb"), "pack"));
  return g;
}

/** The map as `shaders/latent_to_rgb.wgsl` reads it: a row for each channel, then the bias. */
function linearMatrix(map: LatentRgb, channels: number): Float32Array {
  const rows = quads(channels) * 4 + 1;
  const values = new Float32Array(rows * 4);
  for (let colour = 0; colour < 3; colour++) {
    for (let channel = 0; channel < channels; channel++) values[channel * 4 + colour] = map.matrix[colour]![channel]!;
    values[(rows - 1) * 4 + colour] = map.bias[colour]!;
  }
  return values;
}

/**
 * Runs a decoder or preview plan on latents that lie on the device. All of it is submitted when this returns: what comes
 * after may change the latents.
 */
export function decodeOnDevice(
  gpu: Gpu,
  plan: Plan,
  latents: Range,
  pixels: { width: number; height: number },
): Promise<Pixels> {
  const input = plan.range("latents");
  gpu.submit(plan.label, (encoder) => {
    encoder.copyBufferToBuffer(latents.buffer, latents.offset, input.buffer, input.offset, input.size);
    plan.encode(encoder);
  });
  return plan
    .read("rgba")
    .then((packed) => ({ ...pixels, rgba: new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength) }));
}

/** Records one picture in [-1, 1] (input `picture` `[1, h, w, 3]`) to the encoder's output (`encoded`). */
export function recordEncoder(encoder: Autoencoder, size: { height: number; width: number }): Recorder {
  const g = new Recorder();
  g.output("encoded", encoder.encode(g, g.input("picture", [1, size.height, size.width, 3])));
  return g;
}

/** The plan of one picture's encoder. `size` in pixels. */
export function encoderSpec(
  { autoencoder, component }: PictureCoder,
  size: { height: number; width: number },
): PlanSpec {
  const { height, width } = size;
  return {
    part: "encoder",
    shape: { component, height, width },
    label: `${component} encoder ${height}×${width}`,
    components: [component],
    upcast: autoencoder.forceUpcast,
    reads: ["encoded"],
    record: () => recordEncoder(autoencoder, size),
  };
}

/** The output of the autoencoder for a picture, in PyTorch's order. */
export interface Encoded {
  /** `[channels, h, w]` */
  readonly mean: Float32Array;
  /** Log-variance clamped to [-30, 20]; none where the encoder gives the latents themselves. */
  readonly logVariance?: Float32Array;
}

/** Runs the encoder on RGBA8 pixels (alpha is ignored). */
export async function encodePixels(plan: Plan, encoder: Autoencoder, pixels: EncoderPicture): Promise<Encoded> {
  await plan.writeInTurns("picture", await inTurns(signedRows(pixels, 0, pixels.height)));
  plan.run();
  return encodedOf((await plan.read("encoded")) as Float32Array, encoder);
}

/** Rows of a picture without alpha, as the reference normalises them: `u8 / 255 · 2 − 1`. */
export function* signedRows(
  { width, rgba, without }: EncoderPicture,
  firstRow: number,
  rows: number,
): Generator<void, Float32Array, void> {
  const picture = new Float32Array(rows * width * 3);
  for (let row = 0; row < rows; row++) {
    for (let pixel = row * width; pixel < (row + 1) * width; pixel++) {
      if (without?.[firstRow * width + pixel] === 1) continue;
      for (let colour = 0; colour < 3; colour++) {
        picture[pixel * 3 + colour] = Math.fround(rgba[(firstRow * width + pixel) * 4 + colour]! / 255) * 2 - 1;
      }
    }
    yield;
  }
  return picture;
}

/** Takes the encoder's output `[1, h, w, c]` apart. */
export function encodedOf(encoded: Float32Array, encoder: Autoencoder): Encoded {
  const channels = encoder.kind === "kl" ? 2 * encoder.latentChannels : encoder.latentChannels;
  const planar = toNchw(encoded, 1, channels, encoded.length / channels);
  if (encoder.kind === "tiny") return { mean: planar };
  const half = planar.length / 2;
  return {
    mean: planar.subarray(0, half),
    logVariance: planar.slice(half).map((value) => Math.min(Math.max(value, -30), 20)),
  };
}

/** `[n, c, pixels]` → `[n, pixels, c]` */
export function* toNhwc(
  values: Float32Array,
  images: number,
  channels: number,
  pixels: number,
): Generator<void, Float32Array, void> {
  const out = new Float32Array(values.length);
  for (let n = 0; n < images; n++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < pixels; p++) out[(n * pixels + p) * channels + c] = values[(n * channels + c) * pixels + p]!;
      yield;
    }
  }
  return out;
}

/** `[n, pixels, c]` → `[n, c, pixels]` */
export function toNchw(values: Float32Array, images: number, channels: number, pixels: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let n = 0; n < images; n++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < pixels; p++) out[(n * channels + c) * pixels + p] = values[(n * pixels + p) * channels + c]!;
    }
  }
  return out;
}
