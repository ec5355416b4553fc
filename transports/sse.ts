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
 * Nothing is buffered ahead of the socket. Each pull of the response body, which comes when the socket has room, takes
 * the next event from the job's log and only then encodes its picture; previews that nobody could have read are never
 * encoded, and what many read is encoded once.
 *
 * A stream that broke goes on at `GET /stream/{job}` (`resume`), if the job still runs or its log is held: a job outlives
 * its last client by the grace period that the client asked for with `?resume_grace_s=`, or, being `?detached=true`, runs
 * on to its end. A GET that names its job (`request_id`) has a grace period without asking, because `EventSource` comes
 * back to the same address by itself.
 * (Hono's `streamSSE` swallows write errors and turns a thrown error into a clean end, so it is not used.)
 */
import { constants as http2 } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { LRUCache } from "lru-cache";
import { MEMORY_BOUNDS } from "../src/jobs/account.ts";
import type { LogEntry } from "../src/jobs/job-log.ts";
import type { Job, Jobs } from "../src/jobs/jobs.ts";
import { failureOf, failureResponse, isServerFault } from "./failure.ts";
import { inputSource, readInput } from "./input.ts";
import { Outflow, type Said } from "./outflow.ts";
import { previewPace } from "./preview-pace.ts";
import { type JobRequestOptions, jobsOf, RESUME, type Source, submit, viewerOf } from "./source.ts";
import { EVENT_STREAM, streamFormat } from "./stream-format.ts";
import { type Envelope, envelopeOf, errorEvent, idHeaders } from "./wire.ts";

export interface SseOptions<Input> extends JobRequestOptions<Input> {
  /**
   * What the answer is made of, if not of server-sent events: `application/x-ndjson`, `text/plain`, or any type of bytes;
   * see `stream-format.ts`.
   */
  contentType?: string;
  /** Milliseconds of silence after which a comment is sent; proxies give up after 60 s. */
  heartbeatMs?: number;
  /**
   * Milliseconds the headers may wait for the run's first word. A run that fails within them is answered with a status
   * (422, 429, 503) instead of a stream; a run that has not spoken by then gets its headers anyway.
   */
  headersWithinMs?: number;
  /** Milliseconds without room in the socket after which a client counts as gone. */
  stalledAfterMs?: number;
  /** Seconds that a client may ask its job to wait for it when a stream has broken. */
  maxGraceS?: number;
}

const HEARTBEAT_MS = 15_000;
const HEADERS_WITHIN_MS = 100;
const STALLED_AFTER_MS = 120_000;
/** Milliseconds an error event may take to leave before the connection is destroyed all the same. */
const LINGER_MS = 5_000;
/**
 * Milliseconds between the error event's leaving and the end. A browser's `fetch` throws away what its reader has not
 * taken when the connection breaks, so the reader is given the time to take it.
 */
const READ_MS = 150;

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

interface Framed {
  /** Undefined: nothing can be said, the connection just breaks off. */
  readonly said: Said | undefined;
  readonly failed: boolean;
}

/** What an entry is as bytes, made once for all who ask for it in the same form. */
const frames = new WeakMap<object, Map<string, Promise<Framed>>>();
/** Forms of one entry that are kept. */
const MAX_FORMS = 4;
/** Milliseconds for which a form is kept that nobody asks for: those who follow a job live ask at about the same time. */
const FORM_MS = 2_000;
/** The forms that are kept, by when they were last asked for, each with the function that forgets it. */
const forms = new LRUCache<Framed, () => void>({
  maxSize: MEMORY_BOUNDS.encoded,
  sizeCalculation: (_, { said }) => Math.max(said?.heldBytes ?? 0, 1),
  dispose: (forget) => forget(),
  ttl: FORM_MS,
  updateAgeOnGet: true,
  ttlAutopurge: true,
});

/** Bytes of events in the forms in which several clients read them. */
export function encodedBytes(): number {
  return forms.calculatedSize;
}

async function stream<Input, Event>(
  c: Context,
  job: Job<Input, Event>,
  after: number,
  options: SseOptions<Input>,
): Promise<Response> {
  const { heartbeatMs = HEARTBEAT_MS, headersWithinMs = HEADERS_WITHIN_MS, onError } = options;
  const { contentType = EVENT_STREAM } = options;
  const source = inputSource(c);
  const envelope: Envelope = { ...envelopeOf(job.input), requestId: job.id };
  const pace = previewPace(envelope.previews.maxFps);
  const reader = job.watch({ after, holdMs: pace.holdMs });
  const client = c.req.raw.signal;
  if (client.aborted) reader.close();
  else client.addEventListener("abort", reader.close, { once: true });

  if (after === 0) {
    const early = await refusal(job, headersWithinMs);
    if (early !== undefined) {
      reader.close();
      client.removeEventListener("abort", reader.close);
      return refused(c, early.error, idHeaders(envelope), options);
    }
  }

  /** A picture that cannot be encoded fails the run like any other error. */
  const format = streamFormat(contentType);
  const make = async (entry: LogEntry<Event>): Promise<Framed> => {
    let fault: unknown;
    if ("error" in entry) fault = entry.error;
    else {
      try {
        return { said: await format.event(entry.id, entry.event, envelope), failed: false };
      } catch (error) {
        fault = error;
        job.cancel(error);
      }
    }
    const failure = failureOf(fault, source);
    if (isServerFault(fault)) onError?.(fault, job.id);
    return { said: format.error(entry.id, errorEvent(failure, envelope)), failed: true };
  };
  const form = JSON.stringify([contentType, envelope, source]);
  const frame = async (entry: LogEntry<Event>) => {
    const kept = frames.get(entry) ?? new Map<string, Promise<Framed>>();
    const known = kept.get(form);
    const making = known ?? make(entry);
    // Where nobody else follows the job it is not kept.
    const keep = known === undefined && job.log.readers > 1 && kept.size < MAX_FORMS;
    if (keep) frames.set(entry, kept.set(form, making));
    const framed = await making;
    if (keep) forms.set(framed, () => kept.delete(form));
    else forms.get(framed);
    return framed;
  };

  let failed = false;
  let cancelled = false;
  let stalled: NodeJS.Timeout | undefined;
  const leave = () => {
    clearTimeout(stalled);
    client.removeEventListener("abort", reader.close);
    reader.close();
    outflow.end();
  };
  const outflow = new Outflow(c, options, () => leave());
  /** The next chunk to send; undefined: there is none, and the stream is over. */
  async function next(controller: ReadableStreamDefaultController<Uint8Array>) {
    for (;;) {
      const chunk = await outflow.next();
      if (chunk !== undefined) return chunk;
      if (failed) {
        leave();
        return destroy(c, controller);
      }
      let read = await reader.next(heartbeatMs);
      while (read === "quiet" && format.heartbeat === undefined) read = await reader.next(heartbeatMs);
      if (cancelled) return;
      if (read === "lost") {
        leave();
        return destroy(c, controller, 0);
      }
      if (read === "ended") {
        leave();
        controller.close();
        return;
      }
      if (read === "quiet") return format.heartbeat;
      const framed = await frame(read);
      failed = framed.failed;
      if (read.slot !== undefined) pace.sent(read.slot);
      // The client may have gone while the picture was encoded; a cancelled stream takes nothing more.
      if (cancelled) return;
      if (framed.said === undefined) {
        leave();
        return destroy(c, controller);
      }
      if (!outflow.say(framed.said)) return;
    }
  }
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        clearTimeout(stalled);
        const chunk = await next(controller);
        if (chunk === undefined || cancelled) return;
        controller.enqueue(chunk);
        stalled = setTimeout(() => {
          leave();
          void destroy(c, controller, 0);
        }, options.stalledAfterMs ?? STALLED_AFTER_MS);
      },
      cancel() {
        cancelled = true;
        leave();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { headers: streamHeaders(envelope, contentType) });
}

/** What a job failed with before it had said anything, if it does so in time. */
async function refusal<Input, Event>(
  job: Job<Input, Event>,
  withinMs: number,
): Promise<{ error: unknown } | undefined> {
  const ear = job.log.read();
  const read = await ear.next(withinMs);
  ear.close();
  return typeof read !== "string" && "error" in read ? read : undefined;
}

/** No `Connection`, no `Transfer-Encoding`: HTTP/2 forbids them, and Node throws. */
function streamHeaders(envelope: Envelope, contentType: string): Record<string, string> {
  return {
    "Content-Type": contentType,
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    ...idHeaders(envelope),
  };
}

/** The part of Node's response (HTTP/1 and HTTP/2) that ending it by force needs. */
interface Outgoing {
  readonly headersSent: boolean;
  readonly writableLength: number;
  destroy(): void;
  /** HTTP/2 only. */
  readonly stream?: { close(code: number): void };
}

/**
 * Breaks the connection off, so that the client sees a truncated answer. What was written before is let out first,
 * for `lingerMs` at most. Under @hono/node-server the socket is at hand; elsewhere the body's error has to do.
 */
async function destroy(
  c: Context,
  controller: ReadableStreamDefaultController<Uint8Array>,
  lingerMs: number = LINGER_MS,
): Promise<void> {
  const outgoing = (c.env as { outgoing?: Outgoing } | undefined)?.outgoing;
  if (outgoing === undefined) {
    controller.error(new Error("the run failed"));
    return;
  }
  const until = Date.now() + lingerMs;
  while ((!outgoing.headersSent || outgoing.writableLength > 0) && Date.now() < until) await sleep(5);
  if (lingerMs > 0) await sleep(READ_MS);
  // Over HTTP/2, `destroy()` ends the stream with NO_ERROR, which reads as a clean end.
  if (outgoing.stream === undefined) outgoing.destroy();
  else outgoing.stream.close(http2.NGHTTP2_INTERNAL_ERROR);
}
