/** Rules of every stream over HTTP, whichever protocol it speaks. */
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { parseRemoteGeneration } from "../../src/engine/request-parsing.ts";
import { slotOf } from "../../src/jobs/job-store.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { Run } from "../../src/jobs/run.ts";
import { gradient, gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { queue } from "../fal/fal-queue.ts";
import { type Listening, listen } from "../http/listen.ts";
import { openaiImages } from "../openai/images.ts";
import type { StreamOptions } from "./job-stream.ts";
import { sse } from "./sse.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10 };

function appOf(run: Run<GenerationRequest, RunEvent>, options: StreamOptions) {
  const jobs = createJobs(run);
  const app = new Hono();
  const parse = parseRemoteGeneration;
  app.post("/stream", sse(jobs, { parse, ...options }));
  app.route("/v1", openaiImages(jobs, { model: MODEL, countTokens: () => 1, ...options }));
  app.route("/queue", queue(jobs, { parse, ...options }));
  return { app, jobs };
}

type Ask = (app: Hono) => Promise<Response>;
const post = (app: Hono, path: string, body: object) =>
  app.request(path, { method: "POST", body: JSON.stringify(body) });

/** How the stream of a job is asked for in each protocol. */
const PROTOCOLS: readonly [name: string, ask: Ask][] = [
  ["server-sent events", async (app) => post(app, "/stream", { prompt: "x" })],
  ["OpenAI's", async (app) => post(app, "/v1/images/generations", { prompt: "x", stream: true, partial_images: 3 })],
  [
    "fal's queue",
    async (app) => {
      await post(app, "/queue/a/b", { prompt: "x", request_id: "mine" });
      return app.request("/queue/a/b/requests/mine/status/stream?logs=1");
    },
  ],
];

describe.each(PROTOCOLS)("a stream of %s", (name, ask) => {
  it("says something in a long silence", async () => {
    const { app } = appOf(
      async function* () {
        yield { type: "progress", step: 1, steps: 2, progress: 0.5, elapsed_ms: 1 };
        await sleep(250);
        yield { type: "result", pictures: [gradient(8, 1)], seed: 7, prompt: "x", timings: {} };
      },
      { heartbeatMs: 20 },
    );
    const text = await (await ask(app)).text();
    const pings = text.match(/^: ping$/gm)?.length ?? 0;
    expect(pings).toBeGreaterThan(3);
    expect(pings).toBeLessThan(15);
    // A comment within a block would be a part of it: each stands between two.
    expect(text.replaceAll(": ping\n", "")).toMatch(/^(([a-z]+: .*\n)+\n)+$/);
  });

  it("tells how far kernels are where its protocol has a word for it, and nothing that its clients do not know", async () => {
    const { app, jobs } = appOf(async function* () {
      for (let done = 0; done < 40; done++) yield { type: "preparing", what: "kernels", done, total: 40 };
      await sleep(20);
      yield { type: "result", pictures: [gradient(8, 1)], seed: 7, prompt: "x", timings: {} };
    }, {});
    const text = await (await ask(app)).text();
    const [job] = jobs.list();
    const told = [...text.matchAll(/"done":(\d+),"total":40/g)].map(([, done]) => Number(done));
    if (name === "server-sent events") {
      expect(text).toContain(`{"type":"preparing","what":"kernels","done":39,"total":40,"request_id":"${job!.id}"}`);
      expect(told).toEqual([...new Set(told)].sort((one, other) => one - other));
    } else expect(text).not.toMatch(/preparing|kernels/);
    expect(text).toMatch(/"type":"(result|image_generation.completed)"|COMPLETED/);
    expect(slotOf({ type: "preparing" })).toBe("preparing"); // a reader that is behind gets the newest alone
  });

  it("is cut off when its client stops reading, and leaves its job", async () => {
    let preview = 0;
    const { app, jobs } = appOf(
      async function* (_, { signal }) {
        while (!signal.aborted) {
          const progress = ++preview / 1e6;
          yield { type: "progress", step: preview, steps: 1e6, progress, elapsed_ms: preview };
          yield { type: "preview", picture: gradient(8, 1), step: preview, steps: 1e6, progress, decoder: "linear" };
          await sleep(5);
        }
      },
      { stalledAfterMs: 150 },
    );
    const response = await ask(app);
    const reader = response.body!.getReader();
    expect((await reader.read()).done).toBe(false);
    const [job] = jobs.list();
    expect(job!.log.readers).toBe(1);
    await sleep(75);
    expect(job!.log.readers).toBe(1);
    await until(() => job!.log.readers === 0, 5_000);
    // It is not a clean end.
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toThrow();
    // A job of the queue goes on without anybody who looks.
    expect(job!.endedAt === undefined).toBe(name === "fal's queue");
    job!.cancel();
  });

  it("leaves its job when its client does", async () => {
    const { app, jobs } = appOf(
      (input, context) => gradientRun()({ ...input, num_inference_steps: 1_000, step_ms: 5 }, context),
      {},
    );
    const response = await ask(app);
    const reader = response.body!.getReader();
    await reader.read();
    await reader.cancel();
    const [job] = jobs.list();
    await until(() => job!.log.readers === 0);
    job!.cancel();
  });
});

it("a client of OpenAI's that never reads its picture is cut off at the socket", async () => {
  const record: RunRecord = { steps: 0, ended: false, aborted: false };
  const { app, jobs } = appOf(
    (input, context) => gradientRun(record)({ ...input, num_inference_steps: 1, side: 2048 }, context),
    { stalledAfterMs: 300 },
  );
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const request = http.request(`${server.url}/v1/images/generations`, { method: "POST" }, resolve);
    request.on("error", reject);
    request.end(JSON.stringify({ prompt: "x", stream: true }));
  });
  response.pause();
  await until(() => jobs.list()[0]?.log.readers === 0, 20_000);
  const failure = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    response.once("error", resolve).once("end", () => resolve(undefined));
    response.resume();
  });
  expect(failure?.code).toBe("ECONNRESET");
});
