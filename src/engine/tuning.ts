/**
 * Tuning for a model: which of its operations can be done by more than one kernel, timed on its own weights where this
 * adapter's cache does not know them yet.
 */

import { decoderSpec } from "../diffusion/latents.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { StepShape } from "../diffusion/model.ts";
import { latentSize, stepShape } from "../diffusion/shape.ts";
import { stepSpec } from "../diffusion/step.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { chooserOf, type Tunable, tune } from "../graph/tuner.ts";
import type { Variant } from "../graph/variants.ts";
import type { ComponentId } from "../memory/component.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import { readWinners, rememberWinners, tuningFile } from "./tuning-cache.ts";

/** Part of a model. */
export interface TunablePart extends Tunable {
  readonly name: string;
  /** Components whose weights it reads. */
  readonly components: readonly ComponentId[];
}

/** Pixels of a picture, and how many are made at a time. */
export interface TunedSize {
  readonly width: number;
  readonly height: number;
  readonly images?: number;
}

/** All that pictures of this size take: text, a guided step and one without guidance, the decoders. */
export function tunableParts({ family, memory }: LoadedModel, size: TunedSize): TunablePart[] {
  const part = (name: string, spec: PlanSpec): TunablePart => ({
    name,
    components: spec.components,
    recorder: spec.record(),
    storage: spec.upcast ? "f32" : memory.activations,
    parameters: memory.parameters(spec, memory.weightSets.base),
  });
  const { step, picture, facts, encoders } = family;
  const guided = stepShape(family, { ...size, guidanceScale: facts.defaults.guidanceScale });
  const unguided: StepShape = stepShape(family, { ...size, guidanceScale: 1 });
  const latents = latentSize(family, size);
  return [
    ...encoders.map((spec) => part(spec.part, spec)),
    ...(guided.branches > 1 ? [part(`${step.part}, guided`, stepSpec(step, guided))] : []),
    part(step.part, stepSpec(step, unguided)),
    part(picture.full.component, decoderSpec(picture.full, latents)),
    ...(picture.tiny ? [part(picture.tiny.component, decoderSpec(picture.tiny, latents))] : []),
  ];
}

/**
 * Times what the cache of this adapter lacks of what pictures of this size take, remembers it, and has the plans made from
 * now on take the winners. No run may be going on. `onProgress` counts the shapes of one part after the other.
 * Throws GPU errors, and the signal's reason when it is aborted; what was timed until then is remembered.
 * @returns how many shapes were timed
 */
export async function tuneMissing(
  model: LoadedModel,
  size: TunedSize,
  options: { signal?: AbortSignal; onProgress?: (part: string, done: number, total: number) => void } = {},
): Promise<number> {
  const { memory } = model;
  const { gpu } = memory;
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
        tunedShapes: new Set([...winners.keys(), ...found.keys()]),
        signal: options.signal,
        onShape({ shape, winner }, done, total) {
          found.set(shape, winner);
          options.onProgress?.(part.name, done, total);
        },
      });
    try {
      await memory.withRoom(part.components, timePart);
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
  memory.useChoice(chooserOf(winners)); // plans made by the rule, or for candidates that lost, go
  return timed;
}
