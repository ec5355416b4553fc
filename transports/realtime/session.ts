/**
 * One realtime session: many requests over one connection, pictures both ways. No sockets here: a session talks to a
 * `Line`, which may break and be replaced by another while the session goes on.
 *
 * A message is a request, unless its `type` says that it is about one: `cancel`, `update`, or `defaults`, which lays
 * fields under every later request of the session.
 *
 * - *Latest wins* (the default): one request runs, `maxBuffering` wait, and a newer one supersedes the oldest of those;
 *   with `interrupt` it also stops the one that runs. A control frame names a superseded request, not an error.
 * - `mode: "queue"`: every request is answered, several may be under way, in order where one runs at a time.
 *
 * Each output carries the `request_id` of its request and `event_id`, its number within it. After a broken line, outputs
 * continue where the client says (`after`), or else behind the last one that was handed to the old line.
 */
import { randomUUID } from "node:crypto";
import { RequestError } from "../../src/engine/errors.ts";
import { type Account, PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import { bytesOf } from "../../src/jobs/bytes-of.ts";
import type { Job, Jobs } from "../../src/jobs/jobs.ts";
import { CANCELLED, type Failure, failureOf } from "../failure.ts";
import type { EndMessage } from "../observe/request-log.ts";
import { pack } from "../wire/msgpack.ts";
import { type EncodeTracing, envelopeOf, errorEvent, idOf } from "../wire/wire.ts";
import { Delivery, type DeliveryOptions } from "./delivery.ts";
import type { Line } from "./line.ts";
import { type WaitingRequest, WaitingRequests } from "./waiting-requests.ts";

export interface SessionOptions<Input> {
  /** Checks a request; throws what `failureOf` understands. */
  readonly parse?: (raw: Readonly<Record<string, unknown>>) => Input;
  /** Checks a change to a running request. */
  readonly parseUpdate?: (raw: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
  /** Checks fields that are to lie under later requests, and keeps those alone that mean something. */
  readonly parseDefaults?: (raw: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
  /** A request's own fields over the defaults. Left out: they are laid over them one by one. */
  readonly withDefaults?: (defaults: Fields, own: Fields) => Fields;
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
  /** Where the encoding of pictures is traced. */
  readonly tracing?: EncodeTracing;
  readonly onError?: (error: unknown, requestId: string) => void;
  /** Begins a request's line in the log. */
  readonly logRequest?: () => EndMessage;
}

/** fal's bounds of `max_buffering`. */
export const BUFFERING = { min: 1, max: 60 };
/** Characters of an id, as the schema of requests has them. */
const ID_CHARACTERS = 128;
/** Frames that make no sense before a session is ended with 1008. */
const MAX_MALFORMED = 10;
/** Ended requests whose outputs are kept for a client that comes back. */
const MAX_ENDED = 8;

type Fields = Readonly<Record<string, unknown>>;

export class Session<Input, Event> {
  readonly #jobs: Jobs<Input, Event>;
  readonly #options: SessionOptions<Input>;
  /** Requests that may wait, or in queue mode be under way. */
  readonly #buffering: number;
  readonly #waiting: WaitingRequests<Input>;
  /** Requests whose jobs were submitted, by id. */
  readonly #active = new Map<string, Delivery<Input, Event>>();
  readonly #delivery: DeliveryOptions;
  /** Fields that lie under later requests. */
  #defaults: Fields = {};
  #line: Line | undefined;
  /** Frames that made no sense. */
  #malformed = 0;
  #over = false;

  constructor(jobs: Jobs<Input, Event>, options: SessionOptions<Input>) {
    const { graceMs, client, onError, tracing, account = PROCESS_ACCOUNT } = options;
    this.#jobs = jobs;
    this.#options = options;
    this.#buffering = options.maxBuffering ?? (options.queue ? BUFFERING.max : BUFFERING.min);
    this.#waiting = new WaitingRequests(account, client ?? "");
    this.#delivery = {
      graceMs,
      tracing,
      onError,
      onLost: (requestId, error) => {
        this.#active.delete(requestId);
        this.#refuse(error, requestId);
      },
      failed: (requestId, failure) => this.#complain(failure, requestId),
      paused: () => this.#next(),
    };
  }

  /** True if there are requests that run, wait, or have outputs that were not sent. */
  get busy(): boolean {
    return this.#waiting.size > 0 || [...this.#active.values()].some(({ following, running }) => following || running);
  }

  /** The ids of the requests that it knows: those that wait or run, and ended ones whose outputs are held. */
  get requests(): readonly string[] {
    return [...this.#active.keys(), ...this.#waiting.ids];
  }

  /** Takes a message that was decoded from a frame. One call at a time. */
  async receive(message: unknown): Promise<void> {
    if (typeof message !== "object" || message === null || Array.isArray(message) || message instanceof Uint8Array) {
      this.malformed("a message is a map of fields");
      return;
    }
    const { type, ...fields } = message as Fields;
    switch (type) {
      case undefined:
      case null:
      case "request":
        await this.#request(fields);
        return;
      case "defaults":
        this.#setDefaults(fields);
        return;
      case "cancel":
        this.#cancel(fields);
        return;
      case "update":
        this.#update(fields);
        return;
      default:
        this.malformed("unknown type; known are request, cancel, update and defaults");
        return;
    }
  }

  /** A frame that could not be decoded. */
  malformed(reason: string): void {
    this.#complain({ status: 400, detail: reason });
    if (++this.#malformed >= MAX_MALFORMED) this.#line?.close(1008, "too many malformed messages");
  }

  /** Sends what happens from now on over `line`; `after` holds the last `event_id` that the client has, by request. */
  attach(line: Line, after?: ReadonlyMap<string, number>): void {
    this.#line = line;
    for (const [requestId, delivery] of this.#active) void delivery.follow(line, after?.get(requestId));
    this.#next();
  }

  /** The line is broken; outputs wait for another. */
  detach(): void {
    this.#line = undefined;
    for (const delivery of this.#active.values()) delivery.detach();
  }

  /** More may be sent: looks again at what was held back. */
  wake(): void {
    for (const delivery of this.#active.values()) delivery.wake();
  }

  /** Cancels everything. */
  end(): void {
    this.#over = true;
    this.#line = undefined;
    this.#waiting.release();
    for (const delivery of this.#active.values()) delivery.end();
  }

  get #running(): Delivery<Input, Event>[] {
    return [...this.#active.values()].filter(({ running }) => running);
  }

  async #request({ mode, interrupt, ...own }: Fields): Promise<void> {
    const { withDefaults } = this.#options;
    const fields: Fields = withDefaults?.(this.#defaults, own) ?? { ...this.#defaults, ...own };
    const requestId = idOf(fields.request_id) ?? randomUUID();
    const endLine = this.#options.logRequest?.();
    const end: WaitingRequest<Input>["end"] = (status, ended) =>
      endLine?.(requestId.slice(0, ID_CHARACTERS), status, ended);
    let input: Input;
    try {
      const refusal = await this.#options.admit?.();
      if (refusal !== undefined) throw asError(refusal);
      input = this.#parse(fields, requestId);
      const namesake = this.#active.get(requestId);
      if (namesake?.running) throw asError({ status: 409, detail: "this request_id is under way; choose another" });
      const request = { requestId, input, bytes: bytesOf(input), end };
      if (mode === "queue" || (this.#options.queue && mode !== "latest")) this.#append(request);
      else this.#replace(request, interrupt === true);
    } catch (error) {
      end(failureOf(error).status);
      this.#refuse(error, requestId.slice(0, ID_CHARACTERS), fields.input_id);
    }
  }

  #parse(fields: Fields, requestId: string): Input {
    if (requestId.length > ID_CHARACTERS) {
      throw new RequestError("request_id", `String should have at most ${ID_CHARACTERS} characters`);
    }
    const { image_bytes, ...rest } = fields;
    const raw = { ...rest, request_id: requestId, ...(image_bytes !== undefined && { image: image_bytes }) };
    return this.#options.parse === undefined ? (raw as Input) : this.#options.parse(raw);
  }

  /** In queue mode every request runs. @throws what `failureOf` understands */
  #append(request: WaitingRequest<Input>): void {
    if (this.#running.length >= this.#buffering) {
      const detail = `${this.#buffering} requests of this session are under way`;
      throw asError({ status: 429, detail, retryAfter: 1 });
    }
    this.#submit(request);
  }

  /** The latest request takes the place of those that wait. @throws what `failureOf` understands */
  #replace(request: WaitingRequest<Input>, interrupt: boolean): void {
    if (!this.#waiting.push(request)) throw asError({ status: 503, detail: "too much waits already", retryAfter: 1 });
    if (interrupt) {
      for (const delivery of this.#running) {
        delivery.superseded = true;
        delivery.job.cancel();
      }
    }
    this.#next();
    while (this.#waiting.size > 1 && (interrupt || this.#waiting.isCrowded(this.#buffering))) {
      const { requestId, end } = this.#waiting.shift()!;
      end(CANCELLED);
      this.#control("superseded", { request_id: requestId });
    }
  }

  #submit({ requestId, input, end }: WaitingRequest<Input>): void {
    const { owner, client, graceMs, onError } = this.#options;
    let job: Job<Input, Event>;
    try {
      job = this.#jobs.submit(input, { owner, client, graceMs, priority: "realtime" });
    } catch (error) {
      end(failureOf(error).status);
      this.#refuse(error, requestId, (input as Fields).input_id);
      return;
    }
    const delivery = new Delivery(requestId, job, this.#delivery);
    this.#active.set(requestId, delivery);
    const ended = () => {
      const status = job.state === "completed" ? 200 : failureOf(job.error).status;
      end(status, status === CANCELLED && this.#line === undefined ? "client left" : undefined);
      this.#next();
    };
    void job.ended.then(ended).catch((error: unknown) => onError?.(error, requestId));
    if (this.#line === undefined) delivery.wait();
    else void delivery.follow(this.#line);
  }

  /** In latest-wins mode: lets the next one begin when none runs. */
  #next(): void {
    if (this.#over) return;
    const ended = [...this.#active.values()].filter(({ running }) => !running);
    for (const { requestId, following } of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) {
      if (!following) this.#active.delete(requestId);
    }
    if (this.#waiting.size === 0 || this.#running.length > 0) return;
    this.#submit(this.#waiting.shift()!);
  }

  #setDefaults({ request_id: _, input_id: __, mode: ___, interrupt: ____, ...own }: Fields): void {
    try {
      const defaults = this.#options.parseDefaults === undefined ? own : this.#options.parseDefaults(own);
      if (!this.#waiting.keepDefaults(bytesOf(defaults))) {
        const detail = "sessions hold as much as they may; send fewer bytes, or try again later";
        throw asError({ status: 503, detail, retryAfter: 1 });
      }
      this.#defaults = defaults;
    } catch (error) {
      this.#complain(failureOf(error));
    }
  }

  /** Without an id: all requests. */
  #cancel(fields: Fields): void {
    const id = idOf(fields.request_id);
    const waiting = this.#waiting.remove(id);
    if (waiting !== undefined) {
      waiting.end(CANCELLED);
      this.#refuse(new DOMException("Cancelled", "AbortError"), waiting.requestId);
    } else if (fields.request_id === undefined || fields.request_id === null) {
      for (const { end } of this.#waiting.clear()) end(CANCELLED);
      for (const { job } of this.#active.values()) job.cancel();
    } else if (!this.#target(id)?.job.cancel()) this.#control("not-found", requestIdOf(fields));
  }

  /** A request that waits is begun with the change; one that runs goes on with it. */
  #update(fields: Fields): void {
    const id = idOf(fields.request_id);
    try {
      const change = this.#options.parseUpdate === undefined ? fields : this.#options.parseUpdate(fields);
      const waiting = this.#waiting.change(id, change);
      if (waiting === "changed") return;
      if (waiting === "no-room") throw asError({ status: 503, detail: "too much waits already", retryAfter: 1 });
      if (!this.#target(id)?.job.update(change)) this.#control("not-found", requestIdOf(fields));
    } catch (error) {
      this.#complain(failureOf(error), requestIdOf(fields).request_id);
    }
  }

  #target(id: string | undefined): Delivery<Input, Event> | undefined {
    return id === undefined ? undefined : this.#active.get(id);
  }

  #control(action: string, more: Fields): void {
    this.#line?.control({ type: "x-fal-message", action, ...more });
  }

  #refuse(error: unknown, requestId: string, inputId?: unknown): void {
    const failure = failureOf(error);
    if (failure.status >= 500 && failure.detail === "Internal error") this.#options.onError?.(error, requestId);
    const event = errorEvent(failure, envelopeOf({ request_id: requestId, input_id: inputId }));
    void this.#line?.send(pack({ ...event, request_id: requestId })).catch(() => {});
    this.#complain(failure, requestId);
  }

  /** The error as fal's client raises it. */
  #complain(failure: Failure, requestId?: string): void {
    const { detail } = failure;
    const reason =
      typeof detail === "string"
        ? detail
        : detail.map(({ loc, msg }) => `${loc.slice(1).join(".")}: ${msg}`).join("; ");
    this.#line?.control({ type: "x-fal-error", error: `HTTP_${failure.status}`, reason, request_id: requestId });
  }
}

/** A refusal as an error that `failureOf` gives back. */
function asError({ detail, ...failure }: Failure): Error {
  return Object.assign(new Error(String(detail)), failure);
}

/** The name of a request in a frame about it; an invalid id is not repeated. */
function requestIdOf(fields: Fields): { readonly request_id?: string } {
  const id = idOf(fields.request_id);
  return id === undefined || id.length > ID_CHARACTERS ? {} : { request_id: id };
}
