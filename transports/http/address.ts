/** The address that a client has asked for. */
import type { Context } from "hono";
import { parseHost } from "../gate/host.ts";
import { forwardedOf } from "./forwarded.ts";

/** Node's request, with what Express and `mount` leave on it. */
interface Incoming {
  readonly incoming?: { readonly url?: string; readonly originalUrl?: string };
}

export interface AddressOptions {
  /** Where the app is for its clients, whatever a request says. */
  readonly publicUrl?: URL;
  /** Proxies before this server whose word counts. */
  readonly proxies?: number;
}

/**
 * The whole of it: below the public address where there is one; else as the proxies say that it was; else as it came. An
 * app that is mounted below a path is itself shown only the rest.
 */
export function wholeAddress(c: Context, { publicUrl, proxies = 0 }: AddressOptions = {}): URL {
  if (publicUrl === undefined) return requestedAddress(c, proxies);
  const { pathname, search } = new URL(c.req.url);
  return new URL(publicUrl.origin + publicUrl.pathname.replace(/\/+$/, "") + pathname + search);
}

/** The address as the proxies say that it was, else as it came. @param proxies proxies whose word counts */
export function requestedAddress(c: Context, proxies: number): URL {
  const url = new URL(c.req.url);
  const { proto, host = "", port, prefix = "" } = forwardedOf(c, proxies);
  if (proto !== undefined) url.protocol = proto;
  const named = parseHost(host);
  if (named !== undefined) url.hostname = named.name;
  if (named !== undefined || port !== undefined) url.port = named?.port ?? port ?? "";
  const { originalUrl, url: asked } = (c.env as Incoming | undefined)?.incoming ?? {};
  const path = originalUrl ?? asked;
  // A path may begin with two slashes, which alone would be another host.
  if (path?.startsWith("/") && URL.canParse(url.origin + path)) url.pathname = new URL(url.origin + path).pathname;
  if (prefix !== "") url.pathname = prefix + url.pathname;
  return url;
}

/**
 * Where the app itself is, without a slash at its end: the address of a request less the path of its route.
 *
 * @param path the route's, as `/openapi.json`
 */
export function baseAddress(address: URL, path: string): string {
  const whole = `${address.origin}${address.pathname}`;
  return (whole.endsWith(path) ? whole.slice(0, -path.length) : whole).replace(/\/+$/, "");
}
