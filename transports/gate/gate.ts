/**
 * Checks before a transport sees a request, in this order: headers for browsers, the server's name, the page's
 * origin, the credential, the client's rate, the client's sessions. The order is the cheap before the expensive, and a
 * stranger's requests never count against somebody else.
 */
import type { Context, MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { secureHeaders } from "hono/secure-headers";
import type { Failure } from "../failure.ts";
import type { RouteRules } from "../route.ts";
import { type Authenticator, guard } from "./auth.ts";
import { hostCheck, hosts, hostsOf } from "./host.ts";
import { origins } from "./origin.ts";
import { type Rate, rateLimit } from "./rate.ts";
import { sessionLimit } from "./session-limit.ts";

export interface GateOptions {
  /** The routes behind it: what each needs, and in which words its clients are refused. */
  readonly routes: RouteRules;
  readonly authenticator: Authenticator;
  /** The model that answers, or the names of several; what a credential may be bound to. */
  readonly model: string | readonly string[];
  /** Origins of web pages that may use this server, besides its own. */
  readonly corsOrigins: readonly string[];
  /**
   * Names under which this server answers, besides addresses in digits, `localhost` and that of `publicUrl`:
   * `pictures.example`, `pictures.example:8080`, `*.pictures.example`; others are 421. Left out: all names, since whoever
   * mounts the app checks them. Where a credential is required none is checked: a page that rebinds its name has none.
   */
  readonly hosts?: readonly string[];
  /** Where browsers find this server, with the path that a proxy takes away: `https://pictures.example/base`. */
  readonly publicUrl?: string;
  /**
   * With `hosts`: whether `GET /stream` starts a picture for whom nothing is known of, over plain http from another
   * machine. It may be a picture tag of any page.
   */
  readonly getStream?: boolean;
  /** Requests of one client; undefined: no limit. */
  readonly requestsPerMinute?: number;
  /** Counts a client's requests where somebody else counts them, too. */
  readonly rate?: Rate;
  /** Sessions of one client at a time; undefined: no limit. */
  readonly sessions?: number;
  /** Proxies before this server that write `X-Forwarded-For`, and whose `Forwarded` or `X-Forwarded-Host` is believed. */
  readonly proxies: number;
  /** True if the server is about to end and takes no more work. */
  readonly draining?: () => boolean;
}

/** @throws RangeError for one of `hosts` that is no host; TypeError for a `publicUrl` that is no address */
export function gate(options: GateOptions): MiddlewareHandler {
  const { routes, authenticator, model, corsOrigins, requestsPerMinute, sessions, proxies, draining } = options;
  const refuse = (c: Context, failure: Failure) => routes.refuse(c, failure);
  const publicUrl = options.publicUrl === undefined ? undefined : new URL(options.publicUrl);
  const check =
    options.hosts === undefined
      ? undefined
      : authenticator.required
        ? () => true
        : hostCheck([...options.hosts, ...(publicUrl === undefined ? [] : [publicUrl.hostname])]);
  const isOwnHost = (c: Context) => {
    const asked = hostsOf(c, proxies);
    return check !== undefined && !("status" in asked) && asked.every(check);
  };
  const steps: MiddlewareHandler[] = [
    browserHeaders(corsOrigins.length > 0),
    hosts({ check, proxies, refuse }),
    origins({
      allowed: corsOrigins,
      publicUrl,
      proxies,
      isOwnHost: check === undefined ? undefined : isOwnHost,
      startsWork: (c) => startsByGet(c, routes),
      trustsPlainGet: options.getStream === true || options.hosts === undefined || authenticator.required,
      refuse,
    }),
    guard({
      authenticator,
      scopeOf: (_, __, c) => routes.scopeOf(c),
      takesBasic: (c) => routes.takesBasic(c),
      model,
      refuse,
    }),
    bodyless(routes),
  ];
  if (draining !== undefined) steps.push(admission(draining, routes));
  if (requestsPerMinute !== undefined) {
    steps.push(
      rateLimit({ requestsPerMinute, rate: options.rate, proxies, counts: (_, __, c) => isWork(c, routes), refuse }),
    );
  }
  if (sessions !== undefined) steps.push(sessionLimit({ sessions, proxies, refuse }));
  return every(...steps);
}

/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;

/** Refuses work with 503 while the server is about to end. */
function admission(draining: () => boolean, routes: RouteRules): MiddlewareHandler {
  return async (c, next) => {
    if (!draining() || !isWork(c, routes)) return next();
    return routes.refuse(c, { status: 503, detail: "The server is restarting", retryAfter: RESTART_SECONDS });
  };
}

/** HEAD is routed as GET is, and starts nothing. */
function isWork(c: Context, routes: RouteRules): boolean {
  return c.req.method !== "HEAD" && routes.startsWork(c);
}

/** Without an upgrade the route of a WebSocket only says what it is. */
function startsByGet(c: Context, routes: RouteRules): boolean {
  if (c.req.method !== "GET" || !routes.startsWork(c)) return false;
  return !routes.isWebSocket(c) || c.req.header("upgrade") !== undefined;
}

/**
 * An upgrade is routed as GET is, but nobody gets the body of the answer. So it starts nothing, and the body is let go, with
 * the watcher of a job that it may hold. (A HEAD watches nothing: `stream/reading.ts`.)
 */
function bodyless(routes: RouteRules): MiddlewareHandler {
  return async (c, next) => {
    if (c.req.header("upgrade")?.toLowerCase() !== "websocket" || routes.isWebSocket(c)) return next();
    if (routes.startsWork(c)) {
      return routes.refuse(c, {
        status: 400,
        detail: "This is not a WebSocket: leave Upgrade out, or connect to /realtime",
      });
    }
    await next();
    await c.res.body?.cancel();
  };
}

function browserHeaders(otherOrigins: boolean): MiddlewareHandler {
  return secureHeaders({
    // TLS ends before this server; whoever ends it says so.
    strictTransportSecurity: false,
    xFrameOptions: "DENY",
    referrerPolicy: "no-referrer",
    // Pages that CORS lets in must also be let in by this.
    crossOriginResourcePolicy: otherOrigins ? "cross-origin" : "same-origin",
    permissionsPolicy: { camera: [], microphone: [], geolocation: [] },
  });
}
