/**
 * A client, for all that is counted by client, is the key that its credential acts for, the subject of a token that
 * acts for none, or the network of its address where all are anonymous.
 */
import type { Context } from "hono";
import ipaddr from "ipaddr.js";
import { principalOf } from "../gate/auth.ts";

/** The number of proxies before this server that write `X-Forwarded-For`; 0: the socket's address is the client's. */
export type TrustedProxies = number;

/** The part of Node's socket that tells who is connected. */
interface ClientSocket {
  readonly remoteAddress?: string;
  once(event: "close", listener: () => void): unknown;
}

/** The connection of a request, where @hono/node-server has it at hand. */
export function socketOf(c: Context): ClientSocket | undefined {
  return (c.env as { readonly incoming?: { readonly socket?: ClientSocket } } | undefined)?.incoming?.socket;
}

/** The client's address; what clients themselves wrote into `X-Forwarded-For` is not believed. */
export function addressOf(c: Context, proxies: TrustedProxies): string {
  const forwarded = proxies === 0 ? [] : (c.req.header("x-forwarded-for") ?? "").split(",").map((part) => part.trim());
  const socket = socketOf(c)?.remoteAddress ?? "unknown";
  return forwarded.at(-proxies) || socket;
}

/**
 * The client that limits are counted by: the key that a credential acts for, the subject of a token that acts for none, or else the
 * address. The word before the colon says which, so that no two of them are one text.
 */
export function clientOf(c: Context, proxies: TrustedProxies = 0): string {
  const { key, subject } = principalOf(c);
  if (key !== undefined) return `key:${key}`;
  return subject === undefined ? `address:${networkOf(addressOf(c, proxies))}` : `subject:${subject}`;
}

/** IPv4 addresses as a translator to IPv6 writes them (RFC 6052). */
const TRANSLATED = ipaddr.IPv6.parseCIDR("64:ff9b::/96");

/**
 * The network that an address counts for. A client with one IPv6 address usually has its whole /64, so a /64 is one
 * client; IPv4 counts by the address, also where it is written as IPv6. Some proxies write the port as well: it is left out.
 */
function networkOf(address: string): string {
  const bare = /^\[(.+)\](?::\d+)?$/.exec(address)?.[1] ?? /^([\d.]+):\d+$/.exec(address)?.[1] ?? address;
  if (!ipaddr.isValid(bare)) return "unknown";
  const parsed = ipaddr.process(bare);
  if (!(parsed instanceof ipaddr.IPv6)) return parsed.toString();
  const bytes = parsed.toByteArray();
  if (parsed.match(TRANSLATED)) return new ipaddr.IPv4(bytes.slice(12)).toString();
  return `${new ipaddr.IPv6([...bytes.slice(0, 8), 0, 0, 0, 0, 0, 0, 0, 0]).toString()}/64`;
}
