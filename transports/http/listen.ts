/** An app on a port of this machine, and its orderly end. */
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Hono } from "hono";
import { type Mounted, type MountOptions, mount, type OpenSockets } from "./mount.ts";

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

/** Bounds on a connection before there is a request. */
export interface ListenOptions extends MountOptions {
  /** Open at a time; more are closed at once. */
  readonly connections?: number;
  /** Milliseconds that a request's headers may take to arrive; later is 408 and the end of the connection. */
  readonly headersMs?: number;
  /** Milliseconds that a whole request may take to arrive. Answers may take as long as they like. */
  readonly requestMs?: number;
  /** Given the server before it listens, to count what goes through it. */
  readonly onServer?: (server: Server, webSockets: OpenSockets) => void;
}

const IDLE_SWEEP_MS = 100;
/** Bytes of a request's headers. Node's own default, written down because a limit is relied on. */
const MAX_HEADER_BYTES = 16 * 1024;
/**
 * Connections that the system may hold until they are taken. With Node's 511, a thousand that come at once leave
 * somebody else's waiting for its next try, seconds later. Linux allows 4,096 where nothing else is set.
 */
const BACKLOG = 4_096;
/** Slow requests are looked for this often; Node's default of 30 s would let each live so much longer. */
const SLOW_SWEEP_MS = 1_000;
/** An idle connection is closed so long after it was found to be due. */
const IDLE_GRACE_MS = 1_000;

/**
 * @param port 0 takes any free one
 * @throws the system's error (`EADDRINUSE`, `EACCES`) when the port cannot be had
 */
export function listen(
  app: Pick<Hono, "fetch">,
  port: number,
  hostname: string,
  { connections, headersMs, requestMs, onServer, ...options }: ListenOptions = {},
): Promise<Listening> {
  const mounted = mount(app, "", options);
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      connectionsCheckingInterval: SLOW_SWEEP_MS,
      ...(headersMs !== undefined && { headersTimeout: headersMs }),
      ...(requestMs !== undefined && { requestTimeout: requestMs }),
    },
    mounted.request,
  );
  closeIdle(server);
  server.on("upgrade", mounted.upgrade);
  // Through this server nobody is connected to another.
  server.on("connect", (_, socket) => {
    socket.on("error", () => {});
    socket.end("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () =>
      socket.destroy(),
    );
  });
  if (connections !== undefined) server.maxConnections = connections;
  onServer?.(server, mounted.sockets);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host: hostname, backlog: BACKLOG }, () => {
      server.off("error", reject);
      // A connection that cannot be taken (no descriptor is left) is no reason to end.
      server.on("error", (error) => options.onError?.(error));
      const { port } = server.address() as AddressInfo;
      const host = hostname.includes(":") ? `[${hostname}]` : hostname;
      resolve({ url: `http://${host}:${port}`, port, close: (graceMs = 0) => close(server, mounted, graceMs) });
    });
  });
}

/**
 * Closes a connection that was idle for the time that `Keep-Alive` states, and not in the same turn: after a long turn the
 * next request may have arrived without having been read. Its client would see a broken connection, and could not know
 * whether the request was begun.
 */
function closeIdle(server: Server): void {
  const overdue = new WeakSet<Socket>();
  // Node counts from the end of an answer, and ends the count when a request comes.
  server.on("timeout", (socket) => {
    if (overdue.has(socket)) return void socket.destroy();
    overdue.add(socket);
    socket.setTimeout(IDLE_GRACE_MS);
  });
  server.on("request", ({ socket }) => void overdue.delete(socket));
}

async function close(server: Server, mounted: Mounted, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve, reject) => {
    server.close((error) => (error === undefined ? resolve() : reject(error)));
  });
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  // A connection that was busy becomes idle later, and its client would keep it for another request.
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  try {
    await Promise.all([closed, mounted.close(graceMs)]);
  } finally {
    clearTimeout(cut);
    clearInterval(sweep);
  }
}
