/**
 * What Prometheus may know of a server: its queue, its jobs, how long things take, what was sent. Text format:
 * https://prometheus.io/docs/instrumenting/exposition_formats/. Names follow its conventions: seconds and bytes, `_total`
 * for what only grows. No label holds what a client chose, so that nobody can make the series endless.
 */
import type { Server } from "node:http";
import type { Socket } from "node:net";
import type { Context, MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { type Account, HOLD_KINDS } from "../../src/jobs/account.ts";
import type { Jobs } from "../../src/jobs/jobs.ts";
import type { Observe } from "./observed-run.ts";

/** What is read at the moment when somebody asks. */
export interface MetricSources {
  readonly device?: { readonly lost: boolean; readonly memoryBytes: number; readonly peakMemoryBytes: number };
}

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
  watch(server: Pick<Server, "on">, webSockets?: { readonly clients: { readonly size: number } }): void;
  /** `GET /metrics` */
  readonly route: (c: Context) => Promise<Response>;
}

/** Seconds. A step is 5 ms on a fast GPU with a small model and a minute on a software one with a large model. */
const STEP_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const JOB_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

export function createMetrics({ device }: MetricSources = {}): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  let store: Jobs<unknown, unknown> | undefined;
  new Gauge({
    name: "daguerre_jobs",
    help: "Jobs that are held, by state",
    labelNames: ["state"],
    registers,
    collect() {
      for (const [state, count] of Object.entries(store?.counts() ?? {})) this.set({ state }, count);
    },
  });
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  gauge("daguerre_queue_depth", "Jobs that wait for their turn", () => store?.counts().queued ?? 0);
  gauge("daguerre_job_log_bytes", "Bytes held by the logs of jobs", () => store?.bytes ?? 0);
  const ended = new Counter({
    name: "daguerre_jobs_total",
    help: "Jobs that ended, by how",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["completed", "cancelled", "failed"]) ended.inc({ outcome }, 0);
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, registers });
  const firstEvent = histogram("daguerre_first_event_seconds", "From admission to a job's first event", JOB_BUCKETS);
  const firstPreview = histogram(
    "daguerre_first_preview_seconds",
    "From admission to a job's first preview",
    JOB_BUCKETS,
  );
  const jobTime = histogram("daguerre_job_seconds", "From admission to a job's end", JOB_BUCKETS);
  const stepTime = histogram("daguerre_step_seconds", "One denoising step", STEP_BUCKETS);
  const previews = new Counter({
    name: "daguerre_previews_total",
    help: "Previews: made; and, once for each client that watched, sent, or dropped for a newer one",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["made", "sent", "dropped"]) previews.inc({ outcome }, 0);
  const requests = new Counter({
    name: "daguerre_http_requests_total",
    help: "Requests answered, by route and status",
    labelNames: ["method", "route", "status"],
    registers,
  });
  const requestTime = new Histogram({
    name: "daguerre_http_headers_seconds",
    help: "From a request to the headers of its answer",
    labelNames: ["route"],
    buckets: JOB_BUCKETS,
    registers,
  });

  const sockets = new Set<Socket>();
  let sessions = () => 0;
  const closedBytes = { received: 0, sent: 0 };
  gauge("daguerre_connections", "Open connections", () => sockets.size);
  gauge("daguerre_sessions", "Open WebSocket sessions", () => sessions());
  new Counter({
    name: "daguerre_network_bytes_total",
    help: "Bytes on the wire, by direction",
    labelNames: ["direction"],
    registers,
    collect() {
      let { received, sent } = closedBytes;
      for (const socket of sockets) {
        received += socket.bytesRead;
        sent += socket.bytesWritten;
      }
      this.reset();
      this.inc({ direction: "received" }, received);
      this.inc({ direction: "sent" }, sent);
    },
  });
  if (device !== undefined) {
    gauge("daguerre_gpu_memory_bytes", "Bytes held on the device", () => device.memoryBytes);
    gauge("daguerre_gpu_memory_peak_bytes", "Most bytes ever held on the device", () => device.peakMemoryBytes);
    gauge("daguerre_gpu_lost", "1 when the device is lost", () => Number(device.lost));
  }

  return {
    observe: () => ({
      event(event, _, ms) {
        // The first step's time holds the text encoder and whatever was compiled.
        if (typeOf(event) === "progress") stepTime.observe(ms / 1000);
      },
    }),
    jobs(jobs) {
      store = jobs;
      const told = new WeakMap<object, { events: number; previews: number }>();
      jobs.observe((job, change, event, dropped) => {
        const since = () => (Date.now() - job.submittedAt) / 1000;
        switch (change) {
          case "submitted":
            told.set(job, { events: 0, previews: 0 });
            break;
          case "event": {
            const counts = told.get(job);
            if (counts === undefined) break;
            if (++counts.events === 1) firstEvent.observe(since());
            if (typeOf(event) !== "preview") break;
            if (++counts.previews === 1) firstPreview.observe(since());
            previews.inc({ outcome: "made" });
            break;
          }
          case "read":
            if (typeOf(event) === "preview") previews.inc({ outcome: "sent" });
            break;
          case "dropped":
            if (dropped?.slot === "preview") previews.inc({ outcome: "dropped" }, dropped.count);
            break;
          case "ended":
            if (job.state !== "queued" && job.state !== "running") ended.inc({ outcome: job.state });
            jobTime.observe(since());
            break;
        }
      });
    },
    account(account, boundBytes) {
      new Gauge({
        name: "daguerre_held_bytes",
        help: "Bytes held for clients, by kind",
        labelNames: ["kind"],
        registers,
        collect() {
          for (const kind of HOLD_KINDS) this.set({ kind }, account.bytes(kind));
        },
      });
      if (boundBytes === undefined) return;
      gauge(
        "daguerre_memory_bound_bytes",
        "Bytes that clients can make the server hold, by its settings",
        () => boundBytes,
      );
    },
    async requests(c, next) {
      const began = performance.now();
      await next();
      const route = routeOf(c);
      requests.inc({ method: methodOf(c), route, status: c.res.status });
      requestTime.observe({ route }, (performance.now() - began) / 1000);
    },
    watch(server, webSockets) {
      sessions = () => webSockets?.clients.size ?? 0;
      server.on("connection", (socket: Socket) => {
        sockets.add(socket);
        socket.once("close", () => {
          sockets.delete(socket);
          closedBytes.received += socket.bytesRead;
          closedBytes.sent += socket.bytesWritten;
        });
      });
    },
    async route() {
      return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
    },
  };
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
  const patterns = matchedRoutes(c).map(({ path }) => path);
  return patterns.findLast((path) => !path.endsWith("*")) ?? "none";
}
