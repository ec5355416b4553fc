/**
 * The runtime: a model on a device, and runs of it as generators of events.
 *
 * Requests are checked here, wait for their turn, and are handed to the diffusion pipeline; its steps become the events
 * of `events.ts`. Encoding pictures and speaking to clients is for whoever pulls.
 */

import { Preparing } from "../diffusion/preparing.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { limitOf } from "../diffusion/room.ts";
import { generate } from "../diffusion/run.ts";
import { warmUp } from "../diffusion/warm-up.ts";
import type { AdapterFacts } from "../gpu/adapter-facts.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import { Refinements } from "../graph/compile/refinement.ts";
import type { Preparation } from "../memory/preparation.ts";
import type { PromptSyntax } from "../text/prompt-syntax.ts";
import { onCanvas } from "./canvas.ts";
import type {
  DeviceState,
  ModelChange,
  ModelFacts,
  ModelState,
  RunOptions,
  Runtime,
  RuntimeOptions,
  Tune,
  WarmUpShape,
} from "./contract.ts";
import { ControlFolder, checkControlFolder } from "./control-files.ts";
import { costOf } from "./cost.ts";
import { checkEmbeddingFolder, EmbeddingFolder } from "./embedding-files.ts";
import { RequestError } from "./errors.ts";
import type { RunEvent } from "./events.ts";
import { checkLoraFolder, listLoras } from "./lora-files.ts";
import type { Claim } from "./model-claim.ts";
import { type ModelLease, Models, type ServedModel } from "./models.ts";
import { openModels } from "./open-models.ts";
import { PendingUpdate } from "./pending-update.ts";
import { toPipelineRequest, toPipelineUpdate } from "./pipeline-request.ts";
import { Place, RUNS_AT_ONCE } from "./place.ts";
import { preprocess } from "./preprocessing.ts";
import type { GenerationRequest, ImageToImageInput, TextToImageInput } from "./request.ts";
import { parseGeneration } from "./request-parsing.ts";
import { toRequestError } from "./run-errors.ts";
import { toRunEvent } from "./run-events.ts";
import { tuneMissing } from "./tuning.ts";
import { rememberedChoice } from "./tuning-cache.ts";

export { builtInModel } from "./open-models.ts";

/**
 * Milliseconds for which runs of models that are on the device pass one whose model does not find room: a few switches'
 * time, so that the device does not change models with each request.
 */
const PATIENCE_MS = 2_000;

/**
 * Opens models, a GPU, and loads onto it the default model and those that are to be there from the start.
 * @throws AdapterError if there is no such adapter
 * @throws WeightsError, ModelConfigError, TokenizerError, SchedulerError for a folder that is not a model we can run
 * @throws MemoryLimitError for a model that cannot be run within `maxGpuMemory`
 */
export async function createRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  // Files that are no models are refused before a GPU is opened.
  const opened = await openModels(options);
  await checkLoraFolder(options.loraFolder);
  await checkEmbeddingFolder(options.embeddingFolder);
  await checkControlFolder(options.controlFolder);
  const gpu = await openGpu({ adapter: options.adapter, gpu: options.gpu, maxBytes: options.maxGpuMemory });
  let runtime: ModelRuntime | undefined;
  let isStarting = true;
  try {
    const models = new Models(opened, {
      gpu,
      precision: precisionOn(gpu, options.precision ?? "auto"),
      choose: await rememberedChoice(gpu.facts),
      // A model that comes later is told of to those who wait for it.
      onProgress: (progress) => isStarting && options.onProgress?.(progress),
      restore: (model) => runtime?.bring(model),
    });
    runtime = new ModelRuntime(gpu, models, options);
    await runtime.bringAll();
    isStarting = false;
    return runtime;
  } catch (error) {
    if (runtime) await runtime.close();
    else gpu.close();
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
  readonly #models: Models;
  readonly #options: RuntimeOptions;
  readonly #embeddings: EmbeddingFolder | undefined;
  readonly #controls: ControlFolder | undefined;
  readonly #line: ReturnType<typeof Place.line>;
  readonly #closing = new AbortController();
  /** How far the warm-up is that is going on, and those who are told. */
  #warming: Preparation | undefined;
  readonly #watchers = new Set<(progress: Preparation) => void>();
  /** Models that are being brought without a request. */
  readonly #bringing = new Set<Promise<void>>();

  constructor(gpu: Gpu, models: Models, options: RuntimeOptions) {
    this.#gpu = gpu;
    this.#models = models;
    this.#options = options;
    this.#embeddings = options.embeddingFolder === undefined ? undefined : new EmbeddingFolder(options.embeddingFolder);
    this.#controls = options.controlFolder === undefined ? undefined : new ControlFolder(options.controlFolder);
    this.adapter = gpu.facts;
    this.model = models.default.facts;
    this.device = stateOf(gpu, models);
    const wanted = options.runsAtOnce ?? RUNS_AT_ONCE;
    if (gpu.maxBytes === undefined) {
      this.runsAtOnce = wanted;
      this.#line = Place.line({ concurrency: wanted });
    } else {
      // The parts of a run take turns on the device, and those of two of one model would not fit beside each other.
      this.runsAtOnce = this.#areSeveral ? wanted : 1;
      const bounds = { ofClient: 1, maxWorkingBytes: gpu.maxBytes, patienceMs: PATIENCE_MS };
      this.#line = Place.line({ concurrency: this.runsAtOnce, ...bounds });
    }
  }

  get models(): readonly ModelState[] {
    return this.#models.states;
  }

  watchModels(listener: (change: ModelChange) => void): () => void {
    return this.#models.watch(listener);
  }

  textToImage(input: TextToImageInput, options: RunOptions = {}): AsyncGenerator<RunEvent, void, undefined> {
    return this.#run(input, options);
  }

  imageToImage(input: ImageToImageInput, options: RunOptions = {}): AsyncGenerator<RunEvent, void, undefined> {
    return this.#run(input, options);
  }

  countTokens(text: string, model?: string): number {
    return this.#models.named(model).family.countTokens(text, this.#options.promptSyntax);
  }

  async promptWarnings(
    prompt: string,
    syntax: PromptSyntax = this.#options.promptSyntax ?? "plain",
    model?: string,
  ): Promise<readonly string[]> {
    const embeddings = await this.#embeddings?.in([prompt], syntax);
    return this.#models.named(model).family.promptWarnings(prompt, "prompt", { promptSyntax: syntax, embeddings });
  }

  async embeddings(): Promise<readonly string[]> {
    return (await this.#embeddings?.names()) ?? [];
  }

  async controls(): Promise<readonly string[]> {
    return (await this.#controls?.names()) ?? [];
  }

  async preprocess(...[input, options = {}]: Parameters<Runtime["preprocess"]>): ReturnType<Runtime["preprocess"]> {
    const signal = this.#orClosing(options.signal);
    const { model, release } = await this.#models.default.lease({ signal });
    try {
      return await preprocess(model, input, { ...options, signal });
    } finally {
      release();
    }
  }

  loras(): ReturnType<Runtime["loras"]> {
    return listLoras(this.#options.loraFolder);
  }

  async warmUp(shape: WarmUpShape = {}, options: Pick<RunOptions, "signal"> = {}): Promise<void> {
    const { model, ...size } = shape;
    const asked = model === undefined ? this.#models.all.filter(({ loaded }) => loaded) : [this.#models.named(model)];
    for (const one of asked) await this.#warmUp(one, size, this.#orClosing(options.signal));
  }

  /** Loads the default model and those that are to be there from the start, one after the other. */
  async bringAll(): Promise<void> {
    for (const model of this.#models.all) {
      if (model === this.#models.default || model.preload) await this.#bring(model);
    }
  }

  /** Loads a model if it finds room beside the others, some time later; if it cannot be loaded, its next request is told. */
  bring(model: ServedModel): void {
    const bringing = this.#bring(model).catch(() => {});
    this.#bringing.add(bringing);
    void bringing.then(() => this.#bringing.delete(bringing));
  }

  async close(): Promise<void> {
    this.#closing.abort(new DOMException("The runtime was closed", "AbortError"));
    await Promise.all(this.#bringing);
    // A run that is between two steps notices the signal before it touches the device again.
    await this.#gpu.idle().catch(() => {});
    await Refinements.of(this.#gpu).end();
    await this.#models.close();
    this.#gpu.close();
  }

  get #areSeveral(): boolean {
    return this.#models.all.length > 1;
  }

  async #bring(model: ServedModel): Promise<void> {
    const signal = this.#orClosing();
    const workingBytes = this.#gpu.maxBytes === undefined ? 0 : await model.claim.weightBytes();
    await this.#inPlace({ client: model.name, workingBytes: () => workingBytes }, signal, async () => {
      const isTight = this.#gpu.maxBytes !== undefined && this.#gpu.memory.bytes + workingBytes > this.#gpu.maxBytes;
      // Nobody has asked for it now, so it displaces nothing. A model larger than all memory takes turns with itself.
      if (isTight && this.#gpu.memory.bytes > 0) return;
      (await model.lease({ signal })).release();
    });
  }

  async #warmUp(served: ServedModel, size: Omit<WarmUpShape, "model">, signal: AbortSignal): Promise<void> {
    const { width, height, guidance_scale, num_images } = size;
    const { defaults } = served.family.facts;
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
    try {
      await this.#inPlace({ isAlone: true }, signal, async () => {
        const { model, release } = await served.lease({ signal });
        try {
          if (isToTune(this.#gpu, this.#options.tune ?? "auto")) {
            const onProgress = (part: string, done: number, total: number) =>
              tell({ what: "tuning", done, total }, `tuning ${part}`);
            if ((await tuneMissing(model, shape, { signal, onProgress })) > 0) {
              this.#models.useChoice(model.memory.choose, served);
            }
          }
          await warmUp(model, shape, { signal, onProgress: tell });
        } finally {
          release();
        }
      });
    } catch (error) {
      throw toRequestError(error);
    } finally {
      this.#warming = undefined;
    }
  }

  /** Does `work` in a place of its own. */
  async #inPlace(
    facts: ConstructorParameters<typeof Place>[1],
    signal: AbortSignal,
    work: () => Promise<void>,
  ): Promise<void> {
    const place = new Place(this.#line, facts);
    try {
      for (let { position } = place; position !== undefined; { position } = place) await place.moved(position, signal);
      await work();
    } finally {
      place.leave();
    }
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
    let lease: ModelLease | undefined;
    let ended: ((cost: number) => void) | undefined;
    let done = 0; // of its steps, as a share
    try {
      request = parseGeneration(input);
      const served = this.#models.named(request.model);
      const asked = await toPipelineRequest(served, request, {
        ...this.#options,
        embeddings: this.#embeddings,
        controls: this.#controls,
      });
      const signal = this.#orClosing(options.signal);
      signal.throwIfAborted();
      const begun = performance.now();
      const claim = await this.#claimOf(served, asked);
      const cost = costOf(request, served.facts) * served.pace.msPerCost;
      place = new Place(this.#line, {
        cost,
        ...(claim && { client: served.name, workingBytes: () => served.bytesOf(claim) }),
      });
      for (let { position } = place; position !== undefined; { position } = place) {
        options.onPhase?.("wait");
        yield { type: "queued", position, ...secondsBefore(place, served) };
        yield* this.#moved(place, position, signal);
        options.onPhase?.("compile");
      }
      lease = served.loaded ? await served.lease({ signal }) : yield* this.#load(served, signal);
      if (claim) await served.makeRoomFor(claim);
      ended = served.measure();
      const takeUpdate = () => {
        const update = pending.take();
        if (update?.prompt !== undefined) request = { ...request!, prompt: update.prompt };
        return update && toPipelineUpdate(update);
      };
      const wantsPreview = () => options.wants?.("preview") ?? true;
      const { client, priority, onPhase } = options;
      const running = { signal, client, priority, onPhase, takeUpdate, wantsPreview };
      for await (const event of onCanvas(asked.canvas, generate(lease.model, asked, running))) {
        if (event.type === "step") done = event.step / event.steps;
        yield toRunEvent(lease.model, event, request, asked, begun);
      }
    } catch (error) {
      throw toRequestError(error);
    } finally {
      if (request) ended?.(done * costOf(request, this.#models.named(request.model).facts));
      lease?.release();
      place?.leave();
      pending.stop();
    }
  }

  /** Under a limit of memory, runs of several models are admitted by what they take. */
  async #claimOf(served: ServedModel, asked: PipelineRequest): Promise<Claim | undefined> {
    if (this.#gpu.maxBytes === undefined || !this.#areSeveral) return undefined;
    return served.claim.of(asked, this.#models.choose);
  }

  /** Brings a model onto the device, and tells how far that is. */
  async *#load(served: ServedModel, signal: AbortSignal): AsyncGenerator<RunEvent, ModelLease, undefined> {
    const preparing = new Preparing(signal);
    const leasing = served.lease(preparing.watch);
    let isTaken = false;
    try {
      const lease = yield* preparing.during(leasing);
      isTaken = true;
      return lease;
    } catch (error) {
      if (!(error instanceof MemoryLimitError)) throw error;
      throw new RequestError("model", `${JSON.stringify(served.name)} does not fit into ${limitOf(error)}`);
    } finally {
      if (!isTaken) leasing.then(({ release }) => release()).catch(() => {});
    }
  }
}

/** Seconds until a run's turn, about, with the loading of its model; nothing if no run of the model has been measured. */
function secondsBefore(place: Place, { pace, loaded, loadMs = 0 }: ServedModel): { seconds?: number } {
  if (!pace.isKnown) return {};
  return { seconds: Math.ceil((place.waitMs + (loaded ? 0 : loadMs)) / 1000) };
}

function stateOf(gpu: Gpu, models: Models): DeviceState {
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
      return models.work;
    },
  };
}
