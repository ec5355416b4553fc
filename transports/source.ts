/**
 * The source of a transport: a run, the jobs of a store that others share, or a run's events themselves (a generator
 * object, an array, a `ReadableStream`). The last serves as often as it can be read: a generator object once, so it is
 * for a handler of its own: `app.get("/thumbnails", (c) => sse(map(files, thumbnail))(c))`.
 */
import type { Context } from "hono";
import {
  createJobs,
  type Job,
  type Jobs,
  type JobsOptions,
  type SubmitOptions,
  type Viewer,
} from "../src/jobs/jobs.ts";
import type { AnyRun } from "../src/jobs/run.ts";
import { clientOf } from "./http/client.ts";
import type { InputOptions } from "./http/input.ts";
import type { AnswerOptions } from "./stream/outflow.ts";

export type Source<Input, Event> = Jobs<Input, Event> | AnyRun<Input, Event> | AsyncIterable<Event> | Iterable<Event>;

/** The default times for which jobs wait for clients whose connection broke. */
export const RESUME = {
  /** Seconds that the client of a stream may ask for, at most. */
  streamSeconds: 120,
  /** Milliseconds that a realtime session waits. */
  sessionMs: 15_000,
};

/** The store of jobs behind a source; one of its own where it has none. */
export function jobsOf<Input, Event>(
  source: Source<Input, Event>,
  options: JobsOptions<Event> = {},
): Jobs<Input, Event> {
  if (typeof source === "function") return createJobs(source, options);
  if ("submit" in source) return source;
  return createJobs(() => source, options);
}

export type OwnerOf = (c: Context) => string | undefined;

/** The client that asks for a job; undefined if jobs have no owners, and everybody who knows an id may see its job. */
export function viewerOf(c: Context, ownerOf: OwnerOf | undefined): Viewer | undefined {
  return ownerOf && { owner: ownerOf(c) };
}

/** The options that the transports over HTTP have in common. */
export interface JobRequestOptions<Input> extends InputOptions<Input>, AnswerOptions {
  /** Milliseconds that a job may take, waiting included. */
  deadlineMs?: number;
  /** The owner of this client's requests; a job is shown to nobody else. */
  ownerOf?: OwnerOf;
  /** Called with every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
}

/** Submits the job that a request asks for. */
export function submit<Input, Event>(
  c: Context,
  jobs: Jobs<Input, Event>,
  input: Input,
  { deadlineMs, ownerOf, clientOf: whose = clientOf }: JobRequestOptions<Input>,
  how: Pick<SubmitOptions, "id" | "detached" | "graceMs" | "takesUp">,
): Job<Input, Event> {
  return jobs.submit(input, {
    ...how,
    owner: ownerOf?.(c),
    client: whose(c),
    idempotencyKey: c.req.header("idempotency-key"),
    deadlineMs,
  });
}
