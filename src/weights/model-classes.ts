/**
 * The classes of diffusers and transformers that a model folder may name, by those libraries' own names.
 *
 * A folder is refused when it names another, since nothing here could run it. Knowing a class means that its config and
 * weights may be read; whether a particular config can be run is for the model's own code to say.
 */

/** Pipeline classes, each with the components it cannot do without. */
export const PIPELINES: Readonly<Record<string, readonly string[]>> = {
  StableDiffusionPipeline: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  StableDiffusionImg2ImgPipeline: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  StableDiffusionInpaintPipeline: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  // The first text encoder may be absent: SDXL's refiner has only the second.
  StableDiffusionXLPipeline: ["unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"],
  StableDiffusionXLImg2ImgPipeline: ["unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"],
  StableDiffusionXLInpaintPipeline: ["unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"],
  LatentConsistencyModelPipeline: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  LatentConsistencyModelImg2ImgPipeline: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
};

export type ComponentKind =
  | "denoiser"
  | "autoencoder"
  | "text encoder"
  | "tokenizer"
  | "scheduler"
  | "control network"
  | "image encoder";

export const COMPONENTS: Readonly<Record<string, ComponentKind>> = {
  UNet2DConditionModel: "denoiser",
  AutoencoderKL: "autoencoder",
  AutoencoderTiny: "autoencoder",
  CLIPTextModel: "text encoder",
  CLIPTextModelWithProjection: "text encoder",
  CLIPTokenizer: "tokenizer",
  CLIPTokenizerFast: "tokenizer",
};

/** Classes that a family knows beside those named here. */
export interface KnownClasses {
  /** Pipeline classes, each with the components it cannot do without. */
  readonly pipelines?: Readonly<Record<string, readonly string[]>>;
  readonly components?: Readonly<Record<string, ComponentKind>>;
}

/** The kind of a class; undefined if it is not known. Which schedulers can be run is for whoever runs them to say. */
export function kindOfClass(className: string, { components = {} }: KnownClasses = {}): ComponentKind | undefined {
  if (/^\w+Scheduler$/.test(className)) return "scheduler";
  return [COMPONENTS, components].find((classes) => Object.hasOwn(classes, className))?.[className];
}

/** The components that a pipeline class cannot do without; undefined if it is not known. */
export function requiredBy(className: string, { pipelines = {} }: KnownClasses = {}): readonly string[] | undefined {
  return [PIPELINES, pipelines].find((classes) => Object.hasOwn(classes, className))?.[className];
}

/** The kinds of component in the usual places of a pipeline. */
export const PLACES: Readonly<Record<string, ComponentKind>> = {
  unet: "denoiser",
  vae: "autoencoder",
  text_encoder: "text encoder",
  text_encoder_2: "text encoder",
  tokenizer: "tokenizer",
  tokenizer_2: "tokenizer",
  scheduler: "scheduler",
};

/** Places whose component is not looked at, whatever its class: no picture depends on them. */
export const IGNORED_PLACES: ReadonlySet<string> = new Set(["safety_checker", "feature_extractor", "image_encoder"]);
