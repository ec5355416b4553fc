/**
 * Realtime sessions over WebSocket: `app.get("/realtime", realtime(run))`. What a session does is in
 * `session.ts`; this file is its connection. Wants a server that was given a `WebSocketServer`, as `listen` does.
 *
 * - Frames from the server are msgpack; control frames are JSON as text. A client may write its messages as JSON too.
 * - A socket has no back-pressure of its own, so a droppable frame is sent only while little is buffered and fewer than
 *   two previews are on their way: each is followed by a ping, and its pong says that the client's end has taken it. A
 *   client that takes 400 ms a picture gets one every 400 ms, always the newest.
 * - A client that sends and does not read is not read from either while 1 MB of answers is under way to it. What is on its
 *   way to it, and the part of a frame that has come from it, are on its account (`account.ts`).
 * - Frames are taken one after the other, JSON in slices; while some wait the connection is not read from.
 * - When its token expires, a session is told so and goes on for some seconds, in which its client takes it up with a new
 *   token. After that nothing new is begun over it, and it ends when all that was begun has been sent.
 * - Query: `max_buffering` (1..60), `mode=queue`, and `session` with `after=request:event,…` to take up a session whose
 *   connection broke. The token comes in the first control frame: `{"type":"x-fal-message","action":"session",…}`.
 * - Close codes: 1008 too many frames without sense, 1009 too large, 1011 a fault of ours, 1012 restarting, 1013 no room.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { upgradeWebSocket } from "@hono/node-server";
import type { Context, Handler } from "hono";
import type { WebSocket } from "ws";
import { PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import { slice } from "../../src/platform/turns.ts";
import type { Failure } from "../failure.ts";
import { clientOf } from "../gate/limits.ts";
import { UNCOUNTED_BODY_BYTES } from "../http/input.ts";
import { JsonReader } from "../http/json-reader.ts";
import { type MessageBounds, MessageError } from "../http/message.ts";
import { jobsOf, type OwnerOf, RESUME, type Source } from "../source.ts";
import { UNCOUNTED_ANSWER_BYTES } from "../stream/outflow.ts";
import { unpack } from "../wire/msgpack.ts";
import { BUFFERING, createSession, type Line, type Session, type SessionOptions } from "./session.ts";

export interface RealtimeOptions<Input>
  extends Pick<SessionOptions<Input>, "parse" | "parseUpdate" | "parseDefaults" | "onError" | "account" | "tracing"> {
  ownerOf?: OwnerOf;
  /** Whom a session counts against. Default: the credential's name, or the address of the connection. */
  clientOf?: (c: Context) => string;
  /** Sessions of one client, those included that wait for it to come back: the oldest of these makes room. */
  sessions?: number;
  /** Asked before each request of a session: why it may not be made now, if it may not. */
  admit?: (c: Context) => Promise<Failure | undefined>;
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
/** Bytes of answers under way to a client above which it is not read from. */
const UNREAD_BYTES = 2 ** 20;
const MAX_DETACHED = 256;
const EXPIRY_GRACE_MS = 5_000;
/** Milliseconds between two looks whether a session that has expired may be closed. */
const EXPIRED_SWEEP_MS = 250;
/** Sessions of one owner that have expired and keep their connection. */
const MAX_EXPIRED = 8;
/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Messages that wait for the one before them until the connection is no longer read from. */
const MESSAGES_AHEAD = 8;
/** Bytes of a frame after which the rest of it is read in turns with others'. */
const PACED_BYTES = 2 * 2 ** 20;
/** Bytes of JSON that are looked through in one slice. */
const SLICE_BYTES = 64 * 1024;
/** Bytes that a chunk of a frame takes besides its own. */
const CHUNK_BYTES = 256;
/** Bytes of a control frame besides its payload: two of header, four of mask. */
const CONTROL_BYTES = 6;
/** Previews on their way to a client that has not taken them. */
const PREVIEWS_UNTAKEN = 2;
/** The payload of a ping that follows a preview. */
const AFTER_PREVIEW = "preview";
/** WebSocket close code: no room at the moment. */
const TRY_LATER = 1013;
const UNAUTHORIZED: Failure = { status: 401, detail: "The token has expired" };
/** What a client that leaves on purpose says: finished, page closed, nothing. */
const ON_PURPOSE = new Set([1000, 1001, 1005]);

/** One session, with its connection or without. */
interface HeldSession {
  readonly session: Session;
  readonly owner: string | undefined;
  readonly client: string;
  /** Whether its present connection may make a request now. */
  admit: () => Promise<Failure | undefined>;
  socket?: WebSocket;
  /** The credential of its connection has expired. */
  expired?: boolean;
  expiry?: NodeJS.Timeout;
}

const sessionOf = new WeakMap<WebSocket, Session>();

/** Whether a session of this socket still has something to say; for a server that is about to end. */
export function isBusy(socket: WebSocket): boolean {
  return sessionOf.get(socket)?.busy ?? false;
}

export function realtime<Input, Event>(source: Source<Input, Event>, options: RealtimeOptions<Input> = {}): Handler {
  const jobs = jobsOf(source, { concurrency: 1 });
  const {
    graceMs = RESUME.sessionMs,
    pingMs = PING_MS,
    bufferedBytes = BUFFERED_BYTES,
    maxDetached = MAX_DETACHED,
    sessions: maxSessions = Number.POSITIVE_INFINITY,
    clientOf: whose = clientOf,
    account = PROCESS_ACCOUNT,
    expiryGraceMs = EXPIRY_GRACE_MS,
    onError,
  } = options;
  /** Sessions by their token, those without a line in the order in which they lost it. */
  const sessions = new Map<string, HeldSession>();
  const detached = new Set<string>();

  function giveUp(token: string): void {
    const held = sessions.get(token);
    clearTimeout(held?.expiry);
    sessions.delete(token);
    detached.delete(token);
    held?.session.end();
  }

  /** Sessions without a line make room for others of their client. */
  function keepWithin(client: string): void {
    let count = 0;
    for (const held of sessions.values()) if (held.client === client) count++;
    for (const token of detached) {
      if (count <= maxSessions) return;
      if (sessions.get(token)?.client !== client) continue;
      giveUp(token);
      count--;
    }
  }

  /**
   * Whether a session that has expired, and has nothing more to say, keeps its connection: fal's client ends its newer
   * session when an older one is closed. So it stays as long as there is a newer one, unless there are many of its kind.
   */
  function mayStay({ owner }: HeldSession): boolean {
    const others = [...sessions.values()].filter((held) => held.owner === owner && held.socket !== undefined);
    const expired = others.filter((held) => held.expired).length;
    return others.length > expired && expired <= MAX_EXPIRED;
  }

  function open(c: Context, admit: () => Promise<Failure | undefined>) {
    const owner = options.ownerOf?.(c);
    const client = whose(c);
    const asked = c.req.query("session") ?? "";
    const known = sessions.get(asked);
    if (known !== undefined && known.owner === owner) {
      known.admit = admit;
      known.expired = false;
      clearTimeout(known.expiry);
      detached.delete(asked);
      return { token: asked, held: known, resumed: true };
    }
    const token = randomBytes(24).toString("base64url");
    const buffering = Number(c.req.query("max_buffering") ?? Number.NaN);
    const session = createSession(jobs, {
      ...options,
      account,
      client,
      graceMs,
      owner,
      admit: () => held.admit(),
      queue: c.req.query("mode") === "queue",
      maxBuffering: Number.isInteger(buffering)
        ? Math.min(Math.max(buffering, BUFFERING.min), BUFFERING.max)
        : undefined,
    });
    const held: HeldSession = { session, owner, client, admit };
    sessions.set(token, held);
    keepWithin(client);
    return { token, held, resumed: false };
  }

  /** A frame as the value that it holds. */
  async function decoded(frame: Buffer, binary: boolean): Promise<unknown> {
    if (binary) return unpack(frame, options.bounds);
    const reader = new JsonReader(frame.length, options);
    for (let at = 0; at < frame.length; at += SLICE_BYTES) {
      await slice();
      reader.write(frame.subarray(at, at + SLICE_BYTES));
    }
    return reader.end();
  }

  return upgradeWebSocket((c) => {
    // What the upgrade's middleware left for those inside it, such as its trace, holds for the messages as well.
    const within = AsyncLocalStorage.snapshot();
    let session: Session;
    let token: string;
    let ping: NodeJS.Timeout;
    let expiry: NodeJS.Timeout | undefined;
    let release = (): void => {};
    return {
      onOpen(_, ws) {
        const socket = ws.raw as unknown as WebSocket;
        let expired = false;
        const admit = async () => (expired ? UNAUTHORIZED : options.admit?.(c));
        const opened = open(c, admit);
        const { held } = opened;
        ({ token } = opened);
        session = held.session;
        // The old connection may be one that only its client knows to be dead.
        const old = held.socket;
        held.socket = socket;
        sessionOf.set(socket, session);
        old?.terminate();

        // What is on its way out, and what of frames has come in.
        const end = () => {
          socket.close(TRY_LATER, "the connection is too slow for what it takes");
          socket.terminate();
        };
        const outgoing = account.open("answers", held.client, end);
        const incoming = account.open("bodies", held.client, end);
        const countOut = () => outgoing.resize(Math.max(0, socket.bufferedAmount - UNCOUNTED_ANSWER_BYTES));
        let arrived = 0;
        let queuedBytes = 0;
        let queued = 0;
        const countIn = () => incoming.resize(Math.max(0, arrived + queuedBytes - UNCOUNTED_BODY_BYTES));
        /** Within a large frame: the rest of it is read in turns with what others send. */
        let paced = false;
        const mayRead = () => socket.bufferedAmount < UNREAD_BYTES && queued < MESSAGES_AHEAD && !paced;
        const readOn = () => {
          if (socket.isPaused && mayRead()) socket.resume();
        };
        const raw = (c.env as { incoming?: { socket?: Socket } } | undefined)?.incoming?.socket;
        const onBytes = (bytes: Buffer) => {
          // A large frame in many chunks takes more than its bytes.
          arrived += bytes.length + (arrived > UNCOUNTED_BODY_BYTES ? CHUNK_BYTES : 0);
          countIn();
          if (arrived <= PACED_BYTES || paced) return;
          const turn = slice();
          if (turn === undefined) return;
          paced = true;
          socket.pause();
          void turn.then(() => {
            paced = false;
            readOn();
          });
        };
        raw?.prependListener("data", onBytes);
        release = () => {
          raw?.off("data", onBytes);
          outgoing.release();
          incoming.release();
        };
        const forget = (data: Buffer) => {
          arrived = Math.max(0, arrived - data.length - CONTROL_BYTES);
        };

        let answered = true;
        let untaken = 0;
        const line: Line = {
          send: (frame) =>
            new Promise((resolve, reject) => {
              socket.send(frame, (error) => {
                countOut();
                session.wake();
                readOn();
                if (error) reject(error);
                else resolve();
              });
              countOut();
            }),
          control: (message) => {
            socket.send(JSON.stringify(message), readOn);
            if (socket.bufferedAmount > UNREAD_BYTES) socket.pause();
          },
          get clear() {
            return untaken < PREVIEWS_UNTAKEN && socket.bufferedAmount < bufferedBytes;
          },
          previewSent() {
            untaken++;
            // After the preview itself, which is sent in this turn.
            setImmediate(() => socket.readyState === socket.OPEN && socket.ping(AFTER_PREVIEW, undefined, () => {}));
          },
          close: (code, reason) => socket.close(code, reason),
        };
        socket.on("pong", (data) => {
          forget(data);
          answered = true;
          if (data.toString() !== AFTER_PREVIEW) return;
          untaken = Math.max(0, untaken - 1);
          session.wake();
        });
        socket.on("ping", forget);
        let tail = Promise.resolve();
        socket.on("message", (data: Buffer, binary: boolean) => {
          arrived = 0;
          queuedBytes += data.length;
          queued++;
          countIn();
          if (!mayRead()) socket.pause();
          tail = tail
            .then(() => slice())
            .then(() => receive(socket, data, binary))
            .finally(() => {
              queued--;
              queuedBytes -= data.length;
              countIn();
              readOn();
            });
        });
        ping = setInterval(() => {
          if (answered) socket.ping();
          else socket.terminate();
          answered = false;
        }, pingMs);
        const expiresAt = options.expiresAt?.(c);
        if (expiresAt !== undefined) {
          const expire = () => {
            held.expired = true;
            line.control({ status: "error", error: "Unauthorized" });
            expiry = setTimeout(() => {
              expired = true;
              expiry = setInterval(() => {
                if (!session.busy && !mayStay(held)) socket.close(1000, "the token has expired");
              }, EXPIRED_SWEEP_MS);
            }, expiryGraceMs);
          };
          expiry = setTimeout(expire, Math.min(Math.max(expiresAt - Date.now(), 0), LONGEST_TIMER));
        }
        line.control({
          type: "x-fal-message",
          action: "session",
          session: token,
          resumed: opened.resumed,
          resume_within_s: graceMs / 1000,
          // What was sent while the connection broke may not have come.
          requests: session.requests,
        });
        session.attach(line, opened.resumed ? afterOf(c.req.query("after") ?? "") : undefined);
      },
      onClose({ code }, ws) {
        clearInterval(ping);
        clearTimeout(expiry);
        release();
        const held = sessions.get(token);
        if (held === undefined || held.socket !== (ws.raw as unknown as WebSocket)) return;
        held.socket = undefined;
        if (ON_PURPOSE.has(code) || graceMs <= 0) {
          giveUp(token);
          return;
        }
        session.detach();
        detached.add(token);
        held.expiry = setTimeout(() => giveUp(token), graceMs).unref();
        keepWithin(held.client);
        const [oldest] = detached;
        if (detached.size > maxDetached) giveUp(oldest!);
      },
    };

    async function receive(socket: WebSocket, frame: Buffer, binary: boolean): Promise<void> {
      if (sessions.get(token)?.socket !== socket || socket.readyState !== socket.OPEN) return;
      try {
        const message = await decoded(frame, binary);
        await within(() => session.receive(message));
      } catch (error) {
        if (error instanceof MessageError) {
          session.malformed(error.message);
          return;
        }
        onError?.(error, "");
        socket.close(1011, "internal error");
      }
    }
  });
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
