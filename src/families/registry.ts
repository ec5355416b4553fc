/** All families, the more particular first. */

import type { FamilyModel } from "../diffusion/model.ts";
import type { ModelFiles } from "../platform/model-files.ts";
import { openModelDirectory } from "../weights/model-directory.ts";
import type { Family, OpenOptions } from "./family.ts";
import { latentConsistency } from "./latent-consistency.ts";
import { stableDiffusion } from "./stable-diffusion.ts";
import { stableDiffusionXl } from "./stable-diffusion-xl.ts";

export const FAMILIES: readonly Family[] = [stableDiffusionXl, latentConsistency, stableDiffusion];

/**
 * Opens a model as the family that recognises it.
 * @param model its files, or the path of its folder
 * @param options.variant which of several saved weights: `fp16`
 * @throws as `Family.open`
 */
export async function openFamily(
  model: ModelFiles | string,
  options: OpenOptions & { readonly variant?: string } = {},
  families: readonly Family[] = FAMILIES,
): Promise<FamilyModel> {
  const known = {
    pipelines: Object.assign({}, ...families.map(({ classes }) => classes?.pipelines)),
    components: Object.assign({}, ...families.map(({ classes }) => classes?.components)),
  };
  const directory = await openModelDirectory(model, { variant: options.variant, extraClasses: known });
  const family = families.find((one) => one.recognises(directory));
  if (!family) throw new Error(`no family recognises a ${directory.pipelineClass}`);
  return family.open(directory, options);
}
