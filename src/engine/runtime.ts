/**
 * The runtime: a model on a device, and runs of it as generators of events.
 *
 * Requests are checked here, wait for their turn, and are handed to the diffusion pipeline; its steps become the events
 * of `events.ts`. Encoding pictures and speaking to clients is for whoever pulls.
 */

import type { LoadedModel } from "../diffusion/model.ts";
import { PipelineError } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { SchedulerError } from "../diffusion/schedulers/scheduler-error.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { packagePath } from "../platform/package-files.ts";
import { WeightsError } from "../weights/errors.ts";
import type { RunOptions, Runtime, RuntimeOptions, Tune, WarmUpShape } from "./contract.ts";
import { RequestError } from "./errors.ts";
import type { RunEvent } from "./events.ts";
import { loadModel } from "./load-model.ts";
import { toPipelineRequest } from "./pipeline-request.ts";
import { type GenerationRequest, parseGeneration } from "./request.ts";
import { toRunEvent } from "./run-events.ts";
import { createRunQueue } from "./run-queue.ts";
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
    const loading = loadModel(gpu, options.model ?? builtInModel(), {
      precision: precisionOn(gpu, options.precision ?? "auto"),
      tinyAutoencoder: options.tinyAutoencoder,
      variant: options.variant,
      families: options.families,
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

function runtimeOf(gpu: Gpu, model: LoadedModel, options: RuntimeOptions): Runtime {
  const queue = createRunQueue();
  const closing = new AbortController();
  const { facts, fewStep } = model.family;
  const { defaults } = facts;

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
      name: facts.name,
      defaultWidth: defaults.width,
      defaultHeight: defaults.height,
      defaultSteps: defaults.steps,
      defaultGuidanceScale: defaults.guidanceScale,
      fewStep: fewStep && { steps: fewStep.steps, guidanceScale: fewStep.guidanceScale },
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
    countTokens: (text) => model.family.countTokens(text),
    textToImage: (input, options = {}) => run(input, options),
    imageToImage: (input, options = {}) => run(input, options),
    async close() {
      closing.abort(new DOMException("The runtime was closed", "AbortError"));
      // A run that is between two steps notices the signal before it touches the device again.
      await gpu.idle().catch(() => {});
      model.memory.destroy();
      gpu.close();
    },
  };
}

/**
 * Errors about the request name its field; all others pass through. Weights are at fault only where a LoRA does not fit, be
 * it the request's or a variant of the model: the model itself was checked when it was loaded.
 */
function toRequestError(error: unknown, request?: GenerationRequest): unknown {
  if (error instanceof PipelineError) return new RequestError(error.field, error.reason);
  if (error instanceof WeightsError) {
    const field = request && request.loras.length === 0 ? (request.few_step ? "few_step" : "width") : "loras";
    return new RequestError(field, error.message);
  }
  if (error instanceof SchedulerError) return new RequestError("scheduler", error.message);
  return error;
}
