import http from "node:http";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { decode } from "@msgpack/msgpack";
import { createParser } from "eventsource-parser";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createJobs, type JobsOptions } from "../../src/jobs/jobs.ts";
import type { AnyRun } from "../../src/jobs/run.ts";
import { eventNumber, type GradientInput, gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { type Listening, listen } from "../http/listen.ts";
import { cancelJob, jobStatus, updateJob } from "../job-routes.ts";
import { realtime } from "../realtime/websocket.ts";
import { resume, sse } from "./sse.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the message holds; the assertions say what it should
type Fields = any;

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function serving<Event>(run: AnyRun<GradientInput, Event>, options: JobsOptions<Event> = {}) {
  const jobs = createJobs(run, options);
  const app = new Hono();
  app.on(["GET", "POST"], "/stream", sse(jobs, { parse: (raw) => raw as GradientInput }));
  app.get("/stream/:job", resume(jobs));
  app.get("/jobs/:job", jobStatus(jobs));
  app.delete("/jobs/:job", cancelJob(jobs));
  app.patch("/jobs/:job", updateJob(jobs, {}));
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return server.url;
}

interface Read {
  readonly events: { id: number; data: string }[];
  readonly status: number;
  /** True if the answer came to its own end. */
  readonly whole: boolean;
}

/** Reads a stream with node:http; breaks it off after `cutAfter` bytes of the body. */
function read(url: string, init: { body?: string; after?: number; cutAfter?: number } = {}): Promise<Read> {
  const { body, after, cutAfter = Number.POSITIVE_INFINITY } = init;
  return new Promise((resolve, reject) => {
    const headers = after === undefined ? {} : { "last-event-id": String(after) };
    const request = http.request(url, { method: body === undefined ? "GET" : "POST", agent: false, headers });
    request.on("error", reject);
    request.on("response", (response) => {
      const events: Read["events"] = [];
      const parser = createParser({ onEvent: ({ id, data }) => events.push({ id: eventNumber(id), data }) });
      const decoder = new TextDecoder();
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        const part = chunk.subarray(0, Math.max(0, cutAfter - bytes));
        bytes += chunk.length;
        parser.feed(decoder.decode(part, { stream: true }));
        if (bytes >= cutAfter) request.destroy();
      });
      response.on("error", () => {});
      response.on("close", () =>
        resolve({ events, status: response.statusCode!, whole: response.complete && bytes < cutAfter }),
      );
    });
    request.end(body);
  });
}

/** Connections that the longest test breaks, at least. */
const CUTS = Number(process.env.CUTS ?? 500);

/** Numbers that are the same in every run: the minimal standard generator of Park and Miller. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff;
}

/** Follows a job over connections that are cut at random, until it ends. */
async function stitched(url: string, id: string, random: () => number, longest: number, body: string) {
  const events: Read["events"] = [];
  let cuts = 0;
  for (let last: number | undefined; ; last = events.at(-1)?.id ?? 0) {
    const cutAfter = Math.floor(random() * longest);
    const part =
      last === undefined
        ? await read(`${url}/stream?resume_grace_s=20`, { body, cutAfter })
        : await read(`${url}/stream/${id}`, { after: last, cutAfter });
    events.push(...part.events);
    if (part.status === 204 || part.whole) return { events, cuts };
    cuts++;
  }
}

describe("streams cut at random", () => {
  it("are the uninterrupted one, event by event, over 500 cuts and more", async () => {
    const random = randomNumbers(1);
    const url = await serving(async function* ({ prompt }: GradientInput) {
      for (let n = 1; n <= 60; n++) {
        if (n % 7 === 0) await sleep(1);
        yield { type: "item", n, text: `${prompt} ${"é灯".repeat(n * 3)}` };
      }
      yield { type: "result", text: "end" };
    });
    let cuts = 0;
    for (let round = 0; cuts < CUTS; round++) {
      const id = `job-${round}`;
      const body = JSON.stringify({ prompt: "x", request_id: id });
      const broken = await stitched(url, id, random, 4_000, body);
      cuts += broken.cuts;
      const whole = await read(`${url}/stream/${id}?after=0`);
      expect(whole.whole).toBe(true);
      expect(whole.events.map((event) => event.id)).toEqual(Array.from({ length: 61 }, (_, index) => index + 1));
      expect(broken.events).toEqual(whole.events);
    }
  });

  it("of pictures miss nothing but replaced previews and progress, and repeat nothing", async () => {
    const random = randomNumbers(2);
    const url = await serving(gradientRun());
    for (let round = 0; round < 12; round++) {
      const id = `job-${round}`;
      const input = { prompt: "x", request_id: id, num_inference_steps: 20, preview_every: 2, step_ms: 3 };
      const broken = await stitched(url, id, random, 20_000, JSON.stringify(input));
      const whole = await read(`${url}/stream/${id}?after=0`);
      const byId = new Map(whole.events.map((event) => [event.id, event.data]));
      const ids = broken.events.map((event) => event.id);
      expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
      for (const event of broken.events) expect(event.data).toBe(byId.get(event.id));
      const seen = new Set(ids);
      for (const { id: missing, data } of whole.events) {
        if (!seen.has(missing)) expect(JSON.parse(data).type).toMatch(/^(queued|progress|preview)$/);
      }
      expect(JSON.parse(broken.events.at(-1)!.data).type).toBe("result");
    }
  });
});

/** A network that breaks: a connection through it ends for both sides after so many bytes have come from the server. */
async function breaking(port: number) {
  let cutAfter = Number.POSITIVE_INFINITY;
  const proxy = net.createServer((client) => {
    const server = net.connect(port, "127.0.0.1");
    const both = () => {
      client.destroy();
      server.destroy();
    };
    for (const side of [client, server]) side.on("error", () => {}).on("close", both);
    let left = cutAfter;
    client.on("data", (chunk) => server.write(chunk));
    server.on("data", (chunk) => {
      client.write(chunk.subarray(0, Math.max(0, left)), () => left <= 0 && both());
      left -= chunk.length;
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    port: (proxy.address() as net.AddressInfo).port,
    cut: (bytes: number) => {
      cutAfter = bytes;
    },
    close: () => new Promise((resolve) => proxy.close(resolve)),
  };
}

/** One connection of a session: what comes over it until the result, or until it breaks off. */
function connection(port: number, query: string, onSession: (control: Fields, ws: WebSocket) => void) {
  const messages: Fields[] = [];
  const ws = new WebSocket(`ws://127.0.0.1:${port}/realtime${query}`);
  ws.on("error", () => {});
  ws.on("message", (data: Buffer, binary) => {
    const message = binary ? decode(data) : JSON.parse(data.toString());
    if (binary) messages.push(message);
    else if (message.action === "session") onSession(message, ws);
    if (message.type === "result") ws.close();
  });
  return new Promise<Fields[]>((resolve) => ws.on("close", () => resolve(messages)));
}

describe("sessions cut at random", () => {
  it("get what an uninterrupted one gets, output by output, over 500 cuts and more", async () => {
    const random = randomNumbers(3);
    const run = async function* ({ prompt }: GradientInput) {
      for (let n = 1; n <= 60; n++) {
        if (n % 7 === 0) await sleep(1);
        yield { type: "item", n, text: `${prompt} ${"é灯".repeat(n * 3)}` };
      }
      yield { type: "result", text: "end" };
    };
    const app = new Hono();
    app.get("/realtime", realtime(run));
    const server = await listen(app, 0, "127.0.0.1");
    open.push(server);
    const network = await breaking(server.port);
    const ask = (ws: WebSocket) => ws.send(JSON.stringify({ prompt: "x", request_id: "r" }));
    const whole = await connection(server.port, "", (_, ws) => ask(ws));
    expect(whole.map(({ event_id }) => event_id)).toEqual(Array.from({ length: 61 }, (_, index) => index + 1));
    let cuts = 0;
    while (cuts < CUTS) {
      const messages: Fields[] = [];
      let session = "";
      while (messages.at(-1)?.type !== "result") {
        const last = messages.at(-1)?.event_id ?? 0;
        const query = session === "" ? "" : `?session=${session}&after=r:${last}`;
        network.cut(1 + Math.floor(random() * 8_000));
        const part = await connection(network.port, query, (control, ws) => {
          expect(control).toMatchObject({ resumed: session !== "" });
          session = control.session;
          // It may have been cut off before it was heard.
          if (!control.requests.includes("r")) ask(ws);
        });
        messages.push(...part);
        if (messages.at(-1)?.type !== "result") cuts++;
      }
      expect(messages).toEqual(whole);
    }
    await network.close();
  });
});

describe("GET /stream/{job}", () => {
  it("is 204 when all was seen, 410 when the log is gone, 404 for no job, 400 for a place that is none", async () => {
    const url = await serving(gradientRun(), { retentionMs: 2_000 });
    const { events } = await read(`${url}/stream`, { body: '{"prompt":"x","request_id":"a"}' });
    const last = events.at(-1)!.id;
    expect((await read(`${url}/stream/a`, { after: last })).status).toBe(204);
    expect((await read(`${url}/stream/a`, { after: last + 1 })).status).toBe(400);
    expect((await read(`${url}/stream/a?after=some`)).status).toBe(400);
    expect((await read(`${url}/stream/b`)).status).toBe(404);
    expect((await read(`${url}/stream/a`, { after: last - 1 })).events).toEqual([events.at(-1)]);
    await sleep(2_200);
    expect((await read(`${url}/stream/a`, { after: 1 })).status).toBe(410);
  });

  it("lets any number follow one job, and gives each the same bytes", async () => {
    const url = await serving(async function* (_: GradientInput) {
      for (let n = 1; n <= 20; n++) {
        await sleep(5);
        yield { type: "item", n };
      }
    });
    const first = read(`${url}/stream`, { body: '{"prompt":"x","request_id":"a"}' });
    await sleep(30);
    const others = await Promise.all(Array.from({ length: 20 }, () => read(`${url}/stream/a`)));
    const { events } = await first;
    expect(events).toHaveLength(20);
    for (const other of others) expect(other.events).toEqual(events);
  });

  it("takes an EventSource up again that named its job, at the same address", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const url = await serving((input: GradientInput, context) =>
      gradientRun(record)({ ...input, step_ms: 10, num_inference_steps: 30 }, context),
    );
    const address = `${url}/stream?prompt=x&request_id=mine`;
    const broken = await read(address, { cutAfter: 600 });
    await sleep(50);
    expect(record.aborted).toBe(false);
    const rest = await read(address, { after: broken.events.at(-1)!.id });
    expect(rest.whole).toBe(true);
    expect(rest.events[0]!.id).toBe(broken.events.at(-1)!.id + 1);
    expect((await read(address, { after: rest.events.at(-1)!.id })).status).toBe(204);
  });
});

describe("jobs over HTTP", () => {
  it("are cancelled, once", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const url = await serving(gradientRun(record));
    const body = JSON.stringify({ prompt: "x", request_id: "a", num_inference_steps: 1000, step_ms: 10 });
    const stream = read(`${url}/stream`, { body });
    await until(() => record.steps > 1);
    const first = await fetch(`${url}/jobs/a`, { method: "DELETE" });
    expect([first.status, await first.json()]).toEqual([202, { status: "CANCELLATION_REQUESTED" }]);
    const second = await fetch(`${url}/jobs/a`, { method: "DELETE" });
    expect([second.status, await second.json()]).toMatchObject([400, { status: "ALREADY_COMPLETED" }]);
    expect((await fetch(`${url}/jobs/b`, { method: "DELETE" })).status).toBe(404);
    const { events, whole } = await stream;
    expect(whole).toBe(false);
    expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ type: "error", status: 499 });
    expect(await (await fetch(`${url}/jobs/a`)).json()).toMatchObject({ request_id: "a", state: "cancelled" });
    await until(() => record.ended);
  });

  it("are changed while they wait or while their run reads changes; 409 for another run", async () => {
    const prompts: string[] = [];
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const run: AnyRun<GradientInput, { type: string }> = async function* ({ prompt }, { updates }) {
      prompts.push(prompt);
      if (prompt === "reads") {
        for await (const change of updates!) {
          prompts.push(String(change.prompt));
          break;
        }
      } else await released;
      yield { type: "result" };
    };
    const url = await serving(run, { concurrency: 1 });
    const ask = (id: string, prompt: string) => {
      const body = JSON.stringify({ prompt, request_id: id });
      return fetch(`${url}/stream?detached=true`, { method: "POST", body });
    };
    const change = async (id: string, prompt: string) => {
      const answer = await fetch(`${url}/jobs/${id}`, { method: "PATCH", body: JSON.stringify({ prompt }) });
      return { status: answer.status, body: await answer.json() };
    };
    const streams = [await ask("deaf", "runs"), await ask("waits", "waits"), await ask("reads", "waits too")];
    expect(await change("deaf", "y")).toEqual({
      status: 409,
      body: { status: "NOT_UPDATABLE", detail: "This job runs already and takes no changes" },
    });
    expect(await change("waits", "changed")).toMatchObject({ status: 202, body: { status: "UPDATE_REQUESTED" } });
    expect(await change("reads", "reads")).toMatchObject({ status: 202 });
    release();
    await until(() => prompts.includes("reads"));
    expect(await change("reads", "read")).toMatchObject({ status: 202 });
    for (const stream of streams) await stream.text();
    expect(prompts).toEqual(["runs", "changed", "reads", "read"]);
    expect(await change("reads", "late")).toMatchObject({ status: 400, body: { status: "ALREADY_COMPLETED" } });
  });

  it("go on detached when nobody watches", async () => {
    const url = await serving(gradientRun());
    const body = JSON.stringify({ prompt: "x", request_id: "a", num_inference_steps: 20, step_ms: 5 });
    await read(`${url}/stream?detached=true`, { body, cutAfter: 10 });
    const state = async () => ((await (await fetch(`${url}/jobs/a`)).json()) as Fields).state;
    await until(async () => (await state()) === "completed");
    expect(JSON.parse((await read(`${url}/stream/a`)).events.at(-1)!.data).type).toBe("result");
  });

  it("are joined by their idempotency key", async () => {
    let runs = 0;
    const url = await serving((input: GradientInput, context) => {
      runs++;
      return gradientRun()(input, context);
    });
    const ask = (prompt: string) =>
      fetch(`${url}/stream`, {
        method: "POST",
        headers: { "idempotency-key": "k" },
        body: JSON.stringify({ prompt, num_inference_steps: 5 }),
      });
    const [one, two] = await Promise.all([ask("x"), ask("x")]);
    expect(one.headers.get("x-request-id")).toBe(two.headers.get("x-request-id"));
    expect(await one.text()).toContain('"type":"result"');
    expect(await two.text()).toContain('"type":"result"');
    expect(runs).toBe(1);
    expect((await ask("y")).status).toBe(422);
  });
});
