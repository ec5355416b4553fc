/**
 * Requests over a WebSocket, as fal has it at ws.fal.run: each message is the JSON body of a request, and each answer is
 *
 * - `{"type":"start","request_id":…,"status":…,"headers":{…}}`,
 * - the answer's body: one text message where it is JSON, a binary message for each chunk where it is a stream,
 * - `{"type":"end","request_id":…,"status":…,"time_to_first_byte_seconds":…}`.
 *
 * Requests are answered one after the other. Some may wait; a connection that sends more is closed. The job that runs is
 * cancelled when the connection ends.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { upgradeWebSocket } from "@hono/node-server";
import { type Context, type Handler, Hono } from "hono";
import type { WebSocket } from "ws";
import { type Hold, PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import { CANCELLED, type Failure, failureResponse } from "../failure.ts";
import { clientOf } from "../http/client.ts";
import type { EndMessage, MessageLog } from "../observe/request-log.ts";
import { Connection } from "../realtime/connection.ts";
import { keepOpenFor } from "../realtime/websocket.ts";
import type { JobRequestOptions } from "../source.ts";

export interface SocketOptions
  extends Pick<JobRequestOptions<unknown>, "account" | "clientOf" | "ownerOf" | "onError"> {
  /** Asked before each request: why it may not be made now, if it may not. */
  readonly admit?: (c: Context) => Promise<Failure | undefined>;
  /** The log of the requests of a connection. */
  readonly messageLog?: MessageLog;
  /** When the credential of the connection expires: milliseconds since the epoch, or never. */
  readonly expiresAt?: (c: Context) => number | undefined;
  /** Milliseconds between pings; a client that has not answered one by the next is gone. */
  readonly pingMs?: number;
}

/** The owner of a connection's requests, from an answer's context. */
interface Caller {
  readonly owner: string | undefined;
  readonly client: string;
  /** The request that has opened the connection. */
  readonly upgrade: Context;
}

/** For the handlers that answer: they take owner and client from the connection. */
export const OF_CONNECTION = {
  ownerOf: (c: Context) => (c.env as Caller).owner,
  clientOf: (c: Context) => (c.env as Caller).client,
};

/** The request that has opened the connection, from an answer's context. */
export function upgradeOf(c: Context): Context {
  return (c.env as Caller).upgrade;
}

const PING_MS = 20_000;
/** Requests that may wait for the one before them. */
const MAX_WAITING = 16;
/** WebSocket close codes: against the rules, a fault of ours, no room at the moment. */
const POLICY = 1008;
const INTERNAL = 1011;
const TRY_LATER = 1013;

/** @param answer answers a request over HTTP; it is made with `OF_CONNECTION` */
export function requestsOverWebSocket(answer: (c: Context) => Promise<Response>, options: SocketOptions): Handler {
  const app = new Hono().post("/", answer);
  return upgradeWebSocket((c) => {
    const socket = new RequestSocket(c, app, options);
    return {
      onOpen: (_, ws) => socket.onOpen(ws.raw as unknown as WebSocket),
      onClose: () => socket.onClose(),
    };
  });
}

class RequestSocket {
  readonly #c: Context;
  readonly #app: Hono;
  readonly #options: SocketOptions;
  readonly #caller: Caller;
  /** Begins a request's line in the log. */
  readonly #logRequest: (() => EndMessage) | undefined;
  /** Bytes of the requests that wait. */
  readonly #hold: Hold;
  readonly #waiting: Buffer[] = [];
  readonly #gone = new AbortController();
  /** The context that the upgrade's middleware left, such as its trace, holds for the requests as well. */
  readonly #within = AsyncLocalStorage.snapshot();
  #connection: Connection | undefined;
  #socket: WebSocket | undefined;
  /** A request is being answered. */
  busy = false;

  constructor(c: Context, app: Hono, options: SocketOptions) {
    const { account = PROCESS_ACCOUNT, ownerOf, clientOf: whose = clientOf } = options;
    this.#c = c;
    this.#app = app;
    this.#options = options;
    this.#caller = { owner: ownerOf?.(c), client: whose(c), upgrade: c };
    this.#hold = account.open("sessions", this.#caller.client);
    this.#logRequest = options.messageLog?.(c);
  }

  onOpen(socket: WebSocket): void {
    const { account = PROCESS_ACCOUNT, pingMs = PING_MS } = this.#options;
    this.#socket = socket;
    keepOpenFor(socket, this);
    this.#connection = new Connection(socket, {
      account,
      client: this.#caller.client,
      raw: (this.#c.env as { incoming?: { socket?: Socket } } | undefined)?.incoming?.socket,
      bufferedBytes: 0,
      pingMs,
      receive: async (frame) => this.#receive(frame),
      onRoom: () => {},
    });
  }

  onClose(): void {
    this.#gone.abort();
    this.#waiting.length = 0;
    this.#hold.release();
    this.#connection?.release();
  }

  #receive(frame: Buffer): void {
    this.#waiting.push(frame);
    if (this.#waiting.length > MAX_WAITING) this.#connection?.close(POLICY, `at most ${MAX_WAITING} requests may wait`);
    else if (!this.#recount()) this.#connection?.close(TRY_LATER, "sessions hold as much as they may");
    else if (!this.busy) void this.#within(() => this.#answerAll());
  }

  #recount(): boolean {
    return this.#hold.resize(this.#waiting.reduce((sum, { length }) => sum + length, 0));
  }

  async #answerAll(): Promise<void> {
    this.busy = true;
    try {
      for (let body = this.#waiting.shift(); body !== undefined; body = this.#waiting.shift()) {
        this.#recount();
        await this.#answer(body);
      }
    } catch (error) {
      if (this.#gone.signal.aborted) return;
      this.#options.onError?.(error, "");
      this.#socket?.close(INTERNAL, "internal error");
    } finally {
      this.busy = false;
    }
  }

  async #answer(body: Buffer): Promise<void> {
    const connection = this.#connection!;
    const began = performance.now();
    const end = this.#logRequest?.();
    const response = await this.#responseTo(body);
    const { status, headers } = response;
    const request_id = headers.get("x-request-id") ?? randomUUID();
    connection.control({ type: "start", request_id, status, headers: Object.fromEntries(headers) });
    const json = headers.get("content-type")?.startsWith("application/json") === true;
    let firstByte: number | undefined;
    let ended = status;
    try {
      for await (const chunk of response.body ?? []) {
        firstByte ??= performance.now();
        await connection.send(chunk as Uint8Array<ArrayBuffer>, json ? { binary: false, fin: false } : undefined);
      }
    } catch (error) {
      // A run that failed: its stream has said so, and breaks off. A part of a JSON text is worse than nothing.
      const isGone = this.#gone.signal.aborted;
      if (isGone) end?.(request_id, CANCELLED, "client left");
      else if (json) end?.(request_id, 500);
      if (json || isGone) throw error;
      ended = 500;
    }
    if (json) await connection.send(new Uint8Array(), { binary: false, fin: true });
    const seconds = ((firstByte ?? performance.now()) - began) / 1000;
    end?.(request_id, ended);
    connection.control({ type: "end", request_id, status: ended, time_to_first_byte_seconds: seconds });
  }

  async #responseTo(body: Buffer): Promise<Response> {
    const { admit, expiresAt } = this.#options;
    const over = (expiresAt?.(this.#c) ?? Number.POSITIVE_INFINITY) <= Date.now();
    const refusal = over ? EXPIRED : await admit?.(this.#c);
    if (refusal !== undefined) return failureResponse(refusal);
    const { search } = new URL(this.#c.req.url);
    const request = new Request(`http://localhost/${search}`, {
      method: "POST",
      body: new Uint8Array(body),
      signal: this.#gone.signal,
    });
    return this.#app.fetch(request, this.#caller);
  }
}

const EXPIRED: Failure = { status: 401, detail: "The token has expired" };
