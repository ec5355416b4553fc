/**
 * The events of a run as they travel in JSON: those of `src/engine/events.ts`, their pictures encoded, each with the ids of
 * its request; and `error`, which a run throws. Documents and the page's types follow from these schemas. `wire.ts`
 * makes such events, for the runs of others as well.
 */
import { z } from "zod";
import { plainEventSchemas, previewEventSchema, resultEventSchema } from "../../src/engine/events.ts";

/** An encoded picture. msgpack has its bytes as `content` in place of `url`. */
const pictureSchema = z.object({
  url: z.string().describe("a data URI"),
  content_type: z.enum(["image/jpeg", "image/png", "image/webp"]),
  width: z.int(),
  height: z.int(),
});

/** The fields that every event carries. */
export const idsSchema = z.object({ request_id: z.string(), input_id: z.string().optional() });
const ids = idsSchema.shape;

const faultSchema = z.object({ loc: z.array(z.union([z.string(), z.int()])), msg: z.string(), type: z.string() });
/** Why something failed: a sentence, or the fields at fault. */
export const detailSchema = z.union([z.string(), z.array(faultSchema)]);

const { type: preview, picture: _, ...previewFields } = previewEventSchema.shape;
const { type: result, pictures: __, ...resultFields } = resultEventSchema.shape;

/** The finished picture: a `result` event without its type. */
export const resultSchema = z.object({
  image: pictureSchema,
  images: z.array(pictureSchema).describe("all pictures, `image` first"),
  ...resultFields,
  seed: z.union([z.int(), z.string()]).describe("a decimal string if it is too large for a number"),
  ...ids,
});

const errorEventSchema = z
  .object({
    type: z.literal("error"),
    detail: detailSchema.describe("a sentence, or a list of the fields at fault"),
    status: z.int().describe("as of HTTP"),
    retry_after: z.number().optional().describe("seconds after which the same request may succeed"),
    ...ids,
  })
  .describe(
    "the run has failed; the server then breaks the connection, so that a stream that ends well always has its result",
  );

export const wireEventSchema = z.discriminatedUnion("type", [
  ...withIds(plainEventSchemas),
  z.object({ type: preview, image: pictureSchema, ...previewFields, ...ids }).describe(previewEventSchema.description!),
  z.object({ type: result, ...resultSchema.shape }).describe(resultEventSchema.description!),
  errorEventSchema,
]);

type WithIds<Event> = Event extends z.ZodObject<infer Shape> ? z.ZodObject<Shape & typeof ids> : never;

/** The same events, each with the ids of its request. */
function withIds<const Events extends readonly z.ZodObject[]>(events: Events) {
  return events.map((event) => event.extend(ids).describe(event.description!)) as {
    [Index in keyof Events]: WithIds<Events[Index]>;
  };
}

/** An event of one of our runs on the wire. */
export type WireRunEvent = Readonly<z.infer<typeof wireEventSchema>>;
/** One of them. */
export type WireEventOf<Type extends WireRunEvent["type"]> = Extract<WireRunEvent, { type: Type }>;
/** One fault of a request; `loc` starts with where it was found: `["body", "num_inference_steps"]`. */
export type WireFault = Readonly<z.infer<typeof faultSchema>>;
