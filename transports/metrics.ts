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
import type { Observe } from "./observed-run.ts";

/** What is read at the moment when somebody asks. */
export interface MetricSources {
  readonly device?: { readonly lost: boolean; readonly memoryBytes: number; readonly peakMemoryBytes: number };
}

export interface Metrics {
  /** Jobs and their times. */
  readonly observe: Observe<unknown, unknown>;
  /** Counts requests by route and status. */
  readonly requests: MiddlewareHandler;
  /** A preview that was written to a client, or replaced by a newer one before it could be. */
  preview(outcome: "sent" | "dropped"): void;
  /** Counts a server's connections, their bytes, and which of them are WebSocket sessions. */
  watch(server: Pick<Server, "on">): void;
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

  const jobs = new Gauge({ name: "daguerre_jobs", help: "Jobs, by state", labelNames: ["state"], registers });
  const queueDepth = new Gauge({ name: "daguerre_queue_depth", help: "Jobs waiting for the device", registers });
  const ended = new Counter({
    name: "daguerre_jobs_total",
    help: "Jobs that ended, by how",
    labelNames: ["outcome"],
    registers,
  });
  for (const state of ["waiting", "running"]) jobs.set({ state }, 0);
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
    help: "Previews, by what became of them",
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
  const upgraded = new Set<Socket>();
  const closedBytes = { received: 0, sent: 0 };
  new Gauge({
    name: "daguerre_connections",
    help: "Open connections",
    registers,
    collect() {
      this.set(sockets.size);
    },
  });
  new Gauge({
    name: "daguerre_sessions",
    help: "Open WebSocket sessions",
    registers,
    collect() {
      this.set(upgraded.size);
    },
  });
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
    const read = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    read("daguerre_gpu_memory_bytes", "Bytes held on the device", () => device.memoryBytes);
    read("daguerre_gpu_memory_peak_bytes", "Most bytes ever held on the device", () => device.peakMemoryBytes);
    read("daguerre_gpu_lost", "1 when the device is lost", () => Number(device.lost));
  }

  return {
    observe() {
      const admitted = performance.now();
      const since = () => (performance.now() - admitted) / 1000;
      let state = "waiting";
      let events = 0;
      let previewed = false;
      jobs.inc({ state });
      queueDepth.inc();
      const leaveQueue = () => {
        if (state !== "waiting") return;
        jobs.dec({ state });
        queueDepth.dec();
        state = "running";
        jobs.inc({ state });
      };
      return {
        event(event, _, ms) {
          const type = (event as { type?: unknown } | null)?.type;
          if (type !== "queued") leaveQueue();
          if (++events === 1) firstEvent.observe(since());
          // The first step's time holds the text encoder and whatever was compiled.
          if (type === "progress") stepTime.observe(ms / 1000);
          if (type !== "preview") return;
          previews.inc({ outcome: "made" });
          if (!previewed) firstPreview.observe(since());
          previewed = true;
        },
        ended(outcome) {
          if (state === "waiting") queueDepth.dec();
          jobs.dec({ state });
          ended.inc({ outcome });
          jobTime.observe(since());
        },
      };
    },
    async requests(c, next) {
      const began = performance.now();
      await next();
      const route = routeOf(c);
      requests.inc({ method: methodOf(c), route, status: c.res.status });
      requestTime.observe({ route }, (performance.now() - began) / 1000);
    },
    preview(outcome) {
      previews.inc({ outcome });
    },
    watch(server) {
      server.on("connection", (socket: Socket) => {
        sockets.add(socket);
        socket.once("close", () => {
          sockets.delete(socket);
          upgraded.delete(socket);
          closedBytes.received += socket.bytesRead;
          closedBytes.sent += socket.bytesWritten;
        });
      });
      server.on("upgrade", (_, socket: Socket) => {
        if (sockets.has(socket)) upgraded.add(socket);
      });
    },
    async route() {
      return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
    },
  };
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
