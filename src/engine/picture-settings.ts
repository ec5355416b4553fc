/** The settings of a result as text (`image/infotext.ts`), with all that the request has left to the model. */

import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { SAMPLERS, samplerNamed } from "../diffusion/schedulers/samplers.ts";
import { type InfotextFields, writeInfotext } from "../image/infotext.ts";
import type { GenerationRequest } from "./request.ts";
import { sigmaScheduleLabel } from "./schedulers.ts";

/** A text for each picture of a run. */
export function infotextsOf(model: LoadedModel, request: GenerationRequest, run: PipelineRequest): string[] {
  const fields = fieldsOf(model, request, run);
  const count = request.num_images;
  return Array.from({ length: count }, (_, place) =>
    writeInfotext(request.prompt, request.negative_prompt, {
      ...fields,
      ...(count > 1 && { "Batch size": count, "Batch pos": place }),
    }),
  );
}

/** In the web UI's order and words, then those that only this server reads. */
function fieldsOf(model: LoadedModel, request: GenerationRequest, run: PipelineRequest): InfotextFields {
  const hasVariation = (run.subseedStrength ?? 0) > 0;
  const [resizedHeight, resizedWidth] = run.seedResizeFrom ?? [];
  const named = request.scheduler === undefined ? undefined : samplerOf(request.scheduler);
  const className = model.family.schedule(run).className;
  return {
    Steps: run.steps,
    Sampler: named ?? SAMPLERS.find((sampler) => sampler.className === className)?.name ?? className,
    "Schedule type": run.sigmaSchedule === undefined ? undefined : sigmaScheduleLabel(run.sigmaSchedule),
    "CFG scale": run.guidanceScale,
    Seed: run.seed,
    Size: `${run.width}x${run.height}`,
    Model: model.family.facts.name.replace(/[,:]/g, ""),
    "Variation seed": hasVariation ? run.subseed : undefined,
    "Variation seed strength": hasVariation ? run.subseedStrength : undefined,
    "Seed resize from": resizedWidth === undefined ? undefined : `${resizedWidth}x${resizedHeight}`,
    "Denoising strength": run.image === undefined ? undefined : run.strength,
    "Clip skip": run.clipSkip ? run.clipSkip + 1 : undefined,
    RNG: run.generator === "cuda" ? undefined : "CPU",
    Eta: run.eta || undefined,
    "CFG rescale": run.guidanceRescale || undefined,
    "Prompt syntax": run.promptSyntax === "weighted" ? undefined : "plain",
    // A class keeps the model's configuration, a sampler's name need not.
    Scheduler: named === undefined ? className : undefined,
    "Timestep spacing": request.timestep_spacing,
    "Few step": request.few_step ? "true" : undefined,
    LoRAs: request.loras.map(({ name, path, scale }) => `${name ?? path}:${scale}`).join(", ") || undefined,
  };
}

/** The web UI's name of a sampler; undefined for a class of diffusers. */
function samplerOf(name: string): string | undefined {
  if (SAMPLERS.some(({ className }) => className === name)) return undefined;
  const named = samplerNamed(name);
  return SAMPLERS.find(({ className, config }) => className === named?.className && config === named?.config)?.name;
}
