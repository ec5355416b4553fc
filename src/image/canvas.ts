/** A picture that another is drawn into, through a mask. Pixels that the mask has at 0 stay as they are, to the bit. */

import { bytesOf, pictureCodec } from "../platform/picture-codec.ts";
import { inTurns } from "../platform/turns.ts";
import type { Channel, Size } from "./decode.ts";
import type { Pixels } from "./encode.ts";
import type { Region } from "./mask.ts";

/** Pixels that a picture grows by on each side. */
export interface Margins {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

const PIECE = 2 ** 18;

/** A part of a picture without its transparency, which is laid on white, at another size. */
export async function partOf(picture: Pixels, region: Region, { width, height }: Size): Promise<Pixels> {
  const sharp = await pictureCodec();
  const part = sharp(picture.rgba, raw(picture)).extract(region).flatten({ background: "white" });
  const isSame = region.width === width && region.height === height;
  const image = isSame ? part : part.resize({ width, height, fit: "fill" });
  return { width, height, rgba: await bytesOf(image.ensureAlpha()) };
}

/** A picture at another size. */
export async function scaledTo(picture: Pixels, { width, height }: Size): Promise<Pixels> {
  if (picture.width === width && picture.height === height) return picture;
  const sharp = await pictureCodec();
  const image = sharp(picture.rgba, raw(picture)).resize({ width, height, fit: "fill" });
  return { width, height, rgba: await bytesOf(image.ensureAlpha()) };
}

/** A picture with margins, which mirror it: something of its colours to begin with. */
export async function extended(picture: Pixels, margins: Margins): Promise<Pixels> {
  const sharp = await pictureCodec();
  const { left, top, right, bottom } = margins;
  const image = sharp(picture.rgba, raw(picture)).extend({ left, top, right, bottom, extendWith: "mirror" });
  const size = { width: picture.width + left + right, height: picture.height + top + bottom };
  return { ...size, rgba: await bytesOf(image) };
}

/** A mask with margins, all of which are to be drawn. */
export async function extendedMask(mask: Channel, { left, top, right, bottom }: Margins): Promise<Channel> {
  const [width, height] = [mask.width + left + right, mask.height + top + bottom];
  const values = new Uint8Array(width * height).fill(255);
  for (let row = 0; row < mask.height; row++) {
    values.set(mask.values.subarray(row * mask.width, (row + 1) * mask.width), (top + row) * width + left);
  }
  return { width, height, values };
}

/**
 * `canvas` with `drawn` in its region, as far as the mask has it, in a new array. Where both are transparent in part, colours
 * are weighted by alpha.
 * @param mask of the canvas's size
 * @param drawn opaque, of any size
 */
export async function pasted(canvas: Pixels, mask: Channel, region: Region, drawn: Pixels): Promise<Pixels> {
  const part = await scaledTo(drawn, region);
  const rgba = canvas.rgba.slice();
  await inTurns(paste(rgba, canvas.width, mask.values, region, part.rgba));
  return { width: canvas.width, height: canvas.height, rgba };
}

function* paste(
  into: Uint8Array,
  canvasWidth: number,
  mask: Uint8Array,
  { left, top, width, height }: Region,
  drawn: Uint8Array,
): Generator<void, void, void> {
  for (let row = 0, seen = 0; row < height; row++) {
    const first = (top + row) * canvasWidth + left;
    for (let column = 0; column < width; column++) {
      const value = mask[first + column]!;
      if (value === 0) continue;
      blend(into, (first + column) * 4, drawn, (row * width + column) * 4, value / 255);
    }
    seen += width;
    if (seen < PIECE) continue;
    seen = 0;
    yield;
  }
}

/** One pixel over another, by a share of the upper one, which is opaque. */
function blend(into: Uint8Array, at: number, drawn: Uint8Array, from: number, share: number): void {
  const under = ((1 - share) * into[at + 3]!) / 255;
  const alpha = share + under;
  for (let colour = 0; colour < 3; colour++) {
    into[at + colour] = Math.round((share * drawn[from + colour]! + under * into[at + colour]!) / alpha);
  }
  into[at + 3] = Math.round(alpha * 255);
}

function raw({ width, height }: Size) {
  return { raw: { width, height, channels: 4 as const } };
}
