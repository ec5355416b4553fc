/** Bodies that are made as their client takes them, and the ends that they may come to. */
import type { EventEmitter } from "node:events";
import { constants as http2 } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "hono";
import { readsNothing } from "./reading.ts";

/**
 * The next part of a body: bytes, its end, or that it is broken off: at once (`lost`), or after what was said before it
 * has left (`failed`).
 */
export type Next = Uint8Array<ArrayBuffer> | "end" | "failed" | "lost";

export interface BodySource {
  /** Asked when the connection has room. One that throws breaks the body off. */
  next(): Promise<Next>;
  /** Called once, at the end, whichever it is. */
  leave(): void;
  /** Milliseconds without room in the socket after which a client counts as gone. */
  readonly stalledAfterMs?: number;
}

const STALLED_AFTER_MS = 120_000;
/** Milliseconds an error event may take to leave before the connection is destroyed all the same. */
const LINGER_MS = 5_000;
/**
 * Milliseconds between the error event's leaving and the end. A browser's `fetch` throws away what its reader has not
 * taken when the connection breaks, so the reader is given the time to take it.
 */
const READ_MS = 150;

/**
 * Nothing is buffered ahead of the socket: each pull, which comes when the socket has room, makes the next chunk.
 *
 * The source is left however the answer ends, also where nobody ever reads the body: the answer to a HEAD has none (null),
 * and when Node has closed the answer, whatever it was in the end, nothing more is taken.
 */
export function pulledBody(c: Context, source: BodySource): ReadableStream<Uint8Array> | null {
  if (readsNothing(c)) {
    source.leave();
    return null;
  }
  const { stalledAfterMs = STALLED_AFTER_MS } = source;
  const outgoing = outgoingOf(c);
  let over = false;
  let stallTimer: NodeJS.Timeout | undefined;
  const leave = () => {
    if (over) return;
    over = true;
    clearTimeout(stallTimer);
    outgoing?.off("close", leave);
    source.leave();
  };
  outgoing?.once("close", leave);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        clearTimeout(stallTimer);
        let next: Next;
        try {
          next = await source.next();
        } catch (error) {
          leave();
          throw error;
        }
        // The client may have gone while it was made; a cancelled stream takes nothing more.
        if (over) return;
        if (typeof next !== "string") {
          controller.enqueue(next);
          stallTimer = setTimeout(() => {
            leave();
            void breakOff(c, controller, 0);
          }, stalledAfterMs);
          return;
        }
        leave();
        if (next === "end") controller.close();
        else await breakOff(c, controller, next === "lost" ? 0 : LINGER_MS);
      },
      cancel: leave,
    },
    { highWaterMark: 0 },
  );
}

/** The part of Node's response (HTTP/1 and HTTP/2) that ending it by force needs. */
interface Outgoing extends Pick<EventEmitter, "once" | "off"> {
  readonly headersSent: boolean;
  readonly writableLength: number;
  destroy(): void;
  /** HTTP/2 only. */
  readonly stream?: { close(code: number): void };
}

function outgoingOf(c: Context): Outgoing | undefined {
  return (c.env as { outgoing?: Outgoing } | undefined)?.outgoing;
}

/**
 * Breaks the connection off, so that the client sees a truncated answer. Bytes that were written before go out first,
 * for `lingerMs` at most. Under @hono/node-server the socket is at hand; elsewhere the body's error has to do.
 */
async function breakOff(
  c: Context,
  controller: ReadableStreamDefaultController<Uint8Array>,
  lingerMs: number,
): Promise<void> {
  const outgoing = outgoingOf(c);
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
