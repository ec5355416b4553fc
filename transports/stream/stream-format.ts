/**
 * How events become the body of an answer, by its content type.
 *
 * - `text/event-stream`: blocks with ids; see `sse.ts`.
 * - `application/x-ndjson`: a line of JSON an event, with its number as `event_id`.
 * - `text/…`: an event is a string, or has a `text`; nothing is added.
 * - anything else: an event is bytes, or has `bytes`; nothing is added.
 *
 * Only the first two can say an error; in the others a failed run is a truncated answer.
 */
import { JsonText } from "../wire/json-text.ts";
import { type Envelope, type WireEvent, wireEvent } from "../wire/wire.ts";
import { EVENT_STREAM, PING } from "./job-stream.ts";
import { eventId } from "./last-event-id.ts";
import type { Chunks } from "./outflow.ts";

export interface StreamFormat {
  /** @throws TypeError for an event that cannot be said in this format */
  event(id: number, event: unknown, envelope: Envelope): Promise<Chunks>;
  /** Undefined where an error cannot be said. */
  error(id: number, event: WireEvent): Chunks | undefined;
  /** The heartbeat in a silence, so that proxies do not give up; undefined if every byte is content. */
  readonly heartbeat: Uint8Array<ArrayBuffer> | undefined;
}

const encoder = new TextEncoder();

const eventStream: StreamFormat = {
  event: async (id, event, envelope) => eventStream.error(id, await wireEvent(event, envelope))!,
  error: (id, event) => JsonText.of(event, [`id: ${eventId(String(event.request_id), id)}\ndata: `, "\n\n"]),
  heartbeat: PING,
};

const ndjson: StreamFormat = {
  event: async (id, event, envelope) => ndjson.error(id, await wireEvent(event, envelope))!,
  error: (id, event) => JsonText.of({ ...event, event_id: id }, ["", "\n"]),
  heartbeat: undefined,
};

const text: StreamFormat = {
  async event(_, event) {
    const words = typeof event === "string" ? event : (event as { text?: unknown } | null)?.text;
    if (typeof words !== "string") throw new TypeError("an event of a text stream is a string or has a text");
    return asOne(encoder.encode(words));
  },
  error: () => undefined,
  heartbeat: undefined,
};

const binary: StreamFormat = {
  async event(_, event) {
    const bytes = event instanceof Uint8Array ? event : (event as { bytes?: unknown } | null)?.bytes;
    if (!(bytes instanceof Uint8Array)) throw new TypeError("an event of a byte stream is a Uint8Array or has bytes");
    // The yielded bytes may be a view of memory that is used again.
    return asOne(Uint8Array.from(bytes));
  },
  error: () => undefined,
  heartbeat: undefined,
};

function asOne(bytes: Uint8Array<ArrayBuffer>): Chunks {
  return { heldBytes: bytes.byteLength, [Symbol.iterator]: () => [bytes].filter((one) => one.byteLength > 0).values() };
}

export function streamFormat(contentType: string): StreamFormat {
  const [type = ""] = contentType.split(";");
  if (type === EVENT_STREAM) return eventStream;
  if (type === "application/x-ndjson") return ndjson;
  return type.startsWith("text/") ? text : binary;
}
