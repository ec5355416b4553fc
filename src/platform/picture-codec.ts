/** libvips (sharp), which encodes and decodes pictures on threads of its own. */

import type Sharp from "sharp";

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
