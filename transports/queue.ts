/**
 * fal's queue over jobs, in memory: `app.route("/queue", queue(jobs, options))`.
 *
 *     POST /queue/{app}                               submit; ?fal_webhook= is posted the result
 *     GET  /queue/{app}/requests/{id}/status          202 until it has ended, then 200; ?logs=1 for its steps
 *     GET  /queue/{app}/requests/{id}/status/stream   the same as server-sent events, until it has ended
 *     GET  /queue/{app}/requests/{id}                 the result, or the failure with its status
 *     PUT  /queue/{app}/requests/{id}/cancel          cancel
 *
 * `{app}` is what the client calls the model (`owner/name`, with or without more); one model answers here, so it is only
 * repeated. A job that failed is COMPLETED too: its result is the failure. Jobs are gone when the process is.
 */
import { type Context, Hono } from "hono";
import type { RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import { PROCESS_ACCOUNT } from "../src/jobs/account.ts";
import { JobError } from "../src/jobs/job-errors.ts";
import type { Job, Jobs } from "../src/jobs/jobs.ts";
import { wholeAddress } from "./address.ts";
import { ownerOf } from "./auth.ts";
import { failureOf, failureResponse, type InputSource, isServerFault } from "./failure.ts";
import { type BodyOptions, readInput } from "./input.ts";
import { asciiJson, JsonText } from "./json-text.ts";
import { clientOf } from "./limits.ts";
import { type AnswerOptions, jsonAnswer } from "./outflow.ts";
import { viewerOf } from "./source.ts";
import { deliverWebhook, parseWebhook, type WebhookPolicy } from "./webhook.ts";
import { type Envelope, envelopeOf, idHeaders, wireEvent } from "./wire.ts";

export interface QueueOptions extends BodyOptions, AnswerOptions {
  /** Checks an input; throws a RequestError for 422. */
  parse: (raw: unknown, source: InputSource) => GenerationRequest;
  webhooks?: WebhookPolicy;
  /** The address that a client has asked for, which others are made from; left out: as the request came. */
  addressOf?: (c: Context) => URL;
  /** Told of every error that the client is not to see, and of webhooks that failed. */
  onError?: (error: unknown, requestId: string) => void;
}

type ImageJob = Job<GenerationRequest, RunEvent>;

const HEARTBEAT_MS = 15_000;
const NO_WEBHOOKS: WebhookPolicy = { hosts: [], allowPrivate: false };

export function queue(jobs: Jobs<GenerationRequest, RunEvent>, options: QueueOptions): Hono {
  const { webhooks = NO_WEBHOOKS, onError, addressOf = wholeAddress, account = PROCESS_ACCOUNT } = options;
  const app = new Hono();

  const answer = (work: (c: Context) => Promise<Response>) => async (c: Context) => {
    try {
      return await work(c);
    } catch (error) {
      const failure = failureOf(error);
      if (isServerFault(error)) onError?.(error, "");
      return failureResponse(failure);
    }
  };
  const jobOf = (c: Context): ImageJob => jobs.find(c.req.param("id") ?? "", viewerOf(c, ownerOf));
  const addresses = (c: Context, id: string) => {
    const url = addressOf(c);
    const [base] = url.pathname.split("/requests/");
    const request = `${url.origin}${base}/requests/${id}`;
    return { response_url: request, status_url: `${request}/status`, cancel_url: `${request}/cancel` };
  };
  const statusOf = (c: Context, job: ImageJob, logs: readonly QueueLog[] | null) => {
    const common = { request_id: job.id, ...addresses(c, job.id) };
    if (job.endedAt !== undefined) {
      const metrics = { inference_time: (job.endedAt - (job.startedAt ?? job.endedAt)) / 1000 };
      const error = job.state === "completed" ? {} : { error: errorText(job) };
      return { status: "COMPLETED", ...common, logs, metrics, ...error };
    }
    return job.state === "queued"
      ? { status: "IN_QUEUE", ...common, queue_position: job.position }
      : { status: "IN_PROGRESS", ...common, logs };
  };

  /** What waits for a host to take it is on the client's account, like an answer. */
  async function deliver(job: ImageJob, target: URL, body: JsonText): Promise<void> {
    const stop = new AbortController();
    const hold = account.open("answers", job.client ?? "", () =>
      stop.abort(new Error(`webhook to ${target.host} was given up: answers take all the memory that they may`)),
    );
    hold.resize(body.heldBytes);
    try {
      await deliverWebhook(target, body, { policy: webhooks, signal: stop.signal });
    } finally {
      hold.release();
    }
  }

  // The patterns match from the longest on: what an app is called may itself hold slashes.
  app.get(
    "/:app{.+}/requests/:id/status/stream",
    answer(async (c) => statusStream(jobOf(c), wantsLogs(c), (job, logs) => statusOf(c, job, logs))),
  );
  app.get(
    "/:app{.+}/requests/:id/status",
    answer(async (c) => {
      const job = jobOf(c);
      const status = statusOf(c, job, wantsLogs(c) ? logsOf(job) : null);
      return c.json(status, job.endedAt === undefined ? 202 : 200);
    }),
  );
  const cancel = (c: Context) => {
    const job = jobs.get(c.req.param("id") ?? "", viewerOf(c, ownerOf));
    if (job === undefined) return c.json({ status: "NOT_FOUND" }, 404);
    return job.cancel()
      ? c.json({ status: "CANCELLATION_REQUESTED" }, 202)
      : c.json({ status: "ALREADY_COMPLETED" }, 400);
  };
  // fal's clients PUT, others POST.
  app.on(
    ["PUT", "POST"],
    "/:app{.+}/requests/:id{[^/]+}/cancel",
    answer(async (c) => cancel(c)),
  );
  app.get(
    "/:app{.+}/requests/:id",
    answer(async (c) => {
      const job = jobOf(c);
      const headers = idHeaders(envelopeFor(job));
      if (job.endedAt === undefined) {
        return failureResponse({ status: 400, detail: "Request is still in progress" }, headers);
      }
      if (job.state !== "completed") return failureResponse(failureOf(job.error), headers);
      return jsonAnswer(c, JsonText.of(await resultOf(job)), headers, options);
    }),
  );
  app.post(
    "/:app{.+}",
    answer(async (c) => {
      // An app may be called anything but this: what is posted here is no new request.
      if (/\/requests(\/|$)/.test(c.req.path)) {
        return failureResponse({ status: 405, detail: "A request that exists is read by GET and cancelled by PUT" });
      }
      const hook = c.req.query("fal_webhook");
      const target = hook === undefined ? undefined : parseWebhook(hook, webhooks);
      // Nobody sees previews there, so none are made.
      const parse = (raw: unknown, source: InputSource) => ({ ...options.parse(raw, source), preview_every: 0 });
      const input = await readInput(c, { ...options, parse, keepBase64: true });
      const job = jobs.submit(input, {
        id: input.request_id,
        owner: ownerOf(c),
        client: (options.clientOf ?? clientOf)(c),
        idempotencyKey: c.req.header("idempotency-key"),
        detached: true,
      });
      if (target !== undefined) {
        void job.ended
          .then(() => webhookBody(job))
          .then((body) => deliver(job, target, body))
          .catch((error: unknown) => onError?.(error, job.id));
      }
      const status = { status: "IN_QUEUE", request_id: job.id, ...addresses(c, job.id), queue_position: job.position };
      return c.json(status, 200, idHeaders(envelopeFor(job)));
    }),
  );
  return app;
}

/** The ids of the job, not those of the request that asks for it. */
function envelopeFor(job: ImageJob): Envelope {
  return { ...envelopeOf(job.input), requestId: job.id };
}

/** A line of a job's log, as fal's clients show it. */
interface QueueLog {
  readonly message: string;
  readonly level: "INFO";
  readonly source: "RUNNER";
  readonly timestamp: string;
}

function wantsLogs(c: Context): boolean {
  return c.req.query("logs") === "1" || c.req.query("logs") === "true";
}

function logOf(job: ImageJob, event: RunEvent): QueueLog[] {
  if (event.type !== "progress") return [];
  const time = new Date((job.startedAt ?? job.submittedAt) + event.elapsed_ms);
  const message = `step ${event.step}/${event.steps}`;
  return [{ message, level: "INFO", source: "RUNNER", timestamp: time.toISOString() }];
}

function logsOf(job: ImageJob): QueueLog[] {
  return job.log.entries.flatMap((entry) => ("event" in entry ? logOf(job, entry.event) : []));
}

/** Each status once, then COMPLETED, then the end. */
function statusStream(
  job: ImageJob,
  withLogs: boolean,
  statusOf: (job: ImageJob, logs: readonly QueueLog[] | null) => unknown,
): Response {
  const encoder = new TextEncoder();
  const block = (logs: QueueLog[]) => encoder.encode(`data: ${asciiJson(statusOf(job, withLogs ? logs : null))}\n\n`);
  const reader = job.watch({ wants: (slot) => slot !== "preview" });
  let completed = false;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (completed) return controller.close();
        for (;;) {
          const read = await reader.next(HEARTBEAT_MS);
          if (read === "quiet") return controller.enqueue(encoder.encode(": ping\n"));
          if (read === "ended" || read === "lost" || "error" in read) {
            await job.ended;
            completed = true;
            reader.close();
            return controller.enqueue(block([]));
          }
          // The result is not in the status; the end that follows it says that it is there.
          if (read.event.type !== "result") return controller.enqueue(block(logOf(job, read.event)));
        }
      },
      cancel() {
        reader.close();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-cache, no-transform",
      "X-Accel-Buffering": "no",
    },
  });
}

async function resultOf(job: ImageJob): Promise<Record<string, unknown>> {
  const last = job.log.entries.findLast((entry) => "event" in entry && entry.event.type === "result");
  if (last === undefined || !("event" in last)) throw new JobError("log-gone", "The result is no longer held");
  const { type: _, ...result } = await wireEvent(last.event, envelopeFor(job));
  return result;
}

function errorText(job: ImageJob): string {
  const { detail } = failureOf(job.error);
  return typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join("; ");
}

async function webhookBody(job: ImageJob): Promise<JsonText> {
  const ids = { request_id: job.id, gateway_request_id: job.id };
  if (job.state === "completed") return JsonText.of({ ...ids, status: "OK", payload: await resultOf(job) });
  const { detail } = failureOf(job.error);
  return JsonText.of({ ...ids, status: "ERROR", error: errorText(job), payload: { detail } });
}
