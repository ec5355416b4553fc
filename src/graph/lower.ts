/** Operations to dispatches: which kernel, which bindings, how many workgroups. */

import type { Dispatch, Target } from "./dispatch.ts";
import { lowerAttention } from "./kernels/attention.ts";
import { lowerConvolution } from "./kernels/convolution.ts";
import { lowerGroupNormApply, lowerGroupNormStats, lowerLayerNorm, lowerSoftmax } from "./kernels/normalisation.ts";
import {
  lowerConcatenate,
  lowerElementwise,
  lowerEmbedding,
  lowerGatherRows,
  lowerGeglu,
  lowerLatentToRgb,
  lowerPackPicture,
  lowerUpsample,
} from "./kernels/pointwise.ts";
import { lowerModelInput, lowerPhiloxNormals, lowerSchedulerStep } from "./kernels/sampling.ts";
import type { Operation } from "./tensor.ts";

export function lower(operation: Operation, target: Target): Dispatch[] {
  switch (operation.kind) {
    case "convolution":
      return lowerConvolution(operation, target);
    case "group-norm-stats":
      return lowerGroupNormStats(operation, target);
    case "group-norm-apply":
      return lowerGroupNormApply(operation, target);
    case "layer-norm":
      return lowerLayerNorm(operation, target);
    case "attention":
      return lowerAttention(operation, target);
    case "geglu":
      return lowerGeglu(operation, target);
    case "elementwise":
      return lowerElementwise(operation, target);
    case "upsample-nearest":
      return lowerUpsample(operation, target);
    case "softmax":
      return lowerSoftmax(operation, target);
    case "embedding":
      return lowerEmbedding(operation, target);
    case "concatenate":
      return lowerConcatenate(operation, target);
    case "gather-rows":
      return lowerGatherRows(operation, target);
    case "pack-picture":
      return lowerPackPicture(operation, target);
    case "latent-to-rgb":
      return lowerLatentToRgb(operation, target);
    case "model-input":
      return lowerModelInput(operation, target);
    case "philox-normals":
      return lowerPhiloxNormals(operation, target);
    case "scheduler-step":
      return lowerSchedulerStep(operation, target);
    default:
      return operation satisfies never;
  }
}
