/**
 * A thrown error as a client may see it: an HTTP status and a `detail` in the form of FastAPI and fal.
 *
 * Only errors made to be shown are shown (see `src/engine/errors.ts`); everything else is "Internal error", so that no
 * path, shader label or stack leaves the process. The whole error goes to the server's log.
 */
import { HTTPException } from "hono/http-exception";
import { z } from "zod";
import { RequestError, type RequestIssue } from "../src/engine/errors.ts";
import { requestIssues } from "../src/engine/request.ts";
import { ImageError } from "../src/image/errors.ts";

/** One fault of a request; `loc` starts with where it was found: `["body", "num_inference_steps"]`. */
export interface FaultDetail {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

export interface Failure {
  readonly status: number;
  readonly detail: string | readonly FaultDetail[];
  /** Seconds after which the same request may succeed. */
  readonly retryAfter?: number;
}

/** Where the input came from. */
export type InputSource = "body" | "query";

/** nginx's status for a client that went away; nobody reads it but logs. */
export const CANCELLED = 499;

export function failureOf(error: unknown, source: InputSource = "body"): Failure {
  if (error instanceof RequestError) return unprocessable(error.issues, source);
  if (error instanceof z.ZodError) return unprocessable(requestIssues(error), source);
  if (error instanceof ImageError) {
    return unprocessable([{ path: ["image"], message: error.message, type: error.code }], source);
  }
  if (error instanceof HTTPException) return { status: error.status, detail: error.message };
  if (error instanceof Error) {
    if (error.name === "AbortError") return { status: CANCELLED, detail: "Cancelled" };
    if (error.name === "TimeoutError") return { status: 504, detail: "Timed out" };
    const { status, retryAfter } = error as { status?: unknown; retryAfter?: unknown };
    if (typeof status === "number" && status >= 400 && status <= 599) {
      return { status, detail: error.message, retryAfter: typeof retryAfter === "number" ? retryAfter : undefined };
    }
  }
  return { status: 500, detail: "Internal error" };
}

/** Faults of one request that are told: who has made more knows enough. */
const MAX_FAULTS = 100;
/** Characters of a name that a client has made up, where it is said back. */
const MAX_NAME = 128;

function unprocessable(issues: readonly RequestIssue[], source: InputSource): Failure {
  const detail: FaultDetail[] = issues.slice(0, MAX_FAULTS).map(({ path, message, type }) => ({
    loc: [source, ...path.map((part) => (typeof part === "string" ? part.slice(0, MAX_NAME) : part))],
    msg: message,
    type,
  }));
  const more = issues.length - MAX_FAULTS;
  if (more > 0) detail.push({ loc: [source], msg: `${more} more faults are not listed`, type: "too_many" });
  return { status: 422, detail };
}

/** A failure before any event was sent: a JSON answer with its status. */
export function failureResponse(failure: Failure, headers: Record<string, string> = {}): Response {
  const { status, detail, retryAfter } = failure;
  return Response.json(
    { detail },
    { status, headers: retryAfter === undefined ? headers : { ...headers, "Retry-After": String(retryAfter) } },
  );
}
