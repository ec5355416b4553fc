/**
 * How much one client may have: of a request (prompt, pixels, steps, pictures), of time (requests a minute), and at once
 * (sessions). The schema of requests has limits of its own, which are what can be computed; these are what somebody who
 * runs a server allows, and are smaller or equal.
 *
 * A client is the key that its credential acts for, the subject of a token that acts for none, or the network of its
 * address where all are anonymous.
 */
import type { Context, MiddlewareHandler } from "hono";
import ipaddr from "ipaddr.js";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { RequestError, type RequestIssue } from "../../src/engine/errors.ts";
import type { GenerationRequest, GenerationUpdate } from "../../src/engine/request.ts";
import type { Failure } from "../failure.ts";
import { principalOf } from "./auth.ts";

/** The edge of one request; what is undefined is left to the schema. */
export interface GenerationLimits {
  /** Characters of a prompt, and of a negative one. */
  readonly promptCharacters?: number;
  /** Pixels of one picture. */
  readonly pixels?: number;
  readonly steps?: number;
  readonly images?: number;
}

/**
 * Refuses a request that is over a limit.
 *
 * @param usual what a request gets that leaves size and steps out
 * @throws RequestError naming every field at fault
 */
export function checkGeneration(
  request: GenerationRequest,
  limits: GenerationLimits,
  usual?: { readonly defaultWidth: number; readonly defaultHeight: number; readonly defaultSteps: number },
): void {
  const issues: RequestIssue[] = [];
  const check = (field: keyof GenerationRequest, value: number, limit: number | undefined, what: string) => {
    if (limit !== undefined && value > limit) {
      issues.push({
        path: [field],
        message: `${what} should be at most ${limit} on this server`,
        type: "less_than_equal",
      });
    }
  };
  check("prompt", request.prompt.length, limits.promptCharacters, "Characters");
  check("negative_prompt", request.negative_prompt.length, limits.promptCharacters, "Characters");
  const { width = usual?.defaultWidth ?? 0, height = usual?.defaultHeight ?? 0 } = request;
  check("width", width * height, limits.pixels, "Width times height");
  const { num_inference_steps: steps = request.few_step ? 0 : (usual?.defaultSteps ?? 0) } = request;
  check("num_inference_steps", steps, limits.steps, "Steps");
  check("num_images", request.num_images, limits.images, "Pictures");
  const [first] = issues;
  if (first !== undefined) throw new RequestError(first.path.join("."), first.message, issues);
}

/**
 * Refuses a change that is over a limit.
 *
 * @throws RequestError naming every field at fault
 */
export function checkUpdate(update: GenerationUpdate, { promptCharacters }: GenerationLimits): void {
  const { prompt = "", negative_prompt = "" } = update;
  checkGeneration({ prompt, negative_prompt, num_images: 0 } as GenerationRequest, { promptCharacters });
}

/** How many proxies stand before this server and write `X-Forwarded-For`; 0: the socket's address is the client's. */
export type TrustedProxies = number;

/** The part of @hono/node-server's bindings that tells who is connected. */
interface NodeBindings {
  readonly incoming?: {
    readonly socket?: { readonly remoteAddress?: string; once(event: "close", listener: () => void): unknown };
  };
}

/** The client's address; what clients themselves wrote into `X-Forwarded-For` is not believed. */
export function addressOf(c: Context, proxies: TrustedProxies): string {
  const forwarded = proxies === 0 ? [] : (c.req.header("x-forwarded-for") ?? "").split(",").map((part) => part.trim());
  const socket = (c.env as NodeBindings | undefined)?.incoming?.socket?.remoteAddress ?? "unknown";
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

/** What a client may still do in its minute. */
export interface Allowance {
  /** Fields of draft-ietf-httpapi-ratelimit-headers. */
  readonly headers: Readonly<Record<string, string>>;
  /** Why this request is one too many, if it is. */
  readonly failure?: Failure;
}

/** Counts one request of a client. */
export type Rate = (client: string) => Promise<Allowance>;

export interface RateOptions {
  readonly requestsPerMinute: number;
  /** Counts a client's requests where somebody else counts them, too. */
  readonly rate?: Rate;
  readonly proxies: TrustedProxies;
  /** Which requests count. */
  readonly counts: (path: string, method: string, c: Context) => boolean;
  readonly refuse: (c: Context, failure: Failure) => Response;
}

const WINDOW_S = 60;

/** So many requests in a window of a minute that begins with a client's first, over whatever transport they come. */
export function createRate(requestsPerMinute: number): Rate {
  const limiter = new RateLimiterMemory({ points: requestsPerMinute, duration: WINDOW_S });
  const headers = ({ remainingPoints, msBeforeNext }: RateLimiterRes) => ({
    "RateLimit-Policy": `"default";q=${requestsPerMinute};w=${WINDOW_S}`,
    RateLimit: `"default";r=${Math.max(0, remainingPoints)};t=${Math.ceil(msBeforeNext / 1000)}`,
  });
  return async (client) => {
    try {
      return { headers: headers(await limiter.consume(client)) };
    } catch (over) {
      if (!(over instanceof RateLimiterRes)) throw over;
      const retryAfter = Math.max(1, Math.ceil(over.msBeforeNext / 1000));
      const detail = `Too many requests: at most ${requestsPerMinute} a minute; try again in ${retryAfter} s`;
      return { headers: headers(over), failure: { status: 429, detail, retryAfter } };
    }
  };
}

/** Answers 429 with `Retry-After` to one request too many; all answers say what is left. */
export function rateLimit({ requestsPerMinute, proxies, counts, refuse, ...given }: RateOptions): MiddlewareHandler {
  const { rate = createRate(requestsPerMinute) } = given;
  return async (c, next) => {
    if (!counts(c.req.path, c.req.method, c)) return next();
    const { headers, failure } = await rate(clientOf(c, proxies));
    if (failure === undefined) await next();
    const response = failure === undefined ? c.res : refuse(c, failure);
    for (const [name, value] of Object.entries(headers)) response.headers.set(name, value);
    return failure === undefined ? undefined : response;
  };
}

export interface SessionOptions {
  /** WebSocket sessions of one client at a time. */
  readonly sessions: number;
  readonly proxies: TrustedProxies;
  readonly refuse: (c: Context, failure: Failure) => Response;
}

/** Counts sessions from their upgrade to the end of their socket; one too many is 429 before it is upgraded. */
export function sessionLimit({ sessions, proxies, refuse }: SessionOptions): MiddlewareHandler {
  const live = new Map<string, number>();
  return async (c, next) => {
    const socket = (c.env as NodeBindings | undefined)?.incoming?.socket;
    if (c.req.header("upgrade")?.toLowerCase() !== "websocket" || socket === undefined) return next();
    const client = clientOf(c, proxies);
    const open = live.get(client) ?? 0;
    if (open >= sessions) {
      return refuse(c, { status: 429, detail: `At most ${sessions} sessions at a time`, retryAfter: 1 });
    }
    live.set(client, open + 1);
    socket.once("close", () => {
      const left = (live.get(client) ?? 1) - 1;
      if (left > 0) live.set(client, left);
      else live.delete(client);
    });
    await next();
  };
}
