/** The bound on a client's realtime sessions at a time. */
import type { Context, MiddlewareHandler } from "hono";
import type { Failure } from "../failure.ts";
import { clientOf, socketOf, type TrustedProxies } from "../http/client.ts";

export interface SessionOptions {
  /** WebSocket sessions of one client at a time. */
  readonly sessions: number;
  readonly proxies: TrustedProxies;
  readonly refuse: (c: Context, failure: Failure) => Response;
}

/** Counts sessions from their upgrade to the end of their socket; one too many is 429 before it is upgraded. */
export function sessionLimit({ sessions, proxies, refuse }: SessionOptions): MiddlewareHandler {
  const live = new Map<string, number>();
  return async (c, next) => {
    const socket = socketOf(c);
    if (c.req.header("upgrade")?.toLowerCase() !== "websocket" || socket === undefined) return next();
    const client = clientOf(c, proxies);
    const open = live.get(client) ?? 0;
    if (open >= sessions) {
      return refuse(c, { status: 429, detail: `At most ${sessions} sessions at a time`, retryAfter: 1 });
    }
    live.set(client, open + 1);
    socket.once("close", () => {
      const left = (live.get(client) ?? 1) - 1;
      if (left > 0) live.set(client, left);
      else live.delete(client);
    });
    await next();
  };
}
