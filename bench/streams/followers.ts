/**
 * Many clients follow jobs at two events of 20 KB a second: the server's event-loop delay, its memory over the time, and
 * whether every event and every result arrived. All streams follow one job, which is the worst: each event is due for
 * everybody at once. Each session has a job of its own, and these are no more in step than jobs of strangers are.
 */
import { type ChildProcess, fork } from "node:child_process";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Hono } from "hono";
import { createJobs } from "../../src/jobs/jobs.ts";
import { listen } from "../../transports/http/listen.ts";
import { realtime } from "../../transports/realtime/websocket.ts";
import { resume } from "../../transports/stream/sse.ts";
import type { StreamResult } from "./clients.ts";
import { item, mib } from "./events.ts";

export interface Load {
  readonly sse: number;
  readonly websocket: number;
  readonly seconds: number;
}

const EVENT_MS = 500;
/** Milliseconds that the delay is sampled with; what a sample is longer than that is delay. */
const RESOLUTION_MS = 5;
/** Parts of an event's time by which jobs are apart. */
const PHASES = Array.from({ length: 97 }, (_, index) => index / 97);
/** Samples of memory over the time. */
const SAMPLES = 10;

export async function followers({ sse, websocket, seconds }: Load): Promise<void> {
  const events = seconds * (1000 / EVENT_MS);
  let began = () => {};
  const begin = new Promise<void>((resolve) => {
    began = resolve;
  });
  const run = async function* () {
    const phase = PHASES[jobs.list().length % PHASES.length]!;
    await begin;
    await sleep(phase * EVENT_MS);
    for (let n = 1; n <= events; n++) {
      await sleep(EVENT_MS);
      yield item(n);
    }
    yield { type: "result" };
  };
  const shared = createJobs(run);
  // A thousand logs that are full after some seconds, so that what grows later is something else.
  const jobs = createJobs(run, { retentionMs: 5_000, log: { bytes: 2 ** 20 } });
  const app = new Hono();
  app.get("/stream/:job", resume(shared));
  app.get("/realtime", realtime(jobs));
  const server = await listen(app, 0, "127.0.0.1");
  const job = shared.submit(null, { id: "job", detached: true });
  const clients = startClients(server.url, sse, websocket);
  const got = new Promise<{ streams: StreamResult[]; sessions: StreamResult[] }>((resolve, reject) => {
    clients.once("message", (message) => resolve(message as never));
    clients.once("exit", (code) => code !== 0 && reject(new Error(`the clients ended with ${code}`)));
  });
  // The first job is there before any client.
  while (job.log.readers < sse || jobs.list().length < websocket) await sleep(50);

  const idle = fork(fileURLToPath(new URL("idle.ts", import.meta.url)));
  await new Promise((resolve) => idle.once("message", resolve));
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  const cpu = process.cpuUsage();
  const from = performance.now();
  began();
  const memory: number[] = [];
  const sample = setInterval(() => memory.push(process.memoryUsage().rss), (seconds * 1000) / SAMPLES);
  const { streams, sessions } = await got;
  clearInterval(sample);
  delay.disable();
  const { user, system } = process.cpuUsage(cpu);
  const busy = (user + system) / 1000 / (performance.now() - from);
  const floor = await new Promise<number>((resolve) => {
    idle.once("message", (p99) => resolve(p99 as number));
    idle.send("stop");
  });

  const ms = (percentile: number) => `${(delay.percentile(percentile) / 1e6 - RESOLUTION_MS).toFixed(1)} ms`;
  console.log(`${sse} streams, ${websocket} sessions, ${seconds} s of two events of 20 KB a second:`);
  console.log(`  event-loop delay median ${ms(50)}, p99 ${ms(99)}, most ${(delay.max / 1e6).toFixed(1)} ms`);
  console.log(
    `  (p99 of an idle process beside it ${floor.toFixed(1)} ms); CPU ${(busy * 100).toFixed(0)} % of a core`,
  );
  console.log(`  memory over the time ${memory.map(mib).join(" ")} MiB`);
  for (const [name, all] of Object.entries({ streams, sessions })) {
    if (all.length === 0) continue;
    const whole = all.filter((one) => one.result && one.events === events + 1 && one.gapAt === 0).length;
    console.log(`  ${whole} of ${all.length} ${name} got their ${events} events, without a gap, and the result`);
  }
  await server.close();
}

export function startClients(url: string, sse: number, websocket: number, how: string = ""): ChildProcess {
  return fork(fileURLToPath(new URL("clients.ts", import.meta.url)), [url, `${sse}`, `${websocket}`, how]);
}
