/**
 * A run as server-sent events: `app.post("/stream", sse(run))`. Format: https://html.spec.whatwg.org/#server-sent-events.
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
 * the oldest waiting event and only then encodes its picture; previews that nobody could have read are never encoded.
 * (Hono's `streamSSE` swallows write errors and turns a thrown error into a clean end, so it is not used.)
 */
import { constants as http2 } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "hono";
import { type Failure, failureOf, failureResponse } from "./failure.ts";
import { drive, type Run } from "./generator.ts";
import { type InputOptions, inputSource, readInput } from "./input.ts";
import { createOutbox } from "./outbox.ts";
import { asciiJson, type Envelope, envelopeOf, errorEvent, idHeaders, slotOf, wireEvent } from "./wire.ts";

export interface SseOptions<Input> extends InputOptions<Input> {
  /** Milliseconds of silence after which a comment is sent; proxies give up after 60 s. */
  heartbeatMs?: number;
  /**
   * Milliseconds the headers may wait for the run's first word. A run that fails within them is answered with a status
   * (422, 429, 503) instead of a stream; a run that has not spoken by then gets its headers anyway.
   */
  headersWithinMs?: number;
  /** Milliseconds without room in the socket after which a client counts as gone. */
  stalledAfterMs?: number;
  /** Told of every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
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

const HEARTBEAT = new TextEncoder().encode(": ping\n");

/** An event with its number, or the failure that takes the place of the next. */
type Pending = { readonly id: number } & ({ readonly event: unknown } | { readonly failure: Failure });

export function sse<Input, Event>(
  run: Run<Input, Event>,
  options: SseOptions<Input> = {},
): (c: Context) => Promise<Response> {
  const { heartbeatMs = HEARTBEAT_MS, headersWithinMs = HEADERS_WITHIN_MS, onError } = options;

  return async (c) => {
    // An EventSource that comes back after the end would start the run anew; 204 tells it to stay away.
    if (c.req.method === "GET" && c.req.header("last-event-id") !== undefined)
      return new Response(null, { status: 204 });

    let envelope = envelopeOf(undefined);
    const fail = (error: unknown): Failure => {
      const failure = failureOf(error, inputSource(c));
      if (failure.status >= 500) onError?.(error, envelope.requestId);
      return failure;
    };
    let input: Input;
    try {
      input = await readInput(c, options);
    } catch (error) {
      return failureResponse(fail(error), idHeaders(envelope));
    }
    envelope = envelopeOf(input);

    const gone = new AbortController();
    const outbox = createOutbox<Pending>();
    const leave = () => {
      gone.abort();
      outbox.abandon();
    };
    const client = c.req.raw.signal;
    if (client.aborted) leave();
    else client.addEventListener("abort", leave, { once: true });

    const firstWord = new Promise<Failure | undefined>((resolve) => {
      let last = 0;
      drive(run, input, { signal: gone.signal, requestId: envelope.requestId }, (event, id) => {
        resolve(undefined);
        last = id;
        return outbox.put({ id, event }, slotOf(event));
      })
        .then(
          () => resolve(undefined),
          (error: unknown) => {
            const failure = fail(error);
            resolve(last === 0 ? failure : undefined);
            void outbox.put({ id: last + 1, failure });
          },
        )
        .finally(() => outbox.end());
    });
    const tooLate = new AbortController();
    const early = await Promise.race([
      firstWord,
      sleep(headersWithinMs, undefined, { signal: tooLate.signal }).catch(() => undefined),
    ]);
    tooLate.abort();
    if (early !== undefined) return failureResponse(early, idHeaders(envelope));

    /** The event as text; a picture that cannot be encoded fails the run like any other error. */
    const frame = async (pending: Pending): Promise<{ text: string; failed: boolean }> => {
      if ("failure" in pending) return { text: block(pending.id, errorEvent(pending.failure, envelope)), failed: true };
      try {
        return { text: block(pending.id, await wireEvent(pending.event, envelope)), failed: false };
      } catch (error) {
        const failure = fail(error);
        leave();
        return { text: block(pending.id, errorEvent(failure, envelope)), failed: true };
      }
    };

    const encoder = new TextEncoder();
    let failed = false;
    let cancelled = false;
    let stalled: NodeJS.Timeout | undefined;
    const body = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          clearTimeout(stalled);
          if (failed) return destroy(c, controller);
          const next = await outbox.take(heartbeatMs);
          if (next === "ended") {
            client.removeEventListener("abort", leave);
            if (!cancelled) controller.close();
            return;
          }
          let bytes = HEARTBEAT;
          if (next !== "quiet") {
            const framed = await frame(next.item);
            failed = framed.failed;
            bytes = encoder.encode(framed.text);
          }
          // The client may have gone while the picture was encoded; a cancelled stream takes nothing more.
          if (cancelled) return;
          controller.enqueue(bytes);
          stalled = setTimeout(() => {
            leave();
            void destroy(c, controller, 0);
          }, options.stalledAfterMs ?? STALLED_AFTER_MS);
        },
        cancel() {
          cancelled = true;
          clearTimeout(stalled);
          leave();
        },
      },
      { highWaterMark: 0 },
    );
    return new Response(body, { headers: streamHeaders(envelope) });
  };
}

/** No `Connection`, no `Transfer-Encoding`: HTTP/2 forbids them, and Node throws. */
function streamHeaders(envelope: Envelope): Record<string, string> {
  return {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    ...idHeaders(envelope),
  };
}

function block(id: number, event: unknown): string {
  return `id: ${id}\ndata: ${asciiJson(event)}\n\n`;
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
