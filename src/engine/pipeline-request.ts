/** From a client's request to the pipeline's: what was left out is the model's to decide, names become files. */

import { randomInt } from "node:crypto";
import pLimit from "p-limit";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { SAMPLER_NAMES, samplerNamed } from "../diffusion/schedulers/samplers.ts";
import type { Size } from "../image/decode.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { lorasIn, type PromptLora } from "../text/prompt-syntax.ts";
import type { RuntimeOptions } from "./contract.ts";
import type { ControlFolder } from "./control-files.ts";
import type { EmbeddingFolder } from "./embedding-files.ts";
import { RequestError } from "./errors.ts";
import { ignoredWarning } from "./ignored-fields.ts";
import { loraFiles } from "./lora-files.ts";
import { nearest } from "./near-names.ts";
import { sizeFromPicture } from "./picture-size.ts";
import { type GenerationRequest, LIMITS } from "./request.ts";

/** Names of samplers that an error shows. */
const MOST_NAMES = 5;

/** The folders and settings that the requests of a runtime share. */
export type EngineOptions = Pick<RuntimeOptions, "loraFolder" | "promptSyntax"> & {
  readonly embeddings?: EmbeddingFolder;
  readonly controls?: ControlFolder;
};

/** A checked request with what the model decides filled in. */
export async function toPipelineRequest(
  model: LoadedModel,
  request: GenerationRequest,
  options: EngineOptions,
): Promise<PipelineRequest> {
  const { facts, fewStep: variant } = model.family;
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
  const image = request.image && (await picture(request.image, request, defaults));
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
    steps: request.num_inference_steps ?? usualSteps(fewStep?.steps ?? defaults.steps, request),
    guidanceScale: request.guidance_scale ?? fewStep?.guidanceScale ?? defaults.guidanceScale,
    // 2^48 is what `randomInt` can span, and more than anybody will draw twice from.
    seed: request.seed ?? randomInt(2 ** 48 - 1),
    subseed: request.subseed ?? (request.subseed_strength ? randomInt(2 ** 48 - 1) : undefined),
    images: request.num_images,
    scheduler: sampler === undefined ? fewStep?.scheduler : { className: sampler.className, changes: sampler.config },
    ...(request.sigmas === undefined && request.timesteps === undefined
      ? { sigmaSchedule: request.sigma_schedule ?? sampler?.sigmaSchedule }
      : {}),
    warnings: ignoredWarning(request.ignored_fields ?? []),
    image,
  };
}

/** The networks that a request names, with their pictures. @throws RequestError naming the entry at fault */
async function controlsOf(
  model: LoadedModel,
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

/** @throws RequestError if the scale of a LoRA in a prompt is beyond that of the field `loras` */
function checkedScale(lora: PromptLora): PromptLora {
  if (Math.abs(lora.scale) <= LIMITS.loraScale) return lora;
  throw new RequestError("prompt", `the scale of the LoRA ${quoted(lora.name)} must be at most ${LIMITS.loraScale}`);
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

const decoding = pLimit(1);

/** Loads what decodes pictures when the first one comes: whoever sends none does not wait for it. */
async function picture(bytes: Uint8Array, target: Partial<Size>, usual: Size) {
  const { decodePicture } = await import("../image/decode.ts");
  // One at a time: a large one takes 160 MiB.
  return decoding(() => decodePicture(bytes, { resize: (own) => sizeFromPicture(own, target, usual) }));
}
