/** The two kinds of autoencoder behind one interface: from latents to pictures and back. */

import type { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Component } from "../weights/model-directory.ts";
import * as kl from "./autoencoder-kl.ts";
import * as tiny from "./autoencoder-tiny.ts";

/**
 * Both directions in halves: the inner ones work at the latents' size and see all of it at once; what the outer ones do
 * to a pixel follows from its neighbourhood, and from the group norms' statistics.
 */
export interface AutoencoderHalves {
  decodeInner(g: Recorder, latents: Tensor): Tensor;
  decodeOuter(g: Recorder, inner: Tensor): Tensor;
  encodeOuter(g: Recorder, picture: Tensor): Tensor;
  encodeInner(g: Recorder, outer: Tensor): Tensor;
}

export interface Autoencoder extends AutoencoderHalves {
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
export function autoencoder(component: Pick<Component, "className" | "config">): Autoencoder {
  if (component.className === "AutoencoderTiny") {
    const config = tiny.parseAutoencoderTinyConfig(component.config);
    return ofHalves(
      {
        kind: "tiny",
        latentChannels: config.latent_channels,
        downscale: 2 ** (config.num_decoder_blocks.length - 1),
        scalingFactor: config.scaling_factor,
        shiftFactor: config.shift_factor ?? 0,
        forceUpcast: false,
      },
      {
        decodeInner: (g, latents) => tiny.decodeTinyInner(g, config, latents),
        decodeOuter: (g, inner) => tiny.decodeTinyOuter(g, config, inner),
        encodeOuter: (g, picture) => tiny.encodeTinyOuter(g, config, picture),
        encodeInner: (g, outer) => tiny.encodeTinyInner(g, config, outer),
      },
    );
  }
  const config = kl.parseAutoencoderKlConfig(component.config);
  return ofHalves(
    {
      kind: "kl",
      latentChannels: config.latent_channels,
      downscale: 2 ** (config.block_out_channels.length - 1),
      scalingFactor: config.scaling_factor,
      shiftFactor: config.shift_factor ?? 0,
      forceUpcast: config.force_upcast,
    },
    {
      decodeInner: (g, latents) => kl.decodeKlInner(g, config, latents),
      decodeOuter: (g, inner) => kl.decodeKlOuter(g, config, inner),
      encodeOuter: (g, picture) => kl.encodeKlOuter(g, config, picture),
      encodeInner: (g, outer) => kl.encodeKlInner(g, config, outer),
    },
  );
}

function ofHalves(
  facts: Omit<Autoencoder, keyof AutoencoderHalves | "decode" | "encode">,
  halves: AutoencoderHalves,
): Autoencoder {
  return {
    ...facts,
    ...halves,
    decode: (g, latents) => halves.decodeOuter(g, halves.decodeInner(g, latents)),
    encode: (g, picture) => halves.encodeInner(g, halves.encodeOuter(g, picture)),
  };
}
