/** The bound on a client's requests in a minute. */
import type { Context, MiddlewareHandler } from "hono";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { Failure } from "../failure.ts";
import { clientOf, type TrustedProxies } from "../http/client.ts";

/** The rest of a client's minute. */
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
