/**
 * Posting a result to an address that a client named, which is the one place where this server calls somebody.
 *
 * A client could name an address that only the server reaches (a router, a cloud's metadata service), so: hosts are on an
 * allow-list, each with its port; the addresses that a name resolves to must be public; the connection goes to exactly the address that was
 * checked, so that a name cannot resolve to something else a moment later; and each hop of a redirect is checked alike.
 */
import type { LookupAddress, LookupAllOptions } from "node:dns";
import dns from "node:dns/promises";
import http from "node:http";
import https from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { RequestError } from "../../src/engine/errors.ts";
import { addressRange } from "../../src/platform/address-range.ts";
import { type WebhookMessage, webhookHeaders } from "./webhook-signature.ts";

export interface WebhookPolicy {
  /**
   * `hooks.example`, or `*.hooks.example` for everything below it, with a port (`hooks.example:8443`, `[::1]:8443`) unless
   * it is the scheme's own. An entry that `allowedHost` does not understand allows nothing. None: webhooks are refused.
   */
  readonly hosts: readonly string[];
  /** Lets these hosts have private, loopback and link-local addresses, and speak plain http. */
  readonly allowPrivate: boolean;
  /** Secrets that sign webhooks: `whsec_` and base64 of 24 to 64 bytes; two while one is replaced. None: they are not signed. */
  readonly secrets?: readonly string[];
  /** In place of `secrets`, those of the keys that have their own, by the key's name. */
  readonly keySecrets?: ReadonlyMap<string, readonly string[]>;
}

export interface DeliveryOptions {
  readonly policy: WebhookPolicy;
  /** Aborting gives up. */
  readonly signal?: AbortSignal;
  /** Tries in all. */
  readonly attempts?: number;
  /** Milliseconds before the second try; each later one waits four times as long. */
  readonly backoffMs?: number;
  /** Milliseconds that one try may take. */
  readonly timeoutMs?: number;
  /** The resolver; the system's unless a test brings its own. */
  readonly resolve?: (host: string) => Promise<LookupAddress[]>;
}

const MAX_URL_CHARACTERS = 2048;
const MAX_REDIRECTS = 3;
const ATTEMPTS = 5;
const BACKOFF_MS = 1_000;
const BACKOFF_FACTOR = 4;
const TIMEOUT_MS = 15_000;

/** Trying again cannot help: the address itself is refused. */
class RefusedAddress extends Error {
  override readonly name = "RefusedAddress";
}

/**
 * Checks what a client gave, as far as that goes without asking DNS.
 *
 * @throws RequestError for `field`
 */
export function parseWebhook(text: string, policy: WebhookPolicy, field: string = "fal_webhook"): URL {
  if (policy.hosts.length === 0) throw new RequestError(field, "this server calls no webhooks");
  if (text.length > MAX_URL_CHARACTERS || !URL.canParse(text))
    throw new RequestError(field, "must be an address (https://…)");
  const url = new URL(text);
  try {
    checkUrl(url, policy);
  } catch (error) {
    throw new RequestError(field, (error as Error).message);
  }
  return url;
}

/** @throws RefusedAddress */
function checkUrl(url: URL, { hosts, allowPrivate }: WebhookPolicy): void {
  if (url.protocol !== "https:" && !(allowPrivate && url.protocol === "http:"))
    throw new RefusedAddress("must be https");
  if (url.username !== "" || url.password !== "") throw new RefusedAddress("must not hold a name or password");
  const host = hostOf(url);
  const listed = hosts
    .flatMap((text) => allowedHost(text) ?? [])
    .filter(({ name, below }) => (below ? host.endsWith(`.${name}`) : host === name));
  if (listed.length === 0) throw new RefusedAddress("is not a host that this server may call");
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  // A URL leaves its scheme's own port out.
  if (!listed.some((allowed) => (allowed.port === undefined ? url.port === "" : allowed.port === port))) {
    throw new RefusedAddress(`names a port (${port}) of this host that this server may not call`);
  }
  if (isIP(host) !== 0) checkAddress(host, allowPrivate);
}

/** One entry of the allow-list. */
export interface AllowedHost {
  readonly name: string;
  /** True if the names below it are allowed, and it is not itself. */
  readonly below: boolean;
  /** undefined: the scheme's own. */
  readonly port: string | undefined;
}

/** An entry of the allow-list as a URL's host is written; undefined for what is none, such as a whole address. */
export function allowedHost(text: string): AllowedHost | undefined {
  const below = text.startsWith("*.");
  const rest = below ? text.slice(2) : text;
  const authority = isIP(rest) === 6 ? `[${rest}]` : rest;
  if (/[*/?#@\\\s]|:$/.test(authority)) return undefined;
  // A URL leaves the port of its scheme out; no port belongs to both.
  const [http, https] = [`http://${authority}`, `https://${authority}`];
  if (!URL.canParse(http) || !URL.canParse(https)) return undefined;
  return { name: hostOf(new URL(https)), below, port: new URL(http).port || new URL(https).port || undefined };
}

function hostOf(url: URL): string {
  return url.hostname
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
}

/** @throws RefusedAddress for anything but a public unicast address */
function checkAddress(address: string, allowPrivate: boolean): void {
  if (allowPrivate) return;
  const range = addressRange(address);
  if (range !== "unicast") throw new RefusedAddress(`resolves to an address that is not public (${range})`);
}

/**
 * Posts a message as JSON until the host answers 2xx. Its id stays the same, and each try is signed anew, with its time.
 *
 * @returns the status of the last answer
 * @throws Error when it was refused, or no try has succeeded; the signal's reason when it aborts
 */
export async function deliverWebhook(url: URL, message: WebhookMessage, options: DeliveryOptions): Promise<number> {
  const { attempts = ATTEMPTS, backoffMs = BACKOFF_MS, signal } = options;
  let last: unknown;
  for (let attempt = 0; attempt < attempts; attempt++) {
    signal?.throwIfAborted();
    if (attempt > 0) await sleep(backoffMs * BACKOFF_FACTOR ** (attempt - 1), undefined, { signal, ref: false });
    try {
      return await postOnce(url, message, options);
    } catch (error) {
      if (error instanceof RefusedAddress || signal?.aborted) throw error;
      last = error;
    }
  }
  throw new Error(`webhook to ${url.host} failed ${attempts} times`, { cause: last });
}

async function postOnce(first: URL, message: WebhookMessage, options: DeliveryOptions): Promise<number> {
  const headers = await webhookHeaders(message, Date.now());
  let url = first;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    checkUrl(url, options.policy);
    const { status, location } = await post(url, message, headers, options);
    if (status >= 200 && status < 300) return status;
    // Among the redirects, only these two keep the method and the body.
    if ((status !== 307 && status !== 308) || location === undefined || !URL.canParse(location, url.href)) {
      throw new Error(`answered ${status}`);
    }
    url = new URL(location, url.href);
  }
  throw new Error("redirects without end");
}

function post(
  url: URL,
  { body }: WebhookMessage,
  headers: Readonly<Record<string, string>>,
  options: DeliveryOptions,
): Promise<{ status: number; location?: string }> {
  const { policy, signal, timeoutMs = TIMEOUT_MS } = options;
  const within = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
  return new Promise((resolve, reject) => {
    const request = (url.protocol === "https:" ? https : http).request(
      url.href,
      {
        method: "POST",
        headers: {
          ...headers,
          "Content-Type": "application/json",
          "Content-Length": typeof body === "string" ? Buffer.byteLength(body) : body.byteLength,
        },
        agent: false,
        lookup: checkedLookup(policy, options.resolve),
        signal: within,
      },
      (response) => {
        // Nobody reads what it says.
        response.destroy();
        resolve({ status: response.statusCode ?? 0, location: response.headers.location });
      },
    );
    request.on("error", reject);
    if (typeof body === "string") request.end(body);
    // A large result becomes text as it leaves.
    else Readable.from(body, { objectMode: false }).pipe(request);
  });
}

/** A lookup for a socket that yields only addresses that were checked; one that is refused refuses the name. */
function checkedLookup(policy: WebhookPolicy, resolve = resolveHost): LookupFunction {
  return (host, options, done) => {
    resolve(host).then(
      (addresses) => {
        try {
          if (addresses.length === 0) throw new Error("the name has no address");
          for (const { address } of addresses) checkAddress(address, policy.allowPrivate);
        } catch (error) {
          return done(error as Error, "", 0);
        }
        const [first] = addresses as [LookupAddress];
        if ((options as LookupAllOptions).all) done(null, addresses);
        else done(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => done(error, "", 0),
    );
  };
}

function resolveHost(host: string): Promise<LookupAddress[]> {
  return dns.lookup(host, { all: true });
}
