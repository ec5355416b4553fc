/**
 * A request as OpenTelemetry spans: request → job → step, decode, encode. Only the API is used here, which does nothing
 * until somebody registers an SDK (`cli/telemetry.ts`).
 *
 * A picture is encoded when a client's socket has room, long after the code that made it has returned; so the job's span
 * is found by the job's id there, not by the call stack.
 */
import {
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Context as TraceContext,
  trace,
} from "@opentelemetry/api";
import type { MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import type { Jobs } from "../../src/jobs/jobs.ts";
import type { Observe } from "./observed-run.ts";

const tracer = trace.getTracer("daguerre");

/** Jobs whose pictures may still be encoded; the oldest is forgotten first. */
const REMEMBERED_JOBS = 1_000;
const jobs = new Map<string, TraceContext>();

/** A span around each request; it ends when the answer's headers are ready, since a stream may last for hours. */
export const tracedRequests: MiddlewareHandler = (c, next) => {
  const caller = propagation.extract(context.active(), Object.fromEntries(c.req.raw.headers));
  const options = {
    kind: SpanKind.SERVER,
    attributes: { "http.request.method": c.req.method, "url.path": c.req.path },
  };
  return tracer.startActiveSpan(`${c.req.method} ${c.req.path}`, options, caller, async (span) => {
    try {
      await next();
      const route = matchedRoutes(c).findLast(({ path }) => !path.endsWith("*"))?.path;
      if (route !== undefined) span.setAttribute("http.route", route).updateName(`${c.req.method} ${route}`);
      span.setAttribute("http.response.status_code", c.res.status);
      const id = c.res.headers.get("x-request-id");
      if (id !== null) span.setAttribute("daguerre.request_id", id);
      if (c.res.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
    } finally {
      span.end();
    }
  });
};

/** Where each waiting job was submitted, so that its span is inside its request's wherever it is started from. */
const submitted = new Map<string, TraceContext>();

/** Remembers, for each job, the request that submitted it. */
export function traceSubmissions(jobs: Jobs<unknown, unknown>): void {
  jobs.observe((job, change) => {
    if (change === "submitted" && trace.getSpan(context.active()) !== undefined)
      submitted.set(job.id, context.active());
    if (change === "ended") submitted.delete(job.id);
  });
}

/** A span for each job, and one inside it for each step and each decoded preview. */
export const tracedJobs: Observe<unknown, unknown> = (_, { requestId }) => {
  const parent = submitted.get(requestId) ?? context.active();
  const span = tracer.startSpan("job", { attributes: { "daguerre.request_id": requestId } }, parent);
  const inside = trace.setSpan(parent, span);
  if (span.isRecording()) remember(requestId, inside);
  return {
    event(event, began, ms) {
      if (!span.isRecording()) return;
      const { type, step, decoder } = (event ?? {}) as { type?: unknown; step?: number; decoder?: string };
      if (type === "queued") span.addEvent("queued");
      const name = type === "progress" ? "step" : type === "preview" || type === "result" ? "decode" : undefined;
      if (name === undefined) return;
      const startTime = performance.timeOrigin + began;
      const attributes = { ...(step !== undefined && { step }), ...(decoder !== undefined && { decoder }) };
      tracer.startSpan(name, { startTime, attributes }, inside).end(startTime + ms);
    },
    ended(outcome, error) {
      span.setAttribute("daguerre.outcome", outcome);
      if (outcome === "failed") {
        span.setStatus({ code: SpanStatusCode.ERROR });
        if (error instanceof Error) span.recordException(error);
      }
      span.end();
    },
  };
};

/** Runs `work` inside an `encode` span of a job. */
export async function tracedEncode<T>(requestId: string, work: () => Promise<T>): Promise<T> {
  const inside = jobs.get(requestId);
  if (inside === undefined) return work();
  const span: Span = tracer.startSpan("encode", {}, inside);
  try {
    return await work();
  } finally {
    span.end();
  }
}

function remember(requestId: string, inside: TraceContext): void {
  jobs.set(requestId, inside);
  if (jobs.size > REMEMBERED_JOBS) jobs.delete(jobs.keys().next().value as string);
}
