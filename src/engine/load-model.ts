/** A model onto a device, whatever its family. */

import type { DeviceTurns } from "../diffusion/device-turns.ts";
import { type LoadedModel, loadedModel } from "../diffusion/loaded-model.ts";
import type { FamilyModel } from "../diffusion/model.ts";
import type { Family } from "../families/family.ts";
import { openFamily } from "../families/registry.ts";
import type { Gpu } from "../gpu/device.ts";
import { type LoadOptions, ModelMemory } from "../memory/model-memory.ts";
import type { FileAt, ModelFiles } from "../platform/model-files.ts";
import { locateModel } from "./model-location.ts";

export interface LoadModelOptions extends Omit<LoadOptions, "resolve"> {
  /** Which of several saved weights: `fp16`. */
  readonly variant?: string;
  /** A VAE in place of the model's own: its files, or the path of its folder or file. */
  readonly vae?: ModelFiles | string;
  /** An AutoencoderTiny for previews (TAESD): its files, or the path of its folder or file. */
  readonly tinyAutoencoder?: ModelFiles | string;
  /** Families to choose from; left out: all that there are. */
  readonly families?: readonly Family[];
}

/**
 * Loads a model onto the device.
 * @param model its files, or a path (`locateModel`)
 * @throws WeightsError, ModelConfigError, TokenizerError, SchedulerError: a folder is untrusted, and each names file and reason
 * @throws MemoryLimitError if one component alone is over the GPU's limit
 */
export async function loadModel(
  gpu: Gpu,
  model: ModelFiles | FileAt | string,
  { variant, vae, tinyAutoencoder, families, ...options }: LoadModelOptions,
): Promise<LoadedModel> {
  const files = typeof model === "string" ? await locateModel(model) : model;
  return loadFamily(gpu, await openFamily(files, { variant, vae, tinyAutoencoder }, families), options);
}

/**
 * Loads a model that has been opened. Throws as `loadModel`, and the signal's reason.
 * @param turns of the device, if other models are on it as well
 */
export async function loadFamily(
  gpu: Gpu,
  family: FamilyModel,
  options: Omit<LoadOptions, "resolve">,
  turns?: DeviceTurns,
): Promise<LoadedModel> {
  const memory = await ModelMemory.load(gpu, family.components, { ...options, resolve: family.resolve });
  return loadedModel(family, memory, turns);
}
