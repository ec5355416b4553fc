/** The address that a client has asked for. */
import type { Context } from "hono";

/** Node's request, with what Express and `mount` leave on it. */
interface Incoming {
  readonly incoming?: { readonly url?: string; readonly originalUrl?: string };
}

/** The whole of it: an app that is mounted below a path is itself shown only the rest. */
export function wholeAddress(c: Context): URL {
  const url = new URL(c.req.url);
  const { originalUrl, url: asked } = (c.env as Incoming | undefined)?.incoming ?? {};
  const path = originalUrl ?? asked;
  // A path may begin with two slashes, which alone would be another host.
  if (path?.startsWith("/") && URL.canParse(url.origin + path)) url.pathname = new URL(url.origin + path).pathname;
  return url;
}
