/**
 * Stable Diffusion XL: the last but one hidden states of two CLIP text encoders side by side, the second one's pooled vector
 * and the picture's sizes condition a UNet (Podell et al. 2023, arXiv 2307.01952). The refiner has only the second encoder.
 */

import type { Family } from "./family.ts";
import { openUnetModel } from "./unet-model.ts";

/** Figures as published in ComfyUI's `latent_formats.py`. */
const LATENT_RGB = {
  matrix: [
    [0.3651, -0.2533, 0.1076, -0.3165],
    [0.4232, -0.0042, 0.1111, -0.2492],
    [0.4341, 0.1068, -0.0362, -0.2188],
  ],
  bias: [0.1084, -0.0175, -0.0011],
};

export const stableDiffusionXl: Family = {
  name: "stable-diffusion-xl",
  recognises: ({ pipelineClass }) => pipelineClass.startsWith("StableDiffusionXL"),
  open: (directory, options) =>
    openUnetModel(directory, options, {
      family: "stable-diffusion-xl",
      textEncoders: directory.component("text_encoder") ? ["text_encoder", "text_encoder_2"] : ["text_encoder_2"],
      hidden: "last-but-one",
      zerosForNoPrompt: directory.flags.force_zeros_for_empty_prompt !== false,
      defaults: { steps: 25, guidanceScale: 5, latentSide: 128 },
      latentRgb: LATENT_RGB,
    }),
};
