/**
 * Which web pages may talk to this server.
 *
 * CORS alone keeps a page from reading an answer, not from asking: a POST of text and a WebSocket go out without
 * permission, and an address of one's own machine is reachable from every page one opens. So a request that a browser
 * marks as another origin's is refused here, WebSockets included, unless that origin is configured. Requests without an
 * `Origin` (curl, servers, an address typed in) pass; credentials are for `auth.ts`.
 */
import type { Context, MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import type { Failure } from "./failure.ts";

export interface OriginOptions {
  /** Origins such as `https://app.example`, or `*` for all; the server's own is always allowed. */
  readonly allowed: readonly string[];
  readonly refuse: (c: Context, failure: Failure) => Response;
}

const EXPOSED = ["x-request-id", "x-fal-request-id", "retry-after", "ratelimit", "ratelimit-policy"];
/** An hour in which a browser need not ask again. */
const PREFLIGHT_SECONDS = 3600;

export function origins({ allowed, refuse }: OriginOptions): MiddlewareHandler {
  const any = allowed.includes("*");
  const answer = cors({
    origin: (origin) => (any ? "*" : allowed.includes(origin) ? origin : null),
    exposeHeaders: EXPOSED,
    maxAge: PREFLIGHT_SECONDS,
  });
  return async (c, next) => {
    const origin = c.req.header("origin");
    if (!any && isForeign(c, origin) && !(origin !== undefined && allowed.includes(origin))) {
      return refuse(c, { status: 403, detail: "Pages of this origin may not use this server" });
    }
    return allowed.length === 0 ? next() : answer(c, next);
  };
}

function isForeign(c: Context, origin: string | undefined): boolean {
  if (origin !== undefined) return !isOwn(origin, c.req.header("host"));
  // A picture or script tag of another page sends no Origin; a link that somebody follows is a navigation.
  return c.req.header("sec-fetch-site") === "cross-site" && c.req.header("sec-fetch-mode") !== "navigate";
}

/** Hosts are compared, not schemes: behind a proxy that ends TLS, only the browser knows the scheme. */
function isOwn(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
}
