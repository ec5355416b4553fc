/** An app on a port of this machine, and its orderly end. */
import type { IncomingMessage, Server, ServerOptions } from "node:http";
import type { Duplex } from "node:stream";
import { serve } from "@hono/node-server";
import type { Hono } from "hono";
import { WebSocketServer } from "ws";
import { isBusy } from "./websocket.ts";

export interface Listening {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  readonly port: number;
  /**
   * Takes no more requests and waits for those that run; after `graceMs` they are cut off, which cancels them.
   * Settles when every connection is closed.
   */
  close(graceMs?: number): Promise<void>;
}

const IDLE_SWEEP_MS = 100;

/** What a connection may cost before there is a request. */
export interface ConnectionLimits {
  /** Open at a time; more are closed at once. */
  readonly connections?: number;
  /** Milliseconds that a request's headers may take to arrive; later is 408 and the end of the connection. */
  readonly headersMs?: number;
  /** Milliseconds that a whole request may take to arrive. Answers may take as long as they like. */
  readonly requestMs?: number;
  /** Bytes of a WebSocket message; more closes the connection with 1009. */
  readonly frameBytes?: number;
  /** Given the server before it listens, to count what goes through it. */
  readonly onServer?: (server: Server, webSockets: WebSocketServer) => void;
}

/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, raw, and the words around it. */
const FRAME_BYTES = 21 * 1024 * 1024;
/** Bytes of a request's headers. Node's own default, written down because a limit is relied on. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Slow requests are looked for this often; Node's default of 30 s would let each live so much longer. */
const SLOW_SWEEP_MS = 1_000;

/**
 * @param port 0 takes any free one
 * @throws the system's error (`EADDRINUSE`, `EACCES`) when the port cannot be had
 */
export function listen(
  app: Pick<Hono, "fetch">,
  port: number,
  hostname: string,
  { connections, headersMs, requestMs, frameBytes = FRAME_BYTES, onServer }: ConnectionLimits = {},
): Promise<Listening> {
  const serverOptions: ServerOptions = {
    maxHeaderSize: MAX_HEADER_BYTES,
    connectionsCheckingInterval: SLOW_SWEEP_MS,
    ...(headersMs !== undefined && { headersTimeout: headersMs }),
    ...(requestMs !== undefined && { requestTimeout: requestMs }),
  };
  const sockets = new WebSocketServer({ noServer: true, maxPayload: frameBytes });
  return new Promise((resolve, reject) => {
    const server = serve(
      { fetch: app.fetch, port, hostname, serverOptions, websocket: { server: sockets } },
      (address) => {
        server.off("error", reject);
        const host = hostname.includes(":") ? `[${hostname}]` : hostname;
        resolve({
          url: `http://${host}:${address.port}`,
          port: address.port,
          close: (graceMs = 0) => close(server, sockets, graceMs),
        });
      },
    ) as Server;
    if (connections !== undefined) server.maxConnections = connections;
    refuseOtherUpgrades(server);
    onServer?.(server, sockets);
    server.once("error", reject);
  });
}

/**
 * Closes connections that ask for anything but a WebSocket (`Upgrade: h2c`), which nobody would answer and Node no
 * longer times. A second `upgrade` listener would do it too, but @hono/node-server answers refused upgrades (401, 403,
 * 429) only while its own is the only one.
 */
function refuseOtherUpgrades(server: Server): void {
  const emit = server.emit.bind(server) as (name: string, ...given: unknown[]) => boolean;
  server.emit = ((name: string, ...given: unknown[]) => {
    const [request, socket] = given as [IncomingMessage, Duplex];
    if (name !== "upgrade" || request.headers.upgrade?.toLowerCase() === "websocket") return emit(name, ...given);
    socket.on("error", () => {});
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () => socket.destroy());
    return true;
  }) as typeof server.emit;
}

/** WebSocket close code: the service restarts, and its clients may come back. */
const RESTARTING = 1012;
/** Milliseconds that a client has to answer a close. */
const CLOSE_MS = 1_000;

function close(server: Server, sockets: WebSocketServer, graceMs: number): Promise<void> {
  const restart = (all: boolean) => {
    for (const socket of sockets.clients) {
      if (socket.readyState === socket.OPEN && (all || !isBusy(socket))) socket.close(RESTARTING, "restarting");
    }
  };
  return new Promise((resolve, reject) => {
    let ends: NodeJS.Timeout | undefined;
    const cut = setTimeout(() => {
      server.closeAllConnections();
      restart(true);
      ends = setTimeout(() => {
        for (const socket of sockets.clients) socket.terminate();
      }, CLOSE_MS);
    }, graceMs);
    // A connection that was busy becomes idle later, and its client would keep it for another request.
    const sweep = setInterval(() => {
      server.closeIdleConnections();
      restart(false);
    }, IDLE_SWEEP_MS);
    server.close((error) => {
      clearTimeout(cut);
      clearTimeout(ends);
      clearInterval(sweep);
      if (error === undefined) resolve();
      else reject(error);
    });
  });
}
