/** Pictures in results, packed by the rank that drew them: 20 KB cross a process sooner than pixels do. */
import { encodePicture, type PictureFormat, type Pixels } from "../../image/encode.ts";
import { toBase64 } from "../../platform/base64.ts";

/** A picture as fal's clients know it. */
export interface WirePicture {
  /** A data URI. */
  readonly url: string;
  readonly width: number;
  readonly height: number;
  readonly content_type: `image/${PictureFormat}`;
}

/** The value with each `{width, height, rgba}` in its lists and plain objects replaced by a `WirePicture`. */
export async function encodePictures(value: unknown, format: PictureFormat): Promise<unknown> {
  if (isPixels(value)) {
    const { bytes, content_type, width, height } = await encodePicture(value, { format });
    return { url: `data:${content_type};base64,${toBase64(bytes)}`, width, height, content_type };
  }
  if (Array.isArray(value)) return Promise.all(value.map((item) => encodePictures(item, format)));
  if (!isPlain(value)) return value;
  const fields = Object.entries(value).map(async ([name, field]) => [name, await encodePictures(field, format)]);
  return Object.fromEntries(await Promise.all(fields));
}

function isPixels(value: unknown): value is Pixels {
  const { width, height, rgba } = (value ?? {}) as Partial<Pixels>;
  return typeof width === "number" && typeof height === "number" && rgba instanceof Uint8Array;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
