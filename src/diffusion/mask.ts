/**
 * Masks: the part of a picture that is drawn anew.
 *
 * A UNet of latents alone has the latents outside put back to the picture's after each step, noised to the level of the
 * step (`StableDiffusionInpaintPipeline` with four channels). An inpainting UNet reads the mask, and the latents of the
 * picture without what is under it.
 */

import type { EncoderPicture, Pixels } from "./latents.ts";

/** One byte a pixel, row by row: from `MASKED_FROM` on it is drawn anew. */
export interface Mask {
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly values: Uint8Array;
}

/** The inputs of an inpainting UNet beside the latents. */
export interface MaskedPicture {
  /** 1 where the picture is drawn anew, else 0: `[h, w, 1]` */
  readonly mask: Float32Array;
  /** Latents of the picture, grey under the mask: `[h, w, channels]` */
  readonly masked: Float32Array;
}

/** All that the steps of a slot read of its mask. */
export interface SlotMask extends Partial<MaskedPicture> {
  readonly mask: Float32Array;
  /** Clean latents of the picture, and the noise of the start, where latents outside are put back: `[h, w, channels]` */
  readonly original?: Float32Array;
  readonly noise?: Float32Array;
}

/** A half, as the reference rounds. */
export const MASKED_FROM = 128;

/**
 * A mask of the latents' size, `[h, w, 1]`: of each latent the upper left one of its pixels, as `torch`'s nearest has it.
 * @param downscale pixels of a side for one latent
 */
export function latentMask({ width, height, values }: Mask, downscale: number): Float32Array {
  const [rows, columns] = [Math.floor(height / downscale), Math.floor(width / downscale)];
  const mask = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      mask[row * columns + column] = isMasked(values[(row * width + column) * downscale]!) ? 1 : 0;
    }
  }
  return mask;
}

/** A picture that is grey under its mask, for the encoder. */
export function withoutMasked(image: Pixels, { values }: Mask): EncoderPicture {
  return { ...image, without: values.map((value) => (isMasked(value) ? 1 : 0)) };
}

function isMasked(value: number): boolean {
  return value >= MASKED_FROM;
}

/** A picture with nothing in it, masked as a whole: what an inpainting UNet reads of a run that starts from words alone. */
export function blank(width: number, height: number): { readonly image: Pixels; readonly mask: Mask } {
  const values = new Uint8Array(width * height).fill(255);
  return { image: { width, height, rgba: new Uint8Array(width * height * 4) }, mask: { width, height, values } };
}
