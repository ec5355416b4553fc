/**
 * Figures of a server for Prometheus: its queue, its jobs, how long things take, what was sent. Text format:
 * https://prometheus.io/docs/instrumenting/exposition_formats/. Names follow its conventions: seconds and bytes, `_total`
 * for what only grows. No label holds what a client chose, so that nobody can make the series endless.
 */
import type { Server } from "node:http";
import type { Socket } from "node:net";
import type { Context, MiddlewareHandler } from "hono";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { type Account, HOLD_KINDS } from "../../src/jobs/account.ts";
import type { Jobs } from "../../src/jobs/jobs.ts";
import { routePathOf } from "../route.ts";
import { countModels, gauge, type MetricSources, type Registers, watchDevice, watchEngine } from "./engine-figures.ts";
import type { Observe } from "./observed-run.ts";

export interface Metrics {
  /** The times of a run's steps. */
  readonly observe: Observe<unknown, unknown>;
  /** Counts the jobs of a store, their times and their previews. */
  jobs(jobs: Jobs<unknown, unknown>): void;
  /** Counts requests by route and status. */
  readonly requests: MiddlewareHandler;
  /** Shows the bytes that are held for clients, by kind, and the bytes that its settings allow in all. */
  account(account: Account, boundBytes?: number): void;
  /** Counts a server's connections, their bytes, and which of them are WebSocket sessions. */
  readonly watch: (server: Pick<Server, "on">, webSockets?: { readonly clients: { readonly size: number } }) => void;
  /** `GET /metrics` */
  readonly route: (c: Context) => Promise<Response>;
}

/** Seconds. A step is 5 ms on a fast GPU with a small model and a minute on a software one with a large model. */
const STEP_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const JOB_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

/** The events of a job so far. */
interface EventCounts {
  events: number;
  previews: number;
}

export function createMetrics(sources: MetricSources = {}): Metrics {
  return new ServerMetrics(sources);
}

class ServerMetrics implements Metrics {
  readonly #registry = new Registry();
  readonly #jobs: JobMetrics;
  readonly #http: HttpMetrics;
  readonly #network: NetworkMetrics;

  constructor({ device, engine, models }: MetricSources) {
    const registers = { registers: [this.#registry] };
    collectDefaultMetrics({ register: this.#registry });
    this.#jobs = new JobMetrics(registers, models?.()[0]?.name);
    if (models !== undefined) countModels(registers, models);
    this.#http = new HttpMetrics(registers);
    this.#network = new NetworkMetrics(registers);
    if (engine !== undefined) watchEngine(registers, engine);
    if (device !== undefined) watchDevice(registers, device);
  }

  readonly observe: Observe<unknown, unknown> = (input) => ({
    event: (event, _, ms) => this.#jobs.event(event, ms, (input as { model?: string } | undefined)?.model),
  });

  jobs(jobs: Jobs<unknown, unknown>): void {
    this.#jobs.watch(jobs);
  }

  readonly requests: MiddlewareHandler = async (c, next) => {
    const began = performance.now();
    await next();
    this.#http.count(c, performance.now() - began);
  };

  account(account: Account, boundBytes?: number): void {
    const registers = { registers: [this.#registry] };
    new Gauge({
      name: "daguerre_held_bytes",
      help: "Bytes held for clients, by kind",
      labelNames: ["kind"],
      ...registers,
      collect() {
        for (const kind of HOLD_KINDS) this.set({ kind }, account.bytes(kind));
      },
    });
    if (boundBytes === undefined) return;
    const help = "Bytes that clients can make the server hold, by its settings";
    gauge(registers, "daguerre_memory_bound_bytes", help, () => boundBytes);
  }

  readonly watch: Metrics["watch"] = (server, webSockets) => this.#network.watch(server, webSockets);

  readonly route = async (): Promise<Response> =>
    new Response(await this.#registry.metrics(), { headers: { "Content-Type": this.#registry.contentType } });
}

/** Jobs, the events of their runs, and their previews. */
class JobMetrics {
  #store: Jobs<unknown, unknown> | undefined;
  readonly #counts = new WeakMap<object, EventCounts>();
  readonly #ended: Counter;
  readonly #previews: Counter;
  readonly #firstEvent: Histogram;
  readonly #firstPreview: Histogram;
  readonly #jobTime: Histogram;
  readonly #stepTime: Histogram<"model">;
  readonly #usualModel: string | undefined;

  /** @param model the name of the model that a job without one means; undefined: none is told */
  constructor(registers: Registers, model: string | undefined) {
    this.#usualModel = model;
    const states = () => this.#store?.counts();
    new Gauge({
      name: "daguerre_jobs",
      help: "Jobs that are held, by state",
      labelNames: ["state"],
      ...registers,
      collect() {
        for (const [state, count] of Object.entries(states() ?? {})) this.set({ state }, count);
      },
    });
    gauge(registers, "daguerre_queue_depth", "Jobs that wait for their turn", () => states()?.queued ?? 0);
    gauge(registers, "daguerre_job_log_bytes", "Bytes held by the logs of jobs", () => this.#store?.bytes ?? 0);
    const counter = (name: string, help: string, outcomes: readonly string[]) => {
      const made = new Counter({ name, help, labelNames: ["outcome"], ...registers });
      for (const outcome of outcomes) made.inc({ outcome }, 0);
      return made;
    };
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name, help, buckets, ...registers });
    this.#ended = counter("daguerre_jobs_total", "Jobs that ended, by how", ["completed", "cancelled", "failed"]);
    this.#firstEvent = histogram("daguerre_first_event_seconds", "From admission to a job's first event", JOB_BUCKETS);
    this.#firstPreview = histogram(
      "daguerre_first_preview_seconds",
      "From admission to a job's first preview",
      JOB_BUCKETS,
    );
    this.#jobTime = histogram("daguerre_job_seconds", "From admission to a job's end", JOB_BUCKETS);
    this.#stepTime = new Histogram({
      name: "daguerre_step_seconds",
      help: "One denoising step, by model",
      labelNames: ["model"],
      buckets: STEP_BUCKETS,
      ...registers,
    });
    this.#previews = counter(
      "daguerre_previews_total",
      "Previews: made; and, once for each client that watched, sent, or dropped for a newer one",
      ["made", "sent", "dropped"],
    );
  }

  /** An event of a run of a model, which admission has looked up, and the milliseconds that it took. */
  event(event: unknown, ms: number, model = this.#usualModel): void {
    // The first step's time holds the text encoder and whatever was compiled.
    if (typeOf(event) !== "progress") return;
    this.#stepTime.observe(this.#usualModel === undefined ? {} : { model: model! }, ms / 1000);
  }

  watch(jobs: Jobs<unknown, unknown>): void {
    this.#store = jobs;
    jobs.observe((job, change, event, dropped) => {
      const since = () => (Date.now() - job.submittedAt) / 1000;
      switch (change) {
        case "submitted":
          this.#counts.set(job, { events: 0, previews: 0 });
          break;
        case "event":
          this.#onEvent(job, event, since);
          break;
        case "read":
          if (typeOf(event) === "preview") this.#previews.inc({ outcome: "sent" });
          break;
        case "dropped":
          if (dropped?.slot === "preview") this.#previews.inc({ outcome: "dropped" }, dropped.count);
          break;
        case "ended":
          if (job.state !== "queued" && job.state !== "running") this.#ended.inc({ outcome: job.state });
          this.#jobTime.observe(since());
          break;
      }
    });
  }

  #onEvent(job: object, event: unknown, since: () => number): void {
    const counts = this.#counts.get(job);
    if (counts === undefined) return;
    if (++counts.events === 1) this.#firstEvent.observe(since());
    if (typeOf(event) !== "preview") return;
    if (++counts.previews === 1) this.#firstPreview.observe(since());
    this.#previews.inc({ outcome: "made" });
  }
}

/** Requests by route and status. */
class HttpMetrics {
  readonly #requests: Counter;
  readonly #requestTime: Histogram;

  constructor(registers: Registers) {
    this.#requests = new Counter({
      name: "daguerre_http_requests_total",
      help: "Requests answered, by route and status",
      labelNames: ["method", "route", "status"],
      ...registers,
    });
    this.#requestTime = new Histogram({
      name: "daguerre_http_headers_seconds",
      help: "From a request to the headers of its answer",
      labelNames: ["route"],
      buckets: JOB_BUCKETS,
      ...registers,
    });
  }

  count(c: Context, ms: number): void {
    const route = routeOf(c);
    this.#requests.inc({ method: methodOf(c), route, status: c.res.status });
    this.#requestTime.observe({ route }, ms / 1000);
  }
}

/** Connections and their bytes. */
class NetworkMetrics {
  readonly #sockets = new Set<Socket>();
  #sessions = () => 0;
  /** Bytes of connections that are closed. */
  readonly #closedBytes = { received: 0, sent: 0 };

  constructor(registers: Registers) {
    gauge(registers, "daguerre_connections", "Open connections", () => this.#sockets.size);
    gauge(registers, "daguerre_sessions", "Open WebSocket sessions", () => this.#sessions());
    const bytes = () => this.#bytes();
    new Counter({
      name: "daguerre_network_bytes_total",
      help: "Bytes on the wire, by direction",
      labelNames: ["direction"],
      ...registers,
      collect() {
        const { received, sent } = bytes();
        this.reset();
        this.inc({ direction: "received" }, received);
        this.inc({ direction: "sent" }, sent);
      },
    });
  }

  watch(server: Pick<Server, "on">, webSockets?: { readonly clients: { readonly size: number } }): void {
    this.#sessions = () => webSockets?.clients.size ?? 0;
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => {
        this.#sockets.delete(socket);
        this.#closedBytes.received += socket.bytesRead;
        this.#closedBytes.sent += socket.bytesWritten;
      });
    });
  }

  #bytes() {
    let { received, sent } = this.#closedBytes;
    for (const socket of this.#sockets) {
      received += socket.bytesRead;
      sent += socket.bytesWritten;
    }
    return { received, sent };
  }
}

function typeOf(event: unknown): unknown {
  return (event as { type?: unknown } | null | undefined)?.type;
}

const METHODS = new Set(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]);

function methodOf(c: Context): string {
  return METHODS.has(c.req.method) ? c.req.method : "other";
}

/** The pattern that answered, not the path that was asked for: paths hold ids. */
function routeOf(c: Context): string {
  return routePathOf(c) ?? "none";
}
