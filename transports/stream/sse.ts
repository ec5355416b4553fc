/**
 * A run, or the jobs of a store, as server-sent events: `app.post("/stream", sse(run))`. Format: https://html.spec.whatwg.org/#server-sent-events.
 *
 * What is peculiar here, each for a client that needs it:
 * - The answer is always `text/event-stream`, whatever was accepted; headers leave before the first picture is ready.
 * - There is no `event:` line (a named event never reaches `EventSource.onmessage`) and no `[DONE]`: the last event is
 *   the result, and the type is inside the JSON.
 * - A heartbeat is a comment ended by one newline. A blank line would end a block, which some readers then deliver as
 *   an empty event.
 * - A failed run sends an `error` event and then destroys the connection: a stream that ends cleanly has its result.
 *
 * Nothing is buffered ahead of the socket (`job-stream.ts`); previews that nobody could have read are never encoded, and
 * what many read is encoded once (`frames.ts`).
 *
 * A stream that broke goes on at `GET /stream/{job}` (`resume`), if the job still runs or its log is held: a job outlives
 * its last client by the grace period that the client asked for with `?resume_grace_s=`, or, being `?detached=true`, runs
 * on to its end. A GET that names its job (`request_id`) has a grace period without asking, because `EventSource` comes
 * back to the same address by itself.
 * (Hono's `streamSSE` swallows write errors and turns a thrown error into a clean end, so it is not used.)
 */
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { Job, Jobs } from "../../src/jobs/jobs.ts";
import { failureOf, failureResponse, isServerFault } from "../failure.ts";
import { inputSource, readInput } from "../http/input.ts";
import { type JobRequestOptions, jobsOf, RESUME, type Source, submit, viewerOf } from "../source.ts";
import { envelopeOf, envelopeOfJob, idHeaders } from "../wire/wire.ts";
import { Frames } from "./frames.ts";
import { EVENT_STREAM, type StreamOptions, type StreamProtocol, streamResponse } from "./job-stream.ts";
import { previewPace } from "./preview-pace.ts";
import { earlyFailure, watchFor } from "./reading.ts";
import { streamFormat } from "./stream-format.ts";

export interface SseOptions<Input> extends JobRequestOptions<Input>, StreamOptions {
  /**
   * What the answer is made of, if not of server-sent events: `application/x-ndjson`, `text/plain`, or any type of bytes;
   * see `stream-format.ts`.
   */
  contentType?: string;
  /**
   * Milliseconds the headers may wait for the run's first word. A run that fails within them is answered with a status
   * (422, 429, 503) instead of a stream; a run that has not spoken by then gets its headers anyway.
   */
  headersWithinMs?: number;
  /** Seconds that a client may ask its job to wait for it when a stream has broken. */
  maxGraceS?: number;
}

const HEADERS_WITHIN_MS = 100;

/** Milliseconds that an `EventSource` has to come back to a job that it named. */
const EVENT_SOURCE_GRACE_MS = 10_000;

/** `POST /stream` and `GET /stream?prompt=…`: submits a job and follows it from its beginning. */
export function sse<Input, Event>(
  source: Source<Input, Event>,
  options: SseOptions<Input> = {},
): (c: Context) => Promise<Response> {
  const jobs = jobsOf(source);

  return async (c) => {
    if (c.req.method === "GET" && c.req.header("last-event-id") !== undefined) {
      const known = jobs.get(c.req.query("request_id") ?? "", viewerOf(c, options.ownerOf));
      // An EventSource that comes back would start the run anew; 204 tells it to stay away.
      if (known === undefined) return new Response(null, { status: 204 });
      return resumed(c, known, options);
    }
    let headers = idHeaders(envelopeOf(undefined));
    try {
      const input = await readInput(c, options);
      const { requestId: id } = envelopeOf(input);
      headers = idHeaders({ requestId: id });
      const detached = c.req.query("detached") === "true";
      const job = submit(c, jobs, input, options, { id, detached, graceMs: graceOf(c, options) });
      return await stream(c, job, 0, options);
    } catch (error) {
      return refused(c, error, headers, options);
    }
  };
}

/** `GET /stream/{job}`: goes on after `Last-Event-ID` (or `?after=`). 204 when all was seen, 410 when the log is gone. */
export function resume<Input, Event>(
  jobs: Jobs<Input, Event>,
  options: SseOptions<Input> = {},
): (c: Context) => Promise<Response> {
  return async (c) => {
    const id = c.req.param("job") ?? "";
    const headers = /^[\w.:-]{1,128}$/.test(id) ? idHeaders({ requestId: id }) : {};
    try {
      return await resumed(c, jobs.find(id, viewerOf(c, options.ownerOf)), options);
    } catch (error) {
      return refused(c, error, headers, options);
    }
  };
}

function refused<Input>(c: Context, error: unknown, headers: Record<string, string>, { onError }: SseOptions<Input>) {
  const failure = failureOf(error, inputSource(c));
  if (isServerFault(error)) onError?.(error, headers["x-request-id"] ?? "");
  return failureResponse(failure, headers);
}

function resumed<Input, Event>(c: Context, job: Job<Input, Event>, options: SseOptions<Input>): Promise<Response> {
  const asked = c.req.header("last-event-id") ?? c.req.query("after") ?? "0";
  if (!/^\d{1,15}$/.test(asked)) throw new HTTPException(400, { message: "Last-Event-ID must be a whole number" });
  const after = Number(asked);
  if (job.log.ended && after === job.log.lastId) {
    return Promise.resolve(new Response(null, { status: 204, headers: idHeaders({ requestId: job.id }) }));
  }
  return stream(c, job, after, options);
}

function graceOf<Input>(c: Context, { maxGraceS = RESUME.streamSeconds }: SseOptions<Input>): number | undefined {
  const seconds = Number(c.req.query("resume_grace_s") ?? Number.NaN);
  if (Number.isFinite(seconds)) return Math.min(Math.max(seconds, 0), maxGraceS) * 1000;
  const named = c.req.method === "GET" && c.req.query("request_id") !== undefined;
  return named ? Math.min(EVENT_SOURCE_GRACE_MS, maxGraceS * 1000) : undefined;
}

async function stream<Input, Event>(
  c: Context,
  job: Job<Input, Event>,
  after: number,
  options: SseOptions<Input>,
): Promise<Response> {
  const { headersWithinMs = HEADERS_WITHIN_MS, contentType = EVENT_STREAM, onError } = options;
  const envelope = envelopeOfJob(job, options.tracing);
  const pace = previewPace(envelope.previews.maxFps);
  const reader = watchFor(c, job, { after, holdMs: pace.holdMs });
  if (after === 0) {
    const early = await earlyFailure(job.log, headersWithinMs);
    if (early !== undefined) {
      reader.close();
      return refused(c, early.error, idHeaders(envelope), options);
    }
  }
  const format = streamFormat(contentType);
  const frames = new Frames(job, { contentType, format, envelope, source: inputSource(c), onError });
  const protocol: StreamProtocol<Event> = {
    contentType,
    heartbeat: format.heartbeat,
    async *say(entry) {
      const { said, failed } = await frames.of(entry);
      if (entry.slot !== undefined) pace.sent(entry.slot);
      if (said !== undefined) yield said;
      return failed ? "failed" : undefined;
    },
  };
  return streamResponse(c, reader, protocol, options, idHeaders(envelope));
}
