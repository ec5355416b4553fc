/**
 * 3 × 3 convolutions of stride 1: those that other algorithms than the direct one can do, with weights transformed for
 * them, and fewer products.
 */

import { QUAD_LANES, type Target } from "../../dispatch.ts";
import { transformedTexture, type WeightTransform } from "../../weights.ts";
import type { Convolution } from "./operation.ts";

export function isSquare({ kernel }: Convolution): boolean {
  return kernel.height === 3 && kernel.width === 3 && kernel.stride === 1;
}

/** True if the weights can be had transformed so, and kernels for it run here. */
export function canTransform({ weight, gated }: Convolution, transform: WeightTransform, target: Target): boolean {
  const { lanes, transformed } = target;
  return (
    !gated && lanes !== undefined && transformed === true && transformedTexture(weight, transform, target) !== undefined
  );
}

// Costs in products of the direct algorithm: of Winograd's products and, for each channel of a pixel, of its
// transforms, and of a dispatch more (50 µs). From lavapipe (transforms 75 to 105 by shapes of 32 to 320 channels) and,
// with subgroups of four, from SwiftShader.
const COSTS = { product: 1, transform: 90, dispatch: 1.4e6 };
const COSTS_OF_QUADS = { product: 1.85, transform: 210, dispatch: 0.3e6 };

/** Costs of the parts of such an algorithm on subgroups of so many lanes, in products of the direct algorithm. */
export function partCosts(lanes: number | undefined) {
  return lanes === QUAD_LANES ? COSTS_OF_QUADS : COSTS;
}

/**
 * `products` beside those of the direct algorithm, if they are fewer and the adapter is a software one: on hardware
 * such an algorithm has never been the fastest.
 */
export function costBesideDirect({ weight, picture }: Convolution, products: number, { hardware }: Target): number {
  const pixels = picture.images * picture.outHeight * picture.outWidth;
  const direct = pixels * 9 * (weight.inputQuads * 4) * (weight.outputQuads * 4);
  return products < direct && !hardware ? products / direct : Number.POSITIVE_INFINITY;
}
