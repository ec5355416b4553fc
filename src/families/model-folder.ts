/** Files that a model's makers put beside its components: recommendations, variants, the words that it was taught. */

import { z } from "zod";
import type { FewStep, Large, ModelFacts } from "../diffusion/model.ts";
import { ModelConfigError } from "../models/config.ts";
import { fileAt, type ModelFiles } from "../platform/model-files.ts";
import { readOptionalJson } from "../weights/json-file.ts";
import { hasRegularFile } from "../weights/regular-file.ts";

/** Pixels of a picture's side, steps and guidance: as much as a request may ask for (`LIMITS` of `engine/request.ts`). */
export const LARGEST_SIDE = 2048;
const side = z.number().int().positive().max(LARGEST_SIDE);
const steps = z.number().int().positive().max(200);
const guidance = z.number().nonnegative().max(100);

/** `daguerre.json` in a model folder: what the model's makers recommend. */
const recommendationSchema = z.object({
  name: z.string().max(200).optional(),
  num_inference_steps: steps.optional(),
  guidance_scale: guidance.optional(),
  width: side.optional(),
  height: side.optional(),
  few_step: z.object({ num_inference_steps: steps, guidance_scale: guidance }).optional(),
  large: z.object({ width: side, height: side }).optional(),
});

/** A model folder's few-step variant: its file, and its steps and guidance unless `daguerre.json` says otherwise. */
const FEW_STEP = { file: "few-step/pytorch_lora_weights.safetensors", steps: 4, guidanceScale: 1 };
/** The variant for large pictures: its file, and times the model's own side unless `daguerre.json` says otherwise. */
const LARGE = { file: "large/pytorch_lora_weights.safetensors", sides: 2 };

export interface ModelFolder {
  readonly facts: ModelFacts;
  readonly fewStep?: FewStep;
  readonly large?: Large;
  readonly words?: ReadonlySet<string>;
}

/**
 * Reads what a folder says beside its components.
 * @param usual what is usual for the family; `side` in pixels
 * @param scheduler the model's own configuration
 * @throws ModelConfigError, WeightsError naming the file
 */
export async function readModelFolder(
  files: ModelFiles,
  family: string,
  usual: { readonly side: number; readonly steps: number; readonly guidanceScale: number },
  scheduler: Readonly<Record<string, unknown>>,
): Promise<ModelFolder> {
  const recommended = await readRecommendation(files);
  const width = recommended.width ?? usual.side;
  const height = recommended.height ?? usual.side;
  const defaults = {
    width,
    height,
    steps: recommended.num_inference_steps ?? usual.steps,
    guidanceScale: recommended.guidance_scale ?? usual.guidanceScale,
  };
  return {
    facts: { name: recommended.name ?? files.name, family, defaults },
    fewStep: await fewStepOf(files, recommended, scheduler),
    large: await largeOf(files, recommended, width * height),
    words: await readWords(files),
  };
}

type Recommendation = z.infer<typeof recommendationSchema>;

async function fewStepOf(
  files: ModelFiles,
  { few_step: recommended }: Recommendation,
  config: Readonly<Record<string, unknown>>,
): Promise<FewStep | undefined> {
  const path = FEW_STEP.file;
  if (!(await hasRegularFile(fileAt(files, path), path))) return undefined; // most have none
  return {
    path,
    files,
    steps: recommended?.num_inference_steps ?? FEW_STEP.steps,
    guidanceScale: recommended?.guidance_scale ?? FEW_STEP.guidanceScale,
    // The variant was taught with it.
    scheduler: { className: "DDIMScheduler", config: { ...config, timestep_spacing: "trailing" } },
  };
}

async function largeOf(
  files: ModelFiles,
  { large: recommended }: Recommendation,
  pixels: number,
): Promise<Large | undefined> {
  const path = LARGE.file;
  if (!(await hasRegularFile(fileAt(files, path), path))) return undefined; // most have none
  const largePixels = recommended ? recommended.width * recommended.height : pixels * LARGE.sides ** 2;
  return { path, files, fromPixels: Math.sqrt(pixels * largePixels) };
}

/** Most folders have none. */
async function readRecommendation(files: ModelFiles): Promise<Recommendation> {
  const file = "daguerre.json";
  const parsed = recommendationSchema.safeParse((await readOptionalJson(fileAt(files, file), file)) ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ModelConfigError(file, issue!.path.join(".") || "(root)", issue!.message);
}

/** `words.json` in a model folder: the words that it was taught; none for models that know a language. */
async function readWords(files: ModelFiles): Promise<ReadonlySet<string> | undefined> {
  const content = await readOptionalJson(fileAt(files, "words.json"), "words.json");
  if (content === undefined) return undefined;
  const parsed = z.object({ words: z.array(z.string()) }).safeParse(content);
  if (!parsed.success) throw new ModelConfigError("words.json", "words", "must be a list of words");
  return new Set(parsed.data.words.map((word) => word.toLowerCase()));
}
