/** From a client's request to the pipeline's: what was left out is the model's to decide, names become files. */

import { randomInt } from "node:crypto";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineRequest, PipelineUpdate, SchedulerChoice } from "../diffusion/request.ts";
import { SAMPLER_NAMES, samplerNamed } from "../diffusion/schedulers/samplers.ts";
import type { Size } from "../image/decode.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { lorasIn, type PromptLora } from "../text/prompt-syntax.ts";
import { BLOCK_LIST_LENGTHS } from "../weights/lora-scales.ts";
import type { Canvas, CanvasModel } from "./canvas.ts";
import type { RuntimeOptions } from "./contract.ts";
import type { ControlFolder } from "./control-files.ts";
import { decoding } from "./decoding.ts";
import type { EmbeddingFolder } from "./embedding-files.ts";
import { RequestError } from "./errors.ts";
import { type AskedRun, decidedBy, fewStepOf } from "./few-step-loras.ts";
import { ignoredWarning } from "./ignored-fields.ts";
import { loraFiles } from "./lora-files.ts";
import { BLOCK_LISTS } from "./lora-request.ts";
import { nearest } from "./near-names.ts";
import { sizeFromPicture } from "./picture-size.ts";
import { type GenerationRequest, type GenerationUpdate, LIMITS } from "./request.ts";

/** Names of samplers that an error shows. */
const MOST_NAMES = 5;

/** The folders and settings that the requests of a runtime share. */
export type EngineOptions = Pick<RuntimeOptions, "loraFolder" | "promptSyntax"> & {
  readonly embeddings?: EmbeddingFolder;
  readonly controls?: ControlFolder;
};

/** A request for the pipeline, and the canvas of its pictures if it draws a part of one. */
export interface RunRequest extends PipelineRequest {
  readonly canvas?: Canvas;
}

/** A checked request with what the model decides filled in. */
export async function toPipelineRequest(
  model: Pick<LoadedModel, "family">,
  request: GenerationRequest,
  options: EngineOptions,
): Promise<RunRequest> {
  const { facts, latent, fewStep: variant } = model.family;
  const { defaults } = facts;
  const sampler = request.scheduler === undefined ? undefined : samplerNamed(request.scheduler);
  if (request.scheduler !== undefined && sampler === undefined) {
    const near = listed(nearest(request.scheduler, SAMPLER_NAMES), MOST_NAMES);
    const reason = `${quoted(request.scheduler)} is no scheduler of this server; near it: ${near}; GET /schedulers lists all`;
    throw new RequestError("scheduler", reason);
  }
  const fewStep = request.few_step ? variant : undefined;
  if (request.few_step && fewStep === undefined) {
    throw new RequestError("few_step", "this model has no few-step variant");
  }
  const words = await wordsOf(request, options);
  const lora = await fewStepOf(words.loras);
  const usual = lora?.run ?? fewStep;
  const scheduler = sampler && { className: sampler.className, changes: sampler.config };
  const decided = lora && decidedBy(lora, askedRun(request, scheduler, sampler?.sigmaSchedule));
  const canvas = request.image && (await canvasOf(request, { usual: defaults, downscale: latent.downscale }));
  const image = canvas?.image ?? (request.image && (await picture(request.image, request, defaults)));
  const size = {
    width: image?.width ?? request.width ?? defaults.width,
    height: image?.height ?? request.height ?? defaults.height,
  };
  return {
    ...inCamelCase(request),
    ...words,
    ...size,
    controls: await controlsOf(model, request, size, options),
    sizes: { original: request.original_size, crop: request.crops_coords_top_left, target: request.target_size },
    steps: request.num_inference_steps ?? usualSteps(usual?.steps ?? defaults.steps, request),
    guidanceScale: request.guidance_scale ?? usual?.guidanceScale ?? defaults.guidanceScale,
    eta: request.eta ?? lora?.run.eta,
    // 2^48 is what `randomInt` can span, and more than anybody will draw twice from.
    seed: request.seed ?? randomInt(2 ** 48 - 1),
    subseed: request.subseed ?? (request.subseed_strength ? randomInt(2 ** 48 - 1) : undefined),
    images: request.num_images,
    scheduler: decided ? decided.scheduler : (scheduler ?? fewStep?.scheduler),
    ...(request.sigmas === undefined && request.timesteps === undefined
      ? { sigmaSchedule: request.sigma_schedule ?? sampler?.sigmaSchedule }
      : {}),
    warnings: [
      ...ignoredWarning(request.ignored_fields ?? []),
      ...(decided?.warnings ?? []),
      ...(canvas?.warnings ?? []),
    ],
    image,
    mask: canvas?.mask,
    canvas,
  };
}

/** The values of a request for what a few-step LoRA would decide. */
function askedRun(
  request: GenerationRequest,
  scheduler: SchedulerChoice | undefined,
  sigmaSchedule: string | undefined,
): AskedRun {
  const { sigmas, timesteps, sigma_schedule: schedule = sigmaSchedule } = request;
  return {
    scheduler,
    hasLevels: [sigmas, timesteps, schedule].some((levels) => levels !== undefined),
    hasSpacing: request.timestep_spacing !== undefined,
    steps: request.num_inference_steps,
    guidanceScale: request.guidance_scale,
  };
}

/** The networks that a request names, with their pictures. @throws RequestError naming the entry at fault */
async function controlsOf(
  model: Pick<LoadedModel, "family">,
  request: GenerationRequest,
  size: Size,
  { controls }: EngineOptions,
): Promise<PipelineRequest["controls"]> {
  const first = request.control.length > 0 ? "control" : "ip_adapter";
  if (request[first].length === 0) return undefined;
  if (controls === undefined) throw new RequestError(`${first}.0.name`, "this server offers no control network");
  return controls.uses(model, request, size);
}

/** How the prompts of a request are read, and the files that they name. @throws RequestError naming a file's field */
async function wordsOf(request: GenerationRequest, { loraFolder, embeddings, promptSyntax: usual }: EngineOptions) {
  const { prompt, negative_prompt, prompt_2: prompt2, negative_prompt_2: negativePrompt2, loras } = request;
  const promptSyntax = request.prompt_syntax ?? usual ?? "plain";
  const texts = [prompt, negative_prompt, prompt2, negativePrompt2].filter((text) => text !== undefined);
  const named = promptSyntax === "weighted" ? texts.flatMap(lorasIn) : [];
  if (loras.length + named.length > LIMITS.loras) {
    throw new RequestError("prompt", `names ${named.length} LoRAs; ${LIMITS.loras} are the most of a request`);
  }
  const files = await loraFiles(loras, loraFolder);
  const further = await loraFiles(named.map(checkedScale), loraFolder).catch((error) => {
    // It names an entry of `loras`, and there is none.
    const isAbout = error instanceof RequestError;
    throw isAbout ? new RequestError("prompt", error.message.replace(/^loras\.\d+\.name: /, "")) : error;
  });
  return {
    prompt2,
    negativePrompt2,
    promptSyntax,
    loras: [...files, ...further],
    embeddings: await embeddings?.in(texts, promptSyntax),
  };
}

/** @throws RequestError if a scale of a LoRA in a prompt is beyond those of the field `loras` */
function checkedScale(lora: PromptLora): PromptLora {
  const { name, scale, unet = 0, blocks = [] } = lora;
  if (blocks.length > 0 && !BLOCK_LIST_LENGTHS.includes(blocks.length))
    throw new RequestError("prompt", `lbw of the LoRA ${quoted(name)} must have ${BLOCK_LISTS}`);
  if ([scale, unet, ...blocks].every((number) => Math.abs(number) <= LIMITS.loraScale)) return lora;
  throw new RequestError("prompt", `the scale of the LoRA ${quoted(name)} must be at most ${LIMITS.loraScale}`);
}

type CamelCase<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
  : Name;

/** The fields under the pipeline's names: its `fewStep` is `few_step`. A field that means the same to both needs no more. */
function inCamelCase<Fields extends object>(fields: Fields) {
  const renamed = Object.entries(fields).map(([name, value]) => [
    name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ]);
  return Object.fromEntries(renamed) as { readonly [Name in keyof Fields & string as CamelCase<Name>]: Fields[Name] };
}

/** Steps that a request has left out. From a picture, a part of them is run: of a few-step model's, none might be left. */
function usualSteps(steps: number, { image, strength }: GenerationRequest): number {
  if (image === undefined) return steps;
  return Math.max(steps, Math.min(Math.ceil(1 / strength), MOST_STEPS_FOR_ONE));
}

/** Steps of which at least one is run at any strength worth asking for: LCM's schedules have no more. */
const MOST_STEPS_FOR_ONE = 50;

/** Loads what decodes pictures when the first one comes: whoever sends none does not wait for it. */
async function canvasOf(request: GenerationRequest, model: CanvasModel): Promise<Canvas | undefined> {
  if (request.mask === undefined && request.outpaint === undefined && request.mask_channel !== "alpha")
    return undefined;
  return (await import("./canvas.ts")).Canvas.of(request, model);
}

async function picture(bytes: Uint8Array, target: Partial<Size>, usual: Size) {
  const { decodePicture } = await import("../image/decode.ts");
  return decoding(() => decodePicture(bytes, { resize: (own) => sizeFromPicture(own, target, usual) }));
}

/** A change names only what it changes. */
export function toPipelineUpdate({ prompt, negative_prompt, guidance_scale }: GenerationUpdate): PipelineUpdate {
  return {
    ...(prompt !== undefined && { prompt }),
    ...(negative_prompt !== undefined && { negativePrompt: negative_prompt }),
    ...(guidance_scale !== undefined && { guidanceScale: guidance_scale }),
  };
}
