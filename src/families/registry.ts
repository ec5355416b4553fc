/** All families, the more particular first. */

import type { FamilyModel } from "../diffusion/model.ts";
import type { FileAt, ModelFiles } from "../platform/model-files.ts";
import { WeightsError } from "../weights/errors.ts";
import type { KnownClasses } from "../weights/model-classes.ts";
import { type ModelDirectory, openModelDirectory } from "../weights/model-directory.ts";
import { openAutoencoder } from "./checkpoint/open-autoencoder.ts";
import { openCheckpoint } from "./checkpoint/open-checkpoint.ts";
import { TRAITS } from "./checkpoint/tables.ts";
import type { Family, OpenOptions } from "./family.ts";
import { latentConsistency } from "./latent-consistency.ts";
import { stableDiffusion } from "./stable-diffusion.ts";
import { stableDiffusionXl } from "./stable-diffusion-xl.ts";

export const FAMILIES: readonly Family[] = [stableDiffusionXl, latentConsistency, stableDiffusion];

export interface OpenModelOptions extends OpenOptions {
  /** Which of several saved weights: `fp16`. */
  readonly variant?: string;
  /** A VAE in place of the model's own: its files, or the path of its folder or file. */
  readonly vae?: ModelFiles | string;
}

/**
 * Opens a model as the family that recognises it.
 * @param model its files, or the path of its folder; a checkpoint of one file
 * @throws as `Family.open`
 */
export async function openFamily(
  model: ModelFiles | FileAt | string,
  options: OpenModelOptions = {},
  families: readonly Family[] = FAMILIES,
): Promise<FamilyModel> {
  const directory = await withVae(await openDirectory(model, options, classesOf(families)), options.vae);
  const family = families.find((one) => one.recognises(directory));
  if (!family) throw new Error(`no family recognises a ${directory.pipelineClass}`);
  return family.open(directory, options);
}

/**
 * The kind of a model in words, by its configurations and the names of its tensors; its weights and its tokenizer are not
 * read.
 * @throws WeightsError for one that no family opens
 */
export async function kindOfModel(model: ModelFiles | FileAt): Promise<string> {
  const { description, pipelineClass } = await openDirectory(model, {}, classesOf(FAMILIES));
  return description ?? `${pipelineClass}, a folder`;
}

function classesOf(families: readonly Family[]): KnownClasses {
  return {
    pipelines: Object.assign({}, ...families.map(({ classes }) => classes?.pipelines)),
    components: Object.assign({}, ...families.map(({ classes }) => classes?.components)),
  };
}

async function openDirectory(
  model: ModelFiles | FileAt | string,
  { variant, vae }: OpenModelOptions,
  known: KnownClasses,
): Promise<ModelDirectory> {
  if (typeof model === "string" || !("path" in model))
    return openModelDirectory(model, { variant, extraClasses: known });
  if (variant === undefined) return openCheckpoint(model, { hasVae: vae !== undefined });
  const reason = "is one file, which has no variants: leave out --variant (setting and option: variant)";
  throw new WeightsError("weights-variant", reason, { file: model.path });
}

/** The model with another VAE. */
async function withVae(directory: ModelDirectory, vae: ModelFiles | string | undefined): Promise<ModelDirectory> {
  if (vae === undefined) return directory;
  const own = directory.component("vae")?.config.scaling_factor;
  const usual = directory.pipelineClass.startsWith("StableDiffusionXL") ? TRAITS.sdxl : TRAITS.sd1;
  const scalingFactor = typeof own === "number" ? own : usual.scalingFactor;
  const components = new Map(directory.components);
  components.set("vae", await openAutoencoder(vae, { name: "vae", scalingFactor }));
  return { ...directory, components, component: (name) => components.get(name) };
}
