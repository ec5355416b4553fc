/**
 * Text-to-image and image-to-image: prompt → conditioning → start latents → denoising steps → pictures, as one async
 * generator. It yields after each step, so that whoever pulls decides the pace, and stops before the next step when told.
 *
 * Follows diffusers' StableDiffusionPipeline, StableDiffusionXLPipeline, LatentConsistencyModelPipeline and their
 * img2img forms draw for draw, so that a seed means the same picture here as there.
 */

import type { Plan, Range } from "../graph/plan.ts";
import type { PlanLoan } from "../graph/plan-cache.ts";
import { guidanceEmbedding, hasAddedConditions, timestepSinusoids } from "../models/unet.ts";
import type { PromptWord } from "../text/clip-tokenizer.ts";
import { compileDenoiser, type DenoiserShape, writeStep } from "./denoiser.ts";
import type { DiffusionModel, LoadedAutoencoder } from "./diffusion-model.ts";
import {
  compileDecoder,
  compileEncoder,
  compileLinearPreview,
  decodeOnDevice,
  encodePixels,
  type LatentSize,
  latentBytes,
  type Pixels,
  toNchw,
  toNhwc,
} from "./latents.ts";
import { fewStepWeights, type LoraRequest, type RunWeights, weightsOfRun } from "./lora.ts";
import { cpuGenerator, type NoiseGenerator } from "./noise.ts";
import { cudaGenerator } from "./philox.ts";
import { createSchedule, img2imgStart } from "./schedulers/create-schedule.ts";
import type { Schedule } from "./schedulers/schedule.ts";
import { compileTextEncoder, encodePrompt, type TextConditioning, zeroConditioning } from "./text-conditioning.ts";

/** The request cannot be run on this model. `field` is the request's field at fault. Safe to show to a client. */
export class PipelineError extends Error {
  override readonly name = "PipelineError";
  readonly code = "pipeline";
  readonly field: string;

  constructor(field: string, reason: string) {
    super(`${field}: ${reason}`);
    this.field = field;
  }
}

export type Decoder = "linear" | "tiny" | "full";

export interface PipelineRequest {
  readonly prompt: string;
  /** Empty: no negative prompt. */
  readonly negativePrompt?: string;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidanceScale: number;
  readonly seed: number | bigint;
  /** Whose noise a seed means: `torch.Generator("cpu")`, as diffusers' examples have it, or `"cuda"`. */
  readonly generator?: "cpu" | "cuda";
  readonly images?: number;
  readonly loras?: readonly LoraRequest[];
  /** With the model's few-step variant, and `loras` besides. */
  readonly fewStep?: boolean;
  /** Another scheduler than the model's own, by class; `config` where it is not the model's own configuration. */
  readonly scheduler?: { readonly className: string; readonly config?: Readonly<Record<string, unknown>> };
  /** DDIM's η. */
  readonly eta?: number;
  /** Start from this picture (of the request's size), and how much of it to draw anew, 0..1. */
  readonly image?: Pixels;
  readonly strength?: number;
  /** Steps between previews; 0: none. */
  readonly previewEvery?: number;
  readonly previewDecoder?: Decoder | "auto";
  /** SDXL's size conditions, `[height, width]` and `[top, left]`; default: the picture's own size, uncropped. */
  readonly sizes?: {
    readonly original?: readonly [number, number];
    readonly crop?: readonly [number, number];
    readonly target?: readonly [number, number];
  };
}

export type PipelineEvent =
  | {
      readonly type: "step";
      readonly step: number;
      readonly steps: number;
      /** The latents after this step, `[n, c, h, w]`; to be called before the next event is asked for. */
      readonly latents: () => Promise<Float32Array>;
    }
  | {
      readonly type: "preview";
      readonly step: number;
      readonly steps: number;
      readonly decoder: Decoder;
      readonly picture: Pixels;
    }
  | {
      readonly type: "result";
      readonly pictures: readonly Pixels[];
      /** Final latents, `[n, c, h, w]`. */
      readonly latents: () => Promise<Float32Array>;
      /** Milliseconds spent in each phase. */
      readonly timings: Readonly<Record<"prompt" | "start" | "denoise" | "preview" | "decode" | "total", number>>;
      readonly warnings: readonly string[];
    };

/** What may change between two steps. */
export type PipelineUpdate = Partial<Pick<PipelineRequest, "prompt" | "negativePrompt" | "guidanceScale">>;

export interface PipelineOptions {
  readonly signal?: AbortSignal;
  /** Asked before each step for what has changed since; the latents stay, so the picture turns towards the new words. */
  readonly takeUpdate?: () => PipelineUpdate | undefined;
}

/** Prompts whose conditioning is kept; a few hundred KB each. */
const MAX_PROMPTS = 64;

/**
 * Runs one request. One run at a time on a model: plans and latents are the model's.
 * Throws `PipelineError` naming a field, `SchedulerError`, GPU errors, and the signal's reason when it is aborted.
 */
export async function* generate(
  model: DiffusionModel,
  asked: PipelineRequest,
  { signal, takeUpdate }: PipelineOptions = {},
): AsyncGenerator<PipelineEvent, void, undefined> {
  const { unet } = model;
  let request = asked;
  const clock = stopwatch();
  signal?.throwIfAborted();
  const shape = denoiserShape(model, request);
  const schedule = scheduleOf(model, request);
  const preview = previewDecoder(model, request);
  const warnings = promptWarnings(model, request);

  const weights = await weightsFor(model, request);
  const plans = model.plans.borrow();
  try {
    const conditions = await encodeConditions(model, plans, weights, request, shape.branches === 2);
    clock.lap("prompt");
    signal?.throwIfAborted();

    const plan = await denoiserPlan(model, plans, weights, shape);
    writeConditions(plan, model, request, shape, conditions);
    const noise = request.generator === "cuda" ? cudaGenerator(request.seed) : cpuGenerator(request.seed);
    const start = request.image
      ? await noisedPicture(model, plans, request, shape, schedule, noise)
      : noise.randn(latentCount(shape)).map((value) => value * schedule.initNoiseSigma);
    plan.write("latents", toDeviceOrder(start, shape));
    clock.lap("start");

    const steps = schedule.rows.length;
    const every = preview ? (request.previewEvery ?? 0) : 0;
    let shown: Decoding | undefined;
    for (const [index, row] of schedule.rows.entries()) {
      signal?.throwIfAborted();
      const step = index + 1;
      const update = takeUpdate?.();
      if (update !== undefined) {
        request = updated(request, update, shape, warnings);
        const changed = await encodeConditions(model, plans, weights, request, shape.branches === 2);
        writeConditions(plan, model, request, shape, changed);
        clock.lap("prompt");
      }
      writeStep(plan, unet.config, shape, row, request.guidanceScale);
      if (row.drawsNoise) {
        const drawn = noise.randn(latentCount(shape));
        if (row.next.noise !== 0) plan.write("noise", toDeviceOrder(drawn, shape));
      }
      const replay = plan.replay();
      replay.catch(() => {}); // told below, unless nobody asks for more
      if (preview && shown) {
        // Read, and packed by whoever asked, while the device is at the next step.
        const picture = await shown.picture;
        clock.lap("preview");
        yield { type: "preview", step: step - 1, steps, decoder: preview, picture };
        signal?.throwIfAborted();
        shown = undefined;
      }
      await replay;
      clock.lap("denoise");
      yield { type: "step", step, steps, latents: () => readLatents(plan, shape) };
      if (preview && every > 0 && step % every === 0 && step < steps) {
        signal?.throwIfAborted();
        shown = await startDecoding(model, plans, preview, plan.range("denoised"), shape);
        clock.lap("preview");
      }
    }

    signal?.throwIfAborted();
    const pictures: Pixels[] = [];
    for (let image = 0; image < shape.images; image++) {
      const latents = plan.range("latents");
      const size = latentBytes(shape);
      const own = { buffer: latents.buffer, offset: latents.offset + image * size, size };
      const { picture } = await startDecoding(model, plans, "full", own, shape);
      pictures.push(await picture);
    }
    clock.lap("decode");
    yield { type: "result", pictures, latents: () => readLatents(plan, shape), timings: clock.times(), warnings };
  } finally {
    plans.giveBack();
    forget(model, weights);
  }
}

/** What decides which plans a run needs. */
export type RunShape = Pick<PipelineRequest, "width" | "height" | "guidanceScale" | "images">;

/**
 * Makes all plans that text-to-image of this shape takes, previews included, and runs each of their kernels once, so that
 * the first run neither compiles nor allocates. `onProgress` counts kernels.
 * Throws `PipelineError`, GPU errors, and the signal's reason when it is aborted.
 */
export async function warmUp(
  model: DiffusionModel,
  asked: RunShape,
  { signal, onProgress }: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {},
): Promise<void> {
  const shape = denoiserShape(model, asked);
  const weights = await weightsOfRun(model, []);
  const loan = model.plans.borrow();
  try {
    const plans = await Promise.all([
      ...textEncoderPlans(model, loan, weights),
      denoiserPlan(model, loan, weights, shape),
      decoderPlan(model, loan, model.vae, shape),
      ...(model.tiny ? [decoderPlan(model, loan, model.tiny, shape)] : []),
      ...(model.latentRgb ? [linearPlan(model, loan, shape)] : []),
    ]);
    const total = plans.reduce((sum, plan) => sum + plan.kernels, 0);
    let done = 0;
    onProgress?.(done, total);
    for (const plan of plans) {
      signal?.throwIfAborted();
      await plan.warmUp(() => {
        signal?.throwIfAborted();
        onProgress?.(++done, total);
      });
    }
  } finally {
    loan.giveBack();
  }
}

/** The request with a change laid over it. Whether there is guidance at all is in the plan's shape, and stays. */
function updated(
  request: PipelineRequest,
  update: PipelineUpdate,
  shape: DenoiserShape,
  warnings: string[],
): PipelineRequest {
  const { guidanceScale = request.guidanceScale } = update;
  const unguided = shape.branches === 1 && request.guidanceScale <= 1;
  if (unguided && guidanceScale > 1) {
    warnings.push("A run that began without guidance goes on without it; guidance_scale was left as it was.");
    return { ...request, ...update, guidanceScale: request.guidanceScale };
  }
  return { ...request, ...update };
}

function weightsFor(model: DiffusionModel, { loras = [], fewStep }: PipelineRequest): Promise<RunWeights> {
  if (!fewStep) return weightsOfRun(model, loras);
  if (model.fewStep === undefined) throw new PipelineError("few_step", "this model has no few-step variant");
  if (loras.length === 0) return fewStepWeights(model, model.fewStep);
  return weightsOfRun(model, [{ path: model.fewStep.path, scale: 1 }, ...loras]);
}

/** Drops what was made of a run's own weights; of the model's, everything stays for the next run. */
function forget(model: DiffusionModel, weights: RunWeights): void {
  if (weights.lasting) return;
  model.plans.drop(weights.key);
  for (const prompt of [...model.prompts.keys()]) if (prompt.startsWith(weights.key)) model.prompts.delete(prompt);
  weights.destroy();
}

function denoiserShape(model: DiffusionModel, request: RunShape): DenoiserShape {
  const { downscale, latentChannels } = model.vae;
  for (const field of ["width", "height"] as const) {
    const size = request[field];
    if (!Number.isInteger(size) || size < downscale || size % downscale !== 0) {
      throw new PipelineError(field, `must be a multiple of ${downscale}, not ${size}`);
    }
  }
  const guided = request.guidanceScale > 1 && !model.unet.config.time_cond_proj_dim;
  return {
    images: request.images ?? 1,
    branches: guided ? 2 : 1,
    tokens: Math.min(model.encoders[0]!.tokenizer.modelMaxLength, model.encoders[0]!.config.max_position_embeddings),
    height: request.height / downscale,
    width: request.width / downscale,
    channels: latentChannels,
  };
}

function scheduleOf(model: DiffusionModel, request: PipelineRequest): Schedule {
  const { className, config = model.scheduler.config } = request.scheduler ?? model.scheduler;
  const strength = request.strength ?? 1;
  const options = { steps: request.steps, eta: request.eta ?? 0 };
  if (!request.image) return createSchedule(className, config, options);
  // LatentConsistencyModelImg2ImgPipeline spaces all its steps within the strength; the others leave out the first steps.
  if (model.family === "latent-consistency" && className === "LCMScheduler") {
    return createSchedule(className, config, { ...options, lcmStrength: strength });
  }
  const schedule = createSchedule(className, config, options);
  return schedule.from(img2imgStart(schedule, strength));
}

/** Which decoder previews are made with, if the model has one that was asked for. */
function previewDecoder(model: DiffusionModel, request: PipelineRequest): Decoder | undefined {
  if (!request.previewEvery) return undefined;
  const tiny = model.tiny !== undefined || model.vae.kind === "tiny";
  const wanted = request.previewDecoder ?? "auto";
  if (wanted === "auto") return tiny ? "tiny" : model.latentRgb ? "linear" : undefined;
  if (wanted === "tiny" && !tiny)
    throw new PipelineError("preview_decoder", "this model has no tiny decoder; use linear or full");
  if (wanted === "linear" && !model.latentRgb) {
    throw new PipelineError("preview_decoder", "no linear map to RGB is known for this model; use full");
  }
  return wanted;
}

function promptWarnings(model: DiffusionModel, { prompt }: PipelineRequest): string[] {
  const warnings: string[] = [];
  const { tokenizer } = model.encoders[0]!;
  const { truncated, tokenCount } = tokenizer.encode(prompt);
  if (truncated) {
    warnings.push(
      `The prompt has ${tokenCount} tokens; this model reads ${tokenizer.modelMaxLength}, so its end was left out.`,
    );
  }
  // Without a list, a word that the vocabulary has only in pieces is one the model was hardly trained on.
  const knows = ({ word, pieces }: PromptWord) => (model.words ? model.words.has(word) : pieces.length === 1);
  const words = tokenizer.words(prompt).filter(({ word }) => word.length > 1); // one letter says nothing
  if (words.length > 0 && !words.some(knows)) {
    warnings.push("This model knows no word of the prompt; the picture will have little to do with it.");
  }
  return warnings;
}

interface Conditions {
  readonly positive: TextConditioning;
  readonly negative?: TextConditioning;
}

async function encodeConditions(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  request: PipelineRequest,
  guided: boolean,
): Promise<Conditions> {
  const positive = await conditioningOf(model, plans, weights, request.prompt);
  if (!guided) return { positive };
  const negativePrompt = request.negativePrompt ?? "";
  if (negativePrompt === "" && model.zerosForNoPrompt) return { positive, negative: zeroConditioning(positive) };
  return { positive, negative: await conditioningOf(model, plans, weights, negativePrompt) };
}

async function conditioningOf(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  prompt: string,
): Promise<TextConditioning> {
  const key = `${weights.key}${prompt}`;
  const known = model.prompts.get(key);
  if (known) return known;
  const encoderPlans = await Promise.all(textEncoderPlans(model, plans, weights));
  const conditioning = await encodePrompt(model.encoders, encoderPlans, prompt);
  model.prompts.set(key, conditioning);
  const [oldest] = model.prompts.keys();
  if (model.prompts.size > MAX_PROMPTS) model.prompts.delete(oldest!);
  return conditioning;
}

/** Writes what depends on the prompt alone, for each row of the batch: [negative…, positive…]. */
function writeConditions(
  plan: Plan,
  model: DiffusionModel,
  request: PipelineRequest,
  shape: DenoiserShape,
  conditions: Conditions,
): void {
  const { config } = model.unet;
  const rows = [conditions.negative, conditions.positive]
    .filter((conditioning) => conditioning !== undefined)
    .flatMap((conditioning) => Array<TextConditioning>(shape.images).fill(conditioning));
  plan.write("text", concatenate(rows.map((row) => row.embedding)));
  if (config.time_cond_proj_dim) {
    const embedding = guidanceEmbedding(request.guidanceScale, config.time_cond_proj_dim);
    plan.write("guidance", concatenate(rows.map(() => embedding)));
  }
  if (hasAddedConditions(config)) {
    const added = rows.map((row) => addedConditions(config.addition_time_embed_dim!, row, request));
    if (added[0]!.length !== config.projection_class_embeddings_input_dim) {
      throw new PipelineError(
        "prompt",
        `the model's size conditions have ${added[0]!.length} numbers, not ${config.projection_class_embeddings_input_dim}`,
      );
    }
    plan.write("added", concatenate(added));
  }
}

/** SDXL: the pooled text, then sinusoids of the six sizes (Podell et al. 2023, arXiv 2307.01952, section 2.2). */
function addedConditions(width: number, { pooled }: TextConditioning, request: PipelineRequest): Float32Array {
  const size = [request.height, request.width] as const;
  const { original = size, crop = [0, 0], target = size } = request.sizes ?? {};
  return concatenate([pooled!, timestepSinusoids([...original, ...crop, ...target], width)]);
}

/** Image-to-image: the picture's latents, noised to the level of the first step. */
async function noisedPicture(
  model: DiffusionModel,
  plans: PlanLoan,
  request: PipelineRequest,
  shape: DenoiserShape,
  schedule: Schedule,
  noise: NoiseGenerator,
): Promise<Float32Array> {
  const { vae, gpu } = model;
  const size = { height: request.height, width: request.width };
  const plan = await plans.get(`encoder ${size.height}×${size.width}`, () =>
    compileEncoder(gpu, vae, size, { label: "vae encoder", storage: storageOf(model, vae), parameters: vae.weights }),
  );
  const { mean, logVariance } = await encodePixels(plan, vae, request.image!);
  const count = mean.length;
  const drawn = logVariance && noise.randn(count); // the reference samples the posterior before it draws the noise
  const latents = new Float32Array(latentCount(shape));
  for (let i = 0; i < latents.length; i++) {
    const at = i % count;
    const sample = drawn ? mean[at]! + Math.exp(0.5 * logVariance[at]!) * drawn[at]! : mean[at]!;
    latents[i] = (sample - vae.shiftFactor) * vae.scalingFactor;
  }
  const mix = schedule.addNoise(0);
  const added = noise.randn(latents.length);
  return latents.map((value, i) => mix.original * value + mix.noise * added[i]!);
}

/** A picture on its way: everything is submitted, and the latents may change. */
interface Decoding {
  readonly picture: Promise<Pixels>;
}

/** Begins a picture of the first image's latents by the decoder asked for. */
async function startDecoding(
  model: DiffusionModel,
  plans: PlanLoan,
  decoder: Decoder,
  latents: Range,
  shape: LatentSize,
): Promise<Decoding> {
  const { height, width } = shape;
  const first = { buffer: latents.buffer, offset: latents.offset, size: latentBytes(shape) };
  const vae = decoder === "tiny" ? (model.tiny ?? model.vae) : model.vae;
  const isLinear = decoder === "linear";
  const plan = await (isLinear ? linearPlan(model, plans, shape) : decoderPlan(model, plans, vae, shape));
  const scale = isLinear ? 1 : vae.downscale;
  const picture = decodeOnDevice(model.gpu, plan, first, { width: width * scale, height: height * scale });
  picture.catch(() => {}); // told to whoever waits for it
  return { picture };
}

function denoiserPlan(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  shape: DenoiserShape,
): Promise<Plan> {
  const options = { storage: model.activations, parameters: weights.unet };
  const make = () => compileDenoiser(model.gpu, model.unet.config, shape, options);
  return plans.get(`${weights.key}unet ${JSON.stringify(shape)}`, make);
}

function textEncoderPlans(model: DiffusionModel, plans: PlanLoan, weights: RunWeights): Promise<Plan>[] {
  return model.encoders.map((encoder) => {
    const options = { storage: model.activations, parameters: weights.encoder(encoder.component) };
    const make = () => compileTextEncoder(model.gpu, encoder, options);
    return plans.get(`${weights.key}${encoder.component}`, make);
  });
}

function linearPlan(model: DiffusionModel, plans: PlanLoan, { height, width, channels }: LatentSize): Promise<Plan> {
  const make = () => compileLinearPreview(model.gpu, model.latentRgb!, { height, width, channels });
  return plans.get(`linear ${height}×${width}`, make);
}

function decoderPlan(
  model: DiffusionModel,
  plans: PlanLoan,
  vae: LoadedAutoencoder,
  { height, width, channels }: LatentSize,
): Promise<Plan> {
  const label = vae === model.tiny ? "tiny decoder" : "decoder";
  const options = { label, storage: storageOf(model, vae), parameters: vae.weights };
  const make = () => compileDecoder(model.gpu, vae, { height, width, channels }, options);
  return plans.get(`${label} ${height}×${width}`, make);
}

function storageOf(model: DiffusionModel, vae: LoadedAutoencoder): DiffusionModel["activations"] {
  return vae.forceUpcast ? "f32" : model.activations;
}

async function readLatents(plan: Plan, shape: DenoiserShape): Promise<Float32Array> {
  const values = (await plan.read("latents")) as Float32Array;
  return toNchw(values, shape.images, shape.channels, shape.height * shape.width);
}

function toDeviceOrder(values: Float32Array, shape: DenoiserShape): Float32Array {
  return toNhwc(values, shape.images, shape.channels, shape.height * shape.width);
}

function latentCount({ images, channels, height, width }: DenoiserShape): number {
  return images * channels * height * width;
}

function concatenate(arrays: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let offset = 0;
  for (const array of arrays) {
    out.set(array, offset);
    offset += array.length;
  }
  return out;
}

function stopwatch() {
  const begun = performance.now();
  const times = { prompt: 0, start: 0, denoise: 0, preview: 0, decode: 0 };
  let last = begun;
  return {
    lap(phase: keyof typeof times) {
      const now = performance.now();
      times[phase] += now - last;
      last = now;
    },
    times: () => ({ ...times, total: performance.now() - begun }),
  };
}
