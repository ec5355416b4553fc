/**
 * A proxy's words about a request that it passes on: `Forwarded` (RFC 7239), or the `X-Forwarded-*` fields that came
 * before it. Without proxies of the operator's own they are a client's words, and nothing is read.
 *
 * Each proxy adds to the end of a list, so with n proxies the n-th from the end was written by the outermost of them,
 * which alone saw the client. Many write a single value in place of the list; then that one counts.
 */
import type { Context } from "hono";

/** The address that was asked for before the first proxy; a part that is missing or malformed is left out. */
export interface Forwarded {
  readonly proto?: "http" | "https";
  /** As it was sent: it may hold a port, and may be no host at all. */
  readonly host?: string;
  readonly port?: string;
  /** A path without a slash at its end, which the proxy took away. */
  readonly prefix?: string;
}

/** No proxy writes more; a longer one is not read. */
const MAX_CHARACTERS = 1_024;
/** Commas and semicolons within quotes part nothing. */
const ELEMENTS = /(?:"(?:\\.|[^"\\])*"|[^",])+/g;
const PAIRS = /([\w-]+)=(?:"((?:\\.|[^"\\])*)"|([^\s;,"]+))/g;

/** @param proxies the proxies before this server, 0 for none */
export function forwardedOf(c: Context, proxies: number): Forwarded {
  if (proxies === 0) return {};
  const written = (name: string, parts: RegExp): string => {
    const text = c.req.header(name) ?? "";
    const list = text.length > MAX_CHARACTERS ? [] : (text.match(parts) ?? []);
    return (list.at(-proxies) ?? list[0] ?? "").trim();
  };
  const standard = new Map<string, string>();
  for (const [, name = "", quoted, token] of written("forwarded", ELEMENTS).matchAll(PAIRS)) {
    standard.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? token ?? "");
  }
  const older = (name: string) => written(`x-forwarded-${name}`, /[^,]+/g);
  const proto = (standard.get("proto") ?? older("proto")).toLowerCase();
  const port = older("port");
  const prefix = older("prefix").replace(/\/+$/, "");
  return {
    proto: proto === "http" || proto === "https" ? proto : undefined,
    host: standard.get("host") || older("host") || undefined,
    port: /^\d{1,5}$/.test(port) ? port : undefined,
    prefix: /^(?:\/[\w.~!$&'()*+;=:@%-]+)+$/.test(prefix) ? prefix : undefined,
  };
}
