/** `worker()`: what crosses between threads, seen over HTTP, and what becomes of threads that hang. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Hono } from "hono";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { until } from "../../test/gradient-run.ts";
import { type Listening, listen } from "../../transports/http/listen.ts";
import { sse } from "../../transports/stream/sse.ts";
import { createJobs, type Job } from "../jobs/jobs.ts";
import type { Run } from "../jobs/run.ts";
import { type WorkerOptions, worker } from "./worker.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the module of a test takes and gives
type Fields = any;

const folder = mkdtempSync(join(tmpdir(), "daguerre-thread-"));
const open: Listening[] = [];
afterEach(() => Promise.all(open.splice(0).map((server) => server.close())));
afterAll(() => rmSync(folder, { recursive: true }));

/** A native addon that is small and installed with us. */
const native = createRequire(import.meta.url).resolve("bufferutil");
const file = join(folder, "run.mjs");
writeFileSync(
  file,
  `
  import { createRequire } from "node:module";
  import { threadId } from "node:worker_threads";
  const error = (fields) => Object.assign(new Error(fields.message), fields);
  const FAULTS = {
    request: () => error({
      name: "RequestError", code: "invalid-request", status: 422, message: "steps: too many", field: "steps",
      issues: [{ path: ["steps"], message: "too many", type: "less_than" }],
    }),
    job: () => error({ name: "JobError", code: "queue-full", status: 503, message: "full", retryAfter: 7 }),
    picture: () => error({
      name: "ImageError", code: "image-damaged", status: 422, message: "damaged", field: "image",
      issues: [{ path: ["image"], message: "damaged", type: "image-damaged" }],
    }),
    own: () => error({ status: 409, message: "too bright" }),
    late: () => new DOMException("x", "TimeoutError"),
    secret: () => error({ message: "ENOENT: /home/me/secret", code: "ENOENT", path: "/home/me/secret" }),
    odd: () => error({ status: 409, message: "odd", field: () => {}, issues: [() => {}] }),
    nothing: () => undefined,
  };
  export async function* fails({ how }) { throw FAULTS[how](); }
  export async function* reads(_, { updates }) {
    for await (const { prompt, last } of updates) {
      yield { type: "item", prompt };
      if (last) break;
    }
    yield { type: "result" };
  }
  export async function* wants({ n = 4 }, context) {
    for (let i = 0; i < n; i++) yield { type: "item", wants: context.wants("preview") };
  }
  export function* blocks({ ms = 0, load }) {
    if (load) createRequire(import.meta.url)(${JSON.stringify(native)});
    yield { type: "item", threadId };
    const end = Date.now() + ms;
    while (Date.now() < end);
  }`,
);
const module = pathToFileURL(file);
const context = (signal = new AbortController().signal) => ({ signal, requestId: "x" });

async function serving(name: string): Promise<string> {
  const jobs = createJobs(worker<Fields, Fields>(module, { name }));
  const app = new Hono();
  app.post("/stream", sse(jobs, { headersWithinMs: 10_000, parse: (raw) => raw as Fields }));
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return server.url;
}

const post = (url: string, input: object) => fetch(`${url}/stream`, { method: "POST", body: JSON.stringify(input) });

async function all(events: AsyncIterable<Fields>): Promise<Fields[]> {
  const list: Fields[] = [];
  for await (const event of events) list.push(event);
  return list;
}

it.each([
  ["request", 422, [{ loc: ["body", "steps"], msg: "too many", type: "less_than" }]],
  ["picture", 422, [{ loc: ["body", "image"], msg: "damaged", type: "image-damaged" }]],
  ["job", 503, "full"],
  ["own", 409, "too bright"],
  ["late", 504, "Timed out"],
  ["secret", 500, "Internal error"],
  ["odd", 409, "odd"],
  ["nothing", 500, "Internal error"],
])("a fault in a thread is answered as one here: %s", async (how, status, detail) => {
  const answer = await post(await serving("fails"), { how });
  expect(answer.status).toBe(status);
  expect(await answer.json()).toEqual({ detail });
  expect(answer.headers.get("retry-after")).toBe(how === "job" ? "7" : null);
});

it("a fault arrives with its own fields and no other; another error with what a log needs", async () => {
  const run = worker<Fields, Fields>(module, { name: "fails" });
  const fault = await all(run({ how: "request" }, context())).catch((error) => error);
  expect(fault).toMatchObject({ code: "invalid-request", status: 422, field: "steps", message: "steps: too many" });
  const secret = await all(run({ how: "secret" }, context())).catch((error) => error);
  expect(secret.message).toBe("ENOENT: /home/me/secret");
  expect(Object.keys(secret)).not.toContain("path");
  expect(secret.stack).toContain("run.mjs");
});

it("hands changes to a run that reads them, and refuses them to one that does not", async () => {
  const jobs = createJobs(worker<Fields, Fields>(module, { name: "reads", idle: 1 }));
  const mayChange = (job: Job<Fields, Fields>, change: object) => {
    try {
      return job.update(change as Fields);
    } catch (error) {
      expect(error).toMatchObject({ code: "not-updatable", status: 409 });
      return false;
    }
  };
  const prompts = (job: Job<Fields, Fields>) =>
    job.log.entries.flatMap((entry) => ("event" in entry ? (entry.event.prompt ?? []) : []));
  // The second run is in the thread of the first.
  for (let time = 0; time < 2; time++) {
    const job = jobs.submit({}, { detached: true });
    await until(() => mayChange(job, { prompt: "a" }));
    await until(() => prompts(job).length === 1);
    expect(mayChange(job, { prompt: "b" })).toBe(true);
    await until(() => prompts(job).length === 2);
    expect(mayChange(job, { prompt: "c", last: true })).toBe(true);
    await job.ended;
    expect([job.state, ...prompts(job)]).toEqual(["completed", "a", "b", "c"]);
  }
  const deaf = createJobs(worker<Fields, Fields>(module, { name: "blocks" }));
  const job = deaf.submit({ ms: 500 }, { detached: true });
  await sleep(200);
  expect(mayChange(job, { prompt: "a" })).toBe(false);
  await job.ended;
});

it("asks with each event whether previews are wanted", async () => {
  let isWanted = true;
  const run = worker<Fields, Fields>(module, { name: "wants" });
  const answers: boolean[] = [];
  for await (const event of run({}, { ...context(), wants: () => isWanted })) {
    answers.push(event.wants);
    isWanted = !isWanted;
  }
  expect(answers).toEqual([true, false, true, false]);
});

describe("a thread that does not come to its next event in time", () => {
  const options: WorkerOptions = { name: "blocks", graceMs: 50, maxAbandoned: 1 };

  /** Cancels a run while it blocks its thread, and gives the milliseconds until it was over here. */
  async function cancelled(run: Run<Fields, Fields>, input: object): Promise<number> {
    const stop = new AbortController();
    const events = run(input, context(stop.signal))[Symbol.asyncIterator]();
    await events.next();
    const blocked = events.next();
    const began = performance.now();
    stop.abort();
    await expect(blocked).rejects.toMatchObject({ name: "AbortError" });
    return performance.now() - began;
  }

  it("is abandoned if it has loaded native code, and serves again when it comes back", async () => {
    const run = worker<Fields, Fields>(module, options);
    const [{ threadId }] = await all(run({}, context()));
    expect(await cancelled(run, { ms: 5_000, load: true })).toBeLessThan(3_000);
    // One may be abandoned, not two.
    await expect(all(run({}, context()))).rejects.toMatchObject({ code: "host-hung", status: 503, retryAfter: 5 });
    const isBack = () => all(run({}, context())).catch(() => undefined);
    let events: Fields[] | undefined;
    await until(async () => (events = await isBack()) !== undefined, 30_000);
    expect(events).toEqual([{ type: "item", threadId }]);
  });

  it("is terminated if it has not", async () => {
    const run = worker<Fields, Fields>(module, options);
    const [{ threadId }] = await all(run({}, context()));
    expect(await cancelled(run, { ms: 60_000 })).toBeLessThan(10_000);
    const [next] = await all(run({}, context()));
    expect(next.threadId).not.toBe(threadId);
  });

  it("serves the next run if it came in time", async () => {
    const run = worker<Fields, Fields>(module, { ...options, graceMs: 5_000 });
    const [{ threadId }] = await all(run({}, context()));
    await cancelled(run, { ms: 600 });
    expect(await all(run({}, context()))).toEqual([{ type: "item", threadId }]);
  });
});

it("a process lives while a thread of it runs, and ends when its threads are idle", async () => {
  const [program, runs] = [join(folder, "program.mjs"), join(folder, "loaders.mjs")];
  writeFileSync(runs, `import { register } from ${JSON.stringify(import.meta.resolve("tsx/esm/api"))}; register();`);
  writeFileSync(
    program,
    `const { worker } = await import(${JSON.stringify(new URL("./worker.ts", import.meta.url).href)});
    const context = { signal: new AbortController().signal, requestId: "x" };
    const run = worker(${JSON.stringify(file)}, { name: "blocks" });
    for await (const event of run({ ms: 300 }, context)) console.log(event.type);
    console.log("end");`,
  );
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", runs, program], { timeout: 60_000 });
  expect(stdout).toBe("item\nend\n");
});

it("a thread too many leaves when its run is over", async () => {
  const run = worker<Fields, Fields>(module, { name: "blocks", idle: 0 });
  const ids = [await all(run({}, context())), await all(run({}, context()))].map(([{ threadId }]) => threadId);
  expect(ids[0]).not.toBe(ids[1]);
});
