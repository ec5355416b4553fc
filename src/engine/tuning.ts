/**
 * Tuning for a model: which of its operations can be done by more than one kernel, timed on its own weights where this
 * adapter's cache does not know them yet.
 */

import { type DenoiserShape, recordDenoiser } from "../diffusion/denoiser.ts";
import type { DiffusionModel, LoadedAutoencoder } from "../diffusion/diffusion-model.ts";
import { recordDecoder } from "../diffusion/latents.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { setChoice } from "../graph/plan.ts";
import { chooserOf, type Tunable, tune } from "../graph/tuner.ts";
import type { Variant } from "../graph/variants.ts";
import { withRoom } from "../memory/residency.ts";
import type { StreamedWeights } from "../memory/streamed-weights.ts";
import { readWinners, rememberWinners, tuningFile } from "./tuning-cache.ts";

/** Part of a model. */
export interface TunablePart extends Tunable {
  readonly name: string;
  readonly parameters: StreamedWeights;
}

/** Pixels of a picture, and how many are made at a time. */
export interface TunedSize {
  readonly width: number;
  readonly height: number;
  readonly images?: number;
}

/** All that pictures of this size take: text, a guided step and one without guidance, the decoders. */
export function tunableParts(model: DiffusionModel, { width, height, images = 1 }: TunedSize): TunablePart[] {
  const { unet, vae, tiny, activations } = model;
  const { downscale, latentChannels: channels } = vae;
  const size = { height: Math.floor(height / downscale), width: Math.floor(width / downscale), channels };
  const tokens = model.encoders[0]!.tokenizer.modelMaxLength;
  const step = (branches: 1 | 2): TunablePart => {
    const shape: DenoiserShape = { ...size, images, branches, tokens };
    const name = branches === 2 ? "unet, guided" : "unet";
    return { name, recorder: recordDenoiser(unet.config, shape), storage: activations, parameters: unet.weights };
  };
  const decoder = (name: string, of: LoadedAutoencoder): TunablePart => ({
    name,
    recorder: recordDecoder(of, size),
    storage: of.forceUpcast ? "f32" : activations,
    parameters: of.weights,
  });
  return [
    ...model.encoders.map(({ component, recorder, parameters }) => {
      return { name: component, recorder, storage: activations, parameters };
    }),
    ...(model.defaults.guidanceScale > 1 && !unet.config.time_cond_proj_dim ? [step(2)] : []),
    step(1),
    decoder("vae", vae),
    ...(tiny ? [decoder("tiny vae", tiny)] : []),
  ];
}

/**
 * Times what the cache of this adapter lacks of what pictures of this size take, remembers it, and has the plans made from
 * now on take the winners. No run may be going on. `onProgress` counts the shapes of one part after the other.
 * Throws GPU errors, and the signal's reason when it is aborted; what was timed until then is remembered.
 * @returns how many shapes were timed
 */
export async function tuneMissing(
  model: DiffusionModel,
  size: TunedSize,
  options: { signal?: AbortSignal; onProgress?: (part: string, done: number, total: number) => void } = {},
): Promise<number> {
  const { gpu } = model;
  let file: string;
  try {
    file = await tuningFile(gpu.facts);
  } catch {
    return 0; // No folder of shaders, as in somebody's bundle: nothing could be remembered of them.
  }
  const winners = await readWinners(file);
  let timed = 0;
  for (const part of tunableParts(model, size)) {
    const found = new Map<string, Variant>();
    const timePart = () =>
      tune(gpu, [part], {
        known: new Set([...winners.keys(), ...found.keys()]),
        signal: options.signal,
        onShape({ shape, winner }, done, total) {
          found.set(shape, winner);
          options.onProgress?.(part.name, done, total);
        },
      });
    try {
      await withRoom(model, [part.parameters], timePart);
    } catch (error) {
      if (!(error instanceof MemoryLimitError)) throw error; // what does not fit is not timed, and done by rule
    } finally {
      for (const [shape, winner] of found) winners.set(shape, winner);
      timed += found.size;
      // Where it cannot be written, this process alone has it.
      if (found.size > 0) await rememberWinners(file, gpu.facts, found).catch(() => {});
    }
  }
  if (timed === 0) return 0;
  setChoice(gpu, chooserOf(winners));
  // What was made by the rule, or for candidates that lost.
  model.plans.dropUnused("");
  for (const { weights } of model.components) weights.dropTransformed();
  return timed;
}
