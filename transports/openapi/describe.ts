/** The parts of the description of a route (`route.ts`), and those that many routes share. */
import { z } from "zod";
import { generationSchema } from "../../src/engine/request.ts";
import { detailSchema, resultSchema, wireEventSchema } from "../wire/events.ts";

export type Json = Record<string, unknown>;

/** A schema under the name that it has in the document. */
export interface NamedSchema {
  readonly name: string;
  readonly schema: z.ZodType;
  /** Fields of a body that JSON Schema cannot derive, by hand. */
  readonly byHand?: Readonly<Record<string, Json>>;
}

export interface Answer {
  readonly description: string;
  readonly schema?: NamedSchema;
  /** Left out: JSON. */
  readonly type?: string;
  /** A second encoding of the same answer. */
  readonly or?: { readonly schema: NamedSchema; readonly type: string };
}

export interface Description {
  readonly tag: "pictures" | "jobs" | "OpenAI" | "fal" | "A1111" | "server";
  readonly summary: string;
  readonly parameters?: readonly Json[];
  readonly body?: { readonly schema: NamedSchema; readonly type?: string; readonly optional?: true };
  readonly answers: Readonly<Record<number, Answer>>;
}

/** A body that is a generation; the schema is the one that checks it. */
export const GENERATION: NamedSchema = { name: "Generation", schema: generationSchema };
export const RESULT: NamedSchema = { name: "Result", schema: resultSchema };
export const EVENT: NamedSchema = { name: "Event", schema: wireEventSchema };
export const FAILURE: NamedSchema = { name: "Failure", schema: z.object({ detail: detailSchema }) };

export const failure = (description: string): Answer => ({ description, schema: FAILURE });

/** Refusals of the gate. */
export const CREDENTIAL = {
  401: failure("no valid key or token"),
  403: failure("not with this key, or not from this page"),
};
export const COMMON: Readonly<Record<number, Answer>> = {
  ...CREDENTIAL,
  421: failure("not under this name: the setting hosts, or public_url, says which are the server's"),
  429: failure("too many requests; Retry-After says when"),
};
/** The possible answers to a request that starts a job. */
export const STARTS: Readonly<Record<number, Answer>> = {
  ...COMMON,
  400: failure("not JSON"),
  408: failure("the body came too slowly while others needed the memory; send it again"),
  409: failure("a job with this request_id exists, and asks something else"),
  413: failure("too long, or too many values"),
  415: failure("compressed: send it without Content-Encoding"),
  422: failure("fields at fault, each with its place"),
  503: failure("the line is full, or the server is restarting; Retry-After says when"),
  504: failure("stopped at its deadline"),
};
export const GONE: Readonly<Record<number, Answer>> = {
  404: failure("no such job"),
  410: failure("no longer held"),
};

export const inPath = (name: string, description: string): Json => ({
  name,
  in: "path",
  required: true,
  description,
  schema: { type: "string" },
});
export const inQuery = (name: string, description: string, schema: Json = { type: "string" }): Json => ({
  name,
  in: "query",
  description,
  schema,
});
export const inHeader = (name: string, description: string): Json => ({
  name,
  in: "header",
  description,
  schema: { type: "string" },
});

export const JOB = inPath("job", "the request_id that every event and the header x-request-id carry");
export const IDEMPOTENCY = inHeader(
  "Idempotency-Key",
  "the same key with the same input joins the job that it started",
);
