/**
 * Realtime sessions over WebSocket: `app.get("/realtime", realtime(run))`. The session itself is in
 * `session.ts`; this file is its connection. Wants a server that was given a `WebSocketServer`, as `listen` does.
 *
 * - Frames from the server are msgpack; control frames are JSON as text. A client may write its messages as JSON too.
 * - A socket has no back-pressure of its own, so a droppable frame is sent only while little is buffered and fewer than
 *   two previews are on their way: each is followed by a ping, and its pong says that the client's end has taken it. A
 *   client that takes 400 ms a picture gets one every 400 ms, always the newest.
 * - A client that sends and does not read is not read from either while 1 MB of answers is under way to it. The bytes
 *   on their way to it, and the part of a frame that has come from it, are on its account (`account.ts`).
 * - Frames are taken one after the other, JSON in slices; while some wait the connection is not read from.
 * - When its token expires, a session is told so and goes on for some seconds, in which its client takes it up with a new
 *   token. After that nothing new is begun over it, and it ends when all that was begun has been sent.
 * - Query: `max_buffering` (1..60), `mode=queue`, and `session` with `after=request:event,…` to take up a session whose
 *   connection broke. The token comes in the first control frame: `{"type":"x-fal-message","action":"session",…}`.
 * - Close codes: 1008 too many frames without sense, 1009 too large, 1011 a fault of ours, 1012 restarting, 1013 no room.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import { upgradeWebSocket } from "@hono/node-server";
import type { Context, Handler } from "hono";
import type { WebSocket } from "ws";
import { PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import type { Jobs } from "../../src/jobs/jobs.ts";
import { slice } from "../../src/platform/turns.ts";
import type { Failure } from "../failure.ts";
import { clientOf } from "../http/client.ts";
import { JsonReader } from "../http/json-reader.ts";
import { type MessageBounds, MessageError } from "../http/message.ts";
import type { MessageLog } from "../observe/request-log.ts";
import { jobsOf, type OwnerOf, RESUME, type Source } from "../source.ts";
import { unpack } from "../wire/msgpack.ts";
import { Connection } from "./connection.ts";
import { BUFFERING, Session, type SessionOptions } from "./session.ts";
import { type OpenSession, Sessions } from "./sessions.ts";
import { TokenExpiry } from "./token-expiry.ts";

export interface RealtimeOptions<Input>
  extends Pick<
    SessionOptions<Input>,
    "parseUpdate" | "parseDefaults" | "withDefaults" | "onError" | "account" | "tracing"
  > {
  /** Checks a request of the session that `c` has opened; throws what `failureOf` understands. */
  parse?: (raw: Readonly<Record<string, unknown>>, c: Context) => Input;
  ownerOf?: OwnerOf;
  /** Whom a session counts against. Default: the credential's name, or the address of the connection. */
  clientOf?: (c: Context) => string;
  /** Sessions of one client, those included that wait for it to come back: the oldest of these makes room. */
  sessions?: number;
  /** Asked before each request of a session: why it may not be made now, if it may not. */
  admit?: (c: Context) => Promise<Failure | undefined>;
  /** The log of the requests of a session. */
  messageLog?: MessageLog;
  /** When the credential of a session expires: milliseconds since the epoch, or never. */
  expiresAt?: (c: Context) => number | undefined;
  /** Milliseconds from then in which the session still takes requests. */
  expiryGraceMs?: number;
  /** Items, names and levels of a frame, at most; left out: `MESSAGE_BOUNDS`. */
  bounds?: Partial<MessageBounds>;
  /** `parse` takes base64 of 64 KiB and more, in JSON, as `Base64Text`. */
  keepBase64?: boolean;
  /** Milliseconds that a client has to come back after its connection broke. */
  graceMs?: number;
  /** Milliseconds between pings; a client that has not answered one by the next is gone. */
  pingMs?: number;
  /** Bytes that may be buffered when a droppable frame is added. */
  bufferedBytes?: number;
  /** Sessions that may wait for their client to come back; the oldest is given up for a new one. */
  maxDetached?: number;
}

const PING_MS = 20_000;
const BUFFERED_BYTES = 256 * 1024;
const MAX_DETACHED = 256;
const EXPIRY_GRACE_MS = 5_000;
/** Bytes of JSON that are looked through in one slice. */
const SLICE_BYTES = 64 * 1024;
const UNAUTHORIZED: Failure = { status: 401, detail: "The token has expired" };

const sessionOf = new WeakMap<WebSocket, { readonly busy: boolean }>();

/** A server that ends lets the socket live while its session is busy. */
export function keepOpenFor(socket: WebSocket, session: { readonly busy: boolean }): void {
  sessionOf.set(socket, session);
}

/** True if a session of this socket still has something to say; for a server that is about to end. */
export function isBusy(socket: WebSocket): boolean {
  return sessionOf.get(socket)?.busy ?? false;
}

export function realtime<Input, Event>(source: Source<Input, Event>, options: RealtimeOptions<Input> = {}): Handler {
  const jobs = jobsOf(source, { concurrency: 1 });
  const {
    graceMs = RESUME.sessionMs,
    maxDetached = MAX_DETACHED,
    sessions: maxSessions = Number.POSITIVE_INFINITY,
  } = options;
  const sessions = new Sessions({ graceMs, maxSessions, maxDetached });
  return upgradeWebSocket((c) => {
    const attachment = new Attachment(c, jobs, sessions, { ...options, graceMs });
    return {
      onOpen: (_, ws) => attachment.onOpen(ws.raw as unknown as WebSocket),
      onClose: ({ code }) => attachment.onClose(code),
    };
  });
}

/** One connection of a client to its session. */
class Attachment<Input, Event> {
  readonly #c: Context;
  readonly #jobs: Jobs<Input, Event>;
  readonly #sessions: Sessions;
  readonly #options: RealtimeOptions<Input> & { readonly graceMs: number };
  /** The context that the upgrade's middleware left, such as its trace, holds for the messages as well. */
  readonly #within = AsyncLocalStorage.snapshot();
  #socket: WebSocket | undefined;
  #session: OpenSession | undefined;
  #connection: Connection | undefined;
  #expiry: TokenExpiry | undefined;

  constructor(
    c: Context,
    jobs: Jobs<Input, Event>,
    sessions: Sessions,
    options: RealtimeOptions<Input> & { readonly graceMs: number },
  ) {
    this.#c = c;
    this.#jobs = jobs;
    this.#sessions = sessions;
    this.#options = options;
  }

  onOpen(socket: WebSocket): void {
    const { pingMs = PING_MS, bufferedBytes = BUFFERED_BYTES, account = PROCESS_ACCOUNT, graceMs } = this.#options;
    const { open, resumed } = this.#enter();
    const { session, client } = open;
    this.#socket = socket;
    this.#session = open;
    // The old connection may be one that only its client knows to be dead.
    const old = open.socket;
    open.socket = socket;
    keepOpenFor(socket, session);
    old?.terminate();

    const connection = new Connection(socket, {
      account,
      client,
      raw: (this.#c.env as { incoming?: { socket?: Socket } } | undefined)?.incoming?.socket,
      bufferedBytes,
      pingMs,
      receive: (frame, binary) => this.#receive(open, socket, frame, binary),
      onRoom: () => session.wake(),
    });
    this.#connection = connection;
    this.#expiry = this.#expiryOf(open, socket, connection);
    connection.control({
      type: "x-fal-message",
      action: "session",
      session: open.token,
      resumed,
      resume_within_s: graceMs / 1000,
      // Frames that were sent while the connection broke may not have come.
      requests: session.requests,
    });
    session.attach(connection, resumed ? afterOf(this.#c.req.query("after") ?? "") : undefined);
  }

  onClose(code: number): void {
    this.#expiry?.stop();
    this.#connection?.release();
    const open = this.#session;
    const isItsOwn = open !== undefined && this.#sessions.isOf(open, this.#socket!);
    // The session may wait for its client; a socket keeps all that has come of a frame.
    this.#socket = undefined;
    this.#connection = undefined;
    if (isItsOwn) this.#sessions.connectionClosed(open, code);
  }

  /** The session that the client asks for, or a new one. */
  #enter(): { open: OpenSession; resumed: boolean } {
    const c = this.#c;
    const { parse, ownerOf, clientOf: whose = clientOf, account = PROCESS_ACCOUNT } = this.#options;
    const owner = ownerOf?.(c);
    const client = whose(c);
    const admit = async () => (this.#expiry?.over ? UNAUTHORIZED : this.#options.admit?.(c));
    const known = this.#sessions.resume(c.req.query("session") ?? "", owner, admit);
    if (known !== undefined) return { open: known, resumed: true };
    const buffering = Number(c.req.query("max_buffering") ?? Number.NaN);
    const open = this.#sessions.open({ owner, client, admit }, (admit) => {
      return new Session(this.#jobs, {
        ...this.#options,
        parse: parse && ((raw) => parse(raw, c)),
        account,
        client,
        owner,
        admit,
        logRequest: this.#options.messageLog?.(c),
        queue: c.req.query("mode") === "queue",
        maxBuffering: Number.isInteger(buffering)
          ? Math.min(Math.max(buffering, BUFFERING.min), BUFFERING.max)
          : undefined,
      });
    });
    return { open, resumed: false };
  }

  #expiryOf(open: OpenSession, socket: WebSocket, connection: Connection): TokenExpiry | undefined {
    const expiresAt = this.#options.expiresAt?.(this.#c);
    if (expiresAt === undefined) return undefined;
    return new TokenExpiry({
      expiresAt,
      graceMs: this.#options.expiryGraceMs ?? EXPIRY_GRACE_MS,
      onExpired: () => {
        open.expired = true;
        connection.control({ status: "error", error: "Unauthorized" });
      },
      mayClose: () => !open.session.busy && !this.#sessions.mayStay(open),
      close: () => socket.close(1000, "the token has expired"),
    });
  }

  async #receive(open: OpenSession, socket: WebSocket, frame: Buffer, binary: boolean): Promise<void> {
    if (!this.#sessions.isOf(open, socket) || socket.readyState !== socket.OPEN) return;
    const { session } = open;
    try {
      const message = await this.#decoded(frame, binary);
      await this.#within(() => session.receive(message));
    } catch (error) {
      if (error instanceof MessageError) {
        session.malformed(error.message);
        return;
      }
      this.#options.onError?.(error, "");
      socket.close(1011, "internal error");
    }
  }

  /** A frame as the value that it holds. */
  async #decoded(frame: Buffer, binary: boolean): Promise<unknown> {
    if (binary) return unpack(frame, this.#options.bounds);
    const reader = new JsonReader(frame.length, this.#options);
    for (let at = 0; at < frame.length; at += SLICE_BYTES) {
      await slice();
      reader.write(frame.subarray(at, at + SLICE_BYTES));
    }
    return reader.end();
  }
}

/** `request:event,request:event` as a map; what makes no sense is left out. */
function afterOf(text: string): Map<string, number> {
  const after = new Map<string, number>();
  for (const part of text.split(",").slice(0, BUFFERING.max)) {
    const [, request, event] = /^(.{1,128}):(\d{1,15})$/.exec(part) ?? [];
    if (request !== undefined) after.set(request, Number(event));
  }
  return after;
}
