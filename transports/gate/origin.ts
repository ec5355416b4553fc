/**
 * Which web pages may talk to this server, and what they may start by its address alone.
 *
 * CORS alone keeps a page from reading an answer, not from asking: a POST of text and a WebSocket go out without
 * permission, and an address of one's own machine is reachable from every page one opens. So a request that a browser
 * marks as another origin's is refused here, WebSockets included, unless that origin is configured. Requests without an
 * `Origin` (curl, servers, an address typed in) pass; credentials are for `auth.ts`.
 *
 * A GET needs no `Origin`: a hidden frame, a picture or a redirect sends one. Where it would start work, the fields
 * `Sec-Fetch-*` must show that the server's own page or a person asks. Browsers leave them out over plain http, but for
 * this machine itself, and then a page looks like curl.
 */
import type { Context, MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import type { Failure } from "../failure.ts";
import { requestedAddress } from "../http/address.ts";
import { forwardedOf } from "../http/forwarded.ts";
import { hostsOf, isLoopback, parseHost } from "./host.ts";

export interface OriginOptions {
  /** Origins such as `https://app.example`, or `*` for all; the server's own is always allowed. */
  readonly allowed: readonly string[];
  /** Where browsers find this server. Pages of its origin are its own. */
  readonly publicUrl?: URL;
  /** Proxies before this server whose word counts. */
  readonly proxies: number;
  /**
   * True if the request came under a name of this server's. Then `Sec-Fetch-Site: same-origin` proves its own page,
   * even where a proxy has changed the host. Left out: nobody knows, and `Origin` is compared with `Host` alone.
   */
  readonly isOwnHost?: (c: Context) => boolean;
  /** True if a GET starts something. */
  readonly startsWork: (c: Context) => boolean;
  /** True if a GET starts something, too, that came over plain http from another machine: a foreign page's may. */
  readonly trustsPlainGet: boolean;
  readonly refuse: (c: Context, failure: Failure) => Response;
}

const EXPOSED = ["x-request-id", "x-fal-request-id", "retry-after", "ratelimit", "ratelimit-policy"];
/** An hour in which a browser need not ask again. */
const PREFLIGHT_SECONDS = 3600;

export function origins(options: OriginOptions): MiddlewareHandler {
  const { allowed, refuse, startsWork } = options;
  const any = allowed.includes("*");
  const answer = cors({
    origin: (origin) => (any ? "*" : allowed.includes(origin) ? origin : null),
    exposeHeaders: EXPOSED,
    maxAge: PREFLIGHT_SECONDS,
  });
  return async (c, next) => {
    const detail =
      (!any && isForeign(c, options) ? FOREIGN : undefined) ?? (startsWork(c) ? whyNoWork(c, options) : undefined);
    if (detail !== undefined) return refuse(c, { status: 403, detail });
    return allowed.length === 0 ? next() : answer(c, next);
  };
}

const NOT_BY_GET =
  "A page of another origin starts no work by GET: it may POST to the same path, where cors_origins holds its origin";
const FOREIGN =
  "Pages of this origin may not use this server. Where they should, add it to cors_origins; where it is the server's own address, behind a proxy, set public_url to it";

function isForeign(c: Context, options: OriginOptions): boolean {
  const origin = c.req.header("origin");
  if (origin !== undefined) return !isOwn(c, origin, options) && !options.allowed.includes(origin);
  const site = c.req.header("sec-fetch-site");
  if (site === undefined || site === "none" || site === "same-origin") return false;
  // A picture or script tag of another page sends no Origin; a link that somebody follows is a navigation.
  return c.req.header("sec-fetch-mode") !== "navigate" || !isGet(c);
}

function isGet(c: Context): boolean {
  return c.req.method === "GET" || c.req.method === "HEAD";
}

function isOwn(c: Context, origin: string, { publicUrl, isOwnHost, proxies }: OriginOptions): boolean {
  if (origin === publicUrl?.origin) return true;
  if (isOwnHost !== undefined) {
    if (!isOwnHost(c)) return false;
    const site = c.req.header("sec-fetch-site");
    if (site !== undefined) return site === "same-origin";
  }
  return isOfHost(c, origin, proxies);
}

/** Hosts are compared, not schemes: behind a proxy that ends TLS, only the browser knows the scheme. */
function isOfHost(c: Context, address: string, proxies: number): boolean {
  if ("status" in hostsOf(c, proxies) || !URL.canParse(address)) return false;
  const page = new URL(address);
  const asked = requestedAddress(c, proxies);
  const usual = page.protocol === "https:" ? "443" : "80";
  return nameOf(page) === nameOf(asked) && (page.port || usual) === (asked.port || usual);
}

function nameOf({ host }: URL): string | undefined {
  return parseHost(host)?.name;
}

/** Destinations of a person or a script. All else is fetched because a page says so: frames, pictures, fonts. */
const ASKED_FOR = new Set(["document", "empty", "websocket"]);

/** Why this GET starts nothing, for whoever sent it; undefined where it may. An `Origin` has been looked at before. */
function whyNoWork(c: Context, options: OriginOptions): string | undefined {
  const sent = (name: string) => c.req.header(name);
  const kind = sent("sec-fetch-dest");
  if (kind !== undefined && !ASKED_FOR.has(kind)) {
    return "A frame, picture or script of a page starts no work: use fetch or EventSource, or open the address itself";
  }
  // Chromium says of a prefetch that a foreign page has asked for (speculation rules) what it says of a typed address.
  if (/prefetch|prerender/.test(`${sent("sec-purpose")} ${sent("purpose")}`)) return "A prefetch starts no work";
  if (sent("origin") !== undefined) return undefined;
  const site = sent("sec-fetch-site");
  // All browsers that send one of these fields send this one. Node's fetch sends the mode alone.
  if (site === undefined) return whyNoPlainGet(c, options);
  if (site === "same-origin") return undefined;
  const clicked = sent("sec-fetch-mode") === "navigate" && sent("sec-fetch-user") === "?1";
  if (kind === "document" && (site === "none" || clicked)) return undefined;
  return NOT_BY_GET;
}

function whyNoPlainGet(c: Context, options: OriginOptions): string | undefined {
  const { allowed, proxies, publicUrl, trustsPlainGet } = options;
  const referer = c.req.header("referer");
  if (referer !== undefined) {
    const page = URL.canParse(referer) ? new URL(referer).origin : "null";
    const known = page === publicUrl?.origin || allowed.includes(page) || isOfHost(c, referer, proxies);
    if (!known) return NOT_BY_GET;
  }
  // A browser's WebSocket always has an `Origin`, and a page cannot set this field.
  if (trustsPlainGet || c.req.header("upgrade") !== undefined) return undefined;
  const forwarded = forwardedOf(c, proxies);
  // Over https every browser sends the fields, so this is none.
  if (forwarded.proto === "https") return undefined;
  const hosts = hostsOf(c, proxies);
  // A proxy that keeps the browser's host to itself makes every request one of this machine's.
  const hidden = proxies > 0 && publicUrl === undefined && forwarded.host === undefined;
  const open = publicUrl?.protocol === "http:" ? parseHost(publicUrl.host) : undefined;
  if (!hidden && !("status" in hosts) && [...hosts, ...(open ? [open] : [])].every(isLoopback)) return undefined;
  return "Over plain http a browser does not say which page asks, so a GET starts no work here: POST to the same path, use https, or set get_stream to true";
}
