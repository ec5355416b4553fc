/** From a request to what its plans are made for. */

import type { LatentSize } from "./latents.ts";
import type { FamilyModel, StepShape } from "./model.ts";
import { PipelineError, type RunShape } from "./request.ts";

/** The latents of a picture of this size. @throws PipelineError naming the side that the model cannot make */
export function latentSize({ latent }: FamilyModel, request: Pick<RunShape, "width" | "height">): LatentSize {
  const { downscale, channels } = latent;
  for (const field of ["width", "height"] as const) {
    const size = request[field];
    if (!Number.isInteger(size) || size < downscale || size % downscale !== 0) {
      throw new PipelineError(field, `must be a multiple of ${downscale}, not ${size}`);
    }
  }
  return { height: request.height / downscale, width: request.width / downscale, channels };
}

/** The shape of a request's steps. @throws PipelineError as `latentSize` */
export function stepShape(family: FamilyModel, request: RunShape): StepShape {
  const part = family.step.shape(request);
  // Steps without are recorded without, and stay as they were.
  const rescales = part.branches === 2 && (request.guidanceRescale ?? 0) > 0;
  // A network that reads the mask keeps what is outside by itself.
  const masked = request.mask !== undefined && !family.step.readsMask;
  const flags = { ...(rescales && { rescales }), ...(masked && { masked }) };
  return { slots: request.images ?? 1, ...part, ...flags, ...latentSize(family, request) };
}

/** True if two shapes are made with the same plan. */
export function isSameShape(one: StepShape, other: StepShape): boolean {
  const fields = Object.keys(one);
  return fields.length === Object.keys(other).length && fields.every((field) => one[field] === other[field]);
}
