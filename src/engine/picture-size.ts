/** The size of a run that starts from a picture. */

import type { Size, TargetSize } from "../image/decode.ts";
import { LIMITS } from "./request.ts";

/**
 * The size for a picture of size `own`, where the request leaves out a side or both: the picture's own proportions. A side
 * that the request has stays; with none the picture gets about as many pixels as one of the model's default size, which
 * the model was made for. Sides are multiples of 8; the little that then is too much of the picture is cut off. A picture
 * narrower than the sides allow is stretched.
 */
export function sizeFromPicture(own: Size, target: Partial<Size>, usual: Size): TargetSize {
  const { width, height } = target;
  if (width !== undefined && height !== undefined) return { width, height, fit: "stretch" };
  const ratio = own.width / own.height;
  const area = usual.width * usual.height;
  const wanted = {
    width: width ?? (height === undefined ? Math.sqrt(area * ratio) : height * ratio),
    height: height ?? (width === undefined ? Math.sqrt(area / ratio) : width / ratio),
  };
  const isWithin = (side: number) => side >= LIMITS.minSide && side <= LIMITS.maxSide;
  const fit = isWithin(wanted.width) && isWithin(wanted.height) ? "crop" : "stretch";
  return { width: rounded(wanted.width), height: rounded(wanted.height), fit };
}

function rounded(side: number): number {
  const multiple = Math.round(side / LIMITS.sideMultiple) * LIMITS.sideMultiple;
  return Math.min(Math.max(multiple, LIMITS.minSide), LIMITS.maxSide);
}
