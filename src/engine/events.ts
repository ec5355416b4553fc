/**
 * The events of a run.
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
const at = {
  step: z.int().describe("from 1"),
  steps: z.int(),
  progress: z.number().describe("0 to 1"),
};

/**
 * How latents became pixels: a 3-column matrix, the tiny autoencoder, or the model's own decoder.
 * The first is nearly free and blurry, the last is the truth.
 */
export const previewDecoderSchema = z.enum(["linear", "tiny", "full"]);
export type PreviewDecoder = z.infer<typeof previewDecoderSchema>;

export const queuedEventSchema = z
  .object({
    type: z.literal("queued"),
    position: z.int().describe("runs ahead of it; 0: next"),
    seconds: z.int().optional().describe("until its turn, about; left out if nothing is known yet"),
  })
  .describe("the run waits for its turn");

export const preparingEventSchema = z
  .object({
    type: z.literal("preparing"),
    what: z.enum(["weights", "kernels", "tuning"]),
    done: z.int().describe("parts that are ready: kernels, shapes that were timed, bytes or matrices of weights"),
    total: z.int().describe("parts that are needed, as far as is known"),
  })
  .describe(
    "the run waits for weights, kernels or their tuning, as for the kernels of a size that is new to the server",
  );

export const progressEventSchema = z
  .object({
    type: z.literal("progress"),
    ...at,
    elapsed_ms: z.number().describe("milliseconds since the run was admitted"),
  })
  .describe("a denoising step is done");

export const previewEventSchema = z
  .object({ type: z.literal("preview"), picture, ...at, decoder: previewDecoderSchema })
  .describe("the picture after a step");

export const resultEventSchema = z
  .object({
    type: z.literal("result"),
    pictures: z.array(picture),
    /** A bigint only where it is too large for a number. */
    seed: z.union([z.int(), z.bigint()]),
    prompt: z.string(),
    infotexts: z
      .array(z.string())
      .optional()
      .describe(
        "the settings of each picture in AUTOMATIC1111's format, with `embed_metadata`; they stand in its file, too",
      ),
    timings: z.record(z.string(), z.number()).describe("milliseconds, by phase"),
    warnings: z
      .array(z.string())
      .optional()
      .describe("sentences for the user, such as which words the text encoder left out"),
  })
  .describe("the end of a good run");

/** Events without pictures: the same in memory and on the wire. */
export const plainEventSchemas = [queuedEventSchema, preparingEventSchema, progressEventSchema] as const;

export const runEventSchema = z.discriminatedUnion("type", [
  ...plainEventSchemas,
  previewEventSchema,
  resultEventSchema,
]);

/** Events are not changed once they have been yielded. */
type Constant<T> = {
  readonly [Name in keyof T]: T[Name] extends readonly (infer Item)[] | undefined
    ? readonly Item[] | Extract<T[Name], undefined>
    : T[Name];
};

export type RunEvent = Constant<z.infer<typeof runEventSchema>>;
/** One of them. */
export type RunEventOf<Type extends RunEvent["type"]> = Extract<RunEvent, { type: Type }>;
export type QueuedEvent = RunEventOf<"queued">;
export type PreparingEvent = RunEventOf<"preparing">;
export type ProgressEvent = RunEventOf<"progress">;
export type PreviewEvent = RunEventOf<"preview">;
export type ResultEvent = RunEventOf<"result">;
