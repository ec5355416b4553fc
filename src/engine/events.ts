/**
 * What a run says while it runs.
 *
 * A run is one async generator. It yields `queued`, `preparing` and `progress` events, a `preview` every few steps, and one
 * `result` last; it throws when it cannot go on. There is no `error` event here: an error is a thrown error until a transport
 * writes it down for somebody on the other side of a wire. Pictures are raw pixels for the same reason: whoever holds the
 * event decides whether it becomes a JPEG, a file, or a texture.
 *
 * The zod schemas are the only definition of an event. The types here, the events of the wire with their pictures encoded
 * (`transports/wire/events.ts`), the documents and the page's types follow from them.
 */
import { z } from "zod";

/** A picture in memory: row by row from the top left, four bytes a pixel, never changed once it has been yielded. */
export interface Picture {
  /** Pixels across. */
  readonly width: number;
  /** Pixels down. */
  readonly height: number;
  /** RGBA8, not premultiplied, `width * height * 4` bytes. */
  readonly rgba: Uint8Array;
}

export function isPicture(value: unknown): value is Picture {
  const { width, height, rgba } = (value ?? {}) as Partial<Picture>;
  return typeof width === "number" && typeof height === "number" && rgba instanceof Uint8Array;
}

const picture = z.custom<Picture>(isPicture);
const at = { step: z.int(), steps: z.int(), progress: z.number().describe("0 to 1") };

/**
 * How latents became pixels: a 3-column matrix, the tiny autoencoder, or the model's own decoder.
 * The first is nearly free and blurry, the last is the truth.
 */
export const previewDecoderSchema = z.enum(["linear", "tiny", "full"]);
export type PreviewDecoder = z.infer<typeof previewDecoderSchema>;

/** Waiting for its turn; `position` is how many runs are ahead (0: next). */
export const queuedEventSchema = z.object({ type: z.literal("queued"), position: z.int() });

/** Waiting for weights that come onto the device, for kernels that are compiled, or for their tuning. */
export const preparingEventSchema = z.object({
  type: z.literal("preparing"),
  what: z.enum(["weights", "kernels", "tuning"]),
  done: z.int().describe("parts that are ready: kernels, shapes that were timed, bytes or matrices of weights"),
  total: z.int().describe("parts that are needed, as far as is known"),
});

/**
 * One denoising step is done. `step` counts from 1 to `steps`; `elapsed_ms` are milliseconds since the run was admitted.
 */
export const progressEventSchema = z.object({ type: z.literal("progress"), ...at, elapsed_ms: z.number() });

/** The picture as it stands after `step`. */
export const previewEventSchema = z.object({
  type: z.literal("preview"),
  picture,
  ...at,
  decoder: previewDecoderSchema,
});

/** The last event of a good run. */
export const resultEventSchema = z.object({
  type: z.literal("result"),
  pictures: z.array(picture),
  /** The seed that was used, chosen or given; a bigint only where it is too large for a number. */
  seed: z.union([z.int(), z.bigint()]),
  prompt: z.string(),
  timings: z.record(z.string(), z.number()).describe("milliseconds, by phase"),
  /** What the caller should know, such as words that did not fit into the text encoder. */
  warnings: z.array(z.string()).optional(),
});

export const runEventSchema = z.discriminatedUnion("type", [
  queuedEventSchema,
  preparingEventSchema,
  progressEventSchema,
  previewEventSchema,
  resultEventSchema,
]);

/** Events are not changed once they have been yielded. */
type Constant<T> = {
  readonly [Name in keyof T]: T[Name] extends readonly (infer Item)[] | undefined
    ? readonly Item[] | Extract<T[Name], undefined>
    : T[Name];
};

export type QueuedEvent = Constant<z.infer<typeof queuedEventSchema>>;
export type PreparingEvent = Constant<z.infer<typeof preparingEventSchema>>;
export type ProgressEvent = Constant<z.infer<typeof progressEventSchema>>;
export type PreviewEvent = Constant<z.infer<typeof previewEventSchema>>;
export type ResultEvent = Constant<z.infer<typeof resultEventSchema>>;
export type RunEvent = QueuedEvent | PreparingEvent | ProgressEvent | PreviewEvent | ResultEvent;
