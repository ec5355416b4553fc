/**
 * The runtime: a model on a device, and runs of it as generators of events.
 *
 * Requests are checked here, wait for their turn, and are handed to the diffusion pipeline; its steps become the events
 * of `events.ts`. Encoding pictures and speaking to clients is for whoever pulls.
 */

import type { LoadedModel } from "../diffusion/loaded-model.ts";
import { Preparing } from "../diffusion/preparing.ts";
import { PipelineError, type PipelineUpdate } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import { openCheckpoint } from "../families/checkpoint/open-checkpoint.ts";
import { FaultError } from "../faults/fault.ts";
import type { AdapterFacts } from "../gpu/adapter-facts.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { Refinements } from "../graph/compile/refinement.ts";
import type { Preparation } from "../memory/preparation.ts";
import { packagePath } from "../platform/package-files.ts";
import type { PromptSyntax } from "../text/prompt-syntax.ts";
import { WeightsError } from "../weights/errors.ts";
import type { DeviceState, ModelFacts, RunOptions, Runtime, RuntimeOptions, Tune, WarmUpShape } from "./contract.ts";
import { ControlFolder, checkControlFolder } from "./control-files.ts";
import { checkEmbeddingFolder, EmbeddingFolder } from "./embedding-files.ts";
import { RequestError } from "./errors.ts";
import type { RunEvent } from "./events.ts";
import { loadModel } from "./load-model.ts";
import { checkLoraFolder, listLoras } from "./lora-files.ts";
import { locateModel } from "./model-location.ts";
import { PendingUpdate } from "./pending-update.ts";
import { toPipelineRequest } from "./pipeline-request.ts";
import { Place, RUNS_AT_ONCE } from "./place.ts";
import { preprocess } from "./preprocessing.ts";
import type { GenerationRequest, GenerationUpdate, ImageToImageInput, TextToImageInput } from "./request.ts";
import { parseGeneration } from "./request-parsing.ts";
import { toRunEvent } from "./run-events.ts";
import { tuneMissing } from "./tuning.ts";
import { rememberedChoice } from "./tuning-cache.ts";

/** The folder of the model that comes with the package. */
export function builtInModel(): string {
  return packagePath("models", "landscapes");
}

/**
 * Opens a GPU and loads a model onto it.
 * @throws AdapterError if there is no such adapter
 * @throws WeightsError, ModelConfigError, TokenizerError, SchedulerError for a folder that is not a model we can run
 * @throws MemoryLimitError for a model that cannot be run within `maxGpuMemory`
 */
export async function createRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  const { model: source = builtInModel() } = options;
  const files = typeof source === "string" ? await locateModel(source) : source;
  // A file that is no checkpoint is refused before a GPU is opened.
  if ("path" in files) await openCheckpoint(files, { hasVae: options.vae !== undefined });
  await checkLoraFolder(options.loraFolder);
  await checkEmbeddingFolder(options.embeddingFolder);
  await checkControlFolder(options.controlFolder);
  const gpu = await openGpu({ adapter: options.adapter, gpu: options.gpu, maxBytes: options.maxGpuMemory });
  try {
    const loading = loadModel(gpu, files, {
      precision: precisionOn(gpu, options.precision ?? "auto"),
      vae: options.vae,
      tinyAutoencoder: options.tinyAutoencoder,
      variant: options.variant,
      families: options.families,
      onProgress: (what, done, total) => options.onProgress?.({ what, done, total }),
    });
    const [model, choose] = await Promise.all([loading, rememberedChoice(gpu.facts)]);
    if (choose) model.memory.useChoice(choose);
    return new ModelRuntime(gpu, model, options);
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

/** Under a limit of memory only if it is asked for: parts of the model would be loaded in turns for it. */
function isToTune(gpu: Gpu, wanted: Tune): boolean {
  return wanted === "auto" ? gpu.facts.kind === "hardware" && gpu.maxBytes === undefined : wanted === "on";
}

class ModelRuntime implements Runtime {
  readonly adapter: AdapterFacts;
  readonly model: ModelFacts;
  readonly device: DeviceState;
  readonly runsAtOnce: number;
  readonly #gpu: Gpu;
  readonly #model: LoadedModel;
  readonly #options: RuntimeOptions;
  readonly #embeddings: EmbeddingFolder | undefined;
  readonly #controls: ControlFolder | undefined;
  readonly #line: ReturnType<typeof Place.line>;
  readonly #closing = new AbortController();
  /** How far the warm-up is that is going on, and those who are told. */
  #warming: Preparation | undefined;
  readonly #watchers = new Set<(progress: Preparation) => void>();

  constructor(gpu: Gpu, model: LoadedModel, options: RuntimeOptions) {
    this.#gpu = gpu;
    this.#model = model;
    this.#options = options;
    this.#embeddings = options.embeddingFolder === undefined ? undefined : new EmbeddingFolder(options.embeddingFolder);
    this.#controls = options.controlFolder === undefined ? undefined : new ControlFolder(options.controlFolder);
    this.adapter = gpu.facts;
    this.model = factsOf(model);
    this.device = stateOf(gpu, model);
    // Under a limit of memory the parts of a run take turns on the device, and those of two would not fit beside each other.
    this.runsAtOnce = gpu.maxBytes === undefined ? (options.runsAtOnce ?? RUNS_AT_ONCE) : 1;
    this.#line = Place.line(this.runsAtOnce);
  }

  textToImage(input: TextToImageInput, options: RunOptions = {}): AsyncGenerator<RunEvent, void, undefined> {
    return this.#run(input, options);
  }

  imageToImage(input: ImageToImageInput, options: RunOptions = {}): AsyncGenerator<RunEvent, void, undefined> {
    return this.#run(input, options);
  }

  countTokens(text: string): number {
    return this.#model.family.countTokens(text, this.#options.promptSyntax);
  }

  async promptWarnings(
    prompt: string,
    syntax: PromptSyntax = this.#options.promptSyntax ?? "plain",
  ): Promise<readonly string[]> {
    const embeddings = await this.#embeddings?.in([prompt], syntax);
    return this.#model.family.promptWarnings(prompt, "prompt", { promptSyntax: syntax, embeddings });
  }

  async embeddings(): Promise<readonly string[]> {
    return (await this.#embeddings?.names()) ?? [];
  }

  async controls(): Promise<readonly string[]> {
    return (await this.#controls?.names()) ?? [];
  }

  preprocess(...[input, options = {}]: Parameters<Runtime["preprocess"]>): ReturnType<Runtime["preprocess"]> {
    return preprocess(this.#model, input, { ...options, signal: this.#orClosing(options.signal) });
  }

  loras(): ReturnType<Runtime["loras"]> {
    return listLoras(this.#options.loraFolder);
  }

  async warmUp(
    { width, height, guidance_scale, num_images }: WarmUpShape = {},
    options: Pick<RunOptions, "signal"> = {},
  ): Promise<void> {
    const { defaults } = this.#model.family.facts;
    const signal = this.#orClosing(options.signal);
    const place = new Place(this.#line, true);
    try {
      for (let { position } = place; position !== undefined; { position } = place) await place.moved(position, signal);
      const shape = {
        width: width ?? defaults.width,
        height: height ?? defaults.height,
        guidanceScale: guidance_scale ?? defaults.guidanceScale,
        images: num_images,
      };
      const tell = (progress: Preparation, what: string = progress.what) => {
        this.#warming = progress;
        for (const watcher of this.#watchers) watcher(progress);
        this.#options.onProgress?.({ ...progress, what });
      };
      if (isToTune(this.#gpu, this.#options.tune ?? "auto")) {
        const onProgress = (part: string, done: number, total: number) =>
          tell({ what: "tuning", done, total }, `tuning ${part}`);
        await tuneMissing(this.#model, shape, { signal, onProgress });
      }
      await warmUp(this.#model, shape, { signal, onProgress: tell });
    } catch (error) {
      throw toRequestError(error);
    } finally {
      this.#warming = undefined;
      place.leave();
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new DOMException("The runtime was closed", "AbortError"));
    // A run that is between two steps notices the signal before it touches the device again.
    await this.#gpu.idle().catch(() => {});
    await Refinements.of(this.#gpu).end();
    this.#model.memory.destroy();
    this.#gpu.close();
  }

  #orClosing(signal?: AbortSignal): AbortSignal {
    const closing = this.#closing.signal;
    return signal ? AbortSignal.any([signal, closing]) : closing;
  }

  /** Waits until `place` has another position, and tells how far the warm-up is, if it is one that is waited for. */
  async *#moved(place: Place, from: number, signal: AbortSignal): AsyncGenerator<RunEvent, void, undefined> {
    const preparing = new Preparing(signal);
    const watcher = preparing.watch.onProgress!;
    this.#watchers.add(watcher);
    if (this.#warming) watcher(this.#warming);
    try {
      yield* preparing.during(place.moved(from, preparing.watch.signal));
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  async *#run(input: unknown, options: RunOptions): AsyncGenerator<RunEvent, void, undefined> {
    const pending = new PendingUpdate(options.updates);
    let request: GenerationRequest | undefined;
    let place: Place | undefined;
    try {
      request = parseGeneration(input);
      const asked = await toPipelineRequest(this.#model, request, {
        ...this.#options,
        embeddings: this.#embeddings,
        controls: this.#controls,
      });
      const signal = this.#orClosing(options.signal);
      signal.throwIfAborted();
      const begun = performance.now();
      place = new Place(this.#line);
      for (let { position } = place; position !== undefined; { position } = place) {
        yield { type: "queued", position };
        yield* this.#moved(place, position, signal);
      }
      const takeUpdate = () => {
        const update = pending.take();
        if (update?.prompt !== undefined) request = { ...request!, prompt: update.prompt };
        return update && toPipelineUpdate(update);
      };
      const wantsPreview = () => options.wants?.("preview") ?? true;
      const { client, priority } = options;
      for await (const event of generate(this.#model, asked, { signal, client, priority, takeUpdate, wantsPreview })) {
        yield toRunEvent(event, request, asked, begun);
      }
    } catch (error) {
      throw toRequestError(error);
    } finally {
      place?.leave();
      pending.stop();
    }
  }
}

function factsOf({ family }: LoadedModel): ModelFacts {
  const { facts, fewStep } = family;
  const { width, height, steps, guidanceScale } = facts.defaults;
  return {
    name: facts.name,
    ...(facts.description !== undefined && { description: facts.description }),
    defaultWidth: width,
    defaultHeight: height,
    defaultSteps: steps,
    defaultGuidanceScale: guidanceScale,
    fewStep: fewStep && { steps: fewStep.steps, guidanceScale: fewStep.guidanceScale },
  };
}

function stateOf(gpu: Gpu, { memory, stepper, turns }: LoadedModel): DeviceState {
  return {
    get lost() {
      return gpu.lost;
    },
    get memoryBytes() {
      return gpu.memory.bytes;
    },
    get peakMemoryBytes() {
      return gpu.memory.peakBytes;
    },
    get work() {
      return {
        batches: new Map(stepper.batches),
        turns: turns.count,
        waitMilliseconds: turns.waitMilliseconds,
        merges: memory.weightSets.merges,
        evictions: memory.budget.evictions,
      };
    },
  };
}

/** A change names only what it changes. */
function toPipelineUpdate({ prompt, negative_prompt, guidance_scale }: GenerationUpdate): PipelineUpdate {
  return {
    ...(prompt !== undefined && { prompt }),
    ...(negative_prompt !== undefined && { negativePrompt: negative_prompt }),
    ...(guidance_scale !== undefined && { guidanceScale: guidance_scale }),
  };
}

/**
 * Errors about the request name its field; all others pass through. Weights of the model that cannot be read again are the
 * server's fault.
 */
function toRequestError(error: unknown): unknown {
  if (error instanceof PipelineError) return new RequestError(error.field, error.reason);
  if (error instanceof WeightsError) {
    return new FaultError({ code: error.code, status: 500, message: error.message }, { cause: error });
  }
  return error;
}
