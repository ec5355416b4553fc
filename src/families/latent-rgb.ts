/**
 * The linear map of latents to RGB for the cheapest previews: the model's own (`latent_rgb.json` in its folder), or the
 * one known for its family.
 */

import { join } from "node:path";
import { z } from "zod";
import type { LatentRgb } from "../diffusion/latents.ts";
import { ModelConfigError } from "../models/config.ts";
import { readOptionalJson } from "../weights/json-file.ts";

export type { LatentRgb } from "../diffusion/latents.ts";

/** Colours are 0 to 1, latents a few units. */
const coefficient = z.number().min(-1000).max(1000);

const schema = z.object({
  matrix: z.array(z.array(coefficient)).length(3),
  bias: z.array(coefficient).length(3),
});

/**
 * The map of a model, if any is known.
 * @param known the map of the family's usual autoencoder
 * @throws ModelConfigError, WeightsError for a file that is no such map
 */
export async function latentRgbOf(
  folder: string,
  channels: number,
  known: LatentRgb | undefined,
): Promise<LatentRgb | undefined> {
  const content = await readOptionalJson(join(folder, "latent_rgb.json"), "latent_rgb.json");
  if (content === undefined) {
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
