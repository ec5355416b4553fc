/** libvips (sharp), which encodes and decodes pictures on threads of its own. */

import type Sharp from "sharp";
import type { Sharp as Image } from "sharp";

export type { Metadata as PictureHeader, Sharp } from "sharp";

let loading: Promise<typeof Sharp> | undefined;

/**
 * Loads it, once. It takes a tenth of a second, so a program that makes no pictures does without it, and one that will make
 * some calls this while it waits for something else.
 */
export function pictureCodec(): Promise<typeof Sharp> {
  loading ??= import("sharp").then((module) => module.default);
  return loading;
}

/** The pixels of a picture, one byte a channel. A Buffer would not be copied by its `slice`. */
export async function bytesOf(image: Image): Promise<Uint8Array> {
  const { buffer, byteOffset, byteLength } = await image.raw({ depth: "uchar" }).toBuffer();
  return new Uint8Array(buffer, byteOffset, byteLength);
}
