/**
 * Latent consistency models: Stable Diffusion distilled to a few steps, with the guidance scale as a condition of the UNet
 * (Luo et al. 2023, arXiv 2310.04378).
 */

import type { Family } from "./family.ts";
import { SD_LATENT_RGB } from "./stable-diffusion.ts";
import { openUnetModel } from "./unet-model.ts";

export const latentConsistency: Family = {
  name: "latent-consistency",
  recognises: ({ pipelineClass }) => pipelineClass.startsWith("LatentConsistency"),
  open: (directory, options) =>
    openUnetModel(directory, options, {
      family: "latent-consistency",
      textEncoders: ["text_encoder"],
      hidden: "last",
      zerosForNoPrompt: false,
      defaults: { steps: 4, guidanceScale: 8.5, latentSide: 64 },
      latentRgb: SD_LATENT_RGB,
      spacesStepsWithinStrength: true,
    }),
};
