/**
 * `GET /openapi.json`: every route of this server, described (OpenAPI 3.1). Bodies are derived from the zod schemas that
 * check them, so that document and server cannot differ; answers are schemas too, which the tests hold the answers to.
 */
import { z } from "zod";
import { generationSchema, LIMITS, updateSchema } from "../src/engine/request.ts";
import { imageEditSchema, imageGenerationSchema } from "./openai-request.ts";
import { tokenRequestSchema } from "./token-route.ts";

const picture = z.object({
  url: z.string().describe("a data URI"),
  content_type: z.enum(["image/jpeg", "image/png", "image/webp"]),
  width: z.int(),
  height: z.int(),
});
const ids = { request_id: z.string(), input_id: z.string().optional() };
const seed = z.union([z.int(), z.string()]).describe("a decimal string where it is too large for a number");
const finished = {
  image: picture,
  images: z.array(picture),
  seed,
  prompt: z.string(),
  timings: z.record(z.string(), z.number()).describe("milliseconds, by phase"),
  warnings: z.array(z.string()).optional(),
  ...ids,
};
const fault = z.object({ loc: z.array(z.union([z.string(), z.int()])), msg: z.string(), type: z.string() });
const detail = z.union([z.string(), z.array(fault)]);
const at = { step: z.int(), steps: z.int(), progress: z.number().describe("0 to 1") };
const queueAddresses = { request_id: z.string(), response_url: z.url(), status_url: z.url(), cancel_url: z.url() };
const queueLog = z.object({ message: z.string(), level: z.string(), source: z.string(), timestamp: z.iso.datetime() });
const usage = z.object({
  total_tokens: z.int(),
  input_tokens: z.int(),
  output_tokens: z.int(),
  input_tokens_details: z.object({ text_tokens: z.int(), image_tokens: z.int() }),
});

/** What is answered. Named as in the document's components. */
export const ANSWERS = {
  Result: z.object(finished),
  Event: z.discriminatedUnion("type", [
    z.object({ type: z.literal("queued"), position: z.int(), ...ids }),
    z.object({ type: z.literal("progress"), ...at, elapsed_ms: z.number(), ...ids }),
    z.object({
      type: z.literal("preview"),
      image: picture,
      ...at,
      decoder: z.enum(["linear", "tiny", "full"]),
      ...ids,
    }),
    z.object({ type: z.literal("result"), ...finished }),
    z.object({
      type: z.literal("error"),
      detail,
      status: z.int(),
      retry_after: z.number().optional().describe("seconds after which the same request may succeed"),
      ...ids,
    }),
  ]),
  Failure: z.object({ detail }),
  Job: z.object({
    request_id: z.string(),
    state: z.enum(["queued", "running", "completed", "failed", "cancelled"]),
    position: z.int(),
    submitted_at: z.iso.datetime(),
    started_at: z.iso.datetime().nullable(),
    ended_at: z.iso.datetime().nullable(),
    last_event_id: z.int(),
  }),
  Done: z.object({
    status: z.enum(["CANCELLATION_REQUESTED", "UPDATE_REQUESTED", "ALREADY_COMPLETED", "NOT_UPDATABLE", "NOT_FOUND"]),
    detail: z.string().optional(),
  }),
  Token: z.object({
    token: z.string(),
    expires_in: z.int().describe("seconds"),
    subject: z.string().describe("pass it on when you ask for the next token: that one then owns what this one starts"),
  }),
  Health: z.looseObject({ status: z.literal("ok") }),
  Ready: z.object({ status: z.enum(["ready", "unready"]), reason: z.string().optional() }),
  QueueSubmission: z.object({ status: z.literal("IN_QUEUE"), queue_position: z.int(), ...queueAddresses }),
  QueueStatus: z.object({
    status: z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]),
    ...queueAddresses,
    queue_position: z.int().optional(),
    logs: z.array(queueLog).nullish(),
    metrics: z.object({ inference_time: z.number().describe("seconds") }).optional(),
    error: z.string().optional(),
  }),
  ImagesResponse: z.object({
    created: z.int(),
    data: z.array(z.object({ b64_json: z.string().optional(), url: z.string().optional() })),
    size: z.string(),
    quality: z.enum(["low", "medium", "high"]),
    background: z.literal("opaque"),
    output_format: z.enum(["png", "jpeg", "webp"]),
    usage,
  }),
  ImagesEvent: z.object({
    type: z.string(),
    b64_json: z.string(),
    partial_image_index: z.int().optional(),
    created_at: z.int(),
    size: z.string(),
    quality: z.string(),
    background: z.string(),
    output_format: z.string(),
    usage: usage.optional(),
  }),
  OpenAiError: z.object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string().nullable(),
    }),
  }),
} as const;
type AnswerName = keyof typeof ANSWERS;

/** What is asked, by the schemas that check it. */
const QUESTIONS = {
  Generation: generationSchema,
  Update: updateSchema,
  TokenRequest: tokenRequestSchema,
  ImageGeneration: imageGenerationSchema,
  ImageEdit: imageEditSchema,
} as const;
type QuestionName = keyof typeof QUESTIONS;

type Json = Record<string, unknown>;

const EVENT_STREAM = "text/event-stream";

interface Answer {
  readonly description: string;
  readonly schema?: AnswerName;
  /** Left out: JSON. */
  readonly type?: string;
  /** A second form of the same answer. */
  readonly or?: { readonly schema: AnswerName; readonly type: string };
}

/** One route as it is described. */
export interface RouteDescription {
  readonly method: "get" | "post" | "put" | "patch" | "delete";
  /** In OpenAPI's form: `/jobs/{job}`. */
  readonly path: string;
  readonly tag: "pictures" | "jobs" | "OpenAI" | "queue" | "server";
  readonly summary: string;
  readonly open?: true;
  readonly parameters?: readonly Json[];
  readonly body?: { readonly schema: QuestionName; readonly type?: string; readonly optional?: true };
  readonly answers: Readonly<Record<number, Answer>>;
}

const failure = (description: string): Answer => ({ description, schema: "Failure" });
const COMMON: Readonly<Record<number, Answer>> = {
  401: failure("no valid key or token"),
  403: failure("not with this key, or not from this page"),
  421: failure("not under this name: the setting hosts, or public_url, says which are the server's"),
  429: failure("too many requests; Retry-After says when"),
};
const STARTS: Readonly<Record<number, Answer>> = {
  ...COMMON,
  400: failure("not JSON"),
  408: failure("the body came too slowly while others needed the memory; send it again"),
  409: failure("a job with this request_id exists, and asks something else"),
  413: failure("too long, or too many values"),
  422: failure("fields at fault, each with its place"),
  503: failure("the line is full, or the server is restarting; Retry-After says when"),
  504: failure("stopped at its deadline"),
};
const openaiError = (description: string): Answer => ({ description, schema: "OpenAiError" });
const OPENAI: Readonly<Record<number, Answer>> = {
  400: openaiError("fields at fault"),
  401: openaiError("no valid key or token"),
  403: openaiError("not with this key"),
  404: openaiError("another model"),
  408: openaiError("the body came too slowly while others needed the memory"),
  413: openaiError("too long, or too many values"),
  421: openaiError("not under this name"),
  429: openaiError("too many requests"),
  503: openaiError("busy"),
};
const GONE: Readonly<Record<number, Answer>> = { 404: failure("no such job"), 410: failure("no longer held") };

const inPath = (name: string, description: string, pattern?: string): Json => ({
  name,
  in: "path",
  required: true,
  description,
  schema: { type: "string", ...(pattern && { pattern }) },
});
const inQuery = (name: string, description: string, schema: Json = { type: "string" }): Json => ({
  name,
  in: "query",
  description,
  schema,
});
const inHeader = (name: string, description: string): Json => ({
  name,
  in: "header",
  description,
  schema: { type: "string" },
});
const JOB = inPath("job", "the request_id that every event and the header x-request-id carry");
const APP = inPath("app", "what the client calls the model, such as owner/name; it may hold slashes");
const REQUEST = inPath("id", "the request_id");
const IDEMPOTENCY = inHeader("Idempotency-Key", "the same key with the same input joins the job that it started");
const STREAM: Answer = { description: "numbered events; the last is the result", schema: "Event", type: EVENT_STREAM };
const HOW_TO_STREAM = [
  inQuery("detached", "true: the job goes on when nobody watches"),
  inQuery("resume_grace_s", "seconds that the job waits for a broken connection to come back", { type: "number" }),
];

export const ROUTES: readonly RouteDescription[] = [
  {
    method: "post",
    path: "/",
    tag: "pictures",
    summary: "The finished picture",
    parameters: [IDEMPOTENCY],
    body: { schema: "Generation" },
    answers: { 200: { description: "the picture", schema: "Result" }, ...STARTS },
  },
  {
    method: "post",
    path: "/stream",
    tag: "pictures",
    summary: "The picture while it forms, as server-sent events",
    parameters: [...HOW_TO_STREAM, IDEMPOTENCY],
    body: { schema: "Generation" },
    answers: { 200: STREAM, ...STARTS },
  },
  {
    method: "get",
    path: "/stream",
    tag: "pictures",
    summary: "The same for EventSource: the fields of a generation in the query",
    parameters: [
      { ...inQuery("prompt", "what it should be"), required: true },
      inQuery("request_id", "the job's id; with it a broken EventSource goes on where it stopped"),
      inQuery("fal_jwt_token", "a token, where no header can be sent"),
      ...HOW_TO_STREAM,
    ],
    answers: { 200: STREAM, 204: { description: "ended and seen to the end" }, ...STARTS },
  },
  {
    method: "get",
    path: "/stream/{job}",
    tag: "pictures",
    summary: "Follow a job, or go on after the last event seen",
    parameters: [
      JOB,
      inHeader("Last-Event-ID", "the number of the last event seen"),
      inQuery("after", "the same, in the address", { type: "integer" }),
    ],
    answers: {
      200: STREAM,
      204: { description: "ended and seen to the end" },
      400: failure("not a number"),
      ...COMMON,
      ...GONE,
    },
  },
  {
    method: "get",
    path: "/realtime",
    tag: "pictures",
    summary: "WebSocket of msgpack messages: requests in, events out",
    parameters: [
      inQuery("fal_jwt_token", "a token"),
      inQuery("max_buffering", "requests that may wait, 1 to 60"),
      inQuery("mode", "queue: every request is answered, in order; else the latest wins"),
      inQuery("session", "the session to take up again, as its first frame has named it"),
      inQuery("after", "with session: the last event_id seen of each request, as request:event,request:event"),
    ],
    answers: { 101: { description: "switching to WebSocket" }, 426: failure("not a WebSocket"), ...COMMON },
  },
  {
    method: "get",
    path: "/jobs/{job}",
    tag: "jobs",
    summary: "A job's state and times",
    parameters: [JOB],
    answers: { 200: { description: "its state", schema: "Job" }, ...COMMON, ...GONE },
  },
  {
    method: "patch",
    path: "/jobs/{job}",
    tag: "jobs",
    summary: "Change a running job from its next step on",
    parameters: [JOB],
    body: { schema: "Update" },
    answers: {
      202: { description: "asked", schema: "Done" },
      400: { description: "ended already", schema: "Done" },
      409: { description: "the run takes no changes", schema: "Done" },
      422: failure("fields at fault"),
      ...COMMON,
      ...GONE,
    },
  },
  {
    method: "delete",
    path: "/jobs/{job}",
    tag: "jobs",
    summary: "Cancel a job before its next step",
    parameters: [JOB],
    answers: {
      202: { description: "asked", schema: "Done" },
      400: { description: "ended already", schema: "Done" },
      ...COMMON,
      ...GONE,
    },
  },
  {
    method: "post",
    path: "/v1/images/generations",
    tag: "OpenAI",
    summary: "OpenAI's images API: a picture from words",
    body: { schema: "ImageGeneration" },
    answers: {
      200: {
        description: "the pictures, or with stream their events",
        schema: "ImagesResponse",
        or: { schema: "ImagesEvent", type: EVENT_STREAM },
      },
      ...OPENAI,
    },
  },
  {
    method: "post",
    path: "/v1/images/edits",
    tag: "OpenAI",
    summary: "OpenAI's images API: a picture from a picture",
    body: { schema: "ImageEdit", type: "multipart/form-data" },
    answers: {
      200: {
        description: "the pictures, or with stream their events",
        schema: "ImagesResponse",
        or: { schema: "ImagesEvent", type: EVENT_STREAM },
      },
      ...OPENAI,
    },
  },
  {
    method: "post",
    path: "/queue/{app}",
    tag: "queue",
    summary: "fal's queue: submit",
    parameters: [APP, inQuery("fal_webhook", "where the result is posted; hosts that the server lists"), IDEMPOTENCY],
    body: { schema: "Generation" },
    answers: { 200: { description: "admitted", schema: "QueueSubmission" }, ...STARTS },
  },
  {
    method: "get",
    path: "/queue/{app}/requests/{id}/status",
    tag: "queue",
    summary: "fal's queue: how far it is",
    parameters: [APP, REQUEST, inQuery("logs", "1: with its steps")],
    answers: {
      200: { description: "it has ended", schema: "QueueStatus" },
      202: { description: "it waits or runs", schema: "QueueStatus" },
      ...COMMON,
      ...GONE,
    },
  },
  {
    method: "get",
    path: "/queue/{app}/requests/{id}/status/stream",
    tag: "queue",
    summary: "fal's queue: how far it is, as server-sent events until it has ended",
    parameters: [APP, REQUEST, inQuery("logs", "1: with its steps")],
    answers: { 200: { description: "statuses", schema: "QueueStatus", type: EVENT_STREAM }, ...COMMON, ...GONE },
  },
  {
    method: "get",
    path: "/queue/{app}/requests/{id}",
    tag: "queue",
    summary: "fal's queue: the result, or the failure with its status",
    parameters: [APP, REQUEST],
    answers: {
      200: { description: "the result", schema: "Result" },
      400: failure("still in progress"),
      499: failure("cancelled"),
      ...COMMON,
      ...GONE,
    },
  },
  {
    method: "put",
    path: "/queue/{app}/requests/{id}/cancel",
    tag: "queue",
    summary: "fal's queue: cancel",
    parameters: [APP, REQUEST],
    answers: {
      202: { description: "asked", schema: "Done" },
      400: { description: "ended already", schema: "Done" },
      404: { description: "no such job", schema: "Done" },
      401: COMMON[401] as Answer,
      403: COMMON[403] as Answer,
    },
  },
  {
    method: "post",
    path: "/auth/token",
    tag: "server",
    summary: "A short-lived token for a browser, for a key",
    body: { schema: "TokenRequest", optional: true },
    answers: {
      200: { description: "the token", schema: "Token" },
      400: failure("not JSON"),
      404: failure("no tokens are made here"),
      413: failure("too long"),
      422: failure("fields at fault"),
      ...COMMON,
    },
  },
  {
    method: "get",
    path: "/",
    tag: "server",
    summary: "The playground for browsers, a few words for others",
    open: true,
    answers: { 200: { description: "a page, or text", type: "text/html" } },
  },
  {
    method: "get",
    path: "/health",
    tag: "server",
    summary: "What runs here",
    open: true,
    answers: { 200: { description: "version, adapter, model", schema: "Health" } },
  },
  {
    method: "get",
    path: "/ready",
    tag: "server",
    summary: "Whether a picture could be made now",
    open: true,
    answers: { 200: { description: "yes", schema: "Ready" }, 503: { description: "no, and why", schema: "Ready" } },
  },
  {
    method: "get",
    path: "/metrics",
    tag: "server",
    summary: "Figures for Prometheus",
    answers: {
      200: { description: "text exposition format", type: "text/plain" },
      401: COMMON[401] as Answer,
      403: COMMON[403] as Answer,
    },
  },
  {
    method: "get",
    path: "/openapi.json",
    tag: "server",
    summary: "This document",
    open: true,
    answers: { 200: { description: "OpenAPI 3.1" } },
  },
  {
    method: "get",
    path: "/docs",
    tag: "server",
    summary: "This document as a page",
    open: true,
    answers: { 200: { description: "a page", type: "text/html" } },
  },
];

export interface DocumentOptions {
  readonly version: string;
  /** Whether credentials are asked for. */
  readonly secured: boolean;
  /** Patterns of the app that are really there (`/jobs/:job`), each with its method; only these are described. */
  readonly present: (route: RouteDescription) => boolean;
}

/** The document, as JSON. */
export function openapiDocument({ version, secured, present }: DocumentOptions): Json {
  const paths: Record<string, Json> = {};
  for (const route of ROUTES.filter(present)) {
    paths[route.path] = { ...paths[route.path], [route.method]: operation(route, secured) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Daguerre",
      version,
      description: "Diffusion over HTTP: pictures while they form. Events and limits are told in the README.",
      license: { name: "MIT", identifier: "MIT" },
    },
    paths,
    components: {
      schemas: {
        ...mapValues(QUESTIONS, (schema) => jsonSchema(schema, "input")),
        ...mapValues(ANSWERS, (schema) => jsonSchema(schema, "output")),
      },
      ...(secured && {
        securitySchemes: { key: { type: "http", scheme: "bearer", description: "a key, or a token for browsers" } },
      }),
    },
  };
}

function operation({ tag, summary, parameters, body, answers, open }: RouteDescription, secured: boolean): Json {
  return {
    tags: [tag],
    summary,
    ...(parameters && { parameters }),
    ...(body && {
      requestBody: {
        required: body.optional !== true,
        content: { [body.type ?? "application/json"]: { schema: reference(body.schema) } },
      },
    }),
    responses: mapValues(answers, ({ description, schema, type = "application/json", or }) => ({
      description,
      ...((schema ?? (type !== "application/json" ? type : undefined)) !== undefined && {
        content: {
          [type]: { schema: schema === undefined ? { type: "string" } : reference(schema) },
          ...(or && { [or.type]: { schema: reference(or.schema) } }),
        },
      }),
    })),
    ...(secured && !open && { security: [{ key: [] }] }),
  };
}

const reference = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });

function mapValues<T extends object>(object: T, change: (value: T[keyof T]) => unknown): Json {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value as T[keyof T])]));
}

/** What JSON Schema cannot say of our schemas, said by hand: bytes, and numbers beyond 2^53. */
const BY_HAND: Readonly<Record<string, Json>> = {
  seed: {
    anyOf: [
      { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
      { type: "string", pattern: "^\\d{1,20}$", description: `decimal, up to ${LIMITS.seed}` },
    ],
  },
  image: {
    type: "string",
    description: "the picture to start from, as a data URI (data:image/png;base64,…), or its base64 alone",
  },
  image_url: { type: "string", description: "fal's name for image; addresses are not fetched" },
};
const PICTURE_FILE: Json = { type: "string", format: "binary", description: "JPEG, PNG or WebP" };

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const made = z.toJSONSchema(schema, { io, unrepresentable: "any" }) as Json;
  delete made.$schema;
  const properties = made.properties as Json | undefined;
  if (io === "output" || properties === undefined) return made;
  for (const [name, instead] of Object.entries(BY_HAND)) {
    if (name in properties) properties[name] = schema === imageEditSchema && name === "image" ? PICTURE_FILE : instead;
  }
  return made;
}
