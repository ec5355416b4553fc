/**
 * Under which names this server answers.
 *
 * A page can let its own name point to 127.0.0.1, or into the network of who has opened it, after it was loaded (DNS
 * rebinding). To the browser this server is then the page's own origin, and no rule about origins holds it back. Only names
 * can be rebound. So every address in digits is accepted, and of the names those alone that are nobody else's: `localhost`
 * and below, and those that the operator has listed.
 */
import { isIP } from "node:net";
import type { Context, MiddlewareHandler } from "hono";
import type { Failure } from "../failure.ts";
import { forwardedOf } from "../http/forwarded.ts";

/** A host, as in the field `Host`. */
export interface Host {
  /** In small letters, without a dot at its end; addresses as usual, IPv6 in brackets. */
  readonly name: string;
  /** Undefined where it is left to the scheme. */
  readonly port: string | undefined;
}

/** DNS allows 253 characters of a name. */
const MAX_CHARACTERS = 260;
/** Names with `_` are not DNS's, but those of containers. */
const HOST = /^(\[[\da-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?$/i;

/** Reads `name`, `name:port`, `127.0.0.1`, `[::1]:8080`; undefined for what is no host, such as `user@name` or nothing. */
export function parseHost(text: string): Host | undefined {
  const [, written = "", port] = HOST.exec(text.length > MAX_CHARACTERS ? "" : text) ?? [];
  if (written === "" || Number(port ?? 0) > 65_535 || !URL.canParse(`http://${written}`)) return undefined;
  const name = new URL(`http://${written}`).hostname.replace(/\.$/, "");
  return name === "" ? undefined : { name, port };
}

/** True if a host is this machine alone, which browsers take to be as safe as https. */
export function isLoopback({ name }: Host): boolean {
  if (name === "localhost" || name.endsWith(".localhost") || name === "[::1]") return true;
  return isIP(name) === 4 && name.startsWith("127.");
}

export type HostCheck = (host: Host) => boolean;

/**
 * The check of a list of hosts. Addresses in digits and `localhost` pass without being listed.
 *
 * @param listed `pictures.example` (any port), `pictures.example:8080`, `*.pictures.example` (all below it)
 * @throws RangeError for what is no such thing
 */
export function hostCheck(listed: readonly string[]): HostCheck {
  const known = listed.map((entry) => {
    const below = entry.startsWith("*.");
    const host = parseHost(below ? entry.slice(2) : entry);
    if (host === undefined) throw new RangeError(`'${entry}' is not a host such as pictures.example or *.example.org`);
    return { ...host, below };
  });
  return (host) => {
    if (isLoopback(host) || isIP(host.name.replace(/^\[|\]$/g, "")) !== 0) return true;
    return known.some(({ name, port, below }) => {
      if (below ? !host.name.endsWith(`.${name}`) : host.name !== name) return false;
      // Browsers leave the scheme's own port out.
      return port === undefined || port === host.port || (host.port === undefined && (port === "80" || port === "443"));
    });
  };
}

/** Node's request, with what Express and `mount` leave on it. */
interface Incoming {
  readonly incoming?: {
    readonly rawHeaders?: readonly string[];
    readonly url?: string;
    readonly originalUrl?: string;
  };
}

/**
 * All hosts that a request names: first its `Host`, then that of an absolute address, then what the proxies say.
 * A request that names none, or one twice, or none that could be, is a fault (RFC 9112, 3.2).
 */
export function hostsOf(c: Context, proxies: number): readonly [Host, ...Host[]] | Failure {
  const { rawHeaders, url, originalUrl = url } = (c.env as Incoming | undefined)?.incoming ?? {};
  // Node shows the first of several, and others show the last.
  const fieldsOf = (field: string) =>
    rawHeaders?.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === field) ?? [];
  const authority = fieldsOf(":authority");
  const ownHosts =
    rawHeaders === undefined
      ? [c.req.header("host") ?? new URL(c.req.url).host]
      : authority.length > 0
        ? authority
        : fieldsOf("host");
  if (ownHosts.length === 0) return fault("The request has no Host: send the name under which this server is reached");
  if (ownHosts.length > 1) return fault("The request has several Hosts: send one");
  const target = /^https?:\/\/([^/?#]*)/i.exec(originalUrl ?? "")?.[1];
  const { host: forwarded } = forwardedOf(c, proxies);
  const hosts: Host[] = [];
  for (const text of [...ownHosts, target, forwarded]) {
    const host = text === undefined ? undefined : parseHost(text);
    if (host !== undefined) hosts.push(host);
    else if (text !== undefined) return fault("The Host is not valid: it must be a name or an address, and its port");
  }
  return hosts as [Host, ...Host[]];
}

function fault(detail: string): Failure {
  return { status: 400, detail };
}

export interface HostOptions {
  /** Which hosts are this server's; undefined: all. */
  readonly check?: HostCheck;
  /** Proxies before this server whose word counts. */
  readonly proxies: number;
  readonly refuse: (c: Context, failure: Failure) => Response;
}

/** Probes come by whatever address a machine has, and are told nothing that matters. */
const PROBES = new Set(["/health", "/ready"]);

/** Answers 400 where it is not clear which host is meant, and 421 under a name that is not this server's. */
export function hosts({ check = () => true, proxies, refuse }: HostOptions): MiddlewareHandler {
  return async (c, next) => {
    const probe = PROBES.has(c.req.path);
    // Some probes are of HTTP/1.0, and name no host.
    if (probe && c.req.header("host") === undefined) return next();
    const hosts = hostsOf(c, proxies);
    if ("status" in hosts) return refuse(c, hosts);
    const stranger = probe ? undefined : hosts.find((host) => !check(host));
    if (stranger === undefined) return next();
    const detail = `This server does not answer to the name '${stranger.name}'. Where the name is its own, add it to the setting hosts, or set public_url to the address that browsers open`;
    return refuse(c, { status: 421, detail });
  };
}
