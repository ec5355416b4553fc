/**
 * A server whose worker draws with a real model, and a client that cancels jobs in mid-step: `cancels.ts COUNT SEED`.
 * At last it draws a picture. It prints one line of JSON: how many jobs were cancelled, how often the thread was overdue,
 * and the SHA-256 of the picture's PNG.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { listen } from "../../../transports/http/listen.ts";
import { cancelJob } from "../../../transports/job-routes.ts";
import { json } from "../../../transports/json.ts";
import { sse } from "../../../transports/stream/sse.ts";
import type { RunEvent } from "../../engine/events.ts";
import type { GenerationRequest } from "../../engine/request.ts";
import { createJobs } from "../../jobs/jobs.ts";
import { worker } from "../worker.ts";

const [count, seed] = process.argv.slice(2).map(Number) as [number, number];

/** Milliseconds after a step until a job is cancelled, at most: steps take about as long. */
const LATEST_MS = 600;
/** So short that a thread which is at a step is overdue. */
const GRACE_MS = 1;
const REQUEST = { prompt: "a lighthouse at sunset", seed: 7, num_inference_steps: 50, width: 256, height: 256 };

/** mulberry32: 0..1. */
function randomFrom(state: number): () => number {
  let next = state;
  return () => {
    next = (next + 0x6d2b79f5) | 0;
    let mixed = Math.imul(next ^ (next >>> 15), 1 | next);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const run = worker<GenerationRequest, RunEvent>(new URL("./drawing.mjs", import.meta.url), {
  graceMs: GRACE_MS,
  idle: 1,
  maxAbandoned: 1,
});
const jobs = createJobs(run, { concurrency: 1 });
const app = new Hono();
app.post("/", json(jobs));
const onError = (error: unknown) => console.error(error);
app.post("/stream", sse(jobs, { onError }));
app.delete("/jobs/:job", cancelJob(jobs));
const { url, close } = await listen(app, 0, "127.0.0.1");
const random = randomFrom(seed);
let refused = 0;

/** Asks until the thread is back. */
async function ask(path: string, body: object): Promise<Response> {
  for (;;) {
    const answer = await fetch(url + path, { method: "POST", body: JSON.stringify(body) });
    if (answer.status !== 503) return answer;
    await answer.text();
    refused++;
    await sleep(50);
  }
}

for (let done = 0; done < count; done++) {
  const id = `job-${done}`;
  const answer = await ask("/stream", { ...REQUEST, request_id: id });
  let said = "";
  void (async () => {
    for await (const chunk of answer.body!) said += new TextDecoder().decode(chunk);
  })().catch(() => {}); // a job that is cancelled breaks its stream off
  while (!said.includes('"progress"') && !said.includes('"error"')) await sleep(1);
  await sleep(random() * LATEST_MS);
  await fetch(`${url}/jobs/${id}`, { method: "DELETE" });
  while (!said.includes('"error"')) await sleep(1);
  if (!said.includes('"status":499')) throw new Error(`the job was not cancelled: ${said.slice(-500)}`);
}
const last = await ask("/", { ...REQUEST, num_inference_steps: 4 });
const { images } = (await last.json()) as { images: { url: string }[] };
console.log(
  JSON.stringify({ cancelled: count, refused, picture: createHash("sha256").update(images[0]!.url).digest("hex") }),
);
await close();
