/** Stable Diffusion 1.x and 2.x: one CLIP text encoder, whose last hidden state conditions a UNet. */

import type { Family } from "./family.ts";
import { openUnetModel } from "./unet-model.ts";

/** Figures as published in ComfyUI's `latent_formats.py`; the autoencoder of latent consistency models is the same. */
export const SD_LATENT_RGB = {
  matrix: [
    [0.3512, 0.325, -0.2829, -0.212],
    [0.2297, 0.4974, 0.1762, -0.2616],
    [0.3227, 0.235, 0.2721, -0.7177],
  ],
  bias: [0, 0, 0],
};

export const stableDiffusion: Family = {
  name: "stable-diffusion",
  recognises: ({ pipelineClass }) => /^StableDiffusion(?!XL)/.test(pipelineClass),
  open: (directory, options) =>
    openUnetModel(directory, options, {
      family: "stable-diffusion",
      textEncoders: ["text_encoder"],
      hidden: "last",
      zerosForNoPrompt: false,
      // Diffusers' own guidance, and steps enough for its schedulers.
      defaults: { steps: 25, guidanceScale: 7.5, latentSide: 64 },
      latentRgb: SD_LATENT_RGB,
    }),
};
