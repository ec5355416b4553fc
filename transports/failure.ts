/**
 * A fault on the wire: an HTTP status and a `detail` as FastAPI and fal have it. `src/faults/fault.ts` says which
 * errors are shown; the whole error goes to the server's log.
 */
import { CANCELLED, faultOf, type RequestIssue } from "../src/faults/fault.ts";
import type { WireFault } from "./wire/events.ts";

export { CANCELLED };

export interface Failure {
  readonly status: number;
  readonly detail: string | readonly WireFault[];
  /** Seconds after which the same request may succeed. */
  readonly retryAfter?: number;
}

/** Where the input came from. */
export type InputSource = "body" | "query";

/** A thrown error as a client may see it. */
export function failureOf(error: unknown, source: InputSource = "body"): Failure {
  const { status, message, issues, retryAfter } = faultOf(error);
  if (issues !== undefined) return { status, detail: detailOf(issues, source) };
  return { status, detail: message, ...(retryAfter !== undefined && { retryAfter }) };
}

/** Answers of 5xx that are no trouble: the line is full, the server stops, a deadline has passed. */
const EXPECTED = new Set(["queue-full", "draining", "timed-out"]);

/** True if the operator should hear of an error: the server failed, and not as it is meant to. */
export function isServerFault(error: unknown): boolean {
  const { status, code } = faultOf(error);
  return status >= 500 && !EXPECTED.has(code);
}

/** Faults of one request that are listed. */
const MAX_FAULTS = 100;
/** Characters of a name that a client made up, where an answer repeats it. */
const MAX_NAME = 128;

function detailOf(issues: readonly RequestIssue[], source: InputSource): WireFault[] {
  const detail: WireFault[] = issues.slice(0, MAX_FAULTS).map(({ path, message, type }) => ({
    loc: [source, ...path.map((part) => (typeof part === "string" ? part.slice(0, MAX_NAME) : part))],
    msg: message,
    type,
  }));
  const more = issues.length - MAX_FAULTS;
  if (more > 0) detail.push({ loc: [source], msg: `${more} more faults are not listed`, type: "too_many" });
  return detail;
}

/** A failure before any event was sent: a JSON answer with its status. */
export function failureResponse(failure: Failure, headers: Record<string, string> = {}): Response {
  const { status, detail } = failure;
  return Response.json({ detail }, { status, headers: { ...headers, ...failureHeaders(failure) } });
}

/** Headers of the answer to a failure: the time to ask again, and the codings of a body that are taken. */
export function failureHeaders({ status, retryAfter }: Failure): Record<string, string> {
  return {
    ...(retryAfter !== undefined && { "Retry-After": String(retryAfter) }),
    ...(status === 415 && { "Accept-Encoding": "identity" }),
  };
}
