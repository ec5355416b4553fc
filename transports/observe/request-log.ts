/**
 * One line for each request: who, what, how it was answered, how long the headers took. Addresses are logged without
 * their query, which may hold a token, and no header is logged at all.
 */
import type { MiddlewareHandler } from "hono";
import { principalOf } from "../gate/auth.ts";
import { addressOf } from "../http/client.ts";

export interface RequestEntry {
  readonly request_id: string | undefined;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Milliseconds until the answer's headers were ready; a stream goes on after them. */
  readonly ms: number;
  readonly client: string;
  /** Whom the token was for, if it was a token. */
  readonly subject?: string;
  readonly address: string;
}

/** Characters of a path that are logged. */
const PATH_CHARACTERS = 200;

export function requestLog(write: (entry: RequestEntry) => void, proxies: number): MiddlewareHandler {
  return async (c, next) => {
    const began = performance.now();
    // A connection that breaks meanwhile has no address any more.
    const address = addressOf(c, proxies);
    await next();
    const { name, subject } = principalOf(c);
    write({
      request_id: c.res.headers.get("x-request-id") ?? undefined,
      method: c.req.method,
      path: c.req.path.slice(0, PATH_CHARACTERS),
      status: c.res.status,
      ms: Math.round(performance.now() - began),
      client: name,
      subject,
      address,
    });
  };
}
