/**
 * From a job's log to the body of one answer: the one loop of all transports that stream over HTTP.
 *
 * A transport says what an entry becomes (`StreamProtocol`); everything else is here. Each pull of the body takes the next
 * entry from the log and only then encodes its picture. In a long silence a heartbeat is sent, if the protocol has one. A
 * client that takes nothing for long is cut off, and its reader leaves the job.
 */
import type { Context } from "hono";
import type { LogEntry, LogReader } from "../../src/jobs/job-log.ts";
import { type BodySource, type Next, pulledBody } from "./body.ts";
import { type AnswerOptions, type Chunks, Outflow } from "./outflow.ts";

/** The end after the last entry: the stream ends, or its connection is broken off as one that failed. */
export type Verdict = "end" | "failed";

export interface StreamProtocol<Event> {
  readonly contentType: string;
  /** The heartbeat in a silence, so that proxies do not give up; left out if every byte is content. */
  readonly heartbeat?: Uint8Array<ArrayBuffer>;
  /** Turns an entry into pieces, made as the client takes them; returning nothing, the stream goes on. */
  say(entry: LogEntry<Event>): AsyncGenerator<Chunks, Verdict | undefined, undefined>;
  /**
   * The last words, when the log has ended, or entries were missed. Left out, the stream ends in the first case and is
   * broken off in the second.
   */
  conclude?(how: "ended" | "lost"): AsyncGenerator<Chunks, Verdict, undefined>;
}

export interface StreamOptions extends AnswerOptions {
  /** Milliseconds of silence after which a heartbeat is sent; proxies give up after 60 s. */
  heartbeatMs?: number;
  /** Milliseconds without room in the socket after which a client counts as gone. */
  stalledAfterMs?: number;
}

const HEARTBEAT_MS = 15_000;
export const EVENT_STREAM = "text/event-stream";
/** The heartbeat of server-sent events: a comment ended by one newline. A blank line would end a block. */
export const PING = new TextEncoder().encode(": ping\n");

/** An answer that follows a job; closes the reader at its end. */
export function streamResponse<Event>(
  c: Context,
  reader: LogReader<Event>,
  protocol: StreamProtocol<Event>,
  options: StreamOptions,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return streamAnswer(pulledBody(c, new JobStream(c, reader, protocol, options)), protocol.contentType, headers);
}

/** An answer with the headers of a stream. */
export function streamAnswer(
  body: ReadableStream<Uint8Array> | null,
  contentType: string = EVENT_STREAM,
  headers: Readonly<Record<string, string>> = {},
): Response {
  // No `Connection`, no `Transfer-Encoding`: HTTP/2 forbids them, and Node throws.
  return new Response(body, {
    headers: {
      "Content-Type": contentType,
      "Cache-Control": "no-cache, no-transform",
      "X-Accel-Buffering": "no",
      ...headers,
    },
  });
}

class JobStream<Event> implements BodySource {
  readonly stalledAfterMs: number | undefined;
  readonly #heartbeatMs: number;
  readonly #reader: LogReader<Event>;
  readonly #protocol: StreamProtocol<Event>;
  readonly #outflow: Outflow;
  /** The pieces of the present entry. */
  #saying: AsyncGenerator<Chunks, Verdict | undefined, undefined> | undefined;

  constructor(c: Context, reader: LogReader<Event>, protocol: StreamProtocol<Event>, options: StreamOptions) {
    this.stalledAfterMs = options.stalledAfterMs;
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    this.#reader = reader;
    this.#protocol = protocol;
    this.#outflow = new Outflow(c, options, () => this.leave());
  }

  async next(): Promise<Next> {
    for (;;) {
      const chunk = await this.#outflow.next();
      if (chunk !== undefined) return chunk;
      const said = await this.#saying?.next();
      if (said?.done === false) {
        if (!this.#outflow.say(said.value)) return "lost";
        continue;
      }
      this.#saying = undefined;
      const verdict = said?.done === true ? said.value : undefined;
      if (verdict !== undefined) return verdict;
      const { heartbeat } = this.#protocol;
      const read = await this.#reader.next(this.#heartbeatMs);
      if (read === "quiet") {
        if (heartbeat !== undefined) return heartbeat;
      } else if (typeof read !== "string") {
        this.#saying = this.#protocol.say(read);
      } else if (this.#protocol.conclude === undefined) {
        return read === "ended" ? "end" : "lost";
      } else {
        this.#saying = this.#protocol.conclude(read);
      }
    }
  }

  leave(): void {
    this.#reader.close();
    this.#outflow.end();
  }
}
