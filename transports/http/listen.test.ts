import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { Hono } from "hono";
import { afterEach, expect, it } from "vitest";
import { type Listening, listen } from "./listen.ts";

let server: Listening;
afterEach(() => server.close());

/** The `Keep-Alive` time, in ms; it can say no less. */
const STATED_MS = 1_000;

/**
 * A client in a thread of its own, on one connection: it says `{answered}` after each answer, and `{closed}`. It sends its
 * second request `PAUSE_MS` after the first answer.
 */
const PAUSE_MS = 600;
const CLIENT = `
  const net = require("node:net");
  const { parentPort, workerData } = require("node:worker_threads");
  const socket = net.connect(workerData.port, "127.0.0.1");
  const ask = () => socket.write("GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n");
  let answered = 0;
  socket.on("data", (chunk) => {
    if (!chunk.includes("HTTP/1.1 200 OK")) return;
    parentPort.postMessage({ answered: ++answered, keepAlive: String(chunk).match(/Keep-Alive: (.*)\\r/)?.[1] });
    if (answered === 1) setTimeout(ask, workerData.pauseMs);
  });
  socket.on("error", () => {});
  socket.on("close", () => parentPort.postMessage({ closed: true, answered }));
  ask();
`;

it("answers a request that came within the stated time, however long the server was busy, and then closes the idle connection", async () => {
  const app = new Hono().get("/", (context) => context.text("here"));
  server = await listen(app, 0, "127.0.0.1", {
    onServer: (server) => {
      server.keepAliveTimeout = STATED_MS;
    },
  });
  const client = new Worker(CLIENT, { eval: true, workerData: { port: server.port, pauseMs: PAUSE_MS } });
  try {
    const [first] = await once(client, "message");
    expect(first).toEqual({ answered: 1, keepAlive: `timeout=${STATED_MS / 1000}` });
    // One long turn: the request arrives in the middle of it, and at its end the connection seems to have been idle.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STATED_MS * 4);
    const [second] = await once(client, "message");
    expect(second).toMatchObject({ answered: 2 });
    const [last] = await once(client, "message");
    expect(last).toEqual({ closed: true, answered: 2 });
  } finally {
    await client.terminate();
  }
});
