/**
 * A text-to-image model, loaded: its components on the device, its tokenizers, its scheduler's configuration, and the
 * plans that were compiled for it so far.
 */

import { basename, join } from "node:path";
import { z } from "zod";
import type { Gpu } from "../gpu/device.ts";
import { Recorder } from "../graph/recorder.ts";
import type { Parameter, Storage } from "../graph/tensor.ts";
import { activationStorage, loadComponent, type Precision } from "../memory/component.ts";
import { createPlanCache, type PlanCache } from "../memory/plan-cache.ts";
import { type ResidentComponent, withRoom } from "../memory/residency.ts";
import type { StreamedWeights } from "../memory/streamed-weights.ts";
import { type Autoencoder, autoencoder } from "../models/autoencoder.ts";
import { ModelConfigError } from "../models/config.ts";
import { parseUnetConfig, type UnetConfig } from "../models/unet.ts";
import { loadClipTokenizer } from "../text/clip-tokenizer.ts";
import { readOptionalJson } from "../weights/json-file.ts";
import {
  type Component,
  type ModelDirectory,
  openComponentFolder,
  openModelDirectory,
} from "../weights/model-directory.ts";
import { hasRegularFile } from "../weights/regular-file.ts";
import { recordDenoiser } from "./denoiser.ts";
import { type LatentRgb, latentRgbOf } from "./latent-rgb.ts";
import type { RunWeights } from "./lora.ts";
import { createSchedule } from "./schedulers/create-schedule.ts";
import { loadTextEncoder, type TextConditioning, type TextEncoder } from "./text-conditioning.ts";

export type Family = "stable-diffusion" | "stable-diffusion-xl" | "latent-consistency";

/** An autoencoder with its weights. */
export interface LoadedAutoencoder extends Autoencoder {
  readonly weights: StreamedWeights;
}

/** A LoRA in the model's folder with which a few unguided steps are enough, such as `train/distill.py` makes. */
export interface FewStep {
  /** The LoRA's file. */
  readonly path: string;
  readonly steps: number;
  readonly guidanceScale: number;
}

/** A LoRA in the model's folder for pictures larger than its own, such as `train/train_large.py` makes. */
export interface Large {
  /** The LoRA's file. */
  readonly path: string;
  /** Pictures of as many pixels are nearer, as a ratio, to what it was taught than to what the model was. */
  readonly fromPixels: number;
}

export interface DiffusionModel {
  readonly name: string;
  readonly family: Family;
  readonly gpu: Gpu;
  /** How activations are stored, but for an autoencoder that is to be upcast. */
  readonly activations: Storage;
  readonly encoders: readonly TextEncoder[];
  readonly unet: {
    readonly config: UnetConfig;
    readonly weights: StreamedWeights;
    readonly parameters: readonly Parameter[];
  };
  readonly vae: LoadedAutoencoder;
  /** A tiny decoder for previews beside a full one. */
  readonly tiny?: LoadedAutoencoder;
  readonly latentRgb?: LatentRgb;
  /** The words that the model was taught, where its makers list them (`words.json`). */
  readonly words?: ReadonlySet<string>;
  readonly scheduler: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
  /** An absent negative prompt means zeros rather than the empty prompt. */
  readonly zerosForNoPrompt: boolean;
  readonly defaults: {
    readonly width: number;
    readonly height: number;
    readonly steps: number;
    readonly guidanceScale: number;
  };
  readonly fewStep?: FewStep;
  readonly large?: Large;
  /** The weights with its own variants, by their files, once they were asked for (`variantWeights`). */
  readonly variants: Map<string, Promise<RunWeights>>;
  readonly plans: PlanCache;
  readonly components: readonly ResidentComponent[];
  readonly prompts: Map<string, TextConditioning>;
  destroy(): void;
}

export interface LoadModelOptions {
  readonly precision: Precision;
  /** Instead of what `activationStorage` says of the precision. */
  readonly activations?: Storage;
  /** Which of several saved weights: `fp16`. */
  readonly variant?: string;
  /** A folder with an AutoencoderTiny for previews (TAESD). */
  readonly tinyAutoencoder?: string;
  /** Bytes that plans may take before old ones are given up. */
  readonly maxPlanBytes?: number;
  readonly onProgress?: (component: string, done: number, total: number) => void;
}

const DEFAULT_PLAN_BYTES = 4 * 2 ** 30;

// What a user of the family expects who says nothing: diffusers' own guidance, and steps enough for its schedulers.
const FAMILY_DEFAULTS: Record<Family, { steps: number; guidanceScale: number; latentSide: number }> = {
  "stable-diffusion": { steps: 25, guidanceScale: 7.5, latentSide: 64 },
  "stable-diffusion-xl": { steps: 25, guidanceScale: 5, latentSide: 128 },
  "latent-consistency": { steps: 4, guidanceScale: 8.5, latentSide: 64 },
};

/** Pixels of a picture's side, steps and guidance: as much as a request may ask for (`LIMITS` of `engine/request.ts`). */
const LARGEST_SIDE = 2048;
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

/** Where a model folder keeps its few-step variant, and how it is run unless `daguerre.json` says otherwise. */
const FEW_STEP = { file: "few-step/pytorch_lora_weights.safetensors", steps: 4, guidanceScale: 1 };
/** Where it keeps its variant for large pictures; of how many times its own side, unless `daguerre.json` says otherwise. */
const LARGE = { file: "large/pytorch_lora_weights.safetensors", sides: 2 };

/**
 * Loads a diffusers folder onto the device.
 * Throws `WeightsError`, `ModelConfigError`, `TokenizerError`, `SchedulerError`: a folder is untrusted, and each names file and reason;
 * `MemoryLimitError` where one component alone is over the GPU's limit.
 */
export async function loadDiffusionModel(gpu: Gpu, folder: string, options: LoadModelOptions): Promise<DiffusionModel> {
  const { precision } = options;
  const directory = await openModelDirectory(folder, { variant: options.variant });
  const family = familyOf(directory);
  const plans = createPlanCache(options.maxPlanBytes ?? DEFAULT_PLAN_BYTES);
  const components: ResidentComponent[] = [];
  const residency = { components, plans };
  /** Loads a component; one that was loaded before gives way where there is no room for both. */
  const keep: KeepWeights = async (planKeys, load) => {
    const weights = await withRoom(residency, [], load);
    components.push({ weights, plans: planKeys });
    return weights;
  };
  const progress = (component: string) => (done: number, total: number) => options.onProgress?.(component, done, total);
  try {
    const recommended = await readRecommendation(folder);
    const words = await readWords(folder);
    const familyDefaults = FAMILY_DEFAULTS[family];
    const scheduler = required(directory, "scheduler");
    const steps = recommended.num_inference_steps ?? familyDefaults.steps;
    // A configuration that cannot make the model's own schedule is refused here, not at the first request.
    createSchedule(scheduler.className, scheduler.config, { steps });
    const encoders = await loadEncoders(gpu, directory, family, { ...options, keep }, progress);

    const unetComponent = required(directory, "unet");
    const unetConfig = parseUnetConfig(unetComponent.config);
    const textWidth = encoders.reduce((sum, encoder) => sum + encoder.config.hidden_size, 0);
    if (textWidth !== unetConfig.cross_attention_dim) {
      const reason = `is ${unetConfig.cross_attention_dim}, but the text encoders give ${textWidth}`;
      throw new ModelConfigError("unet", "cross_attention_dim", reason);
    }
    const parameters = unetParameters(unetConfig);
    const unetWeights = await keep(["unet "], () =>
      loadComponent(gpu, unetComponent, parameters, { precision, onProgress: progress("unet") }),
    );
    const loadVae = (component: Component, name: string, planKeys: readonly string[]) =>
      loadAutoencoder(gpu, component, { precision, onProgress: progress(name), keep, planKeys });
    const vae = await loadVae(required(directory, "vae"), "vae", ["decoder ", "encoder "]);
    if (vae.latentChannels !== unetConfig.out_channels) {
      const reason = `is ${unetConfig.out_channels}, but the vae has ${vae.latentChannels} latent channels`;
      throw new ModelConfigError("unet", "out_channels", reason);
    }
    const tiny = options.tinyAutoencoder
      ? await loadVae(await openComponentFolder(options.tinyAutoencoder), "tiny vae", ["tiny decoder "])
      : undefined;

    const variants: DiffusionModel["variants"] = new Map();
    const sampleSize = unetConfig.sample_size;
    const side = (typeof sampleSize === "number" ? sampleSize : familyDefaults.latentSide) * vae.downscale;
    if (side > LARGEST_SIDE) {
      const reason = `makes pictures of ${side} pixels a side, and ${LARGEST_SIDE} is the most`;
      throw new ModelConfigError("unet", "sample_size", reason);
    }
    const width = recommended.width ?? side;
    const height = recommended.height ?? side;
    return {
      name: recommended.name ?? basename(folder),
      family,
      gpu,
      activations: options.activations ?? activationStorage(gpu, precision),
      encoders,
      unet: { config: unetConfig, weights: unetWeights, parameters },
      vae,
      tiny,
      latentRgb: await latentRgbOf(folder, family, vae.latentChannels),
      words,
      scheduler: { className: scheduler.className, config: scheduler.config },
      zerosForNoPrompt: family === "stable-diffusion-xl" && directory.flags.force_zeros_for_empty_prompt !== false,
      defaults: {
        width,
        height,
        steps,
        guidanceScale: recommended.guidance_scale ?? familyDefaults.guidanceScale,
      },
      fewStep: await fewStepOf(folder, recommended),
      large: await largeOf(folder, recommended, width * height),
      variants,
      plans,
      components,
      prompts: new Map(),
      destroy() {
        plans.drop("");
        for (const merging of variants.values()) {
          void merging.then(
            (weights) => weights.destroy(),
            () => {},
          );
        }
        for (const { weights } of components) weights.destroy();
      },
    };
  } catch (error) {
    for (const { weights } of components) weights.destroy();
    throw error;
  }
}

/** Loads weights and keeps them, under how the keys of their plans begin. */
type KeepWeights = (planKeys: readonly string[], load: () => Promise<StreamedWeights>) => Promise<StreamedWeights>;

function familyOf(directory: ModelDirectory): Family {
  if (directory.pipelineClass.startsWith("StableDiffusionXL")) return "stable-diffusion-xl";
  if (directory.pipelineClass.startsWith("LatentConsistency")) return "latent-consistency";
  return "stable-diffusion";
}

function required(directory: ModelDirectory, name: string): Component {
  const component = directory.component(name);
  if (!component) throw new ModelConfigError("model_index", name, `${directory.pipelineClass} needs this component`);
  return component;
}

async function loadEncoders(
  gpu: Gpu,
  directory: ModelDirectory,
  family: Family,
  { precision, keep }: LoadModelOptions & { readonly keep: KeepWeights },
  progress: (component: string) => (done: number, total: number) => void,
): Promise<TextEncoder[]> {
  const xl = family === "stable-diffusion-xl";
  const names = xl ? ["text_encoder", "text_encoder_2"] : ["text_encoder"];
  const encoders: TextEncoder[] = [];
  for (const name of names) {
    const component = directory.component(name);
    if (!component && name === "text_encoder" && xl) continue; // the refiner has only the second
    const tokenizer = await loadClipTokenizer(required(directory, name.replace("text_encoder", "tokenizer")).files);
    const hidden = xl ? "last-but-one" : "last";
    const load = () =>
      loadTextEncoder(gpu, component ?? required(directory, name), tokenizer, {
        hidden,
        precision,
        onProgress: progress(name),
      });
    let encoder: TextEncoder | undefined;
    await keep([name], async () => {
      encoder = await load();
      return encoder.parameters;
    });
    encoders.push(encoder!);
  }
  return encoders;
}

/** The UNet's parameters do not depend on the picture's size: any small one names them. */
function unetParameters(config: UnetConfig): Parameter[] {
  const side = 2 ** config.block_out_channels.length;
  const shape = {
    images: 1,
    branches: 1,
    tokens: 1,
    height: side,
    width: side,
    channels: config.out_channels,
  } as const;
  return [...recordDenoiser(config, shape).parameters.values()];
}

async function loadAutoencoder(
  gpu: Gpu,
  component: Component,
  {
    keep,
    planKeys,
    ...options
  }: {
    readonly precision: Precision;
    readonly onProgress: (done: number, total: number) => void;
    readonly keep: KeepWeights;
    readonly planKeys: readonly string[];
  },
): Promise<LoadedAutoencoder> {
  const coder = autoencoder(component);
  const g = new Recorder();
  coder.decode(g, g.input("latents", [1, 8, 8, coder.latentChannels]));
  coder.encode(g, g.input("picture", [1, 8 * coder.downscale, 8 * coder.downscale, 3]));
  const weights = await keep(planKeys, () => loadComponent(gpu, component, [...g.parameters.values()], options));
  return { ...coder, weights };
}

async function fewStepOf(
  folder: string,
  { few_step: recommended }: z.infer<typeof recommendationSchema>,
): Promise<FewStep | undefined> {
  const path = await variantFile(folder, FEW_STEP.file);
  if (path === undefined) return undefined;
  return {
    path,
    steps: recommended?.num_inference_steps ?? FEW_STEP.steps,
    guidanceScale: recommended?.guidance_scale ?? FEW_STEP.guidanceScale,
  };
}

async function largeOf(
  folder: string,
  { large: recommended }: z.infer<typeof recommendationSchema>,
  pixels: number,
): Promise<Large | undefined> {
  const path = await variantFile(folder, LARGE.file);
  if (path === undefined) return undefined;
  const largePixels = recommended ? recommended.width * recommended.height : pixels * LARGE.sides ** 2;
  return { path, fromPixels: Math.sqrt(pixels * largePixels) };
}

/** The variant's file, if the folder has it: most have none. */
async function variantFile(folder: string, file: string): Promise<string | undefined> {
  const path = join(folder, file);
  return (await hasRegularFile(path, file)) ? path : undefined;
}

/** Most folders have none. */
async function readRecommendation(folder: string): Promise<z.infer<typeof recommendationSchema>> {
  const file = "daguerre.json";
  const parsed = recommendationSchema.safeParse((await readOptionalJson(join(folder, file), file)) ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ModelConfigError(file, issue!.path.join(".") || "(root)", issue!.message);
}

/** `words.json` in a model folder: the words that it was taught; none for models that know a language. */
async function readWords(folder: string): Promise<ReadonlySet<string> | undefined> {
  const content = await readOptionalJson(join(folder, "words.json"), "words.json");
  if (content === undefined) return undefined;
  const parsed = z.object({ words: z.array(z.string()) }).safeParse(content);
  if (!parsed.success) throw new ModelConfigError("words.json", "words", "must be a list of words");
  return new Set(parsed.data.words.map((word) => word.toLowerCase()));
}
