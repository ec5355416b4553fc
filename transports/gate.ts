/**
 * What every request passes before a transport sees it, in this order: headers for browsers, the page's origin, the
 * credential, the client's rate, the client's sessions. The order is the cheap before the dear, and a stranger's requests
 * never count against somebody else.
 */
import type { Context, MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { secureHeaders } from "hono/secure-headers";
import { type Access, type Authenticator, guard } from "./auth.ts";
import { type Failure, failureResponse } from "./failure.ts";
import { rateLimit, sessionLimit } from "./limits.ts";
import { openaiFailure } from "./openai.ts";
import { origins } from "./origin.ts";

export interface GateOptions {
  readonly authenticator: Authenticator;
  /** The model that answers; what a credential may be bound to. */
  readonly model: string;
  /** Origins of web pages that may use this server, besides its own. */
  readonly corsOrigins: readonly string[];
  /** Of one client; undefined: no limit. */
  readonly requestsPerMinute?: number;
  /** Sessions of one client at a time; undefined: no limit. */
  readonly sessions?: number;
  /** Proxies before this server that write `X-Forwarded-For`. */
  readonly proxies: number;
  /** Whether the server is about to end and takes no more work. */
  readonly draining?: () => boolean;
}

export function gate(options: GateOptions): MiddlewareHandler {
  const { authenticator, model, corsOrigins, requestsPerMinute, sessions, proxies, draining } = options;
  const refuse = refusal;
  const steps: MiddlewareHandler[] = [
    browserHeaders(corsOrigins.length > 0),
    origins({ allowed: corsOrigins, refuse }),
    guard({ authenticator, scopeOf, model, refuse }),
  ];
  if (draining !== undefined) steps.push(admission(draining));
  if (requestsPerMinute !== undefined) steps.push(rateLimit({ requestsPerMinute, proxies, counts: isWork, refuse }));
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
  if (method === "POST") return scopeOf(path, method) !== "metrics";
  return method === "GET" && (path === "/stream" || path === "/realtime");
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
