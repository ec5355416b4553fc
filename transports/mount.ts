/**
 * An app in a server of Node's: plain `node:http`, Express, Fastify, whatever hands out Node's request and response. See
 * `examples/embed`.
 *
 *     const daguerre = mount(app, "/pictures");
 *     http.createServer((request, response) => daguerre.request(request, response) || others(request, response))
 *       .on("upgrade", daguerre.upgrade);
 *
 * The app is asked for paths below `base` alone, as if it were at the root; everything else is left to others.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { createAdaptorServer, getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { WebSocketServer } from "ws";
import { isBusy } from "./websocket.ts";

export interface MountOptions {
  /** Bytes of a WebSocket message; more closes the connection with 1009. */
  readonly frameBytes?: number;
}

export interface Mounted {
  /** Answers a request below `base`, and says whether it was one. For others `next` is called, where there is one. */
  readonly request: (request: IncomingMessage, response: ServerResponse, next?: () => void) => boolean;
  /** Takes up a WebSocket below `base`; a listener of the server's `upgrade` event. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** The open sessions. */
  readonly sockets: WebSocketServer;
  /** Ends the sessions with 1012: those that are busy when they no longer are, or after `graceMs`. */
  close(graceMs?: number): Promise<void>;
}

/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, raw, and the words around it. */
const FRAME_BYTES = 21 * 1024 * 1024;
/** WebSocket close code: the service restarts, and its clients may come back. */
const RESTARTING = 1012;
/** Milliseconds that a client has to answer a close. */
const CLOSE_MS = 1_000;
const IDLE_SWEEP_MS = 100;

/** What Express and its kind leave on a request: the address before they took a part away, and a body already read. */
interface Handled extends IncomingMessage {
  originalUrl?: string;
  body?: unknown;
  rawBody?: unknown;
}

/** @param base a path without a slash at its end; empty: the whole server */
export function mount(
  app: Pick<Hono, "fetch">,
  base: string = "",
  { frameBytes = FRAME_BYTES }: MountOptions = {},
): Mounted {
  if (!/^(\/[^/?#]+)*$/.test(base)) throw new TypeError(`'${base}' is not a path such as /pictures`);
  const sockets = new WebSocketServer({ noServer: true, maxPayload: frameBytes });
  const answer = getRequestListener(app.fetch);
  // It never listens: it is where @hono/node-server finds upgrades, and its own listener is the only one there.
  const upgrades = createAdaptorServer({ fetch: app.fetch, websocket: { server: sockets } });

  /** Takes `base` away from the request's address; false where it has another. */
  function enter(request: Handled): boolean {
    const whole = request.originalUrl ?? request.url ?? "/";
    const rest = whole.slice(base.length);
    if (!whole.startsWith(base) || !/^$|^[/?]/.test(rest)) return base === "";
    request.originalUrl = whole;
    request.url = rest.startsWith("/") ? rest : `/${rest}`;
    return true;
  }

  return {
    sockets,
    request(request: Handled, response, next) {
      if (!enter(request)) {
        next?.();
        return false;
      }
      const [path, query] = request.originalUrl!.split("?");
      if (base !== "" && path === base) {
        // What the page refers to lies beside it, so its own address must end with the slash.
        response.writeHead(308, { Location: `${base}/${query === undefined ? "" : `?${query}`}` }).end();
        return true;
      }
      restoreBody(request);
      void answer(request, response);
      return true;
    },
    upgrade(request, socket, head) {
      if (!enter(request)) return;
      if (request.headers.upgrade?.toLowerCase() === "websocket") {
        upgrades.emit("upgrade", request, socket, head);
        return;
      }
      // Nobody would answer it, and Node no longer times it.
      socket.on("error", () => {});
      socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () => socket.destroy());
    },
    async close(graceMs = 0) {
      const until = performance.now() + graceMs;
      const open = () => [...sockets.clients].filter(({ readyState, OPEN }) => readyState === OPEN);
      for (;;) {
        const over = performance.now() >= until;
        for (const socket of open()) if (over || !isBusy(socket)) socket.close(RESTARTING, "restarting");
        if (sockets.clients.size === 0) return;
        if (over) break;
        await sleep(Math.min(IDLE_SWEEP_MS, until - performance.now()));
      }
      const answered = performance.now() + CLOSE_MS;
      while (sockets.clients.size > 0 && performance.now() < answered) await sleep(IDLE_SWEEP_MS / 5);
      for (const socket of sockets.clients) socket.terminate();
    },
  };
}

/** `express.json()` before us has read the body; what it made of it becomes a body again. */
function restoreBody(request: Handled): void {
  const { body, rawBody, readableEnded } = request;
  if (!readableEnded || body === undefined || rawBody instanceof Buffer) return;
  request.rawBody =
    body instanceof Buffer || typeof body === "string" ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
}
