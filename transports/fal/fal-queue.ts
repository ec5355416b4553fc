/**
 * fal's queue over jobs, in memory: `app.route("/queue", queue(jobs, options))`.
 *
 *     POST /queue/{app}                               submit; ?fal_webhook= is posted the result
 *     GET  /queue/{app}/requests/{id}/status          202 until it has ended, then 200; ?logs=1 for its steps
 *     GET  /queue/{app}/requests/{id}/status/stream   the same as server-sent events, until it has ended
 *     GET  /queue/{app}/requests/{id}                 the result, or the failure with its status
 *     PUT  /queue/{app}/requests/{id}/cancel          cancel
 *
 * `{app}` is what the client calls the model (`owner/name`, with or without more). Where one model answers it is only
 * repeated; of several it names one. A job that failed is COMPLETED too: its result is the failure. Jobs are gone when the process is.
 */
import { type Context, Hono } from "hono";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { JobError } from "../../src/jobs/job-errors.ts";
import type { LogEntry } from "../../src/jobs/job-log.ts";
import type { Job, Jobs } from "../../src/jobs/jobs.ts";
import { failureOf, failureResponse, type InputSource, isServerFault } from "../failure.ts";
import { ownerOf, principalOf } from "../gate/auth.ts";
import { wholeAddress } from "../http/address.ts";
import { clientOf } from "../http/client.ts";
import { type BodyOptions, readInput } from "../http/input.ts";
import { addRoutes, type Method, type Route, type RouteGroup } from "../route.ts";
import { viewerOf } from "../source.ts";
import {
  EVENT_STREAM,
  PING,
  type StreamOptions,
  type StreamProtocol,
  streamResponse,
  type Verdict,
} from "../stream/job-stream.ts";
import { type Chunks, jsonAnswer } from "../stream/outflow.ts";
import { NO_PREVIEWS, watchFor } from "../stream/reading.ts";
import { JsonText } from "../wire/json-text.ts";
import { envelopeOfJob, idHeaders, wireEvent } from "../wire/wire.ts";
import { CANCEL, RESULT, STATUS, STATUS_STREAM, SUBMIT } from "./fal-answers.ts";
import { nameApp } from "./fal-app-name.ts";
import { JobWebhooks } from "./job-webhooks.ts";
import { parseWebhook, type WebhookPolicy } from "./webhook.ts";

export interface QueueOptions extends BodyOptions, StreamOptions {
  /** Checks an input; throws a RequestError for 422. */
  parse: (raw: unknown, source: InputSource, c: Context) => GenerationRequest;
  webhooks?: WebhookPolicy;
  /** The address that a client has asked for, which others are made from; left out: as the request came. */
  addressOf?: (c: Context) => URL;
  /** Told of every error that the client is not to see, and of webhooks that failed. */
  onError?: (error: unknown, requestId: string) => void;
}

type ImageJob = Job<GenerationRequest, RunEvent>;

const NO_WEBHOOKS: WebhookPolicy = { hosts: [], allowPrivate: false };

export function queue(jobs: Jobs<GenerationRequest, RunEvent>, options: QueueOptions): Hono {
  return addRoutes(new Hono(), falRoutes(jobs, options));
}

export function falRoutes(jobs: Jobs<GenerationRequest, RunEvent>, options: QueueOptions): RouteGroup {
  const fal = new FalQueue(jobs, options);
  const route = (method: Method, path: string, answer: (c: Context) => Promise<Response>): Route => ({
    method,
    path,
    handlers: [(c: Context) => fal.answer(c, answer)],
  });
  return {
    base: "/queue",
    scope: "queue",
    routes: [
      {
        ...route("GET", "/:app{.+}/requests/:id/status/stream", (c) => fal.statusStream(c)),
        about: STATUS_STREAM,
      },
      { ...route("GET", "/:app{.+}/requests/:id/status", (c) => fal.status(c)), about: STATUS },
      { ...route("PUT", "/:app{.+}/requests/:id/cancel", (c) => fal.cancel(c)), about: CANCEL },
      { ...route("GET", "/:app{.+}/requests/:id", (c) => fal.result(c)), about: RESULT },
      // The name of an app may hold slashes, so this is asked for every POST. fal's clients cancel by PUT, others by POST.
      {
        ...route("POST", "/:app{.+}", (c) => (isCancel(c) ? fal.cancel(c) : fal.submit(c))),
        // `/queue/status` is no app, but where a front end of the web UI's looks for a server (`a1111/`).
        isThere: (path, c) => path !== "/queue/status" && (!OF_REQUEST.test(path) || isCancel(c)),
        work: (c) => !isCancel(c),
        about: SUBMIT,
      },
    ],
  };
}

/** A line of a job's log, as fal's clients show it. */
interface QueueLog {
  readonly message: string;
  readonly level: "INFO";
  readonly source: "RUNNER";
  readonly timestamp: string;
}

class FalQueue {
  readonly #jobs: Jobs<GenerationRequest, RunEvent>;
  readonly #options: QueueOptions;
  readonly #webhooks: JobWebhooks;

  constructor(jobs: Jobs<GenerationRequest, RunEvent>, options: QueueOptions) {
    const { webhooks: policy = NO_WEBHOOKS, account, onError } = options;
    this.#jobs = jobs;
    this.#options = options;
    this.#webhooks = new JobWebhooks({ policy, account, onError, bodyOf: (job) => this.#webhookBody(job) });
  }

  async answer(c: Context, work: (c: Context) => Promise<Response>): Promise<Response> {
    try {
      return await work(c);
    } catch (error) {
      if (isServerFault(error)) this.#options.onError?.(error, "");
      return failureResponse(failureOf(error));
    }
  }

  async submit(c: Context): Promise<Response> {
    // An app may be called anything but this: what is posted here is no new request.
    if (OF_REQUEST.test(c.req.path)) {
      return failureResponse({ status: 405, detail: "A request that exists is read by GET and cancelled by PUT" });
    }
    const { webhooks = NO_WEBHOOKS } = this.#options;
    const hook = c.req.query("fal_webhook");
    const target = hook === undefined ? undefined : parseWebhook(hook, webhooks);
    // Nobody sees previews there, so none are made.
    nameApp(c, c.req.param("app") ?? "");
    const parse = (raw: unknown, source: InputSource) => ({ ...this.#options.parse(raw, source, c), preview_every: 0 });
    const input = await readInput(c, { ...this.#options, parse, keepBase64: true });
    const job = this.#jobs.submit(input, {
      id: input.request_id,
      owner: ownerOf(c),
      client: (this.#options.clientOf ?? clientOf)(c),
      idempotencyKey: c.req.header("idempotency-key"),
      detached: true,
    });
    if (target !== undefined) this.#webhooks.report(job, target, principalOf(c).key);
    const addresses = this.#addresses(c, job.id);
    const status = { status: "IN_QUEUE", request_id: job.id, ...addresses, queue_position: job.position };
    return c.json(status, 200, idHeaders({ requestId: job.id }));
  }

  async status(c: Context): Promise<Response> {
    const job = this.#jobOf(c);
    const status = this.#statusOf(c, job, wantsLogs(c) ? logsOf(job) : null);
    return c.json(status, job.endedAt === undefined ? 202 : 200);
  }

  async statusStream(c: Context): Promise<Response> {
    const job = this.#jobOf(c);
    const logs = wantsLogs(c);
    const block = (lines: readonly QueueLog[]) =>
      JsonText.of(this.#statusOf(c, job, logs ? lines : null), ["data: ", "\n\n"]);
    return streamResponse(c, watchFor(c, job, NO_PREVIEWS), new StatusStream(job, block), this.#options);
  }

  async result(c: Context): Promise<Response> {
    const job = this.#jobOf(c);
    const headers = idHeaders({ requestId: job.id });
    if (job.endedAt === undefined) {
      return failureResponse({ status: 400, detail: "Request is still in progress" }, headers);
    }
    if (job.state !== "completed") return failureResponse(failureOf(job.error), headers);
    return jsonAnswer(c, JsonText.of(await this.#resultOf(job)), headers, this.#options);
  }

  async cancel(c: Context): Promise<Response> {
    const id = c.req.param("id") ?? CANCEL_PATH.exec(c.req.path)?.[1] ?? "";
    const job = this.#jobs.get(id, viewerOf(c, ownerOf));
    if (job === undefined) return c.json({ status: "NOT_FOUND" }, 404);
    return job.cancel()
      ? c.json({ status: "CANCELLATION_REQUESTED" }, 202)
      : c.json({ status: "ALREADY_COMPLETED" }, 400);
  }

  #jobOf(c: Context): ImageJob {
    return this.#jobs.find(c.req.param("id") ?? "", viewerOf(c, ownerOf));
  }

  #addresses(c: Context, id: string) {
    const url = (this.#options.addressOf ?? wholeAddress)(c);
    const [base] = url.pathname.split("/requests/");
    const request = `${url.origin}${base}/requests/${id}`;
    return { response_url: request, status_url: `${request}/status`, cancel_url: `${request}/cancel` };
  }

  #statusOf(c: Context, job: ImageJob, logs: readonly QueueLog[] | null) {
    const common = { request_id: job.id, ...this.#addresses(c, job.id) };
    if (job.endedAt !== undefined) {
      const metrics = { inference_time: (job.endedAt - (job.startedAt ?? job.endedAt)) / 1000 };
      const error = job.state === "completed" ? {} : { error: errorText(job) };
      return { status: "COMPLETED", ...common, logs, metrics, ...error };
    }
    return job.state === "queued"
      ? { status: "IN_QUEUE", ...common, queue_position: job.position }
      : { status: "IN_PROGRESS", ...common, logs };
  }

  async #resultOf(job: ImageJob): Promise<Record<string, unknown>> {
    const last = job.log.entries.findLast((entry) => "event" in entry && entry.event.type === "result");
    if (last === undefined || !("event" in last)) throw new JobError("log-gone", "The result is no longer held");
    const { type: _, ...result } = await wireEvent(last.event, envelopeOfJob(job, this.#options.tracing));
    return result;
  }

  async #webhookBody(job: ImageJob): Promise<JsonText> {
    const ids = { request_id: job.id, gateway_request_id: job.id };
    if (job.state === "completed") {
      return JsonText.of({ ...ids, status: "OK", payload: await this.#resultOf(job) });
    }
    const { detail } = failureOf(job.error);
    return JsonText.of({ ...ids, status: "ERROR", error: errorText(job), payload: { detail } });
  }
}

/** Each status once, then COMPLETED, then the end. */
class StatusStream implements StreamProtocol<RunEvent> {
  readonly contentType = EVENT_STREAM;
  readonly heartbeat = PING;
  readonly #job: ImageJob;
  readonly #block: (logs: readonly QueueLog[]) => Chunks;

  constructor(job: ImageJob, block: (logs: readonly QueueLog[]) => Chunks) {
    this.#job = job;
    this.#block = block;
  }

  async *say(entry: LogEntry<RunEvent>): AsyncGenerator<Chunks, Verdict | undefined, undefined> {
    if ("error" in entry) return yield* this.conclude();
    // The result is not in the status; the end that follows it says that it is there.
    if (entry.event.type !== "result") yield this.#block(logOf(this.#job, entry.event));
    return undefined;
  }

  async *conclude(): AsyncGenerator<Chunks, Verdict, undefined> {
    await this.#job.ended;
    yield this.#block([]);
    return "end";
  }
}

const OF_REQUEST = /\/requests(\/|$)/;
const CANCEL_PATH = /\/requests\/([^/]+)\/cancel$/;

function isCancel(c: Context): boolean {
  return CANCEL_PATH.test(c.req.path);
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

function errorText(job: ImageJob): string {
  const { detail } = failureOf(job.error);
  return typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join("; ");
}
