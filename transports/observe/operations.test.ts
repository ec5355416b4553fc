import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { decode } from "@msgpack/msgpack";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { startTelemetry } from "../../cli/telemetry.ts";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import type { Run } from "../../src/jobs/run.ts";
import { gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";
import { createMetrics } from "./metrics.ts";
import type { RequestEntry } from "./request-log.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function serving(options: Partial<AppOptions> = {}, run: Run<GenerationRequest, RunEvent> = gradientRun()) {
  const app = createApp({ run, health: () => ({}), ...options });
  const server = await listen(app, 0, "127.0.0.1", { onServer: options.metrics?.watch });
  open.push(server);
  return server.url;
}

/** `{"daguerre_jobs{state=\"running\"}": 1}` */
async function scrape(url: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

describe("GET /metrics", () => {
  it("counts jobs by state and end, their times, requests and bytes", async () => {
    const work = {
      batches: new Map([
        [1, 7],
        [8, 3],
      ]),
      turns: 20,
      waitMilliseconds: 1500,
      merges: 2,
      evictions: 4,
    };
    const device = { lost: false, memoryBytes: 1234, peakMemoryBytes: 5678, work };
    const run: Run<GenerationRequest, RunEvent> = (input, context) => {
      if (input.prompt === "broken") throw new Error("no");
      return gradientRun()({ ...input, step_ms: input.prompt === "slow" ? 30 : 2 }, context);
    };
    const url = await serving({ metrics: createMetrics({ device }) }, async function* (input, context) {
      yield* run(input, context);
    });
    const body = (prompt: string) => ({ method: "POST", body: JSON.stringify({ prompt, num_inference_steps: 12 }) });
    await (await fetch(`${url}/stream`, body("x"))).text();
    await (await fetch(url, body("x"))).text();
    await (await fetch(url, body("broken"))).text();
    const leaving = new AbortController();
    const slow = await fetch(`${url}/stream`, { ...body("slow"), signal: leaving.signal });
    await sleep(100);
    const during = await scrape(url);
    expect(during['daguerre_jobs{state="running"}']).toBe(1);
    leaving.abort();
    await slow.text().catch(() => {});
    await sleep(100);

    const after = await scrape(url);
    expect(after).toMatchObject({
      'daguerre_jobs{state="queued"}': 0,
      'daguerre_jobs{state="running"}': 0,
      daguerre_queue_depth: 0,
      'daguerre_jobs_total{outcome="completed"}': 2,
      'daguerre_jobs_total{outcome="failed"}': 1,
      'daguerre_jobs_total{outcome="cancelled"}': 1,
      daguerre_job_seconds_count: 4,
      daguerre_first_event_seconds_count: 3,
      'daguerre_http_requests_total{method="POST",route="/stream",status="200"}': 2,
      'daguerre_http_requests_total{method="POST",route="/",status="200"}': 1,
      'daguerre_http_requests_total{method="POST",route="/",status="500"}': 1,
      daguerre_gpu_memory_bytes: 1234,
      daguerre_gpu_memory_peak_bytes: 5678,
      'daguerre_batches_total{slots="1"}': 7,
      'daguerre_batches_total{slots="8"}': 3,
      daguerre_turns_total: 20,
      daguerre_turn_wait_seconds_total: 1.5,
      daguerre_lora_merges_total: 2,
      daguerre_evictions_total: 4,
      daguerre_gpu_lost: 0,
    });
    // Twelve steps of two runs, and what the third made before its client left; two previews of the first alone.
    expect(after.daguerre_step_seconds_count).toBeGreaterThan(24);
    expect(after['daguerre_previews_total{outcome="made"}']).toBeGreaterThanOrEqual(2);
    expect(after['daguerre_previews_total{outcome="sent"}']).toBeGreaterThanOrEqual(2);
    expect(after.daguerre_first_preview_seconds_sum! / after.daguerre_first_preview_seconds_count!).toBeLessThan(0.3);
    expect(after['daguerre_network_bytes_total{direction="sent"}']).toBeGreaterThan(10_000);
    expect(after['daguerre_network_bytes_total{direction="received"}']).toBeGreaterThan(500);
    expect(after.daguerre_connections).toBeGreaterThanOrEqual(1);
  });

  it("counts the previews that a slow client was not sent, beside those that it was", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const metrics = createMetrics();
    const url = await serving({ metrics }, (input, context) =>
      gradientRun(record)({ ...input, side: 1024, preview_every: 1 }, context),
    );
    const body = JSON.stringify({ prompt: "x", num_inference_steps: 41, preview_every: 1 });
    const slow = http.request(`${url}/stream`, { method: "POST", agent: false });
    const response = await new Promise<http.IncomingMessage>((resolve) => slow.on("response", resolve).end(body));
    await until(() => record.ended, 30_000);
    response.resume();
    await new Promise((resolve) => response.on("end", resolve));
    await sleep(50);
    const counts = await scrape(url);
    const [made, sent, dropped] = ["made", "sent", "dropped"].map(
      (outcome) => counts[`daguerre_previews_total{outcome="${outcome}"}`]!,
    );
    expect(made).toBe(40);
    expect(sent).toBeGreaterThan(0);
    expect(dropped).toBeGreaterThan(0);
    expect(sent! + dropped!).toBe(made);
  });

  it("makes no series of what clients invent", async () => {
    const url = await serving({ metrics: createMetrics() });
    for (const path of ["/a", "/b", "/c/d?e=f"]) await (await fetch(url + path)).text();
    const series = Object.keys(await scrape(url)).filter((name) => name.startsWith("daguerre_http_requests_total"));
    expect(series).toEqual(['daguerre_http_requests_total{method="GET",route="none",status="404"}']);
  });
});

describe("GET /ready", () => {
  it("says whether a picture could be made, and work is refused while draining", async () => {
    let lost = false;
    let draining = false;
    const url = await serving({
      unready: () => (lost ? "the device is lost" : undefined),
      gate: { draining: () => draining },
    });
    const ready = async () => {
      const response = await fetch(`${url}/ready`);
      return [response.status, await response.json()];
    };
    expect(await ready()).toEqual([200, { status: "ready" }]);
    lost = true;
    expect(await ready()).toEqual([503, { status: "unready", reason: "the device is lost" }]);
    lost = false;
    draining = true;
    expect(await ready()).toEqual([503, { status: "unready", reason: "draining" }]);
    const refused = await fetch(`${url}/stream`, { method: "POST", body: '{"prompt":"x"}' });
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });
});

describe("the log of requests", () => {
  it("says who asked and how it went, and holds no credential", async () => {
    const entries: RequestEntry[] = [];
    const authenticator = createAuthenticator({
      keys: [{ name: "studio", key: "s3cret" }],
      tokenSecret: "0123456789abcdef0123456789abcdef",
    });
    const url = await serving({ onRequest: (entry) => entries.push(entry), gate: { authenticator } });
    const headers = { authorization: "Bearer s3cret" };
    await (await fetch(url, { method: "POST", headers, body: '{"prompt":"x","request_id":"r-7"}' })).text();
    const issued = await fetch(`${url}/auth/token`, { method: "POST", headers });
    const { token, subject } = (await issued.json()) as { token: string; subject: string };
    await (await fetch(`${url}/stream?prompt=x&fal_jwt_token=${token}`)).text();
    expect(entries[0]).toEqual({
      request_id: "r-7",
      method: "POST",
      path: "/",
      status: 200,
      ended: "completed",
      ms: expect.any(Number),
      headers_ms: expect.any(Number),
      client: "studio",
      address: "127.0.0.1",
    });
    expect(entries[2]).toMatchObject({ path: "/stream", status: 200, client: "studio", subject });
    expect(JSON.stringify(entries)).not.toContain("s3cret");
    expect(JSON.stringify(entries)).not.toContain(token);
  });

  it("says when the whole answer has ended, and how", async () => {
    const entries: RequestEntry[] = [];
    const run: Run<GenerationRequest, RunEvent> = async function* (input, context) {
      yield { type: "progress", step: 1, steps: 2, progress: 0.5, elapsed_ms: 1 };
      await sleep(150);
      if (input.prompt === "broken") throw new Error("no");
      yield* gradientRun()({ ...input, step_ms: input.prompt === "slow" ? 100 : 1 }, context);
    };
    const url = await serving({ onRequest: (entry) => entries.push(entry), onError: () => {} }, run);
    const entry = async (id: string, method = "POST") => {
      await until(() => entries.some(({ request_id, method: m }) => request_id === id && m === method), 10_000);
      return entries.find(({ request_id, method: m }) => request_id === id && m === method);
    };
    const ask = (path: string, request_id: string, prompt: string, signal?: AbortSignal) =>
      fetch(url + path, {
        method: "POST",
        signal,
        body: JSON.stringify({ prompt, request_id, num_inference_steps: 20 }),
      });

    for (const [path, way] of [
      ["/stream", "stream"],
      ["/", "json"],
    ] as const) {
      await (await ask(path, `${way}-good`, "x")).text();
      const good = await entry(`${way}-good`);
      expect(good).toMatchObject({ status: 200, ended: "completed" });
      expect(good!.ms).toBeGreaterThanOrEqual(150);
      if (way === "stream") expect(good!.headers_ms).toBeLessThan(good!.ms - 100);

      await ask(path, `${way}-broken`, "broken")
        .then((answer) => answer.text())
        .catch(() => {});
      expect(await entry(`${way}-broken`)).toMatchObject({ ended: "failed" });

      const stopped = ask(path, `${way}-stopped`, "slow")
        .then((answer) => answer.text())
        .catch(() => {});
      await sleep(300);
      await fetch(`${url}/jobs/${way}-stopped`, { method: "DELETE" });
      await stopped;
      expect(await entry(`${way}-stopped`)).toMatchObject({ ended: "cancelled" });

      const leaving = new AbortController();
      const left = ask(path, `${way}-left`, "slow", leaving.signal)
        .then((answer) => answer.text())
        .catch(() => {});
      await sleep(300);
      leaving.abort();
      await left;
      expect(await entry(`${way}-left`)).toMatchObject({ ended: "client left" });
    }
    await fetch(`${url}/nowhere`);
    await until(() => entries.at(-1)?.status === 404);
    expect(entries.at(-1)).toMatchObject({ path: "/nowhere", ended: "refused" });
  });
});

describe("the log of requests within a WebSocket", () => {
  const run: Run<GenerationRequest, RunEvent> = async function* (input, context) {
    if (input.prompt === "broken") throw new Error("no");
    yield* gradientRun()({ ...input, step_ms: input.prompt === "slow" ? 100 : 1 }, context);
  };

  async function opened(path: string) {
    const entries: RequestEntry[] = [];
    const url = await serving({ onRequest: (entry) => entries.push(entry), onError: () => {} }, run);
    const socket = new WebSocket(url.replace("http", "ws") + path);
    await new Promise((resolve) => socket.once("open", resolve));
    const send = (message: object) => socket.send(JSON.stringify({ num_inference_steps: 20, ...message }));
    const entry = async (id: string) => {
      await until(() => entries.some(({ request_id }) => request_id === id), 10_000);
      return entries.find(({ request_id }) => request_id === id);
    };
    return { entries, socket, send, entry };
  }

  it("says how each request of a session ended", async () => {
    const { entries, socket, send, entry } = await opened("/realtime?fal_jwt_token=secret");
    send({ prompt: "x", request_id: "good" });
    expect(await entry("good")).toEqual({
      ...{ request_id: "good", method: "MESSAGE", path: "/realtime", status: 200, ended: "completed" },
      ...{ ms: expect.any(Number), client: expect.any(String), subject: undefined, address: "127.0.0.1" },
    });
    send({ prompt: "broken", request_id: "broken" });
    expect(await entry("broken")).toMatchObject({ status: 500, ended: "failed" });
    send({ request_id: "refused" });
    expect(await entry("refused")).toMatchObject({ status: 422, ended: "refused" });
    send({ prompt: "slow", request_id: "stopped" });
    send({ prompt: "x", request_id: "superseded" });
    send({ prompt: "x", request_id: "withdrawn" });
    expect(await entry("superseded")).toMatchObject({ status: 499, ended: "cancelled" });
    send({ type: "cancel", request_id: "withdrawn" });
    expect(await entry("withdrawn")).toMatchObject({ ended: "cancelled" });
    send({ type: "cancel", request_id: "stopped" });
    expect(await entry("stopped")).toMatchObject({ status: 499, ended: "cancelled" });
    send({ prompt: "slow", request_id: "left" });
    send({ prompt: "x", request_id: "left-waiting" });
    await sleep(200);
    socket.close();
    expect(await entry("left")).toMatchObject({ ended: "client left" });
    expect((await entry("left"))!.ms).toBeGreaterThanOrEqual(150);
    expect(await entry("left-waiting")).toMatchObject({ ended: "client left" });
    const ids = entries.flatMap(({ method, request_id }) => (method === "MESSAGE" ? [request_id] : []));
    expect(new Set(ids).size).toBe(ids.length);
    expect(JSON.stringify(entries)).not.toContain("secret");
  });

  it("says how each request of fal's socket ended", async () => {
    const { entries, socket, send, entry } = await opened("/fal-ai/any/stream");
    send({ prompt: "x", request_id: "good" });
    expect(await entry("good")).toMatchObject({ method: "MESSAGE", status: 200, ended: "completed" });
    send({ prompt: "broken", request_id: "broken" });
    expect(await entry("broken")).toMatchObject({ status: 500, ended: "failed" });
    send({ prompt: 7, request_id: "refused" });
    // A refused request has the id that its answer has.
    await until(() =>
      entries.some(({ method, status, ended }) => `${method} ${status} ${ended}` === "MESSAGE 422 refused"),
    );
    send({ prompt: "slow", request_id: "left" });
    await sleep(200);
    socket.close();
    expect(await entry("left")).toMatchObject({ ended: "client left" });
  });
});

interface ExportedSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: unknown }[];
}

describe("traces", () => {
  const spans: ExportedSpan[] = [];
  const named = (name: string, parent?: ExportedSpan) =>
    spans.filter((span) => span.name === name && (parent === undefined || span.parentSpanId === parent.spanId));

  // An SDK registers once in a process, and sends what it has when it stops.
  beforeAll(async () => {
    const collector = http.createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString());
      for (const { scopeSpans } of resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans);
      response.setHeader("Content-Type", "application/json").end("{}");
    });
    await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
    const { port } = collector.address() as { port: number };
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${port}`;
    const stop = await startTelemetry(process.env);
    try {
      const url = await serving();
      await overHttp(url);
      await overSocket(url);
      await sameIds();
      await sleep(50);
    } finally {
      await stop?.();
      collector.close();
      delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
    }
  });

  async function overHttp(url: string): Promise<void> {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const body = JSON.stringify({ prompt: "x", num_inference_steps: 12, request_id: "traced-1" });
    await (await fetch(`${url}/stream`, { method: "POST", headers: { traceparent }, body })).text();
  }

  const traceOf = (n: number) => `${"0".repeat(31)}${n}`;

  /** The same id at the same time: in two apps, and of two owners in one of them. */
  async function sameIds(): Promise<void> {
    const keys = ["k-0", "k-1"].map((key) => ({ name: key, key }));
    const run: Run<GenerationRequest, RunEvent> = (input, context) => gradientRun()({ ...input, step_ms: 20 }, context);
    const two = await serving({ gate: { authenticator: createAuthenticator({ keys }) } }, run);
    const other = await serving({}, run);
    const body = JSON.stringify({ prompt: "x", num_inference_steps: 6, request_id: "same" });
    const ask = async (url: string, key: string, n: number) => {
      const headers = { authorization: `Bearer ${key}`, traceparent: `00-${traceOf(n)}-b7ad6b7169203331-01` };
      await (await fetch(`${url}/stream`, { method: "POST", headers, body })).text();
    };
    await Promise.all([ask(two, "k-0", 1), ask(two, "k-1", 2), ask(other, "", 3)]);
  }

  async function overSocket(url: string): Promise<void> {
    const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`);
    const results = new Set<unknown>();
    socket.on("message", (data: Buffer, binary) => {
      const { type, request_id } = (binary ? decode(data) : {}) as { type?: string; request_id?: string };
      if (type === "result") results.add(request_id);
    });
    await new Promise((resolve) => socket.once("open", resolve));
    for (const request_id of ["a", "b"]) {
      socket.send(JSON.stringify({ prompt: "x", request_id, num_inference_steps: 2, preview_every: 0 }));
      await until(() => results.has(request_id));
    }
    socket.close();
  }

  it("reach a collector as request, job, step, decode and encode, within the caller's trace", () => {
    const [request] = named("POST /stream");
    const [job] = named("job", request);
    expect(request).toMatchObject({ traceId: "0af7651916cd43dd8448eb211c80319c", parentSpanId: "b7ad6b7169203331" });
    expect(job).toMatchObject({ traceId: request!.traceId });
    const parts = ["step", "decode", "encode"].map((name) => named(name, job));
    // Twelve steps; previews after 5 and 10 and the result are decoded, and encoded for the one client.
    expect(parts.map(({ length }) => length)).toEqual([12, 3, 3]);
    for (const span of parts.flat()) {
      expect(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano)).toBe(true);
    }
    expect(job!.attributes).toContainEqual({ key: "daguerre.request_id", value: { stringValue: "traced-1" } });
  });

  it("of jobs of the same id, in two apps or of two owners, stay apart", () => {
    for (const n of [1, 2, 3]) {
      const [job, ...others] = named("job").filter(({ traceId }) => traceId === traceOf(n));
      expect(others).toEqual([]);
      expect(["step", "decode", "encode"].map((name) => named(name, job).length)).toEqual([6, 2, 2]);
      expect(named("encode", job).every(({ traceId }) => traceId === traceOf(n))).toBe(true);
    }
  });

  it("of a WebSocket session lie in its upgrade, a job for each request", () => {
    const [upgrade] = named("GET /realtime");
    const jobs = named("job", upgrade);
    expect(jobs).toHaveLength(2);
    for (const job of jobs) {
      expect(["step", "decode", "encode"].map((name) => named(name, job).length)).toEqual([2, 1, 1]);
    }
  });

  it("need no SDK where no collector is set", async () => {
    expect(await startTelemetry({})).toBeUndefined();
  });
});
