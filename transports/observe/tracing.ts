/**
 * A request as OpenTelemetry spans: request → job → step, decode, encode. Only the API is used here, which does nothing
 * until somebody registers an SDK (`cli/telemetry.ts`).
 *
 * A picture is encoded when a client's socket has room, long after the code that made it has returned; so the job's span
 * is found by the job there, not by the call stack.
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
import type { Job, Jobs } from "../../src/jobs/jobs.ts";
import { routePathOf } from "../route.ts";
import type { EncodeTracing } from "../wire/wire.ts";
import type { JobObserver, Observe } from "./observed-run.ts";

const tracer = trace.getTracer("daguerre");

/** The spans of one app: of its requests, and of the jobs of its store. */
export class Tracing implements EncodeTracing {
  /** Where each job was submitted, so that its span is inside its request's wherever it is started from. */
  readonly #submitted = new WeakMap<object, TraceContext>();
  /** Inside the span of each job. */
  readonly #inside = new WeakMap<object, TraceContext>();
  /** The job whose run is about to be called. */
  #starting: Job<unknown, unknown> | undefined;

  /** A span around each request; it ends when the answer's headers are ready, since a stream may last for hours. */
  readonly requests: MiddlewareHandler = (c, next) => {
    const caller = propagation.extract(context.active(), Object.fromEntries(c.req.raw.headers));
    const options = {
      kind: SpanKind.SERVER,
      attributes: { "http.request.method": c.req.method, "url.path": c.req.path },
    };
    return tracer.startActiveSpan(`${c.req.method} ${c.req.path}`, options, caller, async (span) => {
      try {
        await next();
        const route = routePathOf(c);
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

  /** Remembers, for each job of a store, the request that submitted it. */
  jobs(jobs: Jobs<unknown, unknown>): void {
    jobs.observe((job, change) => {
      if (change === "submitted" && trace.getSpan(context.active()) !== undefined) {
        this.#submitted.set(job, context.active());
      }
      // The store calls the run next; the run itself is told no more of its job than its id.
      if (change === "started") this.#starting = job;
    });
  }

  /** A span for each job, and one inside it for each step and each decoded preview. */
  readonly observe: Observe<unknown, unknown> = (_, { requestId }) => {
    const job = this.#starting?.id === requestId ? this.#starting : undefined;
    this.#starting = undefined;
    const parent = (job && this.#submitted.get(job)) ?? context.active();
    const span = tracer.startSpan("job", { attributes: { "daguerre.request_id": requestId } }, parent);
    const inside = trace.setSpan(parent, span);
    if (job !== undefined && span.isRecording()) this.#inside.set(job, inside);
    return jobObserver(span, inside);
  };

  /** Runs `work` inside an `encode` span of a job. */
  async encode<T>(job: object, work: () => Promise<T>): Promise<T> {
    const inside = this.#inside.get(job);
    if (inside === undefined) return work();
    const span = tracer.startSpan("encode", {}, inside);
    try {
      return await work();
    } finally {
      span.end();
    }
  }
}

function jobObserver(span: Span, inside: TraceContext): JobObserver<unknown> {
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
}
