/** How the routes of fal's queue are described. */
import { z } from "zod";
import { DONE, DONE_ANSWERS } from "../job-routes.ts";
import {
  type Answer,
  COMMON,
  CREDENTIAL,
  type Description,
  EVENT,
  failure,
  GENERATION,
  GONE,
  IDEMPOTENCY,
  inPath,
  inQuery,
  type NamedSchema,
  RESULT as RESULT_SCHEMA,
  STARTS,
} from "../openapi/describe.ts";
import { EVENT_STREAM } from "../stream/job-stream.ts";

const addresses = { request_id: z.string(), response_url: z.url(), status_url: z.url(), cancel_url: z.url() };
const log = z.object({ message: z.string(), level: z.string(), source: z.string(), timestamp: z.iso.datetime() });

const SUBMISSION: NamedSchema = {
  name: "QueueSubmission",
  schema: z.object({ status: z.literal("IN_QUEUE"), queue_position: z.int(), ...addresses }),
};
const QUEUE_STATUS: NamedSchema = {
  name: "QueueStatus",
  schema: z.object({
    status: z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]),
    ...addresses,
    queue_position: z.int().optional(),
    logs: z.array(log).nullish(),
    metrics: z.object({ inference_time: z.number().describe("seconds") }).optional(),
    error: z.string().optional(),
  }),
};

const APP = inPath("app", "what the client calls the model, such as owner/name; it may hold slashes");
const NO_APP: Readonly<Record<number, Answer>> = { 404: failure("no such app") };

export const APP_RUN: Description = {
  tag: "fal",
  summary: "fal.run: the finished picture",
  parameters: [APP, IDEMPOTENCY],
  body: { schema: GENERATION },
  answers: { 200: { description: "the picture", schema: RESULT_SCHEMA }, ...STARTS, ...NO_APP },
};

export const APP_STREAM: Description = {
  tag: "fal",
  summary: "fal.run: the picture while it forms, as server-sent events",
  parameters: [APP, IDEMPOTENCY],
  body: { schema: GENERATION },
  answers: {
    200: { description: "numbered events; the last is the result", schema: EVENT, type: EVENT_STREAM },
    ...STARTS,
    ...NO_APP,
  },
};

const UPGRADE: Readonly<Record<number, Answer>> = {
  101: { description: "switching to WebSocket" },
  426: failure("not a WebSocket"),
  ...COMMON,
  ...NO_APP,
};

export const APP_REALTIME: Description = {
  tag: "fal",
  summary: "fal.run: WebSocket of msgpack messages, as /realtime",
  parameters: [APP],
  answers: UPGRADE,
};

export const APP_WEBSOCKET: Description = {
  tag: "fal",
  summary: "ws.fal.run: WebSocket of JSON; each message is the body of a request, answered in order",
  parameters: [APP],
  answers: UPGRADE,
};
const REQUEST = [APP, inPath("id", "the request_id")];
const LOGS = inQuery("logs", "1: with its steps");

export const SUBMIT: Description = {
  tag: "fal",
  summary: "fal's queue: submit",
  parameters: [APP, inQuery("fal_webhook", "where the result is posted; hosts that the server lists"), IDEMPOTENCY],
  body: { schema: GENERATION },
  answers: { 200: { description: "admitted", schema: SUBMISSION }, ...STARTS },
};

export const STATUS: Description = {
  tag: "fal",
  summary: "fal's queue: how far it is",
  parameters: [...REQUEST, LOGS],
  answers: {
    200: { description: "it has ended", schema: QUEUE_STATUS },
    202: { description: "it waits or runs", schema: QUEUE_STATUS },
    ...COMMON,
    ...GONE,
  },
};

export const STATUS_STREAM: Description = {
  tag: "fal",
  summary: "fal's queue: how far it is, as server-sent events until it has ended",
  parameters: [...REQUEST, LOGS],
  answers: { 200: { description: "statuses", schema: QUEUE_STATUS, type: EVENT_STREAM }, ...COMMON, ...GONE },
};

export const RESULT: Description = {
  tag: "fal",
  summary: "fal's queue: the result, or the failure with its status",
  parameters: REQUEST,
  answers: {
    200: { description: "the result", schema: RESULT_SCHEMA },
    400: failure("still in progress"),
    499: failure("cancelled"),
    ...COMMON,
    ...GONE,
  },
};

export const CANCEL: Description = {
  tag: "fal",
  summary: "fal's queue: cancel",
  parameters: REQUEST,
  answers: { ...DONE_ANSWERS, 404: { description: "no such job", schema: DONE }, ...CREDENTIAL },
};
