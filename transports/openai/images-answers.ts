/** How the routes of OpenAI's images API are described: their answers, and a body that is a form. */
import { z } from "zod";
import type { Answer, Description, NamedSchema } from "../openapi/describe.ts";
import { EVENT_STREAM } from "../stream/job-stream.ts";
import { imageEditSchema } from "./images-request.ts";
import { openaiErrorSchema } from "./openai-error.ts";

const usage = z.object({
  total_tokens: z.int(),
  input_tokens: z.int(),
  output_tokens: z.int(),
  input_tokens_details: z.object({ text_tokens: z.int(), image_tokens: z.int() }),
});

const RESPONSE: NamedSchema = {
  name: "ImagesResponse",
  schema: z.object({
    created: z.int(),
    data: z.array(z.object({ b64_json: z.string().optional(), url: z.string().optional() })),
    size: z.string(),
    quality: z.enum(["low", "medium", "high"]),
    background: z.literal("opaque"),
    output_format: z.enum(["png", "jpeg", "webp"]),
    usage,
    warnings: z.array(z.string()).optional(),
  }),
};

const EVENT: NamedSchema = {
  name: "ImagesEvent",
  schema: z.object({
    type: z.string(),
    b64_json: z.string(),
    partial_image_index: z.int().optional(),
    created_at: z.int(),
    size: z.string(),
    quality: z.string(),
    background: z.string(),
    output_format: z.string(),
    usage: usage.optional(),
    warnings: z.array(z.string()).optional(),
  }),
};

const ERROR: NamedSchema = { name: "OpenAiError", schema: openaiErrorSchema };
export const error = (description: string): Answer => ({ description, schema: ERROR });
const ANSWERS: Readonly<Record<number, Answer>> = {
  200: {
    description: "the pictures, or with stream their events",
    schema: RESPONSE,
    or: { schema: EVENT, type: EVENT_STREAM },
  },
  400: error("fields at fault"),
  401: error("no valid key or token"),
  403: error("not with this key"),
  404: error("another model"),
  408: error("the body came too slowly while others needed the memory"),
  413: error("too long, or too many values"),
  415: error("compressed: send it without Content-Encoding"),
  421: error("not under this name"),
  429: error("too many requests"),
  503: error("busy"),
};

export const GENERATIONS: Description = {
  tag: "OpenAI",
  summary: "OpenAI's images API: a picture from words",
  answers: ANSWERS,
};

export const EDITS: Description = {
  tag: "OpenAI",
  summary: "OpenAI's images API: a picture from a picture",
  answers: ANSWERS,
};

/** The form of an edit. */
export const EDIT: NamedSchema = {
  name: "ImageEdit",
  schema: imageEditSchema,
  byHand: {
    image: { type: "string", format: "binary", description: "JPEG, PNG or WebP" },
    mask: { type: "string", format: "binary", description: "of the picture's size; transparent is drawn anew" },
  },
};
