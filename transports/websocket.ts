/**
 * Realtime sessions over WebSocket: `app.get("/realtime", realtime(run))`. What a session does is in
 * `realtime-session.ts`; this file is its connection. Wants a server that was given a `WebSocketServer`, as `listen` does.
 *
 * - Frames from the server are msgpack; control frames are JSON as text. A client may write its messages as JSON too.
 * - A socket has no back-pressure of its own, so a droppable frame is sent only while little is buffered and fewer than
 *   two previews are on their way: each is followed by a ping, and its pong says that the client's end has taken it. A
 *   client that takes 400 ms a picture gets one every 400 ms, always the newest.
 * - A client that sends and does not read is not read from either while 1 MB of answers is under way to it.
 * - Query: `max_buffering` (1..60), `mode=queue`, and `session` with `after=request:event,…` to take up a session whose
 *   connection broke. The token comes in the first control frame: `{"type":"x-fal-message","action":"session",…}`.
 * - Close codes: 1008 too many frames without sense, 1009 too large, 1011 a fault of ours, 1012 restarting, 1013 no room.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { upgradeWebSocket } from "@hono/node-server";
import type { Context, Handler } from "hono";
import type { WebSocket } from "ws";
import { MessageError } from "./message.ts";
import { unpack } from "./msgpack.ts";
import { BUFFERING, createSession, type Line, type Session, type SessionOptions } from "./realtime-session.ts";
import { jobsOf, RESUME, type Source } from "./source.ts";

export interface RealtimeOptions<Input> extends Pick<SessionOptions<Input>, "parse" | "parseUpdate" | "onError"> {
  ownerOf?: (c: Context) => string | undefined;
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
/** Bytes of requests that wait in all sessions together; beyond it a request is refused with 503. */
const WAITING_BYTES = 256 * 2 ** 20;
/** Previews on their way to a client that has not taken them. */
const PREVIEWS_UNTAKEN = 2;
/** The payload of a ping that follows a preview. */
const AFTER_PREVIEW = "preview";
/** What a client that leaves on purpose says: finished, page closed, nothing. */
const ON_PURPOSE = new Set([1000, 1001, 1005]);

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
  } = options;
  /** Sessions by their token, those without a line in the order in which they lost it. */
  const sessions = new Map<string, { session: Session; socket?: WebSocket; owner?: string; expiry?: NodeJS.Timeout }>();
  const detached = new Set<string>();

  function hasRoom(bytes: number): boolean {
    let sum = bytes;
    for (const { session } of sessions.values()) sum += session.waitingBytes;
    return sum <= WAITING_BYTES;
  }

  function giveUp(token: string): void {
    const held = sessions.get(token);
    clearTimeout(held?.expiry);
    sessions.delete(token);
    detached.delete(token);
    held?.session.end();
  }

  function open(c: Context) {
    const owner = options.ownerOf?.(c);
    const asked = c.req.query("session") ?? "";
    const known = sessions.get(asked);
    if (known !== undefined && known.owner === owner) {
      clearTimeout(known.expiry);
      detached.delete(asked);
      return { token: asked, held: known, resumed: true };
    }
    const token = randomBytes(24).toString("base64url");
    const buffering = Number(c.req.query("max_buffering") ?? Number.NaN);
    const session = createSession(jobs, {
      ...options,
      graceMs,
      owner,
      hasRoom,
      queue: c.req.query("mode") === "queue",
      maxBuffering: Number.isInteger(buffering)
        ? Math.min(Math.max(buffering, BUFFERING.min), BUFFERING.max)
        : undefined,
    });
    const held = { session, owner };
    sessions.set(token, held);
    return { token, held: held as NonNullable<typeof known>, resumed: false };
  }

  return upgradeWebSocket((c) => {
    // What the upgrade's middleware left for those inside it, such as its trace, holds for the messages as well.
    const within = AsyncLocalStorage.snapshot();
    let session: Session;
    let token: string;
    let ping: NodeJS.Timeout;
    return {
      onOpen(_, ws) {
        const socket = ws.raw as unknown as WebSocket;
        const opened = open(c);
        const { held } = opened;
        ({ token } = opened);
        session = held.session;
        // The old connection may be one that only its client knows to be dead.
        const old = held.socket;
        held.socket = socket;
        sessionOf.set(socket, session);
        old?.terminate();
        let answered = true;
        let untaken = 0;
        const line: Line = {
          send: (frame) =>
            new Promise((resolve, reject) => {
              socket.send(frame, (error) => {
                session.wake();
                if (socket.isPaused && socket.bufferedAmount < UNREAD_BYTES) socket.resume();
                if (error) reject(error);
                else resolve();
              });
            }),
          control: (message) => {
            socket.send(JSON.stringify(message), () => {
              if (socket.isPaused && socket.bufferedAmount < UNREAD_BYTES) socket.resume();
            });
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
          answered = true;
          if (data.toString() !== AFTER_PREVIEW) return;
          untaken = Math.max(0, untaken - 1);
          session.wake();
        });
        ping = setInterval(() => {
          if (answered) socket.ping();
          else socket.terminate();
          answered = false;
        }, pingMs);
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
      onMessage({ data }, ws) {
        const socket = ws.raw as unknown as WebSocket;
        if (sessions.get(token)?.socket !== socket) return;
        try {
          const message = typeof data === "string" ? JSON.parse(data) : unpack(new Uint8Array(data as ArrayBuffer));
          within(() => session.receive(message));
        } catch (error) {
          if (error instanceof MessageError) session.malformed(error.message);
          else if (error instanceof SyntaxError) session.malformed("the frame is text, but not JSON");
          else {
            options.onError?.(error, "");
            socket.close(1011, "internal error");
          }
        }
      },
      onClose({ code }, ws) {
        clearInterval(ping);
        const held = sessions.get(token);
        if (held === undefined || held.socket !== (ws.raw as unknown as WebSocket)) return;
        held.socket = undefined;
        if (ON_PURPOSE.has(code) || graceMs <= 0) return giveUp(token);
        session.detach();
        detached.add(token);
        held.expiry = setTimeout(() => giveUp(token), graceMs).unref();
        const [oldest] = detached;
        if (detached.size > maxDetached) giveUp(oldest!);
      },
    };
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
