import type { ImageEncoderFolder } from "../../diffusion/control.ts";
import type { UnetConfig } from "../../models/unet-config.ts";

/** The model that a network is to be for. */
export interface ControlledModel {
  readonly unet: UnetConfig;
  /** Channels of its latents, and pixels of a side for one latent. */
  readonly latent: { readonly channels: number; readonly downscale: number };
  /** Encoders of pictures, for IP-Adapters. */
  readonly imageEncoders: readonly ImageEncoderFolder[];
}
