/**
 * Requests to a hub, or to the address of a file.
 *
 * A hub answers with redirects to wherever the bytes lie. It may be a stranger's, and so is each repository, so:
 *
 * - each hop is checked. An address that is not public (a router, a cloud's metadata service) is refused, unless the
 *   address that the user named is one itself; so is plain http. The connection goes to the address that was checked.
 * - the token goes to the hub's own origin and nowhere else.
 * - answers that are no files have a bound.
 *
 * Broken connections and the statuses of a busy hub are tried again; `Retry-After` is respected.
 */
import { type LookupAddress, type LookupAllOptions, lookup as lookUp } from "node:dns";
import dns from "node:dns/promises";
import { isIP, type LookupFunction } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { type Dispatcher, EnvHttpProxyAgent, fetch as undiciFetch } from "undici";
import { addressRange } from "../platform/address-range.ts";
import { HubError } from "./errors.ts";
import { refusalOf } from "./refusals.ts";

export interface ConnectionOptions {
  /** The hub, or the address of a file that the user named. */
  readonly base: URL;
  readonly token?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called before each wait, in seconds, that the other side asked for. */
  readonly onWait?: ((seconds: number) => void) | undefined;
}

const MOST_REDIRECTS = 8;
/** Requests for one answer, in all. */
export const TRIES = 5;
const BACKOFF_MS = 250;
/** Seconds that are waited if the hub asks for it; its windows are of five minutes. */
const LONGEST_WAIT_S = 310;
const CONNECT_MS = 15_000;
const HEADERS_MS = 30_000;
/** Milliseconds without a byte after which a connection counts as broken. */
const STALL_MS = 60_000;
/** Bytes of an answer that is no file: a listing of 10 000 files takes 4 MB. */
const LONGEST_ANSWER = 32 * 2 ** 20;

export class Connection {
  readonly base: URL;
  readonly signal: AbortSignal | undefined;
  readonly #token: string | undefined;
  readonly #onWait: ((seconds: number) => void) | undefined;
  readonly #timeouts = { connectTimeout: CONNECT_MS, headersTimeout: HEADERS_MS, bodyTimeout: STALL_MS };
  /** To the host that the user named, wherever that is. */
  readonly #toBase: Dispatcher = new EnvHttpProxyAgent(this.#timeouts);
  /** To every other host. */
  readonly #toOthers: Dispatcher = new EnvHttpProxyAgent({
    ...this.#timeouts,
    connect: { timeout: CONNECT_MS, lookup: publicLookup },
  });
  #isPrivate: Promise<boolean> | undefined;

  constructor({ base, token, signal, onWait }: ConnectionOptions) {
    this.base = base;
    this.signal = signal;
    this.#token = token;
    this.#onWait = onWait;
  }

  async close(): Promise<void> {
    await Promise.all([this.#toBase.destroy(), this.#toOthers.destroy()]);
  }

  /** `fetch` for the hub's API: an answer that is an error throws in words, and a long one breaks off. */
  readonly api: typeof fetch = async (input, init) => {
    const response = await this.get(new URL(String(input)), new Headers(init?.headers));
    return new Response(response.body?.pipeThrough(bounded(LONGEST_ANSWER)), {
      status: response.status,
      headers: response.headers,
    });
  };

  /**
   * Gets an answer, following redirects and trying again.
   * @param allowed statuses besides 200 to 299 that are answers too
   * @throws HubError in words for an error of the hub, a refused address, or no answer
   */
  async get(url: URL, headers: Headers, allowed: readonly number[] = []): Promise<Response> {
    for (let tried = 1; ; tried++) {
      let wait = BACKOFF_MS * 2 ** (tried - 1);
      try {
        const response = await this.#follow(url, headers);
        if (response.ok || allowed.includes(response.status)) return response;
        const asked = retryAfter(response.headers);
        const isBusy = response.status === 429 || response.status >= 500;
        if (!isBusy || tried >= TRIES || (asked ?? 0) > LONGEST_WAIT_S) {
          throw await refusalOf(response, { url, asked, hasToken: this.#token !== undefined });
        }
        await response.body?.cancel();
        if (asked !== undefined) {
          wait = asked * 1000;
          this.#onWait?.(asked);
        }
      } catch (error) {
        this.signal?.throwIfAborted();
        if (error instanceof HubError) throw error;
        const refused = refusedIn(error);
        if (refused !== undefined) throw refused;
        if (tried >= TRIES || isHopeless(error)) throw unreachable(url, error);
      }
      await sleep(wait, undefined, { signal: this.signal });
    }
  }

  async #follow(first: URL, given: Headers): Promise<Response> {
    let url = first;
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      const dispatcher = await this.#dispatcherFor(url);
      const headers = new Headers(given);
      headers.set("user-agent", "daguerre");
      headers.set("accept-encoding", "identity");
      headers.delete("authorization");
      if (this.#token !== undefined && url.origin === this.base.origin) {
        headers.set("authorization", `Bearer ${this.#token}`);
      }
      const options = { headers: [...headers], redirect: "manual" as const, dispatcher, signal: this.signal };
      const response = (await undiciFetch(url, options)) as unknown as Response;
      if (![301, 302, 303, 307, 308].includes(response.status)) return response;
      const location = response.headers.get("location") ?? "";
      await response.body?.cancel();
      if (!URL.canParse(location, url.href)) throw new HubError("bad-answer", `${url.host} redirects to no address`);
      url = new URL(location, url);
    }
    throw new HubError("bad-answer", `${first.host} redirects without end`);
  }

  /** @throws HubError "refused-address" */
  async #dispatcherFor(url: URL): Promise<Dispatcher> {
    if (url.protocol !== "http:" && url.protocol !== "https:") throw refused(url, "is no address of a web server");
    if (url.username !== "" || url.password !== "") throw refused(url, "holds a name or password");
    if (url.host === this.base.host && url.protocol === this.base.protocol) return this.#toBase;
    if (await this.#isBasePrivate()) return this.#toBase;
    if (url.protocol !== "https:") throw refused(url, "is plain http");
    // A proxy looks names up by itself, so they are looked up here too; a name that only the proxy knows passes.
    for (const address of await addressesOf(url)) checkPublic(address);
    return this.#toOthers;
  }

  /** True if the user named a host of a private network or of this machine, whose redirects may lead there too. */
  #isBasePrivate(): Promise<boolean> {
    this.#isPrivate ??= isPrivateHost(this.base);
    return this.#isPrivate;
  }
}

function bareHost(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

/** True if the host of a URL is an address that is not public, or a name for one. */
export async function isPrivateHost(url: URL): Promise<boolean> {
  const addresses = await addressesOf(url);
  return addresses.length > 0 && addresses.every((address) => addressRange(address) !== "unicast");
}

/** The addresses of a URL's host; none for a name that is not known here. */
async function addressesOf(url: URL): Promise<string[]> {
  const host = bareHost(url);
  if (isIP(host) !== 0) return [host];
  const addresses = await dns.lookup(host, { all: true }).catch(() => []);
  return addresses.map(({ address }) => address);
}

function refused(url: URL, reason: string): HubError {
  return new HubError("refused-address", `a redirect to ${url.protocol}//${url.host} was not followed: it ${reason}`);
}

/** @throws HubError "refused-address" for anything but a public unicast address */
function checkPublic(address: string): void {
  const range = addressRange(address);
  if (range === "unicast") return;
  throw new HubError(
    "refused-address",
    `a redirect to ${address} was not followed: the address is not public (${range})`,
  );
}

/** A lookup for a socket that yields only public addresses; one that is not refuses the name. */
const publicLookup: LookupFunction = (host, options, done) => {
  lookUp(host, { all: true }, (error, addresses) => {
    try {
      if (error) throw error;
      for (const { address } of addresses) checkPublic(address);
    } catch (thrown) {
      return done(thrown as NodeJS.ErrnoException, "", 0);
    }
    const [first] = addresses as [LookupAddress];
    if ((options as LookupAllOptions).all) done(null, addresses);
    else done(null, first.address, first.family);
  });
};

/** A refusal of `publicLookup`, which arrives as the cause of another error. */
function refusedIn(error: unknown): HubError | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof HubError) return cause;
  return undefined;
}

function codeOf(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (typeof code === "string") return code;
  }
  return undefined;
}

/** Trying again does not help: no such host, nobody who listens, a certificate that does not hold. */
function isHopeless(error: unknown): boolean {
  return /^(?:ENOTFOUND|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|CERT_|ERR_TLS|DEPTH_|SELF_|UNABLE_)/.test(
    codeOf(error) ?? "",
  );
}

function unreachable(url: URL, error: unknown): HubError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = codeOf(error) ?? (cause instanceof Error ? cause.message : "no answer");
  return new HubError(
    "unreachable",
    `${url.host} cannot be reached (${reason}): check the network, or name a mirror or a proxy (HF_ENDPOINT, HTTPS_PROXY)`,
    error,
  );
}

/** Seconds that an answer asks to wait: `Retry-After` in either form, or the rest of a window in `RateLimit` (`t=`). */
export function retryAfter(headers: Headers): number | undefined {
  const text = headers.get("retry-after")?.trim() ?? /;\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  if (text === undefined || text === "") return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  const until = Date.parse(text);
  return Number.isNaN(until) ? undefined : Math.max(0, Math.ceil((until - Date.now()) / 1000));
}

function bounded(most: number): TransformStream<Uint8Array, Uint8Array> {
  let bytes = 0;
  return new TransformStream({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      if (bytes > most) throw new HubError("bad-answer", "the hub's answer is longer than any of its kind");
      controller.enqueue(chunk);
    },
  });
}
