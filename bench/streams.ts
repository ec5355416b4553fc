/**
 * What the transports cost: `npx tsx bench/streams.ts [clients] [seconds]`.
 *
 * 1. The time from an event's yield to its arrival, 20 KB an event, one client on loopback, over SSE and over WebSocket,
 *    beside a minimal `node:http` and `ws` server in the same process that send the same bytes.
 * 2. Many SSE clients (in another process) follow one job at two such events a second: the server's event-loop delay,
 *    its memory, and whether every event arrived.
 * 3. 200 clients that stop reading, of a job that goes on: memory, and whether one who reads is disturbed.
 */
import { fork } from "node:child_process";
import http, { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Hono } from "hono";
import { WebSocket, WebSocketServer } from "ws";
import { createJobs } from "../src/engine/jobs.ts";
import { listen } from "../transports/listen.ts";
import { resume, sse } from "../transports/sse.ts";
import { realtime } from "../transports/websocket.ts";

const EVENT = { type: "item", text: "x".repeat(20_000) };
const EVENTS = 300;

function get(url: string, onChunk: (chunk: Buffer) => void, method = "GET", body?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, agent: false }, (response) => {
      response.on("data", onChunk);
      response.on("end", resolve);
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** Counts events in a body: each ends with a blank line, and the text holds none. */
function counter(onEvent: () => void): (chunk: Buffer) => void {
  let before = 0;
  return (chunk) => {
    for (const byte of chunk) {
      if (byte === 10 && before === 10) onEvent();
      before = byte;
    }
  };
}

if (process.send !== undefined) {
  // The clients' process.
  const [, , url, count] = process.argv;
  const counts = new Array<number>(Number(count)).fill(0);
  await Promise.all(
    counts.map(async (_, index) => {
      await sleep(index);
      await get(
        url!,
        counter(() => counts[index]!++),
      );
    }),
  );
  process.send(counts);
} else {
  await latency();
  await followers(Number(process.argv[2] ?? 1000), Number(process.argv[3] ?? 20));
  await stopped(200);
  process.exit();
}

function report(name: string, times: number[]): void {
  const sorted = times.slice(20).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)]!.toFixed(3);
  console.log(`${name.padEnd(28)} median ${at(0.5)} ms  p99 ${at(0.99)} ms`);
}

async function latency(): Promise<void> {
  let yielded = 0;
  async function* run() {
    for (let n = 0; n < EVENTS; n++) {
      await sleep(3);
      yielded = performance.now();
      yield EVENT;
    }
  }
  const app = new Hono();
  app.post("/stream", sse(run));
  app.get("/realtime", realtime(run));
  const server = await listen(app, 0, "127.0.0.1");
  let times: number[] = [];
  const seen = () => times.push(performance.now() - yielded);

  await get(`${server.url}/stream`, counter(seen), "POST", "{}");
  report("SSE", times);
  times = [];
  await overSocket(`${server.url.replace("http", "ws")}/realtime`, seen);
  report("WebSocket", times);
  await server.close();

  const plain = createServer(async (_, response) => {
    for await (const event of run()) response.write(`data: ${JSON.stringify(event)}\n\n`);
    response.end();
  });
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  const sockets = new WebSocketServer({ server: plain });
  sockets.on("connection", async (socket) => {
    for await (const event of run()) socket.send(Buffer.from(JSON.stringify(event)));
  });
  const { port } = plain.address() as AddressInfo;
  times = [];
  await get(`http://127.0.0.1:${port}`, counter(seen));
  report("minimal node:http", times);
  times = [];
  await overSocket(`ws://127.0.0.1:${port}`, seen);
  report("minimal ws", times);
  plain.close();
}

function overSocket(url: string, seen: () => void): Promise<void> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    let count = 0;
    socket.on("open", () => socket.send("{}"));
    socket.on("message", (_, binary) => {
      if (!binary) return;
      seen();
      if (++count < EVENTS) return;
      socket.close();
      resolve();
    });
  });
}

async function followers(clients: number, seconds: number): Promise<void> {
  const jobs = createJobs<null, typeof EVENT>(async function* () {
    await sleep(4_000);
    for (let n = 0; n < seconds * 2; n++) {
      await sleep(500);
      yield EVENT;
    }
  });
  const app = new Hono();
  app.get("/stream/:job", resume(jobs));
  const server = await listen(app, 0, "127.0.0.1");
  jobs.submit(null, { id: "job", detached: true });
  const child = fork(fileURLToPath(import.meta.url), [`${server.url}/stream/job`, `${clients}`]);
  const counts = new Promise<number[]>((resolve) => child.once("message", (all) => resolve(all as number[])));
  await sleep(4_000);
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const before = process.memoryUsage().rss;
  const all = await counts;
  const missing = all.filter((count) => count !== seconds * 2).length;
  console.log(
    `${clients} SSE clients, ${seconds} s: loop delay p99 ${(delay.percentile(99) / 1e6 - 5).toFixed(1)} ms, ` +
      `memory ${mib(before)} → ${mib(process.memoryUsage().rss)} MiB, ${missing} clients missed an event`,
  );
  await server.close();
}

async function stopped(clients: number): Promise<void> {
  const jobs = createJobs<null, typeof EVENT>(async function* () {
    for (let n = 0; n < 2_000; n++) {
      await sleep(3);
      yield EVENT;
    }
  });
  const app = new Hono();
  app.get("/stream/:job", resume(jobs));
  const server = await listen(app, 0, "127.0.0.1");
  jobs.submit(null, { id: "job", detached: true });
  const requests = Array.from({ length: clients }, () => {
    const request = http.get(`${server.url}/stream/job`, { agent: false }, (response) => response.pause());
    request.on("error", () => {});
    return request;
  });
  let count = 0;
  const before = process.memoryUsage().rss;
  await get(
    `${server.url}/stream/job`,
    counter(() => count++),
  );
  console.log(
    `${clients} clients that stopped reading: a reader got ${count} of 2000 events, memory ${mib(before)} → ` +
      `${mib(process.memoryUsage().rss)} MiB, log ${mib(jobs.bytes)} MiB (40 MiB were said)`,
  );
  for (const request of requests) request.destroy();
  await server.close();
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
