/**
 * The runtime: a model on a device, and runs of it as generators of events.
 *
 * Requests are checked here, wait for their turn, and are handed to the diffusion pipeline; its steps become the events
 * of `events.ts`. Encoding pictures and speaking to clients is for whoever pulls.
 */

import { randomInt } from "node:crypto";
import { type DiffusionModel, loadDiffusionModel } from "../diffusion/diffusion-model.ts";
import { generate, PipelineError, type PipelineEvent, type PipelineRequest, warmUp } from "../diffusion/pipeline.ts";
import { SchedulerError } from "../diffusion/schedulers/scheduler-error.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { packagePath } from "../platform/package-files.ts";
import { WeightsError } from "../weights/errors.ts";
import type { RunOptions, Runtime, RuntimeOptions, Tune, WarmUpShape } from "./contract.ts";
import { RequestError } from "./errors.ts";
import type { RunEvent } from "./events.ts";
import { loraFiles } from "./lora-files.ts";
import { type GenerationRequest, parseGeneration } from "./request.ts";
import { createRunQueue } from "./run-queue.ts";
import { schedulerClass } from "./scheduler-names.ts";
import { tuneMissing } from "./tuning.ts";
import { useTuning } from "./tuning-cache.ts";

/** The folder of the model that comes with the package. */
export function builtInModel(): string {
  return packagePath("models", "landscapes");
}

/**
 * Opens a GPU and loads a model onto it.
 * Throws `AdapterError` where there is no such adapter, `WeightsError`, `ModelConfigError`, `TokenizerError` or
 * `SchedulerError` for a folder that is not a model we can run, `MemoryLimitError` for one that cannot be run within `maxGpuMemory`.
 */
export async function createRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  const gpu = await openGpu({ adapter: options.adapter, gpu: options.gpu, maxBytes: options.maxGpuMemory });
  try {
    const loading = loadDiffusionModel(gpu, options.model ?? builtInModel(), {
      precision: precisionOn(gpu, options.precision ?? "auto"),
      tinyAutoencoder: options.tinyAutoencoder,
      variant: options.variant,
      onProgress: (what, done, total) => options.onProgress?.({ what, done, total }),
    });
    const [model] = await Promise.all([loading, useTuning(gpu)]);
    return runtimeOf(gpu, model, options);
  } catch (error) {
    gpu.close();
    throw error;
  }
}

/** f16 where a hardware adapter computes with it; a software adapter gains nothing but memory from it. */
export function precisionOn(gpu: Gpu, wanted: "auto" | "f32" | "f16"): "f32" | "f16" {
  if (wanted !== "auto") return wanted;
  return gpu.facts.kind === "hardware" && gpu.facts.features.includes("shader-f16") ? "f16" : "f32";
}

/** Under a limit of memory only where it is asked for: parts of the model would be loaded in turns for it. */
function isToTune(gpu: Gpu, wanted: Tune): boolean {
  return wanted === "auto" ? gpu.facts.kind === "hardware" && gpu.maxBytes === undefined : wanted === "on";
}

function runtimeOf(gpu: Gpu, model: DiffusionModel, options: RuntimeOptions): Runtime {
  const queue = createRunQueue();
  const closing = new AbortController();
  const { defaults } = model;

  async function* run(input: unknown, { signal, takeUpdate }: RunOptions): AsyncGenerator<RunEvent, void, undefined> {
    let request = parseGeneration(input);
    const pipelineRequest = await toPipelineRequest(model, request, options);
    const stop = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
    stop.throwIfAborted();
    const change = () => {
      const update = takeUpdate?.();
      if (update === undefined) return undefined;
      const { prompt = request.prompt, negative_prompt = request.negative_prompt } = update;
      request = { ...request, prompt, negative_prompt };
      const { guidance_scale: guidanceScale } = update;
      return { prompt, negativePrompt: negative_prompt, ...(guidanceScale !== undefined && { guidanceScale }) };
    };
    const begun = performance.now();
    const turn = queue.join();
    try {
      for (let position = turn.position; position > 0; position = turn.position) {
        yield { type: "queued", position };
        await turn.moved(position, stop);
      }
      for await (const event of generate(model, pipelineRequest, { signal: stop, takeUpdate: change })) {
        yield toRunEvent(event, request, pipelineRequest, begun);
      }
    } catch (error) {
      throw toRequestError(error, request);
    } finally {
      turn.leave();
    }
  }

  async function warm({ width, height, guidance_scale, num_images }: WarmUpShape = {}): Promise<void> {
    const turn = queue.join();
    try {
      for (let position = turn.position; position > 0; position = turn.position) {
        await turn.moved(position, closing.signal);
      }
      const shape = {
        width: width ?? defaults.width,
        height: height ?? defaults.height,
        guidanceScale: guidance_scale ?? defaults.guidanceScale,
        images: num_images,
      };
      if (isToTune(gpu, options.tune ?? "auto")) {
        await tuneMissing(model, shape, {
          signal: closing.signal,
          onProgress: (part, done, total) => options.onProgress?.({ what: `tuning ${part}`, done, total }),
        });
      }
      await warmUp(model, shape, {
        signal: closing.signal,
        onProgress: (done, total) => options.onProgress?.({ what: "kernels", done, total }),
      });
    } catch (error) {
      throw toRequestError(error);
    } finally {
      turn.leave();
    }
  }

  return {
    adapter: gpu.facts,
    model: {
      name: model.name,
      defaultWidth: defaults.width,
      defaultHeight: defaults.height,
      defaultSteps: defaults.steps,
      defaultGuidanceScale: defaults.guidanceScale,
      fewStep: model.fewStep && { steps: model.fewStep.steps, guidanceScale: model.fewStep.guidanceScale },
    },
    device: {
      get lost() {
        return gpu.lost;
      },
      get memoryBytes() {
        return gpu.memory.bytes;
      },
      get peakMemoryBytes() {
        return gpu.memory.peakBytes;
      },
    },
    warmUp: warm,
    countTokens: (text) => model.encoders[0]?.tokenizer.encode(text).tokenCount ?? 0,
    textToImage: (input, options = {}) => run(input, options),
    imageToImage: (input, options = {}) => run(input, options),
    async close() {
      closing.abort(new DOMException("The runtime was closed", "AbortError"));
      // A run that is between two steps notices the signal before it touches the device again.
      await gpu.idle().catch(() => {});
      model.destroy();
      gpu.close();
    },
  };
}

/** A checked request with what the model decides filled in. */
async function toPipelineRequest(
  model: DiffusionModel,
  request: GenerationRequest,
  options: RuntimeOptions,
): Promise<PipelineRequest> {
  const { defaults } = model;
  const width = request.width ?? defaults.width;
  const height = request.height ?? defaults.height;
  const scheduler = request.scheduler === undefined ? undefined : schedulerClass(request.scheduler);
  if (scheduler === null)
    throw new RequestError("scheduler", `'${request.scheduler}' is not a scheduler of this server`);
  const fewStep = request.few_step ? model.fewStep : undefined;
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
    scheduler: scheduler === undefined ? fewStep && fewStepScheduler(model) : { className: scheduler },
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

/** What the variant was taught with. */
function fewStepScheduler({ scheduler }: DiffusionModel) {
  return { className: "DDIMScheduler", config: { ...scheduler.config, timestep_spacing: "trailing" } };
}

function toRunEvent(event: PipelineEvent, request: GenerationRequest, run: PipelineRequest, begun: number): RunEvent {
  switch (event.type) {
    case "step": {
      const { step, steps } = event;
      return {
        type: "progress",
        step,
        steps,
        progress: step / steps,
        elapsed_ms: Math.round(performance.now() - begun),
      };
    }
    case "preview": {
      const { step, steps, decoder, picture } = event;
      return { type: "preview", picture, step, steps, progress: step / steps, decoder };
    }
    case "result": {
      const timings = Object.fromEntries(Object.entries(event.timings).map(([phase, ms]) => [phase, Math.round(ms)]));
      const warnings = event.warnings.length > 0 ? event.warnings : undefined;
      return { type: "result", pictures: event.pictures, seed: run.seed, prompt: request.prompt, timings, warnings };
    }
    default:
      return event satisfies never;
  }
}

/**
 * Errors about the request name its field; all others pass through. Weights are at fault only where a LoRA does not fit, be
 * it the request's or a variant of the model: the model itself was checked when it was loaded.
 */
function toRequestError(error: unknown, request?: GenerationRequest): unknown {
  if (error instanceof PipelineError) return new RequestError(error.field, error.message.slice(error.field.length + 2));
  if (error instanceof WeightsError) {
    const field = request && request.loras.length === 0 ? (request.few_step ? "few_step" : "width") : "loras";
    return new RequestError(field, error.message);
  }
  if (error instanceof SchedulerError) return new RequestError("scheduler", error.message);
  return error;
}
