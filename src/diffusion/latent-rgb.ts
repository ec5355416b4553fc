/**
 * The linear map of latents to RGB for the cheapest previews: the model's own (`latent_rgb.json` in its folder), or the
 * one known for its family.
 */

import { join } from "node:path";
import { z } from "zod";
import { ModelConfigError } from "../models/config.ts";
import { readOptionalJson } from "../weights/json-file.ts";
import type { LatentRgb } from "./latents.ts";

export type { LatentRgb } from "./latents.ts";

/** Colours are 0 to 1, latents a few units. */
const coefficient = z.number().min(-1000).max(1000);

const schema = z.object({
  matrix: z.array(z.array(coefficient)).length(3),
  bias: z.array(coefficient).length(3),
});

// Fitted by the community on each family's autoencoder; figures as published in ComfyUI's `latent_formats.py`.
const KNOWN: Partial<Record<string, LatentRgb>> = {
  "stable-diffusion": {
    matrix: [
      [0.3512, 0.325, -0.2829, -0.212],
      [0.2297, 0.4974, 0.1762, -0.2616],
      [0.3227, 0.235, 0.2721, -0.7177],
    ],
    bias: [0, 0, 0],
  },
  "stable-diffusion-xl": {
    matrix: [
      [0.3651, -0.2533, 0.1076, -0.3165],
      [0.4232, -0.0042, 0.1111, -0.2492],
      [0.4341, 0.1068, -0.0362, -0.2188],
    ],
    bias: [0.1084, -0.0175, -0.0011],
  },
};

/** The map for a model, if any is known. Throws `ModelConfigError` or `WeightsError` for a file that is not one. */
export async function latentRgbOf(folder: string, family: string, channels: number): Promise<LatentRgb | undefined> {
  const content = await readOptionalJson(join(folder, "latent_rgb.json"), "latent_rgb.json");
  if (content === undefined) {
    const known = KNOWN[family === "latent-consistency" ? "stable-diffusion" : family];
    return known?.matrix.at(0)?.length === channels ? known : undefined;
  }
  const parsed = schema.safeParse(content);
  if (!parsed.success || parsed.data.matrix.some((row) => row.length !== channels)) {
    throw new ModelConfigError(
      "latent_rgb.json",
      "matrix",
      `must be three rows of ${channels} numbers from -1000 to 1000, with a bias of three`,
    );
  }
  return parsed.data;
}
