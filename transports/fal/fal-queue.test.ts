import http from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError, createFalClient } from "@fal-ai/client";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { parseRemoteGeneration } from "../../src/engine/request-parsing.ts";
import { decodePicture } from "../../src/image/decode.ts";
import { createJobs, type JobsOptions } from "../../src/jobs/jobs.ts";
import type { Run } from "../../src/jobs/run.ts";
import { gradient, gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { failureResponse } from "../failure.ts";
import { createAuthenticator, guard } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";
import { type QueueOptions, queue } from "./fal-queue.ts";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

interface Served {
  run?: Run<GenerationRequest, RunEvent>;
  jobs?: JobsOptions<RunEvent>;
  options?: Partial<QueueOptions>;
  app?: Hono;
}

/** A queue on a port, and fal's own client pointed at it. */
async function serving({ run = gradientRun(), jobs, options, app = new Hono() }: Served = {}) {
  const store = createJobs(run, {
    concurrency: 1,
    queuedEvent: (position): RunEvent => ({ type: "queued", position }),
    ...jobs,
  });
  const reported: unknown[] = [];
  app.route(
    "/queue",
    queue(store, { parse: parseRemoteGeneration, onError: (error) => reported.push(error), ...options }),
  );
  const server: Listening = await listen(app, 0, "127.0.0.1");
  closing.push(() => server.close());
  const fal = createFalClient({
    credentials: "key",
    suppressLocalCredentialsWarning: true,
    requestMiddleware: async (request) => ({
      ...request,
      url: request.url.replace("https://queue.fal.run/", `${server.url}/queue/`),
    }),
  });
  return { fal, url: `${server.url}/queue/daguerre/landscapes`, store, reported };
}

const slow =
  (step_ms: number, record?: RunRecord): Run<GenerationRequest, RunEvent> =>
  (input, context) =>
    gradientRun(record)({ ...input, step_ms }, context);
// biome-ignore lint/suspicious/noExplicitAny: the assertions say what it should hold
const json = async (response: Response): Promise<any> => response.json();
const submit = (
  url: string,
  input: object = { prompt: "x" },
  query: string = "",
  headers: Record<string, string> = {},
) => fetch(url + query, { method: "POST", headers, body: JSON.stringify(input) });

describe("fal's client", () => {
  it("subscribes: submits, polls, and gets the result", async () => {
    const { fal } = await serving();
    const seen: string[] = [];
    const { data, requestId } = await fal.subscribe("daguerre/landscapes", {
      input: { prompt: "a hill", output_format: "png", num_inference_steps: 20 },
      logs: true,
      pollInterval: 10,
      onQueueUpdate: (update) => seen.push(`${update.status} ${"logs" in update ? (update.logs?.length ?? 0) : ""}`),
    });
    expect(data).toMatchObject({ seed: 7, prompt: "a hill", request_id: requestId });
    const picture = await decodePicture(Buffer.from(data.image.url.split(",")[1], "base64"));
    expect(picture.rgba).toEqual(gradient(64, 1).rgba);
    expect(seen.some((status) => status.startsWith("IN_PROGRESS"))).toBe(true);
    expect(seen.at(-1)).toBe("COMPLETED 20");
  });

  it("follows the status as a stream, which ends with COMPLETED", async () => {
    const { fal } = await serving({ run: slow(10) });
    const app = "daguerre/landscapes";
    const { request_id: requestId } = await fal.queue.submit(app, { input: { prompt: "x", num_inference_steps: 8 } });
    const stream = await fal.queue.streamStatus(app, { requestId, logs: true, connectionMode: "server" });
    const seen = [];
    for await (const status of stream) seen.push(status);
    expect(seen.at(-1)).toMatchObject({ status: "COMPLETED", request_id: requestId });
    const messages = seen.flatMap((status) => ("logs" in status ? status.logs : [])).map(({ message }) => message);
    expect(messages.at(-1)).toBe("step 8/8");
    expect(await stream.done()).toMatchObject({ status: "COMPLETED" });
  });

  it("cancels, and is told the place in the line", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const { fal } = await serving({ run: slow(20, record) });
    const app = "daguerre/landscapes";
    const input = { prompt: "x", num_inference_steps: 200 };
    const first = await fal.queue.submit(app, { input });
    const second = await fal.queue.submit(app, { input });
    expect(await fal.queue.status(app, { requestId: second.request_id })).toMatchObject({
      status: "IN_QUEUE",
      queue_position: 0,
    });
    await fal.queue.cancel(app, { requestId: first.request_id });
    await until(() => record.ended);
    expect(record.aborted).toBe(true);
    await expect(fal.queue.result(app, { requestId: first.request_id })).rejects.toMatchObject({ status: 499 });
    await expect(fal.queue.cancel(app, { requestId: first.request_id })).rejects.toMatchObject({ status: 400 });
    await fal.queue.cancel(app, { requestId: second.request_id });
  });

  it("cancels by POST, too, which is no new request", async () => {
    const { url, store } = await serving({ run: slow(20) });
    const { request_id, cancel_url } = await json(await submit(url, { prompt: "x", num_inference_steps: 200 }));
    const cancelled = await fetch(cancel_url, { method: "POST" });
    expect([cancelled.status, await json(cancelled)]).toEqual([202, { status: "CANCELLATION_REQUESTED" }]);
    expect(store.list().map(({ id, state }) => [id, state])).toEqual([[request_id, "cancelled"]]);
    expect((await fetch(`${url}/requests/none/cancel`, { method: "POST" })).status).toBe(404);
    expect((await fetch(`${url}/requests/none/else`, { method: "POST", body: "{}" })).status).toBe(405);
  });

  it("gets a failed run's error from the result, and 422 at once for a bad request", async () => {
    const { fal, reported } = await serving({
      run: async function* () {
        yield { type: "progress", step: 1, steps: 2, progress: 0.5, elapsed_ms: 1 };
        throw new Error("/secret/path");
      },
    });
    const app = "daguerre/landscapes";
    const { request_id: requestId } = await fal.queue.submit(app, { input: { prompt: "x" } });
    await sleep(50);
    expect(await fal.queue.status(app, { requestId })).toMatchObject({ status: "COMPLETED", error: "Internal error" });
    const result = fal.queue.result(app, { requestId });
    await expect(result).rejects.toBeInstanceOf(ApiError);
    await expect(result).rejects.toMatchObject({ status: 500, body: { detail: "Internal error" } });
    await expect(fal.queue.submit(app, { input: { prompt: "x", width: 7 } })).rejects.toMatchObject({
      status: 422,
      body: { detail: expect.arrayContaining([expect.objectContaining({ loc: ["body", "width"] })]) },
    });
    expect(reported).toEqual([]);
  });
});

describe("the queue's routes", () => {
  it("answer as documented from submission to result", async () => {
    const { url } = await serving({ run: slow(10) });
    const submitted = await submit(url, { prompt: "x", request_id: "job-1" });
    const addresses = {
      response_url: `${url}/requests/job-1`,
      status_url: `${url}/requests/job-1/status`,
      cancel_url: `${url}/requests/job-1/cancel`,
    };
    expect([submitted.status, await json(submitted)]).toEqual([
      200,
      { status: "IN_QUEUE", request_id: "job-1", queue_position: 0, ...addresses },
    ]);
    const early = await fetch(addresses.response_url);
    expect([early.status, await json(early)]).toEqual([400, { detail: "Request is still in progress" }]);
    const during = await fetch(`${addresses.status_url}?logs=1`);
    expect([during.status, (await json(during)).status]).toEqual([202, "IN_PROGRESS"]);
    let status = during;
    while (status.status === 202) {
      await sleep(20);
      status = await fetch(`${addresses.status_url}?logs=1`);
    }
    const done = await json(status);
    expect(done).toMatchObject({ status: "COMPLETED", metrics: { inference_time: expect.any(Number) } });
    expect(done.logs).toHaveLength(10);
    expect(done.logs[0]).toEqual({
      message: "step 1/10",
      level: "INFO",
      source: "RUNNER",
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    const result = await fetch(addresses.response_url);
    expect(result.headers.get("x-fal-request-id")).toBe("job-1");
    expect(await json(result)).toMatchObject({
      seed: 7,
      request_id: "job-1",
      images: [{ content_type: "image/jpeg" }],
    });
    const late = await fetch(addresses.cancel_url, { method: "PUT" });
    expect([late.status, await json(late)]).toEqual([400, { status: "ALREADY_COMPLETED" }]);
    const missing = await fetch(`${url}/requests/none/cancel`, { method: "PUT" });
    expect([missing.status, await json(missing)]).toEqual([404, { status: "NOT_FOUND" }]);
    expect((await fetch(`${url}/requests/none/status`)).status).toBe(404);
    expect((await fetch(`${url}/requests/none`)).status).toBe(404);
  });

  it("refuse what is over the line's length, with a time to come back", async () => {
    const { url } = await serving({ run: slow(20), jobs: { maxQueued: 1 } });
    const input = { prompt: "x", num_inference_steps: 200 };
    expect((await submit(url, input)).status).toBe(200);
    expect((await submit(url, input)).status).toBe(200);
    const full = await submit(url, input);
    expect(full.status).toBe(503);
    expect(Number(full.headers.get("retry-after"))).toBeGreaterThan(0);
  });

  it("give the same job for the same idempotency key", async () => {
    const { url, store } = await serving();
    const key = { "idempotency-key": "k1" };
    const [first, second] = [
      await json(await submit(url, { prompt: "x" }, "", key)),
      await json(await submit(url, { prompt: "x" }, "", key)),
    ];
    expect(second.request_id).toBe(first.request_id);
    expect(store.list()).toHaveLength(1);
    expect((await submit(url, { prompt: "y" }, "", key)).status).toBe(422);
  });

  it("show a job to nobody but its owner", async () => {
    const app = new Hono();
    const authenticator = createAuthenticator({
      keys: [
        { name: "a", key: "k-a" },
        { name: "b", key: "k-b" },
      ],
    });
    const refuse = (_: unknown, failure: Parameters<typeof failureResponse>[0]) => failureResponse(failure);
    app.use(guard({ authenticator, scopeOf: () => "queue", model: "x", refuse }));
    const { url } = await serving({ app });
    const as = (key: string) => ({ authorization: `Key ${key}` });
    const { request_id, status_url, response_url, cancel_url } = await json(
      await submit(url, { prompt: "x" }, "", as("k-a")),
    );
    for (const address of [status_url, response_url, `${status_url}/stream`]) {
      expect((await fetch(address, { headers: as("k-b") })).status, address).toBe(404);
    }
    expect((await fetch(cancel_url, { method: "PUT", headers: as("k-b") })).status).toBe(404);
    expect((await fetch(status_url, { headers: as("k-a") })).status).toBeLessThan(300);
    expect((await submit(url, { prompt: "y", request_id }, "", as("k-b"))).status).toBe(200);
  });
});

describe("webhooks", () => {
  /** Somebody's server: answers with the given statuses in turn, then 200. */
  async function receiver(...statuses: (number | string)[]) {
    const bodies: unknown[] = [];
    let calls = 0;
    const server = http.createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const status = statuses[calls++] ?? 200;
      if (typeof status === "string") return response.writeHead(307, { Location: status }).end();
      if (status === 200) bodies.push(JSON.parse(Buffer.concat(chunks).toString()));
      response.writeHead(status).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => new Promise((resolve) => server.close(resolve)));
    const { port } = server.address() as AddressInfo;
    return { hook: `http://127.0.0.1:${port}/hook`, bodies, calls: () => calls };
  }
  const allowed = (hook: string) => ({ webhooks: { hosts: [new URL(hook).host], allowPrivate: true } });
  const query = (hook: string) => `?fal_webhook=${encodeURIComponent(hook)}`;

  it("are posted the result, or the failure, and tried again when they fail", async () => {
    const { hook, bodies, calls } = await receiver(500);
    const { url } = await serving({ options: allowed(hook) });
    const { request_id } = await json(await submit(url, { prompt: "x" }, query(hook)));
    await until(() => bodies.length === 1);
    expect(calls()).toBe(2);
    expect(bodies[0]).toEqual({
      request_id,
      gateway_request_id: request_id,
      status: "OK",
      payload: expect.objectContaining({ seed: 7, images: [expect.objectContaining({ content_type: "image/jpeg" })] }),
    });
    const failing = await serving({
      options: allowed(hook),
      run: async function* (): AsyncGenerator<RunEvent> {
        yield { type: "queued", position: 0 };
        throw new Error("/secret");
      },
    });
    await submit(failing.url, { prompt: "x" }, query(hook));
    await until(() => bodies.length === 2);
    expect(bodies[1]).toMatchObject({
      status: "ERROR",
      error: "Internal error",
      payload: { detail: "Internal error" },
    });
  });

  it("are refused at submission unless their host is listed", async () => {
    const { url, store } = await serving({
      options: { webhooks: { hosts: ["hooks.example", "*.wide.example"], allowPrivate: false } },
    });
    for (const hook of [
      "https://other.example/",
      "https://hooks.example.evil/",
      "https://nothooks.example/",
      "https://wide.example/",
      "http://hooks.example/",
      "https://user:word@hooks.example/",
      "https://hooks.example:8443/",
      "https://127.0.0.1/",
      "ftp://hooks.example/",
      "nonsense",
    ]) {
      const answer = await submit(url, { prompt: "x" }, query(hook));
      expect(answer.status, hook).toBe(422);
      expect((await json(answer)).detail[0].loc.at(-1)).toBe("fal_webhook");
    }
    expect(store.list()).toHaveLength(0);
    const none = await serving();
    expect((await submit(none.url, { prompt: "x" }, query("https://hooks.example/"))).status).toBe(422);
  });
});
