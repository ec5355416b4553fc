/** Requests to the pipeline, and its events. Requests of clients are another thing (`src/engine/request.ts`). */

import type { Priority } from "../line/priority.ts";
import type { LoraRequest } from "../memory/weight-sets.ts";
import type { TextEmbedding } from "../text/embeddings.ts";
import type { PromptSyntax } from "../text/prompt-syntax.ts";
import type { ControlUse } from "./control.ts";
import type { Pixels } from "./latents.ts";
import type { Mask } from "./mask.ts";
import type { NoiseGenerator } from "./noise.ts";
import type { PreparingEvent } from "./preparing.ts";
import type { SigmaSchedule } from "./schedulers/sigma-schedules.ts";
import type { TimestepSpacing } from "./schedulers/timesteps.ts";

/** The request cannot be run on this model. `field` is the request's field at fault. Safe to show to a client. */
export class PipelineError extends Error {
  override readonly name = "PipelineError";
  readonly code = "pipeline";
  readonly field: string;
  /** The message without the field. */
  readonly reason: string;

  constructor(field: string, reason: string, options?: ErrorOptions) {
    super(`${field}: ${reason}`, options);
    this.field = field;
    this.reason = reason;
  }
}

export type Decoder = "linear" | "tiny" | "full";

/** A scheduler by its class in diffusers; `config` where it is not the model's own configuration. */
export interface SchedulerChoice {
  readonly className: string;
  readonly config?: Readonly<Record<string, unknown>>;
  /** Fields laid over the configuration. */
  readonly changes?: Readonly<Record<string, unknown>>;
}

export interface PipelineRequest {
  readonly prompt: string;
  /** Warnings from the making of this request: they stand first among the result's. */
  readonly warnings?: readonly string[];
  /** Empty: no negative prompt. */
  readonly negativePrompt?: string;
  /** For the second text encoder, if there is one; left out: the same. */
  readonly prompt2?: string;
  readonly negativePrompt2?: string;
  /** How prompts are read; left out: plain. */
  readonly promptSyntax?: PromptSyntax;
  /** Layers of the text encoders to leave out, beyond those that the family leaves out. */
  readonly clipSkip?: number;
  /** Those of textual inversion that the prompts name. */
  readonly embeddings?: readonly TextEmbedding[];
  /** True if zeros stand for an empty negative prompt; left out: as the model was trained. */
  readonly zeroNegativePrompt?: boolean;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidanceScale: number;
  readonly seed: number | bigint;
  /** The generator of a seed's noise: `torch.Generator("cpu")`, as diffusers' examples have it, `"cuda"`, or another. */
  readonly generator?: "cpu" | "cuda" | NoiseGenerator;
  readonly images?: number;
  /** Another seed whose noise is mixed into the start's, and its share, 0..1. */
  readonly subseed?: number | bigint;
  readonly subseedStrength?: number;
  /** Pixels `[height, width]` of the picture whose start noise is pasted into the middle of this one's. */
  readonly seedResizeFrom?: readonly [number, number];
  readonly loras?: readonly LoraRequest[];
  /** With the model's few-step variant, and `loras` besides. */
  readonly fewStep?: boolean;
  /** Another scheduler than the model's own. */
  readonly scheduler?: SchedulerChoice;
  /** Instead of that of the scheduler's configuration. */
  readonly timestepSpacing?: TimestepSpacing;
  /** How noise levels are spaced, instead of as the scheduler's configuration says. */
  readonly sigmaSchedule?: SigmaSchedule;
  /** Noise levels, or timesteps, one a step, instead of a spacing; levels with the one that the run ends at, mostly 0. */
  readonly sigmas?: readonly number[];
  readonly timesteps?: readonly number[];
  /** η of DDIM and TCD. */
  readonly eta?: number;
  /** How much of the guided prediction has the deviation of the unguided one given back, 0..1 (Lin et al. 2023, section 3.4). */
  readonly guidanceRescale?: number;
  /** Start from this picture (of the request's size), and how much of it to draw anew, 0..1. */
  readonly image?: Pixels;
  readonly strength?: number;
  /** Draw anew only this part of the picture; of the request's size. */
  readonly mask?: Mask;
  /**
   * The part of the schedule to run, 0..1 in training timesteps, as SDXL's base and refiner share it: from `denoisingStart`
   * on, whatever the strength, and to `denoisingEnd`, which leaves noise in the latents.
   */
  readonly denoisingStart?: number;
  readonly denoisingEnd?: number;
  /** Start from these latents, `[n, c, h, w]`, as they are at the first step, instead of from noise or a picture. */
  readonly latents?: Float32Array;
  /** Networks beside the denoiser, with a picture each (ControlNet and its like). */
  readonly controls?: readonly ControlUse[];
  /** Steps between previews; 0: none. */
  readonly previewEvery?: number;
  readonly previewDecoder?: Decoder | "auto";
  /** SDXL's size conditions, `[height, width]` and `[top, left]`; default: the picture's own size, uncropped. */
  readonly sizes?: {
    readonly original?: readonly [number, number];
    readonly crop?: readonly [number, number];
    readonly target?: readonly [number, number];
  };
  /** Aesthetic scores, in place of the target size, of SDXL's refiner. */
  readonly aestheticScore?: number;
  readonly negativeAestheticScore?: number;
}

export type PipelineEvent =
  | PreparingEvent
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
      /** Final latents, `[n, c, h, w]`; to be called before the next event is asked for. */
      readonly latents: () => Promise<Float32Array>;
      /** Milliseconds spent in each phase. */
      readonly timings: Readonly<Record<"prompt" | "start" | "denoise" | "preview" | "decode" | "total", number>>;
      readonly warnings: readonly string[];
    };

/** The fields that may change between two steps. */
export type PipelineUpdate = Partial<Pick<PipelineRequest, "prompt" | "negativePrompt" | "guidanceScale">>;

/**
 * A part of a run. In a step, and while words are encoded or a picture is decoded, it has the device; before each of them it
 * waits for its turn.
 */
export type RunPhase = "compile" | "wait" | "first-step" | "step" | "encode";

export interface PipelineOptions {
  /** Hears which part begins. */
  readonly onPhase?: (phase: RunPhase) => void;
  readonly signal?: AbortSignal;
  /** The client for whom it is: turns on the device are fair between clients. Left out: one of its own. */
  readonly client?: string;
  /** Default: `stream`. */
  readonly priority?: Priority;
  /** Asked before each step for changes since; the latents stay, so the picture turns towards the new words. */
  readonly takeUpdate?: () => PipelineUpdate | undefined;
  /** True if anybody would look at a preview now; left out: yes. */
  readonly wantsPreview?: () => boolean;
}

/** The part of a request that decides which plans it needs; a warm-up knows no more than sizes and guidance. */
export type RunShape = Pick<PipelineRequest, "width" | "height" | "guidanceScale" | "images"> &
  Partial<PipelineRequest>;
