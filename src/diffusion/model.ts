/**
 * The interface between the diffusion loop and a kind of model. UNets, text encoders and checkpoints are a family's business
 * (`src/families`).
 */

import type { Plan } from "../graph/plan.ts";
import type { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { ComponentId, ComponentSpec } from "../memory/component.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import type { FileAt, ModelFiles } from "../platform/model-files.ts";
import type { PromptSyntax } from "../text/prompt-syntax.ts";
import type { ResolveOptions } from "../weights/lora.ts";
import type { ControlNetwork, ImageEncoderFolder } from "./control.ts";
import type { LatentRgb, LatentSize, PictureCoder } from "./latents.ts";
import type { MaskedPicture } from "./mask.ts";
import type { PipelineRequest, RunShape, SchedulerChoice } from "./request.ts";
import type { Schedule, StepRow } from "./schedulers/schedule.ts";

/** The shape that a step's plan is made for. A family adds fields that its network depends on, such as tokens of text. */
export interface StepShape extends LatentSize {
  /** Pictures that take the step together. */
  readonly slots: number;
  /** Rows of the network for each picture: 2 with classifier-free guidance, `[negative…, positive…]`, else 1. */
  readonly branches: number;
  readonly [part: string]: number | string | boolean;
}

/** A step of a slot's schedule. */
export interface StepPlace {
  readonly rows: readonly StepRow[];
  readonly index: number;
  /** True if it is the slot's first in this plan. */
  readonly joins: boolean;
}

/** The network that predicts, in each step, the noise, the clean latents or the velocity. */
export interface StepModel<Conditioning = unknown> {
  /** Names its plans: `unet`. */
  readonly part: string;
  /** True if it reads a mask and the masked picture's latents beside the latents, as inpainting UNets do. */
  readonly readsMask?: boolean;
  /** Components whose weights it reads. */
  needs(shape: StepShape): readonly ComponentId[];
  /** The part of the shape beside the latents' size: guidance, chunks of text, further networks. */
  shape(request: RunShape): { readonly branches: 1 | 2; readonly [part: string]: number | string | boolean };
  /**
   * Records the network. Row `branch · slots + slot` of the batch is a branch of a slot.
   * @param sample `[slots · branches, h, w, channels]`
   * @returns the prediction, of the same shape
   */
  predict(g: Recorder, shape: StepShape, sample: Tensor): Tensor;
  /** Writes what a slot's picture is to show. */
  writeConditioning(plan: Plan, shape: StepShape, slot: number, conditioning: Conditioning): Promise<void>;
  /** Writes the mask and the masked picture's latents of a slot, if the network `readsMask`. */
  writeMasked?(plan: Plan, shape: StepShape, slot: number, picture: MaskedPicture): Promise<void>;
  /** Writes what the network reads of a slot's step. Steps come one after the other, the first of a slot in a plan `joins`. */
  writeTimestep(plan: Plan, shape: StepShape, slot: number, step: StepPlace, conditioning?: Conditioning): void;
}

/** From latents to pictures and back. */
export interface PictureModel {
  readonly full: PictureCoder;
  /** A tiny decoder for previews beside a full one. */
  readonly tiny?: PictureCoder;
  /** The linear map to RGB, for the cheapest previews. */
  readonly linear?: LatentRgb;
}

/** Facts that the makers of a model state, or that are usual for its family. */
export interface ModelFacts {
  readonly name: string;
  readonly family: string;
  /** The kind of a checkpoint in one file, in words. */
  readonly description?: string;
  readonly defaults: {
    /** Pixels. */
    readonly width: number;
    readonly height: number;
    readonly steps: number;
    readonly guidanceScale: number;
  };
}

/** A LoRA in the model's folder with which a few unguided steps are enough, such as `train/distill.py` makes. */
export interface FewStep {
  /** The LoRA's file, among those of the model. */
  readonly path: string;
  readonly files: ModelFiles;
  readonly steps: number;
  readonly guidanceScale: number;
  /** The scheduler that it was taught with. */
  readonly scheduler: SchedulerChoice;
}

/** A LoRA in the model's folder for pictures larger than its own, such as `train/train_large.py` makes. */
export interface Large {
  /** The LoRA's file, among those of the model. */
  readonly path: string;
  readonly files: ModelFiles;
  /** Pictures of as many pixels are nearer, as a ratio, to what it was taught than to what the model was. */
  readonly fromPixels: number;
}

/** The tools of `encode`. */
export interface Encoders {
  /** Plans of the text encoders, in their order; left out: those of `FamilyModel.encoders`. */
  plans(specs?: readonly PlanSpec[]): Promise<readonly Plan[]>;
  /** The result of `make`, kept for the next time. `key` is all that it depends on beside the weights. */
  remember<T extends object>(key: readonly (string | number)[], make: () => Promise<T>): Promise<T>;
  /**
   * The result of `make`, which reads a picture with the plan of `spec`, kept for the next time. `key` is all that it depends on beside
   * the plan and its weights.
   */
  picture<T extends EncodedPicture>(
    spec: PlanSpec,
    key: readonly (string | number)[],
    make: (plan: Plan) => Promise<T>,
  ): Promise<T>;
}

/** Something that was read from a picture, and the bytes that it takes on the host. */
export interface EncodedPicture {
  readonly bytes: number;
}

/** A model of some family: its configuration read and checked, nothing of it on a device. */
export interface FamilyModel<Conditioning = unknown> {
  readonly facts: ModelFacts;
  /** In the order in which they are loaded. */
  readonly components: readonly ComponentSpec[];
  readonly latent: { readonly channels: number /** Pixels of a side for one latent. */; readonly downscale: number };
  readonly step: StepModel<Conditioning>;
  readonly picture: PictureModel;
  /** The plans that `encode` runs. */
  readonly encoders: readonly PlanSpec[];
  readonly fewStep?: FewStep;
  readonly large?: Large;
  /** How names in LoRA files are read. */
  readonly resolve?: ResolveOptions;
  /**
   * Opens a network to stand beside the denoiser, `id` among all that are opened; absent if the family has none.
   * @param source a folder's files, a file, or the path of either
   * @param encoders of pictures, that an IP-Adapter may read by: the first that fits
   * @throws WeightsError, ModelConfigError: it is no such network, or one for another kind of model
   */
  openControl?(
    source: ModelFiles | FileAt | string,
    id: ComponentId,
    encoders?: readonly ImageEncoderFolder[],
  ): Promise<ControlNetwork>;
  /** @throws SchedulerError naming the option that has no schedule */
  schedule(request: PipelineRequest): Schedule;
  /** Words, sizes, guidance: all that conditions the steps of a request. */
  encode(request: PipelineRequest, shape: StepShape, encoders: Encoders): Promise<Conditioning>;
  /** Tokens of a prompt, begin and end marks included. */
  countTokens(prompt: string, syntax?: PromptSyntax): number;
  /** Warnings about a prompt, such as a prompt that is too long. */
  promptWarnings(prompt: string, kind: PromptKind, reading?: PromptReading): Promise<string[]>;
}

/** The part of a request that says how its prompts are read. */
export type PromptReading = Pick<PipelineRequest, "promptSyntax" | "embeddings">;

/** Which of a request's two texts; so warnings name it. */
export type PromptKind = "prompt" | "negative prompt";
