/**
 * One realtime session: many requests over one connection, pictures both ways. No sockets here: a session talks to a
 * `Line`, which may break and be replaced by another while the session goes on.
 *
 * A message is a request, unless its `type` says that it is about one: `cancel`, `update`, or `defaults`, which lays
 * fields under every later request of the session.
 *
 * - *Latest wins* (the default): one request runs, `maxBuffering` wait, and a newer one supersedes the oldest of those;
 *   with `interrupt` it also stops the one that runs. What was superseded is told in a control frame, not as an error.
 * - `mode: "queue"`: every request is answered, several may be under way, in order where one runs at a time.
 *
 * Each output carries the `request_id` of its request and `event_id`, its number within it. After a broken line, outputs
 * continue where the client says (`after`), or else behind the last one that was handed to the old line.
 */
import { randomUUID } from "node:crypto";
import { RequestError } from "../src/engine/errors.ts";
import type { EncodedPicture } from "../src/image/encode.ts";
import { type Account, type Hold, PROCESS_ACCOUNT } from "../src/jobs/account.ts";
import { bytesOf } from "../src/jobs/bytes-of.ts";
import type { LogEntry, LogReader } from "../src/jobs/job-log.ts";
import type { Job, Jobs } from "../src/jobs/jobs.ts";
import { type Failure, failureOf, isServerFault } from "./failure.ts";
import { pack } from "./msgpack.ts";
import { type PreviewPace, previewPace } from "./preview-pace.ts";
import { type Envelope, envelopeOf, errorEvent, wireEvent } from "./wire.ts";

/** A connection as a session sees it. */
export interface Line {
  /** Settles when the frame has left for the network; rejects when the line is broken. */
  send(frame: Uint8Array<ArrayBuffer>): Promise<void>;
  /** A control frame: JSON as text. */
  control(message: Readonly<Record<string, unknown>>): void;
  /** Whether a droppable frame may be added to what is already on its way. */
  readonly clear: boolean;
  /** A preview was sent: the line is clear again when the other side has taken it. */
  previewSent(): void;
  close(code: number, reason: string): void;
}

export interface SessionOptions<Input> {
  /** Checks a request; throws what `failureOf` understands. */
  readonly parse?: (raw: Readonly<Record<string, unknown>>) => Input;
  /** Checks a change to a running request. */
  readonly parseUpdate?: (raw: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
  /** Checks fields that are to lie under later requests, and keeps those alone that mean something. */
  readonly parseDefaults?: (raw: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
  /** Asked before each request: why it may not be made now, if it may not. */
  readonly admit?: () => Promise<Failure | undefined>;
  /** Requests that may wait behind the one that runs; in queue mode, that may be under way in all. */
  readonly maxBuffering?: number;
  readonly queue?: boolean;
  /** Milliseconds for which jobs go on without a line. */
  readonly graceMs: number;
  readonly owner?: string;
  /** Whom its jobs and its memory count against. */
  readonly client?: string;
  readonly account?: Account;
  readonly onError?: (error: unknown, requestId: string) => void;
}

export interface Session {
  /** Requests that run, wait, or have outputs that were not sent. */
  readonly busy: boolean;
  /** The ids of the requests that it knows: those that wait or run, and ended ones whose outputs are held. */
  readonly requests: readonly string[];
  /** Takes a message that was decoded from a frame. One call at a time. */
  receive(message: unknown): Promise<void>;
  /** A frame that could not be decoded. */
  malformed(reason: string): void;
  /** Sends what happens from now on over `line`; `after` holds the last `event_id` that the client has, by request. */
  attach(line: Line, after?: ReadonlyMap<string, number>): void;
  /** The line is broken; outputs wait for another. */
  detach(): void;
  /** More may be sent: looks again at what was held back. */
  wake(): void;
  /** Cancels everything. */
  end(): void;
}

/** fal's bounds of `max_buffering`. */
export const BUFFERING = { min: 1, max: 60 };
/** Bytes of a session besides its requests. */
const SESSION_BYTES = 16 * 1024;
/** Characters of an id, as the schema of requests has them. */
const ID_CHARACTERS = 128;
/** Bytes of requests that wait in a session, at most; a single one may be larger. */
const MAX_WAITING_BYTES = 64 * 2 ** 20;
/** Frames that make no sense before a session is ended with 1008. */
const MAX_MALFORMED = 10;
/** Ended requests whose outputs are kept for a client that comes back. */
const MAX_ENDED = 8;
const FOREVER = 2 ** 31 - 1;

type Fields = Readonly<Record<string, unknown>>;

interface Waiting<Input> {
  readonly requestId: string;
  readonly input: Input;
  readonly bytes: number;
}

interface Active<Input, Event> extends Waiting<Input> {
  readonly job: Job<Input, Event>;
  readonly pace: PreviewPace;
  reader: LogReader<Event> | undefined;
  /** The last event that was handed to a line. */
  sent: number;
  /** Stopped in favour of a newer one, which is no error. */
  superseded: boolean;
}

export function createSession<Input, Event>(jobs: Jobs<Input, Event>, options: SessionOptions<Input>): Session {
  const { graceMs, owner, client, onError, account = PROCESS_ACCOUNT } = options;
  const buffering = options.maxBuffering ?? (options.queue ? BUFFERING.max : BUFFERING.min);
  const active = new Map<string, Active<Input, Event>>();
  const waiting: Waiting<Input>[] = [];
  let defaults: Fields = {};
  let line: Line | undefined;
  let malformed = 0;
  let over = false;
  let defaultsBytes = 0;
  /** What is kept for the session: its fields, and the requests that wait in it. Jobs count what runs. */
  const hold: Hold = account.open("sessions", client ?? "");
  const bytesWith = (more: number) => SESSION_BYTES + defaultsBytes + waitingBytes() + more;
  const recount = () => hold.resize(bytesWith(0));
  recount();

  const controlled = (action: string, more: Fields) => line?.control({ type: "x-fal-message", action, ...more });

  function refuse(error: unknown, requestId: string, inputId?: unknown): void {
    const failure = failureOf(error);
    if (failure.status >= 500 && failure.detail === "Internal error") onError?.(error, requestId);
    const event = errorEvent(failure, envelopeOf({ request_id: requestId, input_id: inputId }));
    void line?.send(pack({ ...event, request_id: requestId })).catch(() => {});
    complain(failure, requestId);
  }

  /** The error in the form that fal's client raises. */
  function complain(failure: Failure, requestId?: string): void {
    const { detail } = failure;
    const reason =
      typeof detail === "string"
        ? detail
        : detail.map(({ loc, msg }) => `${loc.slice(1).join(".")}: ${msg}`).join("; ");
    line?.control({ type: "x-fal-error", error: `HTTP_${failure.status}`, reason, request_id: requestId });
  }

  function submit({ requestId, input, bytes }: Waiting<Input>): void {
    let job: Job<Input, Event>;
    try {
      job = jobs.submit(input, { owner, client, graceMs });
    } catch (error) {
      refuse(error, requestId, (input as Fields).input_id);
      return;
    }
    const { maxFps } = envelopeOf(input).previews;
    const entry: Active<Input, Event> = {
      requestId,
      input,
      bytes,
      job,
      pace: previewPace(maxFps),
      reader: undefined,
      sent: 0,
      superseded: false,
    };
    active.set(requestId, entry);
    void job.ended.then(next).catch((error: unknown) => onError?.(error, requestId));
    if (line !== undefined) void follow(entry, line);
    else job.watch().close();
  }

  /** In latest-wins mode: lets the next one begin when none runs. */
  function next(): void {
    if (over) return;
    const ended = [...active.values()].filter(({ job }) => job.endedAt !== undefined);
    for (const { requestId, reader } of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) {
      if (reader === undefined) active.delete(requestId);
    }
    if (waiting.length === 0 || running().length > 0) return;
    submit(waiting.shift()!);
    recount();
  }

  function waitingBytes(): number {
    return waiting.reduce((sum, { bytes }) => sum + bytes, 0);
  }
  const running = () => [...active.values()].filter(({ job }) => job.endedAt === undefined);

  async function request(message: Fields): Promise<void> {
    const { mode, interrupt, ...given } = message;
    const fields: Fields = { ...defaults, ...given };
    const requestId = idOf(fields.request_id) ?? randomUUID();
    const refusal = await options.admit?.();
    if (refusal !== undefined) {
      const { detail, ...failure } = refusal;
      refuse(Object.assign(new Error(String(detail)), failure), requestId.slice(0, ID_CHARACTERS), fields.input_id);
      return;
    }
    let input: Input;
    try {
      if (requestId.length > ID_CHARACTERS) {
        throw new RequestError("request_id", `String should have at most ${ID_CHARACTERS} characters`);
      }
      const { image_bytes, ...rest } = fields;
      const raw = { ...rest, request_id: requestId, ...(image_bytes !== undefined && { image: image_bytes }) };
      input = options.parse === undefined ? (raw as Input) : options.parse(raw);
    } catch (error) {
      refuse(error, requestId.slice(0, ID_CHARACTERS), fields.input_id);
      return;
    }
    const namesake = active.get(requestId);
    if (namesake !== undefined && namesake.job.endedAt === undefined) {
      const inUse = Object.assign(new Error("this request_id is under way; choose another"), { status: 409 });
      refuse(inUse, requestId, fields.input_id);
      return;
    }
    if (mode === "queue" || (options.queue && mode !== "latest")) {
      if (running().length >= buffering) {
        const full = Object.assign(new Error(`${buffering} requests of this session are under way`), {
          status: 429,
          retryAfter: 1,
        });
        refuse(full, requestId, fields.input_id);
        return;
      }
      submit({ requestId, input, bytes: bytesOf(input) });
      return;
    }
    const bytes = bytesOf(input);
    if (!hold.resize(bytesWith(bytes))) {
      const full = Object.assign(new Error("too much waits already"), { status: 503, retryAfter: 1 });
      refuse(full, requestId, fields.input_id);
      return;
    }
    waiting.push({ requestId, input, bytes });
    if (interrupt === true) {
      for (const entry of running()) {
        entry.superseded = true;
        entry.job.cancel();
      }
    }
    next();
    const tooMany = () => waiting.length > buffering || waitingBytes() > MAX_WAITING_BYTES;
    while (waiting.length > 1 && (interrupt === true || tooMany())) {
      controlled("superseded", { request_id: waiting.shift()!.requestId });
    }
    recount();
  }

  function setDefaults(message: Fields): void {
    const { request_id: _, input_id: __, mode: ___, interrupt: ____, ...given } = message;
    const kept = options.parseDefaults === undefined ? given : options.parseDefaults(given);
    const before = defaultsBytes;
    defaultsBytes = bytesOf(kept);
    if (recount()) {
      defaults = kept;
      return;
    }
    defaultsBytes = before;
    throw Object.assign(new Error("sessions hold as much as they may; send fewer bytes, or try again later"), {
      status: 503,
      retryAfter: 1,
    });
  }

  /** What a frame about a request calls it; an id that nobody may have is not given back. */
  function named(fields: Fields): Fields {
    const id = idOf(fields.request_id);
    return id === undefined || id.length > ID_CHARACTERS ? {} : { request_id: id };
  }

  /** Hands what a job says to `over`, until it has ended or the line is another. */
  async function follow(entry: Active<Input, Event>, over: Line): Promise<void> {
    const { job, pace, requestId } = entry;
    const envelope: Envelope = { ...envelopeOf(entry.input), requestId, jobId: job.id };
    let reader: LogReader<Event>;
    try {
      reader = job.watch({
        after: entry.sent,
        graceMs,
        holdMs: (slot) => (over.clear ? pace.holdMs(slot) : Number.POSITIVE_INFINITY),
      });
    } catch (error) {
      active.delete(requestId);
      refuse(error, requestId);
      return;
    }
    entry.reader = reader;
    try {
      for (;;) {
        const read = await reader.next(FOREVER);
        if (read === "quiet") continue;
        if (read === "ended" || read === "lost" || line !== over) break;
        await deliver(entry, read, envelope, over);
      }
    } catch {
      // The line broke while something was being sent; `entry.sent` says how far it came.
    } finally {
      reader.close();
      if (entry.reader === reader) entry.reader = undefined;
      next();
    }
  }

  async function deliver(
    entry: Active<Input, Event>,
    read: LogEntry<Event>,
    envelope: Envelope,
    over: Line,
  ): Promise<void> {
    let message: Record<string, unknown>;
    let failure: Failure | undefined;
    const failed = (error: unknown) => {
      failure = failureOf(error);
      if (isServerFault(error)) onError?.(error, entry.requestId);
      return errorEvent(failure, envelope);
    };
    if ("error" in read) {
      if (entry.superseded) {
        entry.sent = read.id;
        over.control({ type: "x-fal-message", action: "superseded", request_id: entry.requestId });
        return;
      }
      message = failed(read.error);
    } else {
      try {
        message = await wireEvent(read.event, envelope, asBytes);
      } catch (error) {
        message = failed(error);
        entry.job.cancel(error);
      }
    }
    // The line may have been replaced while the picture was encoded.
    if (line !== over) return;
    const frame = pack({ ...message, event_id: read.id });
    if (read.slot !== undefined) pace(entry, read.slot, over);
    await over.send(frame);
    entry.sent = read.id;
    // Cancelling is what the client asked for: nothing for its error handler.
    if (failure !== undefined && failure.status !== 499) complain(failure, entry.requestId);
  }

  function pace(entry: Active<Input, Event>, slot: string, over: Line): void {
    entry.pace.sent(slot);
    if (slot === "preview") over.previewSent();
  }

  return {
    get busy() {
      return (
        waiting.length > 0 ||
        [...active.values()].some(({ reader, job }) => reader !== undefined || job.endedAt === undefined)
      );
    },
    get requests() {
      return [...active.keys(), ...waiting.map(({ requestId }) => requestId)];
    },
    async receive(message) {
      if (typeof message !== "object" || message === null || Array.isArray(message) || message instanceof Uint8Array) {
        this.malformed("a message is a map of fields");
        return;
      }
      const { type, ...fields } = message as Fields;
      const id = idOf(fields.request_id);
      const target = id === undefined ? undefined : active.get(id);
      switch (type) {
        case undefined:
        case null:
        case "request":
          await request(fields);
          return;
        case "defaults":
          try {
            setDefaults(fields);
          } catch (error) {
            complain(failureOf(error));
          }
          return;
        case "cancel": {
          const at = waiting.findIndex(({ requestId }) => requestId === id);
          if (at >= 0) {
            const [gone] = waiting.splice(at, 1);
            recount();
            refuse(new DOMException("Cancelled", "AbortError"), gone!.requestId);
            return;
          }
          if (fields.request_id === undefined || fields.request_id === null) {
            waiting.length = 0;
            recount();
            for (const { job } of active.values()) job.cancel();
          } else if (!target?.job.cancel()) controlled("not-found", named(fields));
          return;
        }
        case "update": {
          try {
            const change = options.parseUpdate === undefined ? fields : options.parseUpdate(fields);
            if (!target?.job.update(change)) controlled("not-found", named(fields));
          } catch (error) {
            complain(failureOf(error), named(fields).request_id as string | undefined);
          }
          return;
        }
        default:
          this.malformed("unknown type; known are request, cancel, update and defaults");
          return;
      }
    },
    malformed(reason) {
      complain({ status: 400, detail: reason });
      if (++malformed >= MAX_MALFORMED) line?.close(1008, "too many malformed messages");
    },
    attach(fresh, after) {
      line = fresh;
      for (const entry of active.values()) {
        entry.sent = after?.get(entry.requestId) ?? entry.sent;
        if (entry.sent < entry.job.log.lastId || !entry.job.log.ended) void follow(entry, fresh);
      }
      next();
    },
    detach() {
      line = undefined;
      for (const { reader } of active.values()) reader?.close();
    },
    wake() {
      for (const { reader } of active.values()) reader?.wake();
    },
    end() {
      over = true;
      line = undefined;
      waiting.length = 0;
      hold.release();
      for (const { job, reader } of active.values()) {
        reader?.close();
        job.cancel();
      }
    },
  };
}

/** An id as text: clients that count send numbers. */
function idOf(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" || typeof value === "bigint"
    ? String(value)
    : undefined;
}

function asBytes({ bytes, content_type, width, height }: EncodedPicture) {
  return { content: bytes, content_type, width, height };
}
