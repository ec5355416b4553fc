/** From a client's request to the pipeline's: what was left out is the model's to decide, names become files. */

import { randomInt } from "node:crypto";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { schedulerNamed } from "../diffusion/schedulers/create-schedule.ts";
import type { RuntimeOptions } from "./contract.ts";
import { RequestError } from "./errors.ts";
import { loraFiles } from "./lora-files.ts";
import type { GenerationRequest } from "./request.ts";

/** A checked request with what the model decides filled in. */
export async function toPipelineRequest(
  model: LoadedModel,
  request: GenerationRequest,
  options: RuntimeOptions,
): Promise<PipelineRequest> {
  const { facts, fewStep: variant } = model.family;
  const { defaults } = facts;
  const width = request.width ?? defaults.width;
  const height = request.height ?? defaults.height;
  const scheduler = request.scheduler === undefined ? undefined : schedulerNamed(request.scheduler);
  if (request.scheduler !== undefined && scheduler === undefined)
    throw new RequestError("scheduler", `'${request.scheduler}' is not a scheduler of this server`);
  const fewStep = request.few_step ? variant : undefined;
  if (request.few_step && fewStep === undefined) {
    throw new RequestError("few_step", "this model has no few-step variant");
  }
  return {
    prompt: request.prompt,
    negativePrompt: request.negative_prompt,
    width,
    height,
    steps: request.num_inference_steps ?? fewStep?.steps ?? defaults.steps,
    guidanceScale: request.guidance_scale ?? fewStep?.guidanceScale ?? defaults.guidanceScale,
    fewStep: request.few_step,
    // 2^48 is what `randomInt` can span, and more than anybody will draw twice from.
    seed: request.seed ?? randomInt(2 ** 48 - 1),
    generator: request.generator,
    images: request.num_images,
    loras: await loraFiles(request.loras, options.loraFolder),
    scheduler: scheduler === undefined ? fewStep?.scheduler : { className: scheduler },
    image: request.image && (await picture(request.image, { width, height })),
    strength: request.strength,
    previewEvery: request.preview_every,
    previewDecoder: request.preview_decoder,
  };
}

/** Loads what decodes pictures when the first one comes: whoever sends none does not wait for it. */
async function picture(bytes: Uint8Array, size: { width: number; height: number }) {
  const { decodePicture } = await import("../image/decode.ts");
  return decodePicture(bytes, size);
}
