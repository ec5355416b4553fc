/**
 * 3 × 3 convolutions of a picture resized to twice its size, as four convolutions of 2 × 2 taps at the size that it has:
 * one for each phase of the output, with the weights of taps that see copies of the same pixel added up
 * (`shaders/subpixel_weights.wgsl`). 4 products for each pair of channels instead of 9.
 *
 * Shi et al. 2016 (arXiv 1609.07009) show the equality, from the other side.
 */

import type { Dispatch, Target } from "../../dispatch.ts";
import type { KernelVariant } from "../variant.ts";
import { lowerDirect } from "./direct.ts";
import type { Convolution } from "./operation.ts";
import { canTransform, costBesideDirect, isSquare, partCosts } from "./square.ts";
import { subgroupKernel } from "./subgroup.ts";

/** Taps of a 2 × 2 kernel. */
const TAPS = 4;

export const subpixel = {
  name: "subpixel",
  can: (operation, target) =>
    isSquare(operation) && isDoubled(operation) && canTransform(operation, "subpixel", target),
  cost(operation, target) {
    const { weight, picture } = operation;
    const pixels = picture.images * picture.outHeight * picture.outWidth;
    const products = pixels * TAPS * (weight.inputQuads * 4) * (weight.outputQuads * 4);
    return costBesideDirect(operation, products + 3 * partCosts(target.lanes).dispatch, target);
  },
  lower: lowerSubpixel,
} as const satisfies KernelVariant<Convolution>;

/** True if the input is resized to exactly twice its size, and then padded by one pixel all around. */
function isDoubled({ picture, virtual, kernel }: Convolution): boolean {
  const [height, width] = [2 * picture.inHeight, 2 * picture.inWidth];
  const isPadded = kernel.top === 1 && kernel.left === 1 && picture.outHeight === height && picture.outWidth === width;
  return virtual.height === height && virtual.width === width && isPadded;
}

function lowerSubpixel(operation: Convolution, target: Target): Dispatch[] {
  const { inHeight: height, inWidth: width, images } = operation.picture;
  const phases = [0, 1].flatMap((y) => [0, 1].map((x) => ({ y, x })));
  return phases.flatMap(({ y, x }, index) => {
    const phase: Convolution = {
      ...operation,
      picture: { images, inHeight: height, inWidth: width, outHeight: height, outWidth: width },
      virtual: { height, width },
      kernel: { height: 2, width: 2, stride: 1, top: 1 - y, left: 1 - x },
    };
    return lowerDirect((shape) => subgroupKernel(shape, target.lanes!), phase, target, {
      y,
      x,
      firstTap: index * TAPS,
    });
  });
}
