/**
 * Answers that nobody reads: to a HEAD, and those that something between a handler and its client has thrown away. They
 * hold no job and no memory, on every route that streams.
 */
import http from "node:http";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { type Account, createAccount } from "../../src/jobs/account.ts";
import { gradient, gradientRun, until } from "../../test/gradient-run.ts";
import { seenJobs } from "../../test/seen-jobs.ts";
import { type App, createApp } from "../app.ts";
import { type Listening, listen } from "../http/listen.ts";
import { sse } from "./sse.ts";

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 1 };

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

/** A server with every route; a step takes 20 ms, and a picture with the prompt "large" has 512 pixels a side. */
async function serving(around: (app: App) => Pick<Hono, "fetch"> = (app) => app) {
  const { metrics, jobs } = seenJobs();
  const account = createAccount();
  const app = createApp({
    run: (input, context) =>
      gradientRun()({ ...input, step_ms: 20, side: input.prompt === "large" ? 512 : 64 }, context),
    health: () => ({}),
    model: MODEL,
    account,
    jobs: { concurrency: 20 },
    metrics,
  });
  const server = await listen(around(app), 0, "127.0.0.1");
  open.push(server);
  return { url: server.url, app, jobs, account };
}

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
}

function head(url: string, headers: http.OutgoingHttpHeaders = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "HEAD", headers }, (response) => {
      response.resume();
      response.once("end", () => resolve({ status: response.statusCode!, headers: response.headers }));
    });
    request.on("error", reject).end();
  });
}

/** A client that follows a new job from the first event on, until it leaves. */
async function follow(url: string, body: object): Promise<() => void> {
  const client = new AbortController();
  const response = await fetch(`${url}/stream`, { method: "POST", body: JSON.stringify(body), signal: client.signal });
  await response.body!.getReader().read();
  return () => client.abort();
}

/** The routes that stream to a GET, as they describe themselves. */
function streamsOfGet(app: App): string[] {
  return app.routeTable.descriptions
    .filter(({ method, about }) => method === "GET" && about.answers[200]?.type === "text/event-stream")
    .map(({ path }) => path);
}

describe("a HEAD of a stream", () => {
  it("has the headers of the stream and watches nothing, on every route", async () => {
    const { url, app, jobs } = await serving();
    const routes = streamsOfGet(app);
    expect(routes.length).toBeGreaterThanOrEqual(3);
    for (const [index, route] of routes.entries()) {
      const id = `job-${index}`;
      const leave = await follow(url, { prompt: "x", num_inference_steps: 200, request_id: id });
      const job = jobs.find((one) => one.id === id)!;
      const path = route.replace(/\{(job|id)\}/, id).replace("{app}", "a/b");
      for (const address of [path, `${path}?logs=1&prompt=x`]) {
        if (route === "/stream" && address === path) continue;
        const { status, headers } = await head(url + address);
        expect([route, status, headers["content-type"]]).toEqual([route, 200, "text/event-stream"]);
        expect(headers["cache-control"]).toBe("no-cache, no-transform");
      }
      expect(job.log.readers).toBe(1);
      leave();
      await until(() => job.endedAt !== undefined, 2_000);
      expect(job.state).toBe("cancelled");
    }
    expect(jobs).toHaveLength(routes.length);
  });

  it("begins no job, and checks what a GET would", async () => {
    const { url, jobs } = await serving();
    expect((await head(`${url}/stream?prompt=x`)).status).toBe(200);
    expect((await head(`${url}/stream?prompt=x&width=7`)).status).toBe(422);
    expect((await head(`${url}/stream?prompt=x`, { "last-event-id": "gone:3" })).status).toBe(204);
    expect((await head(`${url}/stream/none`)).status).toBe(404);
    expect(jobs).toHaveLength(0);
  });

  it("does not make a job wait that nobody watches: its grace period goes on", async () => {
    const { url, jobs } = await serving();
    const client = new AbortController();
    const body = JSON.stringify({ prompt: "x", num_inference_steps: 200, request_id: "a" });
    const answer = await fetch(`${url}/stream?resume_grace_s=0.6`, { method: "POST", body, signal: client.signal });
    await answer.body!.getReader().read();
    client.abort();
    const until = performance.now() + 3_000;
    while (jobs[0]!.endedAt === undefined && performance.now() < until) await head(`${url}/stream/a`);
    expect(jobs[0]!.state).toBe("cancelled");
  });

  it("takes no memory, also where the answer to a GET is large", async () => {
    const { url, jobs, account } = await serving();
    const body = JSON.stringify({ prompt: "large", num_inference_steps: 1, request_id: "big", output_format: "png" });
    await fetch(`${url}/queue/a/b`, { method: "POST", body });
    await jobs[0]!.ended;
    const { headers } = await head(`${url}/queue/a/b/requests/big`);
    expect(Number(headers["content-length"])).toBeGreaterThan(64 * 1024);
    await until(() => answersOf(account) === 0, 2_000);
    const whole = await (await fetch(`${url}/queue/a/b/requests/big`)).text();
    expect(Buffer.byteLength(whole)).toBe(Number(headers["content-length"]));
  });
});

function answersOf(account: Account): number {
  return account.bytes("answers");
}

describe("an answer that was thrown away", () => {
  /** Asks the app, and answers with something else. */
  const replacing = (app: App) =>
    new Hono().all("*", async (c) => {
      const answer = await app.fetch(c.req.raw, c.env);
      return answer.body === null || c.req.header("x-replace") === undefined ? answer : c.text("something else");
    });

  const STREAMS: [string, string, object | undefined][] = [
    ["/stream", "POST", { prompt: "x", num_inference_steps: 200 }],
    ["/stream?prompt=x&num_inference_steps=200", "GET", undefined],
    ["/v1/images/generations", "POST", { prompt: "x", stream: true, partial_images: 3 }],
  ];

  it.each(STREAMS)("of %s (%s) holds no job", async (path, method, body) => {
    const { url, jobs } = await serving(replacing);
    const answer = await fetch(url + path, {
      method,
      body: body && JSON.stringify(body),
      headers: { "x-replace": "yes" },
    });
    expect(await answer.text()).toBe("something else");
    await until(() => jobs[0]?.log.readers === 0, 2_000);
    await until(() => jobs[0]!.endedAt !== undefined, 2_000);
    expect(jobs[0]!.state).toBe("cancelled");
  });

  it.each(["/stream/a", "/queue/a/b/requests/a/status/stream"])("of %s leaves the job to others", async (path) => {
    const { url, jobs } = await serving(replacing);
    const leave = await follow(url, { prompt: "x", num_inference_steps: 200, request_id: "a" });
    await (await fetch(url + path, { headers: { "x-replace": "yes" } })).text();
    await until(() => jobs[0]!.log.readers === 1, 2_000);
    leave();
    await until(() => jobs[0]!.state === "cancelled", 2_000);
  });

  it("of bytes gives its memory back", async () => {
    const { url, jobs, account } = await serving(replacing);
    const body = JSON.stringify({ prompt: "large", num_inference_steps: 1, request_id: "big", output_format: "png" });
    await fetch(`${url}/queue/a/b`, { method: "POST", body });
    await jobs[0]!.ended;
    await (await fetch(`${url}/queue/a/b/requests/big`, { headers: { "x-replace": "yes" } })).text();
    await until(() => answersOf(account) === 0, 2_000);
  });

  it("of a run of one's own over HTTP/1 ends the run", async () => {
    let aborted = false;
    const app = new Hono();
    const handler = sse(async function* (_: unknown, { signal }) {
      signal.addEventListener("abort", () => {
        aborted = true;
      });
      for (let n = 0; !signal.aborted; n++) yield { type: "preview", picture: gradient(8, 1), n };
    });
    app.post("/", async (c) => {
      await handler(c);
      return c.text("no");
    });
    const server = await listen(app, 0, "127.0.0.1");
    open.push(server);
    expect(await (await fetch(server.url, { method: "POST", body: "{}" })).text()).toBe("no");
    await until(() => aborted, 2_000);
  });
});
