/**
 * JPEG, PNG or WebP to pixels, for pictures that strangers send.
 *
 * Only the three formats we write are read, told by their first bytes: libvips would also open SVG, PDF and others,
 * each of them a larger thing to be attacked through. The pixel limit is checked on the header, before pixels exist.
 */
import { type PictureHeader, pictureCodec, type Sharp } from "../platform/picture-codec.ts";
import type { PictureFormat, Pixels } from "./encode.ts";
import { ImageError } from "./errors.ts";

/** Pixels of a picture that is decoded to its own size: SDXL's 1024 × 1024 sixteen times over. */
const MAX_PIXELS = 4096 * 4096;
/** Pixels of a picture that is shrunk while it is read: cameras of phones have up to 64 megapixels. */
const MAX_SHRUNK_PIXELS = 2 ** 26;
/** Bytes of memory while a picture is read and shrunk: an interlaced PNG of 4096 × 4096 with 16 bits a channel takes 128 MiB. */
const MAX_DECODER_BYTES = 160 * 2 ** 20;
/** A hostile file may decode slowly; nothing real takes this long. */
const DECODE_SECONDS = 20;

/** In pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A size to bring a picture to: stretched to it, or with the middle of what is in its proportions. */
export interface TargetSize extends Size {
  readonly fit: "stretch" | "crop";
}

export interface DecodeOptions {
  /** Pixels of the encoded picture, at most; left out: as many as can be read within bounds. */
  readonly maxPixels?: number;
  /** The size of the answer, by the picture's own (turned as EXIF says); left out: its own. */
  readonly resize?: (own: Size) => TargetSize;
  /** Transparency is laid on this colour, or kept. Default: `white` */
  readonly alpha?: "white" | "black" | "keep";
  /** The field of the request that the picture is in, for errors; left out: `image`. */
  readonly field?: string;
}

/**
 * Decodes to 8-bit sRGB, turned as EXIF says, transparency laid on white; alpha is 255 everywhere. A picture that is
 * resized is shrunk while it is read, so that a camera's takes little memory.
 *
 * @throws ImageError
 */
export async function decodePicture(bytes: Uint8Array, options: DecodeOptions = {}): Promise<Pixels> {
  const { alpha = "white", field } = options;
  return opened(
    bytes,
    options,
    async (image) => {
      const flat = alpha === "keep" ? image : image.flatten({ background: alpha });
      const { data, info } = await flat
        .toColourspace("srgb")
        .ensureAlpha()
        .raw({ depth: "uchar" })
        .toBuffer({ resolveWithObject: true });
      return {
        width: info.width,
        height: info.height,
        rgba: new Uint8Array(data.buffer, data.byteOffset, data.length),
      };
    },
    field,
  );
}

/** One channel of a picture, one byte a pixel, row by row. */
export interface Channel extends Size {
  readonly values: Uint8Array;
}

/**
 * Decodes the luminance of a picture, transparency laid on black, or its alpha.
 *
 * @throws ImageError
 */
export function decodeChannel(
  bytes: Uint8Array,
  channel: "luminance" | "alpha",
  options: Pick<DecodeOptions, "maxPixels" | "field"> = {},
): Promise<Channel> {
  return opened(
    bytes,
    options,
    async (image) => {
      const only =
        channel === "alpha"
          ? image.ensureAlpha().extractChannel("alpha")
          : image.flatten({ background: "black" }).toColourspace("b-w").extractChannel(0);
      const { data, info } = await only.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
      return {
        width: info.width,
        height: info.height,
        values: new Uint8Array(data.buffer, data.byteOffset, data.length),
      };
    },
    options.field,
  );
}

/** True if any pixel is not opaque. @throws ImageError */
export function isTransparent(
  bytes: Uint8Array,
  options: Pick<DecodeOptions, "maxPixels" | "field"> = {},
): Promise<boolean> {
  return opened(
    bytes,
    options,
    async (image, { hasAlpha }) => hasAlpha && !(await image.stats()).isOpaque,
    options.field,
  );
}

/** Checks a picture by its header, and gives it to `read`, turned and resized. @throws ImageError */
async function opened<T>(
  bytes: Uint8Array,
  options: DecodeOptions,
  read: (image: Sharp, header: PictureHeader) => Promise<T>,
  field?: string,
): Promise<T> {
  const format = pictureFormat(bytes);
  if (format === undefined) throw new ImageError("image-format", "is not a JPEG, PNG or WebP picture", { field });
  const sharp = await pictureCodec();
  try {
    // The limit is checked by hand, so that the error can say by how much.
    const header = await sharp(bytes, { limitInputPixels: false }).metadata();
    const { maxPixels = options.resize ? shrunkPixels(format, header) : MAX_PIXELS } = options;
    if (header.width * header.height > maxPixels) {
      const kind = header.isProgressive ? ` of ${format === "png" ? "an interlaced PNG" : "a progressive JPEG"}` : "";
      throw new ImageError(
        "image-too-large",
        `has ${header.width}x${header.height} pixels; at most ${maxPixels} in all are allowed${kind}`,
        { field },
      );
    }
    const target = options.resize?.(header.autoOrient);
    let image = sharp(bytes, { limitInputPixels: maxPixels, failOn: "error" })
      .timeout({ seconds: DECODE_SECONDS })
      .autoOrient();
    if (target) {
      const { width, height } = target;
      image = image.resize({ width, height, fit: target.fit === "crop" ? "cover" : "fill" });
    }
    return await read(image, header);
  } catch (error) {
    if (error instanceof ImageError) throw error;
    const message = "cannot be decoded; the file is damaged or cut short";
    throw new ImageError("image-damaged", message, { cause: error, field });
  }
}

/** The most pixels of a picture that is shrunk while it is read, so that reading it stays within `MAX_DECODER_BYTES`. */
function shrunkPixels(format: PictureFormat, header: PictureHeader): number {
  return Math.min(MAX_SHRUNK_PIXELS, Math.floor(MAX_DECODER_BYTES / decoderBytes(format, header)));
}

/**
 * Bytes that libvips holds for a pixel while it reads and shrinks, measured (`image.test.ts` measures them too). A JPEG
 * that is not progressive, and a PNG that is not interlaced, pass in rows; a lossless WebP is decoded whole.
 */
function decoderBytes(
  format: PictureFormat,
  { isProgressive, chromaSubsampling, channels, depth }: PictureHeader,
): number {
  if (format === "webp") return 4;
  if (!isProgressive) return 1;
  // Coefficients of two bytes, for each channel, or for the half of two of them.
  if (format === "jpeg") return chromaSubsampling === "4:2:0" ? 3.1 : channels * 2 + 0.1;
  return Math.max(channels, 4) * (depth === "ushort" ? 2 : 1);
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
