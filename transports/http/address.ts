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
  const url = new URL(c.req.url);
  if (publicUrl !== undefined) {
    return new URL(publicUrl.origin + publicUrl.pathname.replace(/\/+$/, "") + url.pathname + url.search);
  }
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
