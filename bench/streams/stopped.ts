/**
 * Clients that stop reading, so many streams of one job and so many sessions with a job each: the server's memory, and
 * whether one who reads gets every event meanwhile.
 */
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createParser } from "eventsource-parser";
import { Hono } from "hono";
import { createJobs } from "../../src/jobs/jobs.ts";
import { listen } from "../../transports/http/listen.ts";
import { realtime } from "../../transports/realtime/websocket.ts";
import { resume } from "../../transports/stream/sse.ts";
import { item, mib } from "./events.ts";
import { startClients } from "./followers.ts";

const EVENTS = 2_000;

export async function stopped(clients: number): Promise<void> {
  let began = () => {};
  const begin = new Promise<void>((resolve) => {
    began = resolve;
  });
  const shared = createJobs(async function* () {
    await begin;
    for (let n = 1; n <= EVENTS; n++) {
      await sleep(3);
      yield item(n);
    }
  });
  const own = createJobs(async function* () {
    for (let n = 1; ; n++) yield item(n);
  });
  const app = new Hono();
  app.get("/stream/:job", resume(shared));
  app.get("/realtime", realtime(own));
  const server = await listen(app, 0, "127.0.0.1");
  const before = process.memoryUsage().rss;
  const job = shared.submit(null, { id: "job", detached: true });
  const children = startClients(server.url, clients, clients, "stopped");
  while (job.log.readers < clients || own.list().length < clients) await sleep(50);
  began();
  const ids: number[] = [];
  await read(`${server.url}/stream/job`, (id) => ids.push(id));
  const whole = ids.length === EVENTS && ids.every((id, index) => id === index + 1);
  const { rss, arrayBuffers } = process.memoryUsage();
  console.log(`${clients} streams and ${clients} sessions that stopped reading:`);
  console.log(`  one who reads got ${ids.length} of ${EVENTS} events${whole ? ", without a gap" : ""}`);
  console.log(
    `  memory ${mib(before)} → ${mib(rss)} MiB, of which ${mib(arrayBuffers)} MiB of encoded events; the logs count ` +
      `${mib(shared.bytes)} MiB (one job) and ${mib(own.bytes)} MiB (${clients} jobs)`,
  );
  children.kill("SIGKILL");
  await server.close();
}

function read(url: string, onId: (id: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const parser = createParser({ onEvent: ({ id }) => onId(Number(id?.split(":").at(-1))) });
    http
      .get(url, { agent: false }, (response) => {
        response.setEncoding("utf8");
        response.on("data", (text: string) => parser.feed(text));
        response.on("end", resolve);
        response.on("error", reject);
      })
      .on("error", reject);
  });
}
