/** An app on a port of this machine, and its orderly end. */
import type { Server } from "node:http";
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

/**
 * @param port 0 takes any free one
 * @throws the system's error (`EADDRINUSE`, `EACCES`) when the port cannot be had
 */
export function listen(app: Pick<Hono, "fetch">, port: number, hostname: string): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, port, hostname }, (address) => {
      server.off("error", reject);
      const host = hostname.includes(":") ? `[${hostname}]` : hostname;
      resolve({
        url: `http://${host}:${address.port}`,
        port: address.port,
        close: (graceMs = 0) => close(server, graceMs),
      });
    }) as Server;
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
