/** An app on a port of this machine, and its orderly end. */
import type { Server, ServerOptions } from "node:http";
import { serve } from "@hono/node-server";
import type { Hono } from "hono";

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
  /** Given the server before it listens, to count what goes through it. */
  readonly onServer?: (server: Server) => void;
}

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
  { connections, headersMs, requestMs, onServer }: ConnectionLimits = {},
): Promise<Listening> {
  const serverOptions: ServerOptions = {
    maxHeaderSize: MAX_HEADER_BYTES,
    connectionsCheckingInterval: SLOW_SWEEP_MS,
    ...(headersMs !== undefined && { headersTimeout: headersMs }),
    ...(requestMs !== undefined && { requestTimeout: requestMs }),
  };
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, port, hostname, serverOptions }, (address) => {
      server.off("error", reject);
      const host = hostname.includes(":") ? `[${hostname}]` : hostname;
      resolve({
        url: `http://${host}:${address.port}`,
        port: address.port,
        close: (graceMs = 0) => close(server, graceMs),
      });
    }) as Server;
    if (connections !== undefined) server.maxConnections = connections;
    onServer?.(server);
    server.once("error", reject);
  });
}

function close(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs);
    // A connection that was busy becomes idle later, and its client would keep it for another request.
    const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
    server.close((error) => {
      clearTimeout(cut);
      clearInterval(sweep);
      if (error === undefined) resolve();
      else reject(error);
    });
  });
}
