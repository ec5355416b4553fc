/** Masks as pictures: one byte a pixel, 255 where something is to be drawn, 0 where nothing may change. */

import { bytesOf, pictureCodec } from "../platform/picture-codec.ts";
import type { Channel, Size } from "./decode.ts";

/** A part of a picture, in pixels from its upper left corner. */
export interface Region extends Size {
  readonly left: number;
  readonly top: number;
}

/** Bytes that are looked at in one turn: a millisecond's work. */
const PIECE = 2 ** 20;
/** The share of a Gaussian's peak below which it is cut off: at three standard deviations. */
const CUT_OFF = 0.011;

/** The smallest region with all that is not 0; undefined if all is. */
export function* boundsOf({ width, height, values }: Channel): Generator<void, Region | undefined, void> {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let row = 0, seen = 0; row < height; row++) {
    const line = values.subarray(row * width, (row + 1) * width);
    const first = line.findIndex((value) => value !== 0);
    if (first >= 0) {
      left = Math.min(left, first);
      right = Math.max(
        right,
        line.findLastIndex((value) => value !== 0),
      );
      top = Math.min(top, row);
      bottom = row;
    }
    seen += width;
    if (seen < PIECE) continue;
    seen = 0;
    yield;
  }
  return bottom < 0 ? undefined : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** Grows a mask by a square of `radius` pixels on all sides: the largest value in it. */
export function* grown({ width, height, values }: Channel, radius: number): Generator<void, Channel, void> {
  const across = values.slice();
  for (let row = 0, seen = 0; row < height; row++) {
    growLine(across, { first: row * width, stride: 1, count: width }, radius);
    seen += width;
    if (seen < PIECE / 16) continue;
    seen = 0;
    yield;
  }
  for (let column = 0, seen = 0; column < width; column++) {
    growLine(across, { first: column, stride: width, count: height }, radius);
    seen += height;
    if (seen < PIECE / 16) continue;
    seen = 0;
    yield;
  }
  return { width, height, values: across };
}

/** Grows along one line: van Herk's largest of a window, by the largest from the left and from the right in blocks. */
function growLine(
  values: Uint8Array,
  { first, stride, count }: { readonly first: number; readonly stride: number; readonly count: number },
  radius: number,
): void {
  const window = 2 * radius + 1;
  const padded = new Uint8Array(Math.ceil((count + 2 * radius) / window) * window);
  for (let i = 0; i < count; i++) padded[radius + i] = values[first + i * stride]!;
  const [fromLeft, fromRight] = [padded.slice(), padded.slice()];
  for (let i = 1; i < padded.length; i++) {
    if (i % window !== 0) fromLeft[i] = Math.max(fromLeft[i]!, fromLeft[i - 1]!);
  }
  for (let i = padded.length - 2; i >= 0; i--) {
    if (i % window !== window - 1) fromRight[i] = Math.max(fromRight[i]!, fromRight[i + 1]!);
  }
  for (let i = 0; i < count; i++) values[first + i * stride] = Math.max(fromRight[i]!, fromLeft[i + 2 * radius]!);
}

/** Blurs a mask by a Gaussian of so many pixels' deviation, which ends at three times as many. */
export async function blurred({ width, height, values }: Channel, sigma: number): Promise<Channel> {
  const sharp = await pictureCodec();
  const blurs = sharp(values, { raw: { width, height, channels: 1 } })
    .blur({ sigma, minAmplitude: CUT_OFF })
    .toColourspace("b-w")
    .extractChannel(0);
  return { width, height, values: await bytesOf(blurs) };
}

/** A part of a mask, at another size. */
export async function resized(mask: Channel, region: Region, { width, height }: Size): Promise<Channel> {
  const sharp = await pictureCodec();
  const image = sharp(mask.values, { raw: { width: mask.width, height: mask.height, channels: 1 } })
    .extract(region)
    .resize({ width, height, fit: "fill", kernel: "linear" })
    .toColourspace("b-w")
    .extractChannel(0);
  return { width, height, values: await bytesOf(image) };
}
