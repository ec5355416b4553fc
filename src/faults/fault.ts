/**
 * A fault: why something cannot be done, as data.
 *
 * A fault crosses threads, processes and machines whole. So a thrown error is recognised by its fields, never by its
 * class: an error from another thread, from another copy of this package, or from a program that embeds it has no class
 * of ours. `faultOf` is the only place that decides which words a client sees. An error shows its message if it carries
 * an HTTP `status`; every other error becomes "Internal error", so that no path, shader label or stack reaches a client.
 *
 * Nothing above this folder is imported here.
 */
import { z } from "zod";
import { isZodIssues, type RequestIssue, requestIssues } from "./request-issues.ts";

export type { RequestIssue };

const issueSchema = z.object({
  path: z.array(z.union([z.string(), z.number()])).readonly(),
  message: z.string(),
  type: z.string(),
});

export const faultSchema = z
  .object({
    /** Which fault it is, for programs: `queue-full`, `invalid-request`. */
    code: z.string(),
    /** HTTP status. */
    status: z.int().min(400).max(599),
    /** For people; a client may see it. */
    message: z.string(),
    /** The field of the request that is wrong, dotted: `loras.0.scale`. */
    field: z.string().optional(),
    /** All that is wrong with the request. */
    issues: z.array(issueSchema).readonly().optional(),
    /** Seconds after which the same request may succeed. */
    retryAfter: z.number().optional(),
  })
  .readonly();

export type Fault = z.infer<typeof faultSchema>;

/** A fault to throw. Its own fields are the fault's, so it is still one after a copy into another thread. */
export class FaultError extends Error {
  readonly code: string;
  readonly status: number;
  readonly field: string | undefined;
  readonly issues: readonly RequestIssue[] | undefined;
  readonly retryAfter: number | undefined;

  constructor({ code, status, message, field, issues, retryAfter }: Fault, options?: ErrorOptions) {
    super(message, options);
    this.name = "FaultError";
    this.code = code;
    this.status = status;
    this.field = field;
    this.issues = issues;
    this.retryAfter = retryAfter;
  }
}

/** nginx's status for a client that went away; only logs show it. */
export const CANCELLED = 499;

/** The code of every error that is not made to be shown. */
export const INTERNAL = "internal";

/** The part of a thrown error that a client may know. Any value may be thrown. */
export function faultOf(error: unknown): Fault {
  if (typeof error === "object" && error !== null) {
    const { name, status, message, issues } = error as Readonly<Record<string, unknown>>;
    if (name === "AbortError") return { code: "cancelled", status: CANCELLED, message: "Cancelled" };
    if (name === "TimeoutError") return { code: "timed-out", status: 504, message: "Timed out" };
    if (isZodIssues(issues)) return invalid(requestIssues({ issues }));
    if (typeof status === "number" && status >= 400 && status <= 599 && typeof message === "string") {
      return faultFrom(error, status, message);
    }
  }
  return { code: INTERNAL, status: 500, message: "Internal error" };
}

function invalid(issues: readonly RequestIssue[]): Fault {
  const [first] = issues;
  const field = first?.path.join(".");
  return { code: "invalid-request", status: 422, message: first?.message ?? "", field, issues };
}

/** The fields of a fault that an error has, each if it is of the right type, and no other field. */
function faultFrom(error: object, status: number, message: string): Fault {
  const { code, field, issues, retryAfter } = error as Readonly<Record<string, unknown>>;
  const parsed = issueSchema.array().safeParse(issues);
  return {
    code: typeof code === "string" ? code : `http-${status}`,
    status,
    message,
    ...(typeof field === "string" && { field }),
    ...(parsed.success && { issues: parsed.data }),
    ...(typeof retryAfter === "number" && { retryAfter }),
  };
}
