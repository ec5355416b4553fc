/**
 * What every request passes before a transport sees it, in this order: headers for browsers, the server's name, the page's
 * origin, the credential, the client's rate, the client's sessions. The order is the cheap before the dear, and a
 * stranger's requests never count against somebody else.
 */
import type { Context, MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { secureHeaders } from "hono/secure-headers";
import { type Failure, failureResponse } from "../failure.ts";
import { openaiFailure } from "../openai/images.ts";
import { type Access, type Authenticator, guard } from "./auth.ts";
import { hostCheck, hosts, hostsOf } from "./host.ts";
import { type Rate, rateLimit, sessionLimit } from "./limits.ts";
import { origins } from "./origin.ts";

export interface GateOptions {
  readonly authenticator: Authenticator;
  /** The model that answers; what a credential may be bound to. */
  readonly model: string;
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
  /** Of one client; undefined: no limit. */
  readonly requestsPerMinute?: number;
  /** Counts a client's requests where somebody else counts them, too. */
  readonly rate?: Rate;
  /** Sessions of one client at a time; undefined: no limit. */
  readonly sessions?: number;
  /** Proxies before this server that write `X-Forwarded-For`, and whose `Forwarded` or `X-Forwarded-Host` is believed. */
  readonly proxies: number;
  /** Whether the server is about to end and takes no more work. */
  readonly draining?: () => boolean;
}

/** @throws RangeError for one of `hosts` that is no host; TypeError for a `publicUrl` that is no address */
export function gate(options: GateOptions): MiddlewareHandler {
  const { authenticator, model, corsOrigins, requestsPerMinute, sessions, proxies, draining } = options;
  const refuse = refusal;
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
      startsWork: startsByGet,
      trustsPlainGet: options.getStream === true || options.hosts === undefined || authenticator.required,
      refuse,
    }),
    guard({ authenticator, scopeOf, model, refuse }),
    bodyless,
  ];
  if (draining !== undefined) steps.push(admission(draining));
  if (requestsPerMinute !== undefined) {
    steps.push(rateLimit({ requestsPerMinute, rate: options.rate, proxies, counts: isWork, refuse }));
  }
  if (sessions !== undefined) steps.push(sessionLimit({ sessions, proxies, refuse }));
  return every(...steps);
}

/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;

/** Refuses work with 503 while the server is about to end. */
function admission(draining: () => boolean): MiddlewareHandler {
  return async (c, next) => {
    if (!draining() || !isWork(c.req.path, c.req.method)) return next();
    return refusal(c, { status: 503, detail: "The server is restarting", retryAfter: RESTART_SECONDS });
  };
}

/** A failure in the words that clients of this path understand. */
export function refusal(c: Context, failure: Failure): Response {
  return c.req.path.startsWith("/v1/") ? openaiFailure(failure) : failureResponse(failure);
}

/** What anybody may read: it says nothing that is not in the documentation, and probes send no credentials. */
const OPEN = /^\/(health|ready|openapi\.json|docs|playground\/.*|favicon\.ico)?$/;

/** The scope that a path needs. A path that nobody has thought of needs `run`. */
export function scopeOf(path: string, method: string): Access {
  if (method === "OPTIONS") return "open";
  if (path === "/auth/token") return "any";
  if (path === "/metrics") return "metrics";
  if (path === "/realtime") return "realtime";
  if (path.startsWith("/v1/")) return "openai";
  if (path.startsWith("/queue/")) return "queue";
  return (method === "GET" || method === "HEAD") && OPEN.test(path) ? "open" : "run";
}

/** Requests that start something. Watching, cancelling and asking for a status are free. */
function isWork(path: string, method: string): boolean {
  if (method === "POST") return scopeOf(path, method) !== "metrics" && !QUEUE_CANCEL.test(path);
  return method === "GET" && (path === "/stream" || path === "/realtime");
}

/** fal's clients PUT, others POST; the queue answers both. */
const QUEUE_CANCEL = /^\/queue\/.+\/requests\/[^/]+\/cancel$/;

/** Without an upgrade `/realtime` only says that it is a WebSocket. */
function startsByGet(c: Context): boolean {
  const { path, method } = c.req;
  return isWork(path, method) && method === "GET" && (path !== "/realtime" || c.req.header("upgrade") !== undefined);
}

/**
 * HEAD and an upgrade are routed as GET is, but nobody gets the body of the answer. So they start nothing, and the body is
 * let go, with the watcher of a job that it may hold.
 */
const bodyless: MiddlewareHandler = async (c, next) => {
  const upgrade = c.req.header("upgrade")?.toLowerCase() === "websocket";
  if (c.req.method !== "HEAD" && (!upgrade || c.req.path === "/realtime")) return next();
  if (c.req.path === "/stream") {
    if (!upgrade) return c.body(null, 200, { "Content-Type": "text/event-stream" });
    return refusal(c, { status: 400, detail: "This is not a WebSocket: leave Upgrade out, or connect to /realtime" });
  }
  await next();
  await c.res.body?.cancel();
};

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
