/**
 * Pixels to JPEG, PNG or WebP.
 *
 * libvips does the work on its own threads (sharp), so the event loop goes on serving while a picture is packed.
 * It can shrink a picture on the way, as previews want; it knows nothing of data URIs: that is how one transport happens to carry bytes.
 */
import { crc32 } from "../platform/crc32.ts";
import { pictureCodec } from "../platform/picture-codec.ts";
import { inTurns } from "../platform/turns.ts";
import { type WebpLook, withExifComment } from "./exif-comment.ts";
import { INFOTEXT_KEYWORD } from "./picture-texts.ts";
import { withPngText } from "./png-texts.ts";

/** Pixels as the encoder takes them: RGBA8, row by row, `width * height * 4` bytes, unchanged until encoded. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

export type PictureFormat = "jpeg" | "png" | "webp";

export interface EncodedPicture {
  readonly bytes: Uint8Array;
  readonly content_type: `image/${PictureFormat}`;
  readonly width: number;
  readonly height: number;
}

/** A millisecond's work; a multiple of four. */
const PIECE_BYTES = 2 ** 21;

/** JPEG quality of a picture that is replaced in a moment. */
export const PREVIEW_QUALITY = 70;
/** JPEG and WebP quality of a picture to keep. */
export const RESULT_QUALITY = 95;
/** From here on colour is kept at full resolution (4:4:4): at preview quality nobody sees it, at 95 it is the error. */
const FULL_COLOUR_QUALITY = 90;

/**
 * Encodes `picture`.
 *
 * An opaque picture is stored without alpha. JPEG has none: transparency is laid on white.
 *
 * @param options.quality 1..100 for JPEG and WebP; PNG is exact and ignores it
 * @param options.lossless WebP without loss, colours under transparent pixels included
 * @param options.maxSide pixels of the longer side; a larger picture is shrunk to it, a smaller one left as it is
 * @param options.infotext the picture's settings, to stand in its file
 * @throws RangeError when the bytes are not `width * height * 4`
 */
export async function encodePicture(
  picture: Pixels,
  options: { format?: PictureFormat; quality?: number; maxSide?: number; lossless?: boolean; infotext?: string } = {},
): Promise<EncodedPicture> {
  const { width, height, rgba } = picture;
  const { format = "jpeg", quality = RESULT_QUALITY, maxSide, lossless = false } = options;
  if (rgba.byteLength !== width * height * 4) {
    throw new RangeError(`a picture of ${width}x${height} has ${width * height * 4} bytes, not ${rgba.byteLength}`);
  }
  const sharp = await pictureCodec();
  let image = sharp(rgba, { raw: { width, height, channels: 4 } });
  if (await inTurns(isOpaque(rgba))) image = image.removeAlpha();
  else if (format === "jpeg") image = image.flatten({ background: "white" });

  if (maxSide !== undefined) {
    image = image.resize({ width: maxSide, height: maxSide, fit: "inside", withoutEnlargement: true });
  }

  switch (format) {
    case "jpeg":
      image = image.jpeg({ quality, chromaSubsampling: quality >= FULL_COLOUR_QUALITY ? "4:4:4" : "4:2:0" });
      break;
    case "png":
      image = image.png();
      break;
    case "webp":
      image = image.webp(lossless ? { lossless, exact: true } : { quality });
      break;
    default:
      format satisfies never;
  }
  const { data, info } = await image.toBuffer({ resolveWithObject: true });
  const { infotext } = options;
  const bytes =
    infotext === undefined ? data : withInfotext(data, format, infotext, { ...info, hasAlpha: info.channels === 4 });
  return { bytes, content_type: `image/${format}`, width: info.width, height: info.height };
}

function withInfotext(bytes: Uint8Array, format: PictureFormat, infotext: string, look: WebpLook): Uint8Array {
  if (format === "png") return withPngText(bytes, INFOTEXT_KEYWORD, infotext, crc32);
  return withExifComment(bytes, infotext, look);
}

/** In pieces: a request may end with eight large pictures at once. */
function* isOpaque(rgba: Uint8Array): Generator<void, boolean, void> {
  for (let first = 3; first < rgba.length; first += PIECE_BYTES) {
    const end = Math.min(first + PIECE_BYTES, rgba.length);
    for (let alpha = first; alpha < end; alpha += 4) if (rgba[alpha] !== 255) return false;
    yield;
  }
  return true;
}
