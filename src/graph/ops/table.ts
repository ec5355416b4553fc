/** All operations. A new one is a file of this folder, a line here, and a method of `Recorder` if models call it. */

import type { Dispatch, Target } from "../dispatch.ts";
import type { Parameter, Tensor } from "../tensor.ts";
import { type AddScaled, addScaledKind } from "./add-scaled.ts";
import { type Attention, attentionKind } from "./attention.ts";
import { type AveragePool, averagePoolKind } from "./average-pool.ts";
import { type Concatenate, concatenateKind } from "./concatenate.ts";
import { type Convolution, convolutionKind } from "./convolution.ts";
import { type FiniteCheck, finiteCheckKind } from "./diffusion/finite-check.ts";
import { type GuidanceRescale, guidanceRescaleKind } from "./diffusion/guidance-rescale.ts";
import { type LatentToRgb, latentToRgbKind } from "./diffusion/latent-to-rgb.ts";
import { type MaskBlend, maskBlendKind } from "./diffusion/mask-blend.ts";
import { type ModelInput, modelInputKind } from "./diffusion/model-input.ts";
import { type PackPicture, packPictureKind } from "./diffusion/pack-picture.ts";
import { type PhiloxNormals, philoxNormalsKind } from "./diffusion/philox-normals.ts";
import { type SchedulerStep, schedulerStepKind } from "./diffusion/scheduler-step.ts";
import { type Elementwise, elementwiseKind } from "./elementwise.ts";
import { type Embedding, embeddingKind } from "./embedding.ts";
import { type GatherRows, gatherRowsKind } from "./gather-rows.ts";
import { type Geglu, gegluKind } from "./geglu.ts";
import { type GroupNormApply, type GroupNormStats, groupNormApplyKind, groupNormStatsKind } from "./group-norm.ts";
import { type JoinTokens, joinTokensKind } from "./join-tokens.ts";
import type { OperationKind } from "./kind.ts";
import { type LayerNorm, layerNormKind } from "./layer-norm.ts";
import {
  type EdgeGradient,
  type EdgeLink,
  type EdgeThin,
  edgeGradientKind,
  edgeLinkKind,
  edgeThinKind,
} from "./picture/edges.ts";
import { type GaussianBlur, gaussianBlurKind } from "./picture/gaussian-blur.ts";
import { type Softmax, softmaxKind } from "./softmax.ts";
import { type Upsample, upsampleKind } from "./upsample.ts";

export type Operation =
  | Convolution
  | GroupNormStats
  | GroupNormApply
  | LayerNorm
  | Attention
  | Geglu
  | Elementwise
  | AddScaled
  | AveragePool
  | JoinTokens
  | Upsample
  | Softmax
  | Embedding
  | Concatenate
  | GatherRows
  | GaussianBlur
  | EdgeGradient
  | EdgeThin
  | EdgeLink
  | PackPicture
  | LatentToRgb
  | ModelInput
  | PhiloxNormals
  | GuidanceRescale
  | SchedulerStep
  | MaskBlend
  | FiniteCheck;

const KINDS = {
  convolution: convolutionKind,
  "group-norm-stats": groupNormStatsKind,
  "group-norm-apply": groupNormApplyKind,
  "layer-norm": layerNormKind,
  attention: attentionKind,
  geglu: gegluKind,
  elementwise: elementwiseKind,
  "add-scaled": addScaledKind,
  "average-pool": averagePoolKind,
  "join-tokens": joinTokensKind,
  "upsample-nearest": upsampleKind,
  softmax: softmaxKind,
  embedding: embeddingKind,
  concatenate: concatenateKind,
  "gather-rows": gatherRowsKind,
  "gaussian-blur": gaussianBlurKind,
  "edge-gradient": edgeGradientKind,
  "edge-thin": edgeThinKind,
  "edge-link": edgeLinkKind,
  "pack-picture": packPictureKind,
  "latent-to-rgb": latentToRgbKind,
  "model-input": modelInputKind,
  "philox-normals": philoxNormalsKind,
  "scheduler-step": schedulerStepKind,
  "mask-blend": maskBlendKind,
  "guidance-rescale": guidanceRescaleKind,
  "finite-check": finiteCheckKind,
} satisfies { [K in Operation["kind"]]: OperationKind<Extract<Operation, { kind: K }>> };

export function kindOf<T extends Operation>(operation: T): OperationKind<T> {
  return KINDS[operation.kind] as OperationKind<Operation> as OperationKind<T>;
}

/** The tensors that an operation reads (concatenations as their parts). */
export function readsOf(operation: Operation): readonly Tensor[] {
  return kindOf(operation).reads(operation);
}

/** The parameters that an operation uses. */
export function parametersOf(operation: Operation): readonly Parameter[] {
  return kindOf(operation).parameters?.(operation) ?? [];
}

/** Operation to dispatches: which kernel, which bindings, how many workgroups. */
export function lower(operation: Operation, target: Target): Dispatch[] {
  return kindOf(operation).lower(operation, target);
}
