/**
 * Clients that stop reading, of jobs that go on: what they cost is bounded by what `docs/configuration.md` says (Memory),
 * and who reads is not disturbed. `bench/streams` does it with 200 of each kind.
 */
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createParser } from "eventsource-parser";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createJobs } from "../../src/jobs/jobs.ts";
import { eventNumber, gradient, until } from "../../test/gradient-run.ts";
import { type Listening, listen } from "../http/listen.ts";
import { realtime } from "../realtime/websocket.ts";
import { resume, sse } from "./sse.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes that this process holds and cannot give back. */
function heldBytes(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const MIB = 2 ** 20;
const CLIENTS = 20;

let server: Listening;
const leave: (() => void)[] = [];
afterEach(async () => {
  for (const one of leave.splice(0)) one();
  await server.close();
});

/** Asks and never reads the answer. */
function stoppedStream(url: string, method = "GET"): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, agent: false }, (response) => {
      response.pause();
      response.on("error", () => {});
      resolve();
    });
    request.on("error", reject);
    request.end(method === "POST" ? "{}" : undefined);
    leave.push(() => request.destroy());
  });
}

async function stoppedSession(url: string): Promise<void> {
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`);
  leave.push(() => socket.terminate());
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  socket.send("{}");
  socket.pause();
}

describe("clients that stop reading", () => {
  it("of events that may not be dropped cost one of them each, and who reads gets every one", async () => {
    const EVENTS = 400;
    const EVENT_BYTES = 100_000;
    const LOG_BYTES = 4 * MIB;
    const text = "x".repeat(EVENT_BYTES);
    // The streams share a job, which goes on at the pace of the one who reads.
    const shared = createJobs(
      async function* () {
        for (let n = 1; n <= EVENTS; n++) yield { type: "item", n, text };
      },
      { log: { bytes: LOG_BYTES } },
    );
    // Each session has its own, which it holds back.
    const own = createJobs(async function* () {
      // More than any socket holds.
      for (;;) yield { type: "item", text };
    });
    const app = new Hono();
    app.get("/stream/:job", resume(shared));
    app.get("/realtime", realtime(own));
    server = await listen(app, 0, "127.0.0.1");
    const idle = heldBytes();
    shared.submit(null, { id: "job" });
    const reading = readIds(`${server.url}/stream/job`);
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        await stoppedStream(`${server.url}/stream/job`);
        await stoppedSession(server.url);
      }),
    );
    expect(await reading).toEqual(Array.from({ length: EVENTS }, (_, index) => index + 1));
    expect(shared.bytes).toBeLessThan(LOG_BYTES + EVENT_BYTES);
    // As much as the sockets took, and then no more than `LOG_BOUNDS.ahead`.
    const made = Math.max(...own.list().map(({ log }) => log.lastId));
    expect(made).toBeLessThan(EVENTS);
    // The log as it was encoded; for each client an event that waits for room in its socket and one that is being encoded.
    await until(() => heldBytes() - idle < 2 * LOG_BYTES + 2 * CLIENTS * 2 * (EVENT_BYTES + 1_000), 10_000);
  });

  it("of previews cost 256 KiB and two pictures each, and their runs end as if they were read", async () => {
    const STEPS = 60;
    let ended = 0;
    const run = async function* () {
      for (let step = 1; step <= STEPS; step++) {
        await sleep(1);
        yield { type: "preview", picture: PICTURE, step };
      }
      ended++;
      yield { type: "result", pictures: [PICTURE] };
    };
    const app = new Hono();
    app.post("/stream", sse(run));
    app.get("/realtime", realtime(createJobs(run)));
    server = await listen(app, 0, "127.0.0.1");
    const idle = heldBytes();
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        await stoppedSession(server.url);
        await stoppedStream(`${server.url}/stream`, "POST");
      }),
    );
    await until(() => ended === 2 * CLIENTS, 100_000);
    // All logs hold the same picture; what else there is, is on its way to clients.
    await until(() => heldBytes() - idle < 2 * CLIENTS * (256 * 1024 + 2 * 60_000), 10_000);
  });
});

describe("sessions that wait for their client", () => {
  it("hold nothing of the frame that broke off", async () => {
    const SESSIONS = 16;
    const FRAME_BYTES = 4 * MIB;
    const app = new Hono();
    app.get("/realtime", realtime(createJobs(async function* () {})));
    server = await listen(app, 0, "127.0.0.1", { frameBytes: 2 * FRAME_BYTES });
    const idle = heldBytes();
    const half = Buffer.alloc(FRAME_BYTES, "a");
    const sockets = await Promise.all(
      Array.from({ length: SESSIONS }, async () => {
        const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime`);
        await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
        await new Promise((resolve) => socket.send(half, { fin: false }, resolve));
        return socket;
      }),
    );
    await until(() => heldBytes() - idle > (SESSIONS * FRAME_BYTES) / 2, 10_000);
    for (const socket of sockets) socket.terminate();
    await until(() => heldBytes() - idle < FRAME_BYTES + half.length, 5_000);
  });
});

/** 256 × 256 of noise: some 40 KB as JPEG. */
const PICTURE = gradient(256, 1);

function readIds(url: string): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const ids: number[] = [];
    const parser = createParser({ onEvent: ({ id }) => ids.push(eventNumber(id)) });
    http
      .get(url, { agent: false }, (response) => {
        response.setEncoding("utf8");
        response.on("data", (text: string) => parser.feed(text));
        response.on("end", () => resolve(ids));
        response.on("error", reject);
      })
      .on("error", reject);
  });
}
