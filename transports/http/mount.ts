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
import { type Account, PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import { isBusy } from "../realtime/websocket.ts";
import { begin, inTurn } from "./pipelining.ts";
import { watchReaders } from "./unread.ts";

export interface MountOptions {
  /** Bytes of a WebSocket message; more closes the connection with 1009. */
  readonly frameBytes?: number;
  /** Milliseconds after which a client that takes nothing of its answer is cut off. */
  readonly unreadMs?: number;
  /** The account of requests that wait for the one before them. */
  readonly account?: Account;
  /** Told of every error that was thrown outside the app: while a request is routed, upgraded or answered. */
  readonly onError?: (error: unknown) => void;
}

/** Open WebSocket sessions; a `WebSocketServer` of the package `ws`, whose types are not needed here. */
export interface OpenSockets {
  readonly clients: { readonly size: number };
}

export interface Mounted {
  /** Answers a request below `base`, and says whether it was one. For others `next` is called, where there is one. */
  readonly request: (request: IncomingMessage, response: ServerResponse, next?: () => void) => boolean;
  /** Takes up a WebSocket below `base`; a listener of the server's `upgrade` event. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  readonly sockets: OpenSockets;
  /** Ends the sessions with 1012: those that are busy when they no longer are, or after `graceMs`. */
  close(graceMs?: number): Promise<void>;
}

/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, raw, and the words around it. */
const FRAME_BYTES = 21 * 1024 * 1024;
/** Frames of a message: each takes a hundred bytes besides its own. Browsers send 128 KiB in one. */
const MAX_FRAGMENTS = 2_048;
/** WebSocket close code: the service restarts, and its clients may come back. */
const RESTARTING = 1012;
/** Milliseconds that a client has to answer a close. */
const CLOSE_MS = 1_000;
const IDLE_SWEEP_MS = 100;

/** Milliseconds without a byte taken of an answer. */
const UNREAD_MS = 120_000;
const INTERNAL = "Internal error";

/** Properties that Express and its kind leave on a request: the whole address, and a body already read. */
interface Handled extends IncomingMessage {
  originalUrl?: string;
  body?: unknown;
  rawBody?: unknown;
}

/** @param base a path without a slash at its end; empty: the whole server */
export function mount(app: Pick<Hono, "fetch">, base: string = "", options: MountOptions = {}): Mounted {
  if (!/^(\/[^/?#]+)*$/.test(base)) throw new TypeError(`'${base}' is not a path such as /pictures`);
  return new Mount(app, base, options);
}

class Mount implements Mounted {
  readonly sockets: WebSocketServer;
  readonly #base: string;
  readonly #account: Account;
  readonly #onError: MountOptions["onError"];
  readonly #readers: ReturnType<typeof watchReaders>;
  readonly #answer: ReturnType<typeof getRequestListener>;
  readonly #upgrade: Mounted["upgrade"];
  /** Upgrades that became sessions. */
  readonly #upgraded = new WeakSet<IncomingMessage>();

  constructor(app: Pick<Hono, "fetch">, base: string, options: MountOptions) {
    const { frameBytes = FRAME_BYTES, unreadMs = UNREAD_MS, account = PROCESS_ACCOUNT, onError } = options;
    this.sockets = new WebSocketServer({ noServer: true, maxPayload: frameBytes, maxFragments: MAX_FRAGMENTS });
    this.#base = base;
    this.#account = account;
    this.#onError = onError;
    this.#readers = watchReaders(unreadMs);
    this.#answer = getRequestListener(app.fetch, {
      // A request may have none, such as a probe of HTTP/1.0.
      hostname: "localhost",
      // A request that is none (a Host that is no host) has not come as far as the app.
      errorHandler: (error) => {
        const malformed = (error as Error | undefined)?.name === "RequestError";
        if (!malformed) this.#report(error);
        return Response.json(
          { detail: malformed ? "The request is malformed" : INTERNAL },
          { status: malformed ? 400 : 500 },
        );
      },
    });
    // It never listens: it is where @hono/node-server finds upgrades, and its own listener is the only one there.
    const upgrades = createAdaptorServer({ fetch: app.fetch, websocket: { server: this.sockets } });
    [this.#upgrade] = upgrades.listeners("upgrade") as [Mounted["upgrade"]];
    this.sockets.on("connection", (_, request: IncomingMessage) => this.#upgraded.add(request));
  }

  readonly request = (request: Handled, response: ServerResponse, next?: () => void): boolean => {
    const whose = this.#enter(request);
    if (whose === "others") {
      next?.();
      return false;
    }
    const failed = (error: unknown) => {
      this.#report(error);
      refuse(response, 500, INTERNAL);
    };
    try {
      if (whose === "malformed") {
        refuse(response, 400, "The request's target must be a path, or an address of this server");
        return true;
      }
      const base = this.#base;
      const [path, query] = request.originalUrl!.split("?");
      if (base !== "" && path === base) {
        // The page's files lie beside it, so its own address must end with the slash. The way there is from here:
        // a proxy may have taken a part of the path away.
        const folder = base.slice(base.lastIndexOf("/") + 1);
        response.writeHead(308, { Location: `./${folder}/${query === undefined ? "" : `?${query}`}` }).end();
        return true;
      }
      restoreBody(request);
      this.#readers.watch(response);
      inTurn(request, response, this.#account, () => callListener(() => this.#answer(request, response), failed));
    } catch (error) {
      failed(error);
    }
    return true;
  };

  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const whose = this.#enter(request);
    if (whose === "others") return;
    socket.on("error", () => {});
    const close = (status: string) => {
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
    };
    try {
      const sound = URL.canParse(`http://${request.headers.host ?? "localhost"}${request.url}`);
      // Nobody would answer it, and Node no longer times it.
      if (whose === "malformed" || !sound || request.headers.upgrade?.toLowerCase() !== "websocket") {
        close("400 Bad Request");
        return;
      }
      // A refused one is ended by the listener; its client may keep its half open for ever.
      socket.once("finish", () => {
        if (!this.#upgraded.has(request)) setTimeout(() => socket.destroy(), CLOSE_MS).unref();
      });
      const failed = (error: unknown) => {
        this.#report(error);
        socket.destroy();
      };
      begin(() => callListener(() => this.#upgrade(request, socket, head), failed));
    } catch (error) {
      this.#report(error);
      close("500 Internal Server Error");
    }
  };

  readonly close = async (graceMs: number = 0): Promise<void> => {
    const { clients } = this.sockets;
    const until = performance.now() + graceMs;
    const open = () => [...clients].filter(({ readyState, OPEN }) => readyState === OPEN);
    for (;;) {
      const over = performance.now() >= until;
      for (const socket of open()) if (over || !isBusy(socket)) socket.close(RESTARTING, "restarting");
      if (clients.size === 0) return;
      if (over) break;
      await sleep(Math.min(IDLE_SWEEP_MS, until - performance.now()));
    }
    const answered = performance.now() + CLOSE_MS;
    while (clients.size > 0 && performance.now() < answered) await sleep(IDLE_SWEEP_MS / 5);
    for (const socket of clients) socket.terminate();
  };

  /** Takes the base away from the request's target: whose request is it? */
  #enter(request: Handled): "ours" | "others" | "malformed" {
    const base = this.#base;
    const target = originTarget(request.originalUrl ?? request.url ?? "");
    if (target === undefined) return base === "" ? "malformed" : "others";
    const { whole, host } = target;
    const rest = whole.slice(base.length);
    if (!whole.startsWith(base) || !/^$|^[/?]/.test(rest)) return "others";
    if (host !== undefined) replaceHost(request, host);
    request.originalUrl = whole;
    request.url = rest.startsWith("/") ? rest : `/${rest}`;
    return "ours";
  }

  #report(error: unknown): void {
    try {
      this.#onError?.(error);
    } catch (failed) {
      // Nobody is left to be told; it must not end the process.
      process.emitWarning(failed instanceof Error ? failed : String(failed));
    }
  }
}

/** Calls a listener whose errors, thrown or of its promise, are for `failed`. */
function callListener(listener: () => unknown, failed: (error: unknown) => void): void {
  try {
    Promise.resolve(listener()).catch(failed);
  } catch (error) {
    failed(error);
  }
}

/**
 * The target of a request as a path, with the host of an absolute address (RFC 9112, section 3.2); undefined where it is
 * none: `*`, an authority, rubbish.
 */
function originTarget(target: string): { whole: string; host?: string } | undefined {
  if (target.startsWith("/")) return { whole: target };
  if (!/^https?:\/\//i.test(target) || !URL.canParse(target)) return undefined;
  const { host, pathname, search } = new URL(target);
  return { whole: pathname + search, host };
}

/** The host of an absolute address takes the place of `Host`, as the RFC asks. */
function replaceHost(request: Handled, host: string): void {
  request.headers.host = host;
  const { rawHeaders } = request;
  const others = rawHeaders.filter((_, at) => rawHeaders[at - (at % 2)]!.toLowerCase() !== "host");
  request.rawHeaders = ["Host", host, ...others];
}

/** An answer without the app; one that has begun is broken off. */
function refuse(response: ServerResponse, status: number, detail: string): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  response.writeHead(status, { "Content-Type": "application/json", Connection: "close" });
  response.end(JSON.stringify({ detail }));
}

/** `express.json()` before us has read the body; what it made of it becomes a body again. */
function restoreBody(request: Handled): void {
  const { body, rawBody, readableEnded } = request;
  if (!readableEnded || body === undefined || rawBody instanceof Buffer) return;
  request.rawBody =
    body instanceof Buffer || typeof body === "string" ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
}
