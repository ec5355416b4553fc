/** The work of a request, so that admission knows what it lets in. */
import type { ModelFacts } from "./contract.ts";
import type { GenerationRequest } from "./request.ts";

/** A picture's decoding is about the work of a step without guidance. */
const DECODING = 1;

/** The work of a request, where that of one with the model's defaults is 1. */
export function costOf(request: GenerationRequest, model: ModelFacts): number {
  const { width = model.defaultWidth, height = model.defaultHeight, num_images: images, image, strength } = request;
  const usual = (request.few_step && model.fewStep) || {
    steps: model.defaultSteps,
    guidanceScale: model.defaultGuidanceScale,
  };
  const { num_inference_steps: steps = usual.steps, guidance_scale: guidance = usual.guidanceScale } = request;
  const drawn = image === undefined ? steps : Math.max(1, steps * strength);
  const ofOne = passes(drawn, guidance) * width * height;
  const ofUsual = passes(model.defaultSteps, model.defaultGuidanceScale) * model.defaultWidth * model.defaultHeight;
  return (images * ofOne) / ofUsual;
}

/**
 * Bytes that a request takes while it is drawn: its picture, and those that it makes, as they are and as they are encoded,
 * with a preview.
 */
export function workingBytesOf(request: GenerationRequest, model: ModelFacts): number {
  const { width = model.defaultWidth, height = model.defaultHeight, num_images: images, image } = request;
  return (image?.byteLength ?? 0) + 2 * (images + 1) * width * height * 4;
}

function passes(steps: number, guidanceScale: number): number {
  return steps * (guidanceScale > 1 ? 2 : 1) + DECODING;
}
