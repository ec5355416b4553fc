/**
 * A run, or the jobs of a store, as server-sent events: `app.post("/stream", sse(run))`. Format: https://html.spec.whatwg.org/#server-sent-events.
 *
 * Peculiarities, each for a client that needs it:
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
 * A client that comes back names the last event that it has (`last-event-id.ts`) and goes on in the same job: at
 * `GET /stream/{job}` (`resume`), or at the address of its first request, with the same input, over GET or POST. No run is
 * begun for it; 204 if nothing follows. Its job must still run, or its log be held: a job outlives its last client by the
 * grace period that the client asked for with `?resume_grace_s=`, or, being `?detached=true`, runs on to its end. Clients
 * that come back by themselves have a grace period without asking (`comesBack`).
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
import { EVENT_STREAM, type StreamOptions, type StreamProtocol, streamAnswer, streamResponse } from "./job-stream.ts";
import { goesOn, placeOf, withoutPlace } from "./last-event-id.ts";
import { previewPace } from "./preview-pace.ts";
import { earlyFailure, readsNothing, watchFor } from "./reading.ts";
import { streamFormat } from "./stream-format.ts";

export interface SseOptions<Input> extends JobRequestOptions<Input>, StreamOptions {
  /**
   * The content type of the answer, if it is not server-sent events: `application/x-ndjson`, `text/plain`, or any type of bytes;
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

/** Milliseconds that a client of the kind of `EventSource` has to come back. The slowest, Firefox, waits for five seconds. */
const RETURN_MS = 10_000;

/** `POST /stream` and `GET /stream?prompt=…`: submits a job and follows it, or goes on in the one that it names. */
export function sse<Input, Event>(
  source: Source<Input, Event>,
  options: SseOptions<Input> = {},
): (c: Context) => Promise<Response> {
  const jobs = jobsOf(source);
  const { parse = (raw: unknown) => raw as Input } = options;
  const reading: SseOptions<Input> = {
    ...options,
    parse: (raw, source, c) => parse(source === "query" ? withoutPlace(raw as Record<string, string>) : raw, source, c),
  };

  return async (c) => {
    let headers = idHeaders(envelopeOf(undefined));
    try {
      const place = placeOf(c);
      const viewer = viewerOf(c, options.ownerOf);
      const goOn = (job: Job<Input, Event> | undefined) =>
        // A client that comes back has seen a beginning; another run would be another picture.
        job === undefined ? new Response(null, { status: 204 }) : resumed(c, job, place?.after ?? 0, options);
      const named = place && jobNamedAlone(c);
      if (named !== undefined) return await goOn(jobs.get(place?.job ?? named, viewer));
      const input = await readInput(c, reading);
      const { requestId: id } = envelopeOf(input);
      headers = idHeaders({ requestId: id });
      if (goesOn(place)) {
        const idempotencyKey = c.req.header("idempotency-key");
        const names = place.job === undefined ? { id, idempotencyKey } : { id: place.job };
        return await goOn(jobs.rejoin(input, names, viewer));
      }
      if (readsNothing(c)) return streamAnswer(null, options.contentType);
      const detached = c.req.query("detached") === "true";
      // A client that comes back before the first event cannot name its job, unless it has named it itself.
      const takesUp = comesBack(c) && !namesRequest(c, input);
      const job = submit(c, jobs, input, options, { id, detached, takesUp, graceMs: graceOf(c, options) });
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
      const job = jobs.find(id, viewerOf(c, options.ownerOf));
      const place = placeOf(c) ?? { job: undefined, after: afterOf(c) };
      if (place.job !== undefined && place.job !== id) {
        throw new HTTPException(400, { message: "Last-Event-ID names an event of another job" });
      }
      return await resumed(c, job, place.after, options);
    } catch (error) {
      return refused(c, error, headers, options);
    }
  };
}

/** @throws HTTPException 400 */
function afterOf(c: Context): number {
  const text = c.req.query("after") ?? "0";
  if (!/^\d{1,15}$/.test(text)) throw new HTTPException(400, { message: "after must be a whole number" });
  return Number(text);
}

function namesRequest(c: Context, input: unknown): boolean {
  const { request_id } = (input ?? {}) as { request_id?: unknown };
  return request_id !== undefined || c.req.header("idempotency-key") !== undefined;
}

/** The job that a GET names, if it asks for nothing besides: such a request has no input that could be another. */
function jobNamedAlone(c: Context): string | undefined {
  const { request_id, ...others } = withoutPlace(c.req.query());
  return c.req.method !== "POST" && Object.keys(others).length === 0 ? request_id : undefined;
}

function refused<Input>(c: Context, error: unknown, headers: Record<string, string>, { onError }: SseOptions<Input>) {
  const failure = failureOf(error, inputSource(c));
  if (isServerFault(error)) onError?.(error, headers["x-request-id"] ?? "");
  return failureResponse(failure, headers);
}

/** @throws JobError `log-gone`, `beyond-log` */
async function resumed<Input, Event>(
  c: Context,
  job: Job<Input, Event>,
  after: number,
  options: SseOptions<Input>,
): Promise<Response> {
  if (job.log.ended && after === job.log.lastId) {
    return new Response(null, { status: 204, headers: idHeaders({ requestId: job.id }) });
  }
  return stream(c, job, after, options);
}

function graceOf<Input>(c: Context, { maxGraceS = RESUME.streamSeconds }: SseOptions<Input>): number | undefined {
  const seconds = Number(c.req.query("resume_grace_s") ?? Number.NaN);
  if (Number.isFinite(seconds)) return Math.min(Math.max(seconds, 0), maxGraceS) * 1000;
  return comesBack(c) ? Math.min(RETURN_MS, maxGraceS * 1000) : undefined;
}

/**
 * True if a client comes back by itself when its connection breaks: one that names its request for this purpose, and
 * one that asks for an event stream, as `EventSource` and its kin do. fal's clients ask for one too and never come
 * back.
 */
function comesBack(c: Context): boolean {
  if (c.req.header("idempotency-key") !== undefined) return true;
  if (c.req.method === "GET" && c.req.query("request_id") !== undefined) return true;
  const isFal =
    c.req.query("fal_jwt_token") !== undefined || /^(@fal-ai\/|fal-client\/)/.test(c.req.header("user-agent") ?? "");
  return !isFal && (c.req.header("accept") ?? "").includes(EVENT_STREAM);
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
      const { chunks, failed } = await frames.of(entry);
      if (entry.slot !== undefined) pace.sent(entry.slot);
      if (chunks !== undefined) yield chunks;
      return failed ? "failed" : undefined;
    },
  };
  return streamResponse(c, reader, protocol, options, idHeaders(envelope));
}
