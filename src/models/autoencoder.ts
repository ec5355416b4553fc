/** The two kinds of autoencoder behind one face: what a pipeline needs to know to go from latents to pictures and back. */

import type { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Component } from "../weights/model-directory.ts";
import { decodeKl, encodeKl, parseAutoencoderKlConfig } from "./autoencoder-kl.ts";
import { decodeTiny, encodeTiny, parseAutoencoderTinyConfig } from "./autoencoder-tiny.ts";

export interface Autoencoder {
  readonly kind: "kl" | "tiny";
  readonly latentChannels: number;
  /** Pixels of a picture's side for one latent. */
  readonly downscale: number;
  /** Decoder input = latents / scalingFactor + shiftFactor. */
  readonly scalingFactor: number;
  readonly shiftFactor: number;
  /** Activations must stay f32. */
  readonly forceUpcast: boolean;
  /** Decoder input `[n, h, w, latentChannels]` → picture in about [-1, 1], `[n, downscale · h, downscale · w, 3]`. */
  decode(g: Recorder, latents: Tensor): Tensor;
  /** Picture → moments (`kl`: mean and log-variance, `2 · latentChannels`) or the latents themselves (`tiny`). */
  encode(g: Recorder, picture: Tensor): Tensor;
}

/** Throws `ModelConfigError` naming the field. */
export function autoencoder(component: Component): Autoencoder {
  if (component.className === "AutoencoderTiny") {
    const config = parseAutoencoderTinyConfig(component.config);
    return {
      kind: "tiny",
      latentChannels: config.latent_channels,
      downscale: 2 ** (config.num_decoder_blocks.length - 1),
      scalingFactor: config.scaling_factor,
      shiftFactor: config.shift_factor ?? 0,
      forceUpcast: false,
      decode: (g, latents) => decodeTiny(g, config, latents),
      encode: (g, picture) => encodeTiny(g, config, picture),
    };
  }
  const config = parseAutoencoderKlConfig(component.config);
  return {
    kind: "kl",
    latentChannels: config.latent_channels,
    downscale: 2 ** (config.block_out_channels.length - 1),
    scalingFactor: config.scaling_factor,
    shiftFactor: config.shift_factor ?? 0,
    forceUpcast: config.force_upcast,
    decode: (g, latents) => decodeKl(g, config, latents),
    encode: (g, picture) => encodeKl(g, config, picture),
  };
}
