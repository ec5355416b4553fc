/** All families, the more particular first. */

import type { FamilyModel } from "../diffusion/model.ts";
import { openModelDirectory } from "../weights/model-directory.ts";
import type { Family, OpenOptions } from "./family.ts";
import { latentConsistency } from "./latent-consistency.ts";
import { stableDiffusion } from "./stable-diffusion.ts";
import { stableDiffusionXl } from "./stable-diffusion-xl.ts";

export const FAMILIES: readonly Family[] = [stableDiffusionXl, latentConsistency, stableDiffusion];

/**
 * Opens a model's folder as the family that recognises it.
 * @param options.variant which of several saved weights: `fp16`
 * @throws as `Family.open`
 */
export async function openFamily(
  folder: string,
  options: Omit<OpenOptions, "folder"> & { readonly variant?: string } = {},
  families: readonly Family[] = FAMILIES,
): Promise<FamilyModel> {
  const known = {
    pipelines: Object.assign({}, ...families.map(({ classes }) => classes?.pipelines)),
    components: Object.assign({}, ...families.map(({ classes }) => classes?.components)),
  };
  const directory = await openModelDirectory(folder, { variant: options.variant, known });
  const family = families.find((one) => one.recognises(directory));
  if (!family) throw new Error(`no family recognises a ${directory.pipelineClass}`);
  return family.open(directory, { ...options, folder });
}
