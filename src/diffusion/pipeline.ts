/**
 * Text-to-image and image-to-image: prompt → conditioning → start latents → denoising steps → pictures, as one async
 * generator. It yields after each step, so that whoever pulls decides the pace, and stops before the next step when told.
 *
 * Follows diffusers' StableDiffusionPipeline, StableDiffusionXLPipeline, LatentConsistencyModelPipeline and their
 * img2img forms draw for draw, so that a seed means the same picture here as there.
 */

import type { Gpu } from "../gpu/device.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { footprint, type Plan, type Range } from "../graph/plan.ts";
import { GraphError } from "../graph/recorder.ts";
import { quads, type Storage } from "../graph/tensor.ts";
import type { PlanLoan } from "../memory/plan-cache.ts";
import { withRoom } from "../memory/residency.ts";
import type { StreamedWeights } from "../memory/streamed-weights.ts";
import { guidanceEmbedding, hasAddedConditions, timestepSinusoids } from "../models/unet.ts";
import { inTurns, ownTurn } from "../platform/turns.ts";
import type { PromptWord } from "../text/tokenizer.ts";
import { decodeBandsBytes, decodeInBands, encodeInBands, isTooLarge, isTooSliced } from "./bands.ts";
import { compileDenoiser, DENOISER_READS, type DenoiserShape, recordDenoiser, writeStep } from "./denoiser.ts";
import type { DiffusionModel, LoadedAutoencoder } from "./diffusion-model.ts";
import {
  compileDecoder,
  compileEncoder,
  compileLinearPreview,
  DECODER_READS,
  decodeOnDevice,
  type Encoded,
  encodePixels,
  type LatentSize,
  latentBytes,
  type Pixels,
  recordDecoder,
  recordEncoder,
  toNchw,
  toNhwc,
} from "./latents.ts";
import { type LoraRequest, type RunWeights, variantWeights, weightsOfRun } from "./lora.ts";
import { cpuGenerator, type NoiseGenerator, PIECE } from "./noise.ts";
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
  const { gpu, unet } = model;
  let request = asked;
  const clock = stopwatch();
  signal?.throwIfAborted();
  const shape = denoiserShape(model, request);
  const schedule = scheduleOf(model, request);
  let preview = previewDecoder(model, request);
  const warnings = await promptWarnings(model, request);

  const weights = await weightsFor(model, request, warnings);
  const plans = model.plans.borrow();
  let kept: GPUBuffer | undefined;
  try {
    const conditions = await encodeConditions(model, plans, weights, request, shape.branches === 2);
    clock.lap("prompt");
    signal?.throwIfAborted();

    const noise = request.generator === "cuda" ? cudaGenerator(request.seed) : cpuGenerator(request.seed);
    const start = request.image
      ? await noisedPicture(model, plans, weights, request, shape, schedule, noise)
      : await inTurns(mapped(await draw(noise, shape), (value) => value * schedule.initNoiseSigma));
    plans.giveBack(); // what was used so far may give way to the denoiser
    const plan = await denoiserPlan(model, plans, weights, shape);
    await writeConditions(plan, model, request, shape, conditions);
    await writeLatents(plan, "latents", start, shape);
    if (preview) preview = await affordable(model, plans, weights, preview, shape, warnings);
    clock.lap("start");

    const steps = schedule.rows.length;
    const every = preview ? (request.previewEvery ?? 0) : 0;
    let shown: Decoding | undefined;
    for (const [index, row] of schedule.rows.entries()) {
      signal?.throwIfAborted();
      const step = index + 1;
      const update = takeUpdate?.();
      if (update !== undefined) {
        const wanted = updated(request, update, shape, warnings);
        const changed = await encodeConditions(model, plans, weights, wanted, shape.branches === 2).catch((error) => {
          if (!(error instanceof MemoryLimitError)) throw error;
          warnings.push(
            "The prompt stayed: text encoder and denoiser do not both fit into the memory that may be used.",
          );
        });
        if (changed) {
          request = wanted;
          await writeConditions(plan, model, request, shape, changed);
        }
        clock.lap("prompt");
      }
      writeStep(plan, unet.config, shape, schedule.rows, index, request.guidanceScale);
      if (row.drawsNoise) {
        const drawn = await draw(noise, shape);
        if (row.next.noise !== 0) await writeLatents(plan, "noise", drawn, shape);
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
        shown = await startDecoding(model, plans, weights, preview, plan.range("denoised"), shape);
        clock.lap("preview");
      }
    }

    signal?.throwIfAborted();
    // A copy, since denoiser and decoder may not both find room.
    const latents = plan.range("latents");
    const size = latentBytes(shape);
    kept = gpu.createBuffer("a run's latents", size * shape.images);
    copyLatents(gpu, latents, kept, size * shape.images);
    plans.giveBack();
    const pictures: Pixels[] = [];
    for (let image = 0; image < shape.images; image++) {
      const own = { buffer: kept, offset: image * size, size };
      pictures.push(await finalPicture(model, plans, weights, own, shape));
    }
    clock.lap("decode");
    const final = kept;
    const readFinal = () => readKeptLatents(gpu, final, shape);
    yield { type: "result", pictures, latents: readFinal, timings: clock.times(), warnings };
  } catch (error) {
    throw error instanceof MemoryLimitError ? await tooLarge(model, weights, request, error) : error;
  } finally {
    plans.giveBack();
    if (kept) gpu.destroyBuffer(kept);
    forget(model, weights);
  }
}

/** The decoder of previews, or none where it does not find room beside the denoiser. */
async function affordable(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  decoder: Decoder,
  shape: DenoiserShape,
  warnings: string[],
): Promise<Decoder | undefined> {
  try {
    await previewPlan(model, plans, weights, decoder, shape);
    return decoder;
  } catch (error) {
    if (!(error instanceof MemoryLimitError)) throw error;
    warnings.push(
      `There are no previews: their decoder (${decoder}) and the denoiser do not both fit into ${limitOf(error)}.`,
    );
    return undefined;
  }
}

function limitOf({ limit }: MemoryLimitError): string {
  return `the ${Math.floor(limit / 2 ** 20)} MiB of device memory that may be used`;
}

/** What to tell whoever asked for a picture that does not fit, with the largest of its proportions that does. */
async function tooLarge(
  model: DiffusionModel,
  weights: RunWeights,
  request: RunShape,
  error: MemoryLimitError,
): Promise<PipelineError> {
  const { width, height } = request;
  const several = (request.images ?? 1) > 1 ? `${request.images} pictures` : "a picture";
  const fits = await largestThatFits(model, weights, request, error.limit);
  const hope = fits ? `; ${fits.width}x${fits.height} fits` : "; none does";
  return new PipelineError("width", `${several} of ${width}x${height} does not fit into ${limitOf(error)}${hope}`);
}

/** By halves of what is left in question: a larger picture never takes less. */
async function largestThatFits(model: DiffusionModel, weights: RunWeights, request: RunShape, limit: number) {
  const unit = 64; // every model's size is a multiple of it
  const longer = Math.max(request.width, request.height);
  const ofLonger = (side: number) => {
    const [width, height] = [request.width, request.height].map((pixels) =>
      Math.max(unit, Math.round((pixels * side) / longer / unit) * unit),
    ) as [number, number];
    return { width, height };
  };
  let [fitting, tooMany] = [0, Math.ceil(longer / unit)];
  while (tooMany - fitting > 1) {
    const units = Math.floor((fitting + tooMany) / 2);
    const shape = denoiserShape(model, { ...request, ...ofLonger(units * unit) });
    if ((await runBytes(model, weights, shape)) <= limit) fitting = units;
    else tooMany = units;
  }
  return fitting > 0 ? ofLonger(fitting * unit) : undefined;
}

/** The least device memory that text-to-image of this shape takes in any of its phases, in bytes. */
async function runBytes(model: DiffusionModel, weights: RunWeights, shape: DenoiserShape): Promise<number> {
  const { gpu, unet, vae, encoders, activations } = model;
  const all = [unet.weights, vae.weights, ...encoders.map(({ parameters }) => parameters)];
  const givesWay = weights.residency.components.length > 0;
  /** What lies on the device in a phase that needs these: they alone, or all where nothing may give way. */
  const resident = (needed: readonly StreamedWeights[]) =>
    weights.bytes + (givesWay ? needed : all).reduce((sum, { bytes }) => sum + bytes, 0);
  const form = (of: StreamedWeights, storage: Storage) => ({ storage, weights: of.storage, transformed: false });
  const latents = latentBytes(shape) * shape.images;

  // Each of these is a plan's whole layout.
  await ownTurn();
  const text = encoders.map(({ recorder, parameters }) => {
    return footprint(gpu, recorder, form(parameters, activations)).peak;
  });
  await ownTurn();
  const step = footprint(gpu, recordDenoiser(unet.config, shape), {
    ...form(unet.weights, activations),
    reads: DENOISER_READS,
  });
  await ownTurn();
  const storage = storageOf(model, vae);
  const whole = recordDecoder(vae, shape);
  const inOnePiece = isTooSliced(gpu, whole, storage)
    ? Number.POSITIVE_INFINITY
    : bytesOrNever(() => footprint(gpu, whole, { ...form(vae.weights, storage), reads: DECODER_READS }).peak);
  await ownTurn();
  const inBands = bytesOrNever(() => decodeBandsBytes(gpu, vae, shape, { storage, weights: vae.weights.storage }));
  const picture = Math.min(inOnePiece, inBands);
  return Math.max(
    ...all.map(({ loadingBytes, bytes }) => resident([]) + loadingBytes - (givesWay ? 0 : bytes)),
    resident(encoders.map(({ parameters }) => parameters)) + text.reduce((sum, bytes) => sum + bytes, 0),
    resident([unet.weights]) + step.peak + latents,
    resident([vae.weights]) + picture + 2 * latents, // as kept, and as read
  );
}

/** Infinite where a tensor is more than the adapter binds. */
function bytesOrNever(estimate: () => number): number {
  try {
    return estimate();
  } catch (error) {
    if (error instanceof GraphError) return Number.POSITIVE_INFINITY;
    throw error;
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
  const weights = await weightsFor(model, asked, []);
  const loan = model.plans.borrow();
  const { tiny, vae, latentRgb } = model;
  const one = async (plan: Promise<Plan>) => [await plan];
  const phases: (() => Promise<Plan[]>[])[] = [
    () => textEncoderPlans(model, loan, weights).map(one),
    () => [one(denoiserPlan(model, loan, weights, shape))],
    () => [
      wholeDecoderPlan(model, loan, weights, vae, shape),
      ...(latentRgb ? [one(linearPlan(model, loan, weights, shape))] : []),
    ],
    () => (tiny ? [wholeDecoderPlan(model, loan, weights, tiny, shape)] : []),
  ];
  // With room for all they are compiled beside each other; else one phase of a run after the other, as it will be run.
  const together = model.gpu.maxBytes === undefined ? [() => phases.flatMap((make) => make())] : phases;
  let done = 0;
  let total = 0;
  try {
    for (const make of together) {
      const plans = (await Promise.all(make())).flat();
      total += plans.reduce((sum, plan) => sum + plan.kernels, 0);
      onProgress?.(done, total);
      for (const plan of plans) {
        signal?.throwIfAborted();
        await plan.warmUp(() => {
          signal?.throwIfAborted();
          onProgress?.(++done, total);
        });
      }
      loan.giveBack();
    }
  } catch (error) {
    throw error instanceof MemoryLimitError ? await tooLarge(model, weights, asked, error) : error;
  } finally {
    loan.giveBack();
    forget(model, weights);
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

/**
 * The weights of a run. The variant for large pictures gives way where it does not find room beside the model; throws
 * `PipelineError` where what was asked for does not.
 */
async function weightsFor(
  model: DiffusionModel,
  { loras = [], fewStep, width, height }: Pick<PipelineRequest, "loras" | "fewStep" | "width" | "height">,
  warnings: string[],
): Promise<RunWeights> {
  const asked: LoraRequest[] = [...loras];
  if (fewStep) {
    if (model.fewStep === undefined) throw new PipelineError("few_step", "this model has no few-step variant");
    asked.unshift({ path: model.fewStep.path, scale: 1 });
  }
  const merged = (files: readonly LoraRequest[]) =>
    loras.length === 0
      ? variantWeights(
          model,
          files.map(({ path }) => path),
        )
      : weightsOfRun(model, files);
  try {
    if (model.large && width * height >= model.large.fromPixels) {
      // Merged, it holds a second UNet: where memory is limited there is seldom room for that.
      if (model.gpu.maxBytes === undefined) asked.unshift({ path: model.large.path, scale: 1 });
      else warnings.push("Drawn without the model's variant for large pictures: device memory is limited.");
    }
    return await merged(asked);
  } catch (error) {
    if (!(error instanceof MemoryLimitError)) throw error;
    throw new PipelineError(fewStep ? "few_step" : "loras", `do not fit beside this model into ${limitOf(error)}`);
  }
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

async function promptWarnings(model: DiffusionModel, { prompt }: PipelineRequest): Promise<string[]> {
  const warnings: string[] = [];
  const { tokenizer } = model.encoders[0]!;
  await ownTurn(); // whoever asked may have had much to do in this one
  const { truncated, tokenCount } = tokenizer.encode(prompt);
  await ownTurn();
  if (truncated) {
    warnings.push(
      `The prompt has ${tokenCount} tokens; this model reads ${tokenizer.modelMaxLength}, so its end was left out.`,
    );
  }
  // Without a list, a word that the vocabulary has only in pieces is one the model was hardly trained on.
  const knows = ({ word, pieces }: PromptWord) => (model.words ? model.words.has(word) : pieces.length === 1);
  const words = tokenizer.words(prompt).filter(({ word }) => word.length > 1); // one letter says nothing
  await ownTurn();
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
async function writeConditions(
  plan: Plan,
  model: DiffusionModel,
  request: PipelineRequest,
  shape: DenoiserShape,
  conditions: Conditions,
): Promise<void> {
  const { config } = model.unet;
  const rows = [conditions.negative, conditions.positive]
    .filter((conditioning) => conditioning !== undefined)
    .flatMap((conditioning) => Array<TextConditioning>(shape.images).fill(conditioning));
  await plan.writeInTurns("text", concatenate(rows.map((row) => row.embedding)));
  if (config.time_cond_proj_dim) {
    plan.write("guidance", guidanceEmbedding(request.guidanceScale, config.time_cond_proj_dim));
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
  weights: RunWeights,
  request: PipelineRequest,
  shape: DenoiserShape,
  schedule: Schedule,
  noise: NoiseGenerator,
): Promise<Float32Array> {
  const { vae } = model;
  const { mean, logVariance } = await encodedPicture(model, plans, weights, request.image!);
  const count = mean.length;
  // The reference samples the posterior before it draws the noise.
  const drawn = logVariance && (await inTurns(noise.randnInPieces(count)));
  const latents = await inTurns(
    mapped(new Float32Array(latentCount(shape)), (_, i) => {
      const at = i % count;
      const sample = drawn ? mean[at]! + Math.exp(0.5 * logVariance[at]!) * drawn[at]! : mean[at]!;
      return (sample - vae.shiftFactor) * vae.scalingFactor;
    }),
  );
  const mix = schedule.addNoise(0);
  const added = await draw(noise, shape);
  return inTurns(mapped(latents, (value, i) => mix.original * value + mix.noise * added[i]!));
}

/** What the autoencoder says of a picture: in one piece where that fits, else in bands. */
async function encodedPicture(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  image: Pixels,
): Promise<Encoded> {
  const { gpu, vae } = model;
  const options = { label: "vae encoder", storage: storageOf(model, vae), parameters: vae.weights };
  const { width, height } = image;
  const inBands = () =>
    withRoom(weights.residency, [vae.weights], (form) => encodeInBands(gpu, vae, image, { ...options, ...form }));
  if (isTooSliced(gpu, recordEncoder(vae, image), options.storage)) return inBands();
  let plan: Plan;
  try {
    plan = await withRoom(weights.residency, [vae.weights], (form) =>
      plans.get(`encoder ${height}×${width}`, () =>
        compileEncoder(gpu, vae, { height, width }, { ...options, ...form }),
      ),
    );
  } catch (error) {
    if (!isTooLarge(error)) throw error;
    return inBands();
  }
  return encodePixels(plan, vae, image);
}

/** A picture on its way: everything is submitted, and the latents may change. */
interface Decoding {
  readonly picture: Promise<Pixels>;
}

/** Begins a picture of the first image's latents by the decoder asked for. */
async function startDecoding(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  decoder: Decoder,
  latents: Range,
  shape: LatentSize,
): Promise<Decoding> {
  const first = { buffer: latents.buffer, offset: latents.offset, size: latentBytes(shape) };
  const plan = await previewPlan(model, plans, weights, decoder, shape);
  const scale = decoder === "linear" ? 1 : decoderOf(model, decoder).downscale;
  const picture = decodeOnDevice(model.gpu, plan, first, { width: shape.width * scale, height: shape.height * scale });
  picture.catch(() => {}); // told to whoever waits for it
  return { picture };
}

/** One image's latents decoded in full: in one piece where that fits, else in bands. */
async function finalPicture(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  latents: Range,
  shape: LatentSize,
): Promise<Pixels> {
  const { gpu, vae } = model;
  const options = { label: "decoder", storage: storageOf(model, vae), parameters: vae.weights };
  const inBands = () =>
    withRoom(weights.residency, [vae.weights], (form) =>
      decodeInBands(gpu, vae, latents, shape, { ...options, ...form }),
    );
  if (isTooSliced(gpu, recordDecoder(vae, shape), options.storage)) return inBands();
  let decoding: Decoding;
  try {
    decoding = await startDecoding(model, plans, weights, "full", latents, shape);
  } catch (error) {
    if (!isTooLarge(error)) throw error;
    return inBands();
  }
  return decoding.picture;
}

/** The decoder's plan for a warm-up; none where pictures of this size are decoded in bands. */
async function wholeDecoderPlan(...of: Parameters<typeof decoderPlan>): Promise<Plan[]> {
  const [model, , , vae, shape] = of;
  if (isTooSliced(model.gpu, recordDecoder(vae, shape), storageOf(model, vae))) return [];
  try {
    return [await decoderPlan(...of)];
  } catch (error) {
    if (isTooLarge(error)) return [];
    throw error;
  }
}

function decoderOf(model: DiffusionModel, decoder: "tiny" | "full"): LoadedAutoencoder {
  return decoder === "tiny" ? (model.tiny ?? model.vae) : model.vae;
}

function previewPlan(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  decoder: Decoder,
  shape: LatentSize,
): Promise<Plan> {
  if (decoder === "linear") return linearPlan(model, plans, weights, shape);
  return decoderPlan(model, plans, weights, decoderOf(model, decoder), shape);
}

function denoiserPlan(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  shape: DenoiserShape,
): Promise<Plan> {
  const options = { storage: model.activations, parameters: weights.unet };
  const key = `${weights.key}unet ${JSON.stringify(shape)}`;
  return withRoom(weights.residency, [model.unet.weights], (form) =>
    plans.get(key, () => compileDenoiser(model.gpu, model.unet.config, shape, { ...options, ...form })),
  );
}

function textEncoderPlans(model: DiffusionModel, plans: PlanLoan, weights: RunWeights): Promise<Plan>[] {
  const all = model.encoders.map(({ parameters }) => parameters);
  return model.encoders.map((encoder) => {
    const options = { storage: model.activations, parameters: weights.encoder(encoder.component) };
    const make = () => compileTextEncoder(model.gpu, encoder, options);
    return withRoom(weights.residency, all, () => plans.get(`${weights.key}${encoder.component}`, make)); // no 3 × 3 in it
  });
}

function linearPlan(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  { height, width, channels }: LatentSize,
): Promise<Plan> {
  const make = () => compileLinearPreview(model.gpu, model.latentRgb!, { height, width, channels });
  return withRoom(weights.residency, [], () => plans.get(`linear ${height}×${width}`, make));
}

function decoderPlan(
  model: DiffusionModel,
  plans: PlanLoan,
  weights: RunWeights,
  vae: LoadedAutoencoder,
  { height, width, channels }: LatentSize,
): Promise<Plan> {
  const label = vae === model.tiny ? "tiny decoder" : "decoder";
  const options = { label, storage: storageOf(model, vae), parameters: vae.weights };
  const size = { height, width, channels };
  return withRoom(weights.residency, [vae.weights], (form) =>
    plans.get(`${label} ${height}×${width}`, () => compileDecoder(model.gpu, vae, size, { ...options, ...form })),
  );
}

function storageOf(model: DiffusionModel, vae: LoadedAutoencoder): DiffusionModel["activations"] {
  return vae.forceUpcast ? "f32" : model.activations;
}

async function readLatents(plan: Plan, shape: DenoiserShape): Promise<Float32Array> {
  const values = (await plan.read("latents")) as Float32Array;
  return toNchw(values, shape.images, shape.channels, shape.height * shape.width);
}

/** The copy that outlives the denoiser's plan: f32 `[n, h, w, quads of c]`. */
async function readKeptLatents(gpu: Gpu, kept: GPUBuffer, shape: DenoiserShape): Promise<Float32Array> {
  const { images, channels, height, width } = shape;
  const padded = new Float32Array((await gpu.read(kept, 0, latentBytes(shape) * images)).buffer);
  const stride = quads(channels) * 4;
  const values = new Float32Array(latentCount(shape));
  for (let row = 0; row < images * height * width; row++) {
    values.set(padded.subarray(row * stride, row * stride + channels), row * channels);
  }
  return toNchw(values, images, channels, height * width);
}

function copyLatents(gpu: Gpu, from: Range, to: GPUBuffer, size: number): void {
  const encoder = gpu.device.createCommandEncoder({ label: "latents" });
  encoder.copyBufferToBuffer(from.buffer, from.offset, to, 0, size);
  gpu.device.queue.submit([encoder.finish()]);
}

/** Writes a state of the denoiser that has the latents' shape, given in PyTorch's order. */
async function writeLatents(plan: Plan, name: string, values: Float32Array, shape: DenoiserShape): Promise<void> {
  await plan.writeInTurns(
    name,
    await inTurns(toNhwc(values, shape.images, shape.channels, shape.height * shape.width)),
  );
}

function draw(noise: NoiseGenerator, shape: DenoiserShape): Promise<Float32Array> {
  return inTurns(noise.randnInPieces(latentCount(shape)));
}

/** `values` with each replaced by what `map` makes of it. */
function* mapped(
  values: Float32Array,
  map: (value: number, index: number) => number,
): Generator<void, Float32Array, void> {
  for (let i = 0; i < values.length; i++) {
    values[i] = map(values[i]!, i);
    if (i % PIECE === PIECE - 1) yield;
  }
  return values;
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
