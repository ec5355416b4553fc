/**
 * Events as they travel: pictures encoded, every event carrying the ids of the request that it answers.
 *
 * The shape of an event is the same on every transport; only the way a picture's bytes are carried differs (a data URI
 * in JSON, raw bytes in msgpack), so that is a parameter. A run of somebody's own may yield any object: what has no
 * pictures passes as it is.
 */
import { Base64Text } from "../../src/engine/base64-text.ts";
import { isPicture, type Picture } from "../../src/engine/events.ts";
import {
  type EncodedPicture,
  encodePicture,
  type PictureFormat,
  PREVIEW_QUALITY,
  RESULT_QUALITY,
} from "../../src/image/encode.ts";
import type { Failure } from "../failure.ts";

/** The fields that every event of one request shares. */
export interface Envelope {
  readonly requestId: string;
  /** Encodes a picture as a part of its job's trace. */
  readonly traced?: <T>(work: () => Promise<T>) => Promise<T>;
  readonly inputId: string | undefined;
  /** The format of result pictures. */
  readonly format: PictureFormat;
  /** True if a WebP of the result is to be without loss. */
  readonly lossless: boolean;
  /** How previews are made and how often; what is undefined is JPEG, at preview quality, of full size, unlimited. */
  readonly previews: PreviewWishes;
}

/** A client's wishes about its previews. */
export interface PreviewWishes {
  readonly format?: PictureFormat;
  /** 1..100 */
  readonly quality?: number;
  /** Pixels of the longer side, at most. */
  readonly size?: number;
  /** Previews a second, at most. */
  readonly maxFps?: number;
}

/**
 * A picture in a JSON event; `url` is a data URI, which `JsonText` writes. Both `url` and `content_type` are needed for a
 * fal playground to show it.
 */
export interface JsonPicture {
  readonly url: Base64Text;
  readonly content_type: string;
  readonly width: number;
  readonly height: number;
}

/** An event on the wire. */
export type WireEvent = Record<string, unknown>;

/** How one transport carries a picture's bytes. */
export type Carry = (picture: EncodedPicture) => unknown;

export function asDataUri({ bytes, content_type, width, height }: EncodedPicture): JsonPicture {
  return { url: new Base64Text(`data:${content_type};base64,`, bytes, true), content_type, width, height };
}

/**
 * Reads from an input what its events are to carry. An input without usable ids gets a fresh `request_id`.
 */
export function envelopeOf(input: unknown): Envelope {
  const fields = (typeof input === "object" && input !== null ? input : {}) as Record<string, unknown>;
  const [request_id, input_id] = [idOf(fields.request_id), idOf(fields.input_id)];
  const number = (name: string, max: number) => {
    const value = fields[name];
    return typeof value === "number" && value > 0 && value <= max ? value : undefined;
  };
  return {
    // It becomes a header, so an input that no schema has checked may not choose it freely.
    requestId: request_id !== undefined && /^[\w.:-]{1,128}$/.test(request_id) ? request_id : crypto.randomUUID(),
    inputId: input_id !== undefined && input_id.length <= 128 ? input_id : undefined,
    format: formatOf(fields.output_format) ?? "jpeg",
    lossless: fields.lossless === true,
    previews: {
      format: formatOf(fields.preview_format),
      quality: number("preview_quality", 100),
      size: number("preview_size", 4096),
      maxFps: number("preview_max_fps", 1000),
    },
  };
}

/** An id as text: clients that count send numbers. */
export function idOf(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" || typeof value === "bigint"
    ? String(value)
    : undefined;
}

const untraced = <T>(work: () => Promise<T>) => work();

/** Where the encoding of a job's pictures is traced; see `Tracing`. */
export interface EncodeTracing {
  encode<T>(job: object, work: () => Promise<T>): Promise<T>;
}

/** The ids of the job, not those of the request that asks for it. */
export function envelopeOfJob<Input>(
  job: { readonly id: string; readonly input: Input },
  tracing: EncodeTracing | undefined,
): Envelope {
  const traced = tracing && (<T>(work: () => Promise<T>) => tracing.encode(job, work));
  return { ...envelopeOf(job.input), requestId: job.id, traced };
}

function formatOf(value: unknown): PictureFormat | undefined {
  return value === "png" || value === "webp" || value === "jpeg" ? value : undefined;
}

/** The headers by which a client learns its job's id, before any event and on errors too. */
export function idHeaders(envelope: Pick<Envelope, "requestId">): Record<string, string> {
  return { "x-request-id": envelope.requestId, "x-fal-request-id": envelope.requestId };
}

/**
 * Encodes the pictures of an event: `picture` becomes `image`; `pictures` becomes `images`, with the first as `image`.
 * Previews are JPEG at preview quality. A value that is not an object travels as `{type: "output", output}`.
 */
export async function wireEvent(event: unknown, envelope: Envelope, carry: Carry = asDataUri): Promise<WireEvent> {
  const ids = { request_id: envelope.requestId, ...(envelope.inputId && { input_id: envelope.inputId }) };
  if (typeof event !== "object" || event === null || Array.isArray(event)) {
    return { type: "output", output: event, ...ids };
  }
  const { picture, pictures, ...rest } = event as WireEvent;
  const { traced = untraced } = envelope;
  const encode = async (one: Picture, infotext?: string) => {
    const { format, quality = PREVIEW_QUALITY, size } = envelope.previews;
    const options =
      rest.type === "preview"
        ? { format, quality, maxSide: size }
        : { format: envelope.format, quality: RESULT_QUALITY, lossless: envelope.lossless, infotext };
    return carry(await traced(() => encodePicture(one, options)));
  };
  const wire: WireEvent = { ...rest };
  if (isPicture(picture)) wire.image = await encode(picture);
  else if (picture !== undefined) wire.picture = picture;
  if (Array.isArray(pictures) && pictures.every(isPicture)) {
    // One after the other: looking through the pixels of eight large pictures takes a while on this thread.
    const images: unknown[] = [];
    const infotexts = Array.isArray(rest.infotexts) ? rest.infotexts : [];
    for (const [place, one] of pictures.entries()) images.push(await encode(one, textAt(infotexts, place)));
    wire.images = images;
    wire.image ??= images[0];
  } else if (pictures !== undefined) wire.pictures = pictures;
  return { ...wire, ...ids };
}

function textAt(texts: readonly unknown[], place: number): string | undefined {
  const text = texts[place];
  return typeof text === "string" ? text : undefined;
}

/** The last event of a failed run. */
export function errorEvent(failure: Failure, envelope: Envelope): WireEvent {
  return {
    type: "error",
    detail: failure.detail,
    status: failure.status,
    ...(failure.retryAfter !== undefined && { retry_after: failure.retryAfter }),
    request_id: envelope.requestId,
    ...(envelope.inputId && { input_id: envelope.inputId }),
  };
}
