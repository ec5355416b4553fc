/**
 * 3 × 3 convolutions of a picture resized to twice its size, as four convolutions of 2 × 2 taps at the size that it has:
 * one for each phase of the output, with the weights of taps that see copies of the same pixel added up
 * (`shaders/subpixel_weights.wgsl`). 4 products for each pair of channels instead of 9.
 *
 * Shi et al. 2016 (arXiv 1609.07009) show the equality, from the other side.
 */

import type { Dispatch, Target } from "../dispatch.ts";
import type { Convolution } from "../tensor.ts";
import { lowerDirect } from "./convolution.ts";

/** Of a 2 × 2 kernel. */
const TAPS = 4;

/** `operation` is one that `convolutionVariants` offers this form for. */
export function lowerSubpixel(operation: Convolution, target: Target): Dispatch[] {
  const { inHeight: height, inWidth: width, images } = operation.picture;
  const phases = [0, 1].flatMap((y) => [0, 1].map((x) => ({ y, x })));
  return phases.flatMap(({ y, x }, index) => {
    const phase: Convolution = {
      ...operation,
      picture: { images, inHeight: height, inWidth: width, outHeight: height, outWidth: width },
      virtual: { height, width },
      kernel: { height: 2, width: 2, stride: 1, top: 1 - y, left: 1 - x },
    };
    return lowerDirect("subgroup", phase, target, { y, x, firstTap: index * TAPS });
  });
}
