/**
 * The time from an event's yield to its arrival, one client on loopback, over SSE and over WebSocket, beside a minimal
 * `node:http` and `ws` server in the same process that send the same bytes.
 */
import http, { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { WebSocket, WebSocketServer } from "ws";
import { listen } from "../../transports/http/listen.ts";
import { realtime } from "../../transports/realtime/websocket.ts";
import { sse } from "../../transports/stream/sse.ts";
import { item } from "./events.ts";

const EVENTS = 300;
/** The first are of code that is not compiled yet. */
const WARM_UP = 20;

export async function latency(): Promise<void> {
  let yielded = 0;
  async function* run() {
    for (let n = 1; n <= EVENTS; n++) {
      await sleep(3);
      yielded = performance.now();
      yield item(n);
    }
  }
  const app = new Hono();
  app.post("/stream", sse(run));
  app.get("/realtime", realtime(run));
  const server = await listen(app, 0, "127.0.0.1");

  const plain = createServer(async (_, response) => {
    for await (const event of run()) response.write(`data: ${JSON.stringify(event)}\n\n`);
    response.end();
  });
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  new WebSocketServer({ server: plain }).on("connection", async (socket) => {
    for await (const event of run()) socket.send(Buffer.from(JSON.stringify(event)));
  });
  const { port } = plain.address() as AddressInfo;

  // In turns, so that what else the machine does falls on all of them.
  const ways: [string, (seen: () => void) => Promise<void>][] = [
    ["SSE", (seen) => overHttp(`${server.url}/stream`, seen)],
    ["minimal node:http", (seen) => overHttp(`http://127.0.0.1:${port}`, seen)],
    ["WebSocket", (seen) => overSocket(`${server.url.replace("http", "ws")}/realtime`, seen)],
    ["minimal ws", (seen) => overSocket(`ws://127.0.0.1:${port}`, seen)],
  ];
  const times = new Map(ways.map(([name]) => [name, [] as number[]]));
  for (let turn = 0; turn < 3; turn++) {
    for (const [name, ask] of ways) {
      let count = 0;
      await ask(() => ++count > WARM_UP && times.get(name)!.push(performance.now() - yielded));
    }
  }
  for (const [name, all] of times) {
    const sorted = all.sort((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor(sorted.length * share)]!.toFixed(3);
    console.log(`${name.padEnd(20)} an event of 20 KB arrives after ${at(0.5)} ms (median), ${at(0.99)} ms (p99)`);
  }
  await server.close();
  plain.closeAllConnections();
  plain.close();
}

function overHttp(url: string, seen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", agent: false }, (response) => {
      let before = 0;
      // An event ends with an empty line, and its text holds none.
      response.on("data", (chunk: Buffer) => {
        for (const byte of chunk) {
          if (byte === 10 && before === 10) seen();
          before = byte;
        }
      });
      response.on("end", resolve);
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end("{}");
  });
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
