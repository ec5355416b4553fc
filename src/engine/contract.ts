/**
 * The runtime as others see it: what the command line, the server and a program that embeds Daguerre may rely on.
 * Types only; `runtime.ts` is the implementation.
 */
import type { RunPhase } from "../diffusion/request.ts";
import type { Family } from "../families/family.ts";
import type { AdapterFacts } from "../gpu/adapter-facts.ts";
import type { AdapterChoice } from "../gpu/drivers/adapter.ts";
import type { Priority } from "../line/priority.ts";
import type { ModelFiles } from "../platform/model-files.ts";
import type { PromptSyntax } from "../text/prompt-syntax.ts";
import type { RunEvent } from "./events.ts";
import type { PreprocessInput } from "./preprocessors.ts";
import type { GenerationUpdate, ImageToImageInput, TextToImageInput } from "./request.ts";

/** A model among several that a runtime serves. */
export interface ModelSource {
  /** The path of a folder in diffusers layout or of a checkpoint in one file, or a folder's files wherever they lie. */
  readonly model: ModelFiles | string;
  /** Which of several saved weights to take, such as `fp16`. */
  readonly variant?: string;
  /** A VAE in place of the model's own: its files, or the path of its folder or file. */
  readonly vae?: ModelFiles | string;
  /** An AutoencoderTiny (TAESD) to decode previews with: its files, or the path of its folder or file. */
  readonly tinyAutoencoder?: ModelFiles | string;
  /** Seconds without a request after which it leaves the device; left out: as `keepAlive` of the runtime. */
  readonly keepAlive?: number;
  /** True if it is loaded at the start, and not with its first request. */
  readonly preload?: boolean;
}

/** How a runtime is made. */
export interface RuntimeOptions {
  /**
   * A model: the path of a folder in diffusers layout or of a checkpoint in one file, the name of one that was pulled
   * from a hub (`owner/name`), or a folder's files wherever they lie;
   * left out: the first of `models`, or without any the built-in model. Beside `models` it is one more of them, and the one
   * that a request without `model` means.
   */
  readonly model?: ModelFiles | string;
  /**
   * Models by the names under which requests ask for them. They share the device and its memory: one is loaded when a
   * request needs it, and idle ones give way, the longest unused first.
   */
  readonly models?: Readonly<Record<string, ModelSource>>;
  /**
   * A folder of models: each folder and each checkpoint in one file in it is one, under its name without the ending. Those
   * that cannot be opened are left out, and `onNote` is told why.
   */
  readonly modelFolder?: string;
  /** Seconds without a request after which a model leaves the device; left out: it stays until another needs the room. */
  readonly keepAlive?: number;
  /** Names of models that are loaded at the start, besides the default and those that say so. */
  readonly preload?: readonly string[];
  /** Told of what is odd about the models, in sentences. */
  readonly onNote?: (note: string) => void;
  readonly adapter?: AdapterChoice;
  /** The embedding program's own `GPU` or `GPUDevice` (see `deviceDescriptor`); `adapter` is not looked at then. */
  readonly gpu?: GPU | GPUDevice;
  /** How weights, and on a hardware GPU activations, are stored; `auto` is f16 where the adapter computes with it. */
  readonly precision?: Precision;
  /**
   * Bytes of device memory that may be used; left out: all there are. Where they are fewer than the model takes, its
   * components take turns on the device, at the price of loading them again for each run.
   */
  readonly maxGpuMemory?: number;
  /**
   * Runs that go on at the same time; others wait. Default: 13, of which eight may share a step. Under `maxGpuMemory` it is
   * one for each model, since the parts of two would not fit beside each other; those of two models go on at once if both fit.
   */
  readonly runsAtOnce?: number;
  /**
   * True if the first `warmUp` on an adapter times the kernels that could do each operation, and has this and later
   * runtimes use the fastest; it takes from seconds to minutes, once. `auto` (also where left out): on hardware
   * adapters with all of their memory; on software adapters the rules were measured. The choices of `daguerre tune` are
   * used in any case.
   */
  readonly tune?: Tune;
  /** Which of several saved weights to take, such as `fp16`. */
  readonly variant?: string;
  /** A VAE in place of the model's own: its files, or the path of its folder or file. */
  readonly vae?: ModelFiles | string;
  /** An AutoencoderTiny (TAESD) to decode previews with: its files, or the path of its folder or file. */
  readonly tinyAutoencoder?: ModelFiles | string;
  /** Kinds of models to choose from by the folder's content; left out: all that come with the package. */
  readonly families?: readonly Family[];
  /** The folder whose LoRA files, at any depth, a request may name. */
  readonly loraFolder?: string;
  /** The folder whose files of textual inversion, at any depth, a prompt may name. */
  readonly embeddingFolder?: string;
  /** The folder whose ControlNets and adapters, at any depth, a request may name. */
  readonly controlFolder?: string;
  /** How prompts are read unless a request says so; left out: plain. */
  readonly promptSyntax?: PromptSyntax;
  /** Told of what is done while the model is loaded, and later by `warmUp`. */
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** The work that is being done: bytes of weights, of one component after the other; shapes that are timed; kernels. */
export interface LoadProgress {
  /** The component's name, as `unet`, or `tuning unet`, or `kernels`; `weights` that come back for the kernels. */
  readonly what: string;
  readonly done: number;
  readonly total: number;
}

/** A request in what decides which kernels and how much memory it takes; what is left out is the model's default. */
export interface WarmUpShape {
  readonly width?: number;
  readonly height?: number;
  readonly guidance_scale?: number;
  readonly num_images?: number;
  readonly model?: string;
}

export type Precision = "auto" | "f32" | "f16";
export type Tune = "auto" | "on" | "off";

/** The model a runtime has loaded. */
export interface ModelFacts {
  readonly name: string;
  /** The kind of a checkpoint in one file, in words. */
  readonly description?: string;
  /** Pixels, what a request without `width` and `height` gets. */
  readonly defaultWidth: number;
  readonly defaultHeight: number;
  /** Denoising steps, what a request without `num_inference_steps` gets. */
  readonly defaultSteps: number;
  /** The guidance scale of a request without one. */
  readonly defaultGuidanceScale: number;
  /** Defaults of a request with `few_step`; undefined if the model has no few-step variant. */
  readonly fewStep?: { readonly steps: number; readonly guidanceScale: number };
}

/** A model that a runtime serves, as it stands at this moment. */
export interface ModelState extends ModelFacts {
  /** A request that names no model means this one. */
  readonly isDefault: boolean;
  readonly state: "loaded" | "loading" | "absent";
  /** Bytes that it and its plans take on the device. */
  readonly bytes: number;
  /** Seconds without a request after which it leaves the device; undefined: it stays until another needs the room. */
  readonly keepAlive?: number;
  /** It is loaded at the start. */
  readonly preload: boolean;
  /** How often it was loaded, and how often it gave way to another or left after `keepAlive`. */
  readonly loads: number;
  readonly evictions: number;
}

/** A change of what is on the device. */
export interface ModelChange {
  readonly model: string;
  readonly change: "loaded" | "load failed" | "load cancelled" | "evicted" | "expired";
  /** Milliseconds that the loading took. */
  readonly ms?: number;
  /** Bytes that it took on the device before it left, or takes now. */
  readonly bytes?: number;
  readonly error?: unknown;
}

export interface RunOptions {
  /** Aborting stops the run before its next step, or before the next kernel that is compiled for it. */
  readonly signal?: AbortSignal;
  /** The client for whom it is: the device's time is shared fairly between clients. Left out: one of its own. */
  readonly client?: string;
  /** Realtime requests come before others, and detached ones behind them. Default: `stream`. */
  readonly priority?: Priority;
  /** Changes to the request (see `parseUpdate`), read from the beginning; the run goes on with them from its next step. */
  readonly updates?: AsyncIterable<GenerationUpdate>;
  /** True if a preview that is due would be looked at; if not, it is not decoded. Default: always. */
  readonly wants?: (slot: "preview") => boolean;
  /** Hears which part of the run begins, so that whoever watches it knows how long it may be silent. */
  readonly onPhase?: (phase: RunPhase) => void;
}

/** How the device stands at this moment. */
export interface DeviceState {
  /** The device was lost and nothing more can run on it. */
  readonly lost: boolean;
  /** Bytes that the model and its plans hold on the device. */
  readonly memoryBytes: number;
  readonly peakMemoryBytes: number;
  /** The work that it has done so far. */
  readonly work: DeviceWork;
}

export interface DeviceWork {
  /** Replays of a step, by the number of pictures that shared them. */
  readonly batches: ReadonlyMap<number, number>;
  /** Turns on the device (a step, a prompt, a picture), and the milliseconds for which they were waited for. */
  readonly turns: number;
  readonly waitMilliseconds: number;
  /** Weight sets that were merged from LoRAs. */
  readonly merges: number;
  /** Plans and merged weight sets that gave way to others. */
  readonly evictions: number;
}

export interface Runtime {
  readonly adapter: AdapterFacts;
  /** The model that a request means which names none. */
  readonly model: ModelFacts;
  /** All models, the default first. */
  readonly models: readonly ModelState[];
  readonly device: DeviceState;
  /** Runs that go on at the same time; others wait. Those that can share the steps of one batch do. */
  readonly runsAtOnce: number;
  /**
   * Compiles what text-to-image of this shape takes and runs each kernel once, so that the first request does not wait for
   * it; before that it tunes what was never timed on this adapter, where `tune` says so. It does so for `shape.model`, or
   * for each model that is loaded. Takes its turn among the runs. An abort ends it before the next kernel.
   * @throws RequestError where the shape cannot be run; GPU errors; the signal's reason
   */
  warmUp(shape?: WarmUpShape, options?: Pick<RunOptions, "signal">): Promise<void>;
  /**
   * Tokens of a prompt as the text encoder of a model counts them, its begin and end marks included. Here and below, `model`
   * is a name of `models`; left out: the default.
   */
  countTokens(text: string, model?: string): number;
  /** Calls `listener` when a model has come or gone, until the function is called that this returns. */
  watchModels(listener: (change: ModelChange) => void): () => void;
  /** The names of the LoRAs in `loraFolder`, and what is odd about its files, as it is now. */
  loras(): Promise<{ readonly names: readonly string[]; readonly notes: readonly string[] }>;
  /** Sentences that the author of a prompt should read before a run: of words that the model does not know or does not read. */
  promptWarnings(prompt: string, syntax?: PromptSyntax, model?: string): Promise<readonly string[]>;
  /** The names of the embeddings in `embeddingFolder`, as it is now. */
  embeddings(): Promise<readonly string[]>;
  /** The names of the ControlNets and adapters in `controlFolder`, as it is now. */
  controls(): Promise<readonly string[]>;
  /**
   * The picture that a preprocessor makes for a ControlNet, RGBA8.
   * @throws RequestError naming the field at fault; the signal's reason
   */
  preprocess(
    input: PreprocessInput,
    options?: Pick<RunOptions, "signal" | "client">,
  ): Promise<{ readonly width: number; readonly height: number; readonly rgba: Uint8Array }>;
  /** @throws RequestError, from the first `next()`, when the input cannot be run */
  textToImage(input: TextToImageInput, options?: RunOptions): AsyncGenerator<RunEvent, void, undefined>;
  /** @throws RequestError, from the first `next()`, when the input cannot be run */
  imageToImage(input: ImageToImageInput, options?: RunOptions): AsyncGenerator<RunEvent, void, undefined>;
  /** Ends what is running and gives the device back. */
  close(): Promise<void>;
}
