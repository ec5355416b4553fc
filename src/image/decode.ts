/**
 * JPEG, PNG or WebP to pixels, for pictures that strangers send.
 *
 * Only the three formats we write are read, told by their first bytes: libvips would also open SVG, PDF and others,
 * each of them a larger thing to be attacked through. The pixel limit is checked on the header, before pixels exist.
 */
import { pictureCodec } from "../platform/picture-codec.ts";
import type { PictureFormat, Pixels } from "./encode.ts";
import { ImageError } from "./errors.ts";

/** SDXL's 1024 × 1024 sixteen times over: what a camera makes is welcome, it is resized anyway. */
const DEFAULT_MAX_PIXELS = 4096 * 4096;
/** A hostile file may decode slowly; nothing real takes this long. */
const DECODE_SECONDS = 20;

export interface DecodeOptions {
  /** Pixels of the encoded picture, at most. */
  maxPixels?: number;
  /** Pixels of the answer. With both, the picture is resized (and stretched, as diffusers does) to exactly that. */
  width?: number;
  height?: number;
}

/**
 * Decodes to 8-bit sRGB, turned as EXIF says, transparency laid on white; alpha is 255 everywhere.
 *
 * @throws ImageError
 */
export async function decodePicture(bytes: Uint8Array, options: DecodeOptions = {}): Promise<Pixels> {
  const { maxPixels = DEFAULT_MAX_PIXELS, width, height } = options;
  if (pictureFormat(bytes) === undefined) throw new ImageError("image-format", "is not a JPEG, PNG or WebP picture");
  const sharp = await pictureCodec();
  try {
    // The limit is checked by hand, so that the error can say by how much.
    const header = await sharp(bytes, { limitInputPixels: false }).metadata();
    if (header.width * header.height > maxPixels) {
      throw new ImageError(
        "image-too-large",
        `has ${header.width}x${header.height} pixels; at most ${maxPixels} in all are allowed`,
      );
    }
    let image = sharp(bytes, { limitInputPixels: maxPixels, failOn: "error" })
      .timeout({ seconds: DECODE_SECONDS })
      .autoOrient()
      .flatten({ background: "white" })
      .toColourspace("srgb");
    if (width !== undefined && height !== undefined) image = image.resize({ width, height, fit: "fill" });
    const { data, info } = await image.ensureAlpha().raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, rgba: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError("image-damaged", "cannot be decoded; the file is damaged or cut short", { cause: error });
  }
}

/** The format that the first bytes announce, or undefined. */
export function pictureFormat(bytes: Uint8Array): PictureFormat | undefined {
  const starts = (at: number, ...magic: number[]) => magic.every((byte, index) => bytes[at + index] === byte);
  if (starts(0, 0xff, 0xd8, 0xff)) return "jpeg";
  if (starts(0, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return "png";
  // "RIFF", four bytes of length, "WEBP"
  if (starts(0, 0x52, 0x49, 0x46, 0x46) && starts(8, 0x57, 0x45, 0x42, 0x50)) return "webp";
  return undefined;
}
