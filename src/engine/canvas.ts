/**
 * The canvas of a request that draws into a picture: the part of it that the run gets, with its mask, and the whole of it
 * with the run's pictures pasted in. Outside the mask nothing changes.
 */

import { latentMask, type Mask } from "../diffusion/mask.ts";
import type { PipelineEvent } from "../diffusion/request.ts";
import { extended, extendedMask, partOf, pasted, scaledTo } from "../image/canvas.ts";
import { croppedTo } from "../image/crop-region.ts";
import { type Channel, decodeChannel, decodePicture, isTransparent, type Size } from "../image/decode.ts";
import type { Pixels } from "../image/encode.ts";
import { blurred, boundsOf, grown, type Region, resized } from "../image/mask.ts";
import { inTurns } from "../platform/turns.ts";
import { decoding } from "./decoding.ts";
import { RequestError } from "./errors.ts";
import { LIMITS } from "./limits.ts";
import { sizeFromPicture } from "./picture-size.ts";
import type { GenerationRequest } from "./request.ts";

/** Pixels of the canvas that previews are pasted into; a larger one is shrunk to them. */
const PREVIEW_PIXELS = 2 ** 20;
/** libvips blurs by no less. */
const LEAST_BLUR = 0.3;
const NO_MARGINS = { left: 0, top: 0, right: 0, bottom: 0 };

type Request = GenerationRequest & Required<Pick<GenerationRequest, "image">>;

/** The model's part in a canvas. */
export interface CanvasModel {
  /** The size of its pictures. */
  readonly usual: Size;
  /** Pixels of a side for one latent. */
  readonly downscale: number;
}

/** A picture and its mask, of one size. */
interface Layers {
  readonly picture: Pixels;
  readonly mask: Channel;
}

export class Canvas {
  /** The part of the picture that the run draws into, and the mask of it, both of the run's size. */
  readonly image: Pixels;
  readonly mask: Mask;
  readonly warnings: readonly string[];
  readonly #request: Request;
  readonly #size: Size;
  readonly #region: Region;
  /** The layers of previews. */
  readonly #small: Layers;

  private constructor(
    request: Request,
    run: Pick<Canvas, "image" | "mask" | "warnings">,
    place: { readonly size: Size; readonly region: Region; readonly small: Layers },
  ) {
    this.#request = request;
    this.image = run.image;
    this.mask = run.mask;
    this.warnings = run.warnings;
    this.#size = place.size;
    this.#region = place.region;
    this.#small = place.small;
  }

  /**
   * The canvas of a request; undefined if it draws all of a picture.
   * @throws RequestError, ImageError naming the field at fault
   */
  static async of(request: GenerationRequest, model: CanvasModel): Promise<Canvas | undefined> {
    if (request.image === undefined) return undefined;
    const asked = { ...request, image: request.image };
    // One at a time: a large one takes 160 MiB.
    return decoding(async () => ((await isMasked(asked)) ? Canvas.#open(asked, model) : undefined));
  }

  static async #open(request: Request, { usual, downscale }: CanvasModel): Promise<Canvas> {
    const layers = await layersOf(request);
    const { picture, mask } = layers;
    const bounds = await inTurns(boundsOf(mask));
    if (bounds === undefined) throw nothingMarked(request);
    const { padding_mask_crop: padding } = request;
    const whole = { left: 0, top: 0, width: picture.width, height: picture.height };
    const part = padding === undefined ? whole : croppedTo(bounds, padding, picture);
    const { width, height } = sizeFromPicture(part, request, usual);
    const region = padding === undefined ? whole : croppedTo(bounds, padding, picture, width / height);
    const drawn = await resized(mask, region, { width, height });
    if (!latentMask(drawn, downscale).includes(1)) {
      const reason = `marks too little: none of it reaches a latent, of which one stands for ${downscale}x${downscale} pixels of the ${width}x${height} that are drawn; mark more, or set mask_padding or padding_mask_crop`;
      throw new RequestError(fieldOf(request), reason);
    }
    const isAll = mask.values.every((value) => value === 255);
    const warnings = isAll ? ["The mask has all of the picture in it: nothing of it was kept."] : [];
    const image = await partOf(picture, region, { width, height });
    return new Canvas(
      request,
      { image, mask: drawn, warnings },
      { size: { width: picture.width, height: picture.height }, region, small: await shrunk(layers) },
    );
  }

  /** A preview on the canvas, which is shrunk if it is large. */
  preview(drawn: Pixels): Promise<Pixels> {
    const { picture, mask } = this.#small;
    const [across, down] = [picture.width / this.#size.width, picture.height / this.#size.height];
    const { left, top, width, height } = this.#region;
    const [first, end] = span(left, width, across);
    const [upper, lower] = span(top, height, down);
    return pasted(picture, mask, { left: first, top: upper, width: end - first, height: lower - upper }, drawn);
  }

  /** The run's pictures on the canvas, at its own size. It is decoded again: a run does not keep a large one. */
  finish(drawn: readonly Pixels[]): Promise<Pixels[]> {
    return decoding(async () => {
      const isSmall =
        this.#small.picture.width === this.#size.width && this.#small.picture.height === this.#size.height;
      const { picture, mask } = isSmall ? this.#small : await layersOf(this.#request);
      const finished: Pixels[] = [];
      // One after the other: each is a whole canvas.
      for (const one of drawn) finished.push(await pasted(picture, mask, this.#region, one));
      return finished;
    });
  }
}

/** The events of a run with its pictures on their canvas. */
export async function* onCanvas(
  canvas: Canvas | undefined,
  events: AsyncGenerator<PipelineEvent, void, undefined>,
): AsyncGenerator<PipelineEvent, void, undefined> {
  for await (const event of events) {
    if (canvas && event.type === "preview") yield { ...event, picture: await canvas.preview(event.picture) };
    else if (canvas && event.type === "result") yield { ...event, pictures: await canvas.finish(event.pictures) };
    else yield event;
  }
}

/** True if a part of the picture is to be drawn. */
async function isMasked({ image, mask, mask_channel: channel, outpaint = NO_MARGINS }: Request): Promise<boolean> {
  const margins: readonly number[] = Object.values(outpaint);
  if (mask !== undefined || margins.some((margin) => margin > 0)) return true;
  return channel === "alpha" && isTransparent(image, { maxPixels: LIMITS.canvasPixels });
}

/** The whole picture and the mask as the request wants it. @throws RequestError, ImageError */
async function layersOf(request: Request): Promise<Layers> {
  const { image, mask_padding: padding = 0, mask_blur: blur = 0, num_images: images, outpaint = NO_MARGINS } = request;
  const picture = await decodePicture(image, { alpha: "keep", maxPixels: LIMITS.canvasPixels });
  const size = {
    width: picture.width + outpaint.left + outpaint.right,
    height: picture.height + outpaint.top + outpaint.bottom,
  };
  const pixels = size.width * size.height;
  if (pixels > LIMITS.canvasPixels) {
    const reason = `makes a picture of ${size.width}x${size.height} pixels; at most ${LIMITS.canvasPixels} in all are allowed`;
    throw new RequestError("outpaint", reason);
  }
  const most = Math.floor((LIMITS.maxPixels * LIMITS.images) / pixels);
  if (images > most) {
    throw new RequestError("num_images", `must be at most ${most} for pictures of ${size.width}x${size.height}`);
  }
  const own = await ownMask(request, picture);
  const isExtended = pixels > picture.width * picture.height;
  let mask = isExtended ? await extendedMask(own, outpaint) : own;
  if (padding > 0) mask = await inTurns(grown(mask, padding));
  if (blur >= LEAST_BLUR) mask = await blurred(mask, blur);
  return { picture: isExtended ? await extended(picture, outpaint) : picture, mask };
}

/** The mask that the request brings, of the picture's size; nothing if there is none. */
async function ownMask(request: Request, { width, height }: Size): Promise<Channel> {
  const { image, mask: bytes, mask_channel: channel = "luminance", mask_invert: isInverted = false } = request;
  const maxPixels = LIMITS.canvasPixels;
  if (bytes === undefined && channel !== "alpha") return { width, height, values: new Uint8Array(width * height) };
  const mask = await decodeChannel(bytes ?? image, channel, { maxPixels, field: fieldOf(request) });
  if (mask.width !== width || mask.height !== height) {
    const reason = `has ${mask.width}x${mask.height} pixels, and the image has ${width}x${height}; a mask must have the image's size`;
    throw new RequestError("mask", reason);
  }
  // Transparent is drawn anew.
  return (channel === "alpha") === isInverted ? mask : { ...mask, values: mask.values.map((value) => 255 - value) };
}

function nothingMarked(request: Request): RequestError {
  const { mask_channel: channel, mask_invert: isInverted = false } = request;
  const [all, wanted] = channel === "alpha" ? ["opaque", "transparent"] : ["black", "white"];
  const [is, drawn] = isInverted ? [wanted, all] : [all, wanted];
  const reason = `is ${is} everywhere, so that nothing would be drawn anew; what is ${drawn} is drawn`;
  return new RequestError(fieldOf(request), reason);
}

/** The field that the mask comes from. */
function fieldOf({ mask, outpaint, mask_channel: channel }: Request): string {
  if (mask !== undefined) return "mask";
  return channel === "alpha" || outpaint === undefined ? "image" : "outpaint";
}

/** The ends of a shrunk span, of one pixel at least. */
function span(first: number, count: number, scale: number): readonly [number, number] {
  const end = Math.max(1, Math.round((first + count) * scale));
  return [Math.min(Math.round(first * scale), end - 1), end];
}

async function shrunk({ picture, mask }: Layers): Promise<Layers> {
  const { width, height } = picture;
  const scale = Math.sqrt(PREVIEW_PIXELS / (width * height));
  if (scale >= 1) return { picture, mask };
  const size = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  return {
    picture: await scaledTo(picture, size),
    mask: await resized(mask, { left: 0, top: 0, width, height }, size),
  };
}
