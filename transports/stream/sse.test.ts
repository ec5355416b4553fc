import { execFile } from "node:child_process";
import http from "node:http";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { getRequestListener } from "@hono/node-server";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { RequestError } from "../../src/engine/errors.ts";
import type { Run, RunContext } from "../../src/jobs/run.ts";
import {
  eventNumber,
  type GradientInput,
  gradient,
  gradientRun,
  type RunRecord,
  until,
} from "../../test/gradient-run.ts";
import { type Listening, listen } from "../http/listen.ts";
import { type SseOptions, sse } from "./sse.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds; the assertions say what it should
type Fields = any;

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

/** A server on a free port with `run` at /stream. */
async function serving<Event>(run: Run<GradientInput, Event>, options: SseOptions<GradientInput> = {}) {
  const app = new Hono();
  app.on(["GET", "POST"], "/stream", sse(run, options));
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return `${server.url}/stream`;
}

function post(url: string, input: object, init: RequestInit = {}): Promise<Response> {
  return fetch(url, { method: "POST", body: JSON.stringify(input), ...init });
}

function parsed(text: string): { message: EventSourceMessage; event: Fields }[] {
  const messages: EventSourceMessage[] = [];
  createParser({ onEvent: (message) => messages.push(message) }).feed(text);
  return messages.map((message) => ({ message, event: JSON.parse(message.data) }));
}

/** POSTs with node:http and gives the response before its body is read. */
function rawPost(url: string, input: object): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", agent: false }, resolve);
    request.on("error", reject);
    request.end(JSON.stringify(input));
  });
}

/** Reads a node:http response to its end, clean or not. */
async function drain(response: http.IncomingMessage): Promise<{ text: string; error: NodeJS.ErrnoException | null }> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk);
  } catch (error) {
    return { text: Buffer.concat(chunks).toString(), error: error as NodeJS.ErrnoException };
  }
  return { text: Buffer.concat(chunks).toString(), error: null };
}

describe("a good run", () => {
  it("arrives in order, numbered from 1, ending with the result", async () => {
    const response = await post(await serving(gradientRun()), { prompt: "phare à l’aube 灯台", input_id: "in-1" });
    const text = await response.text();
    const events = parsed(text);
    const types = events.map(({ event }) => event.type);
    expect(types[0]).toBe("queued");
    expect(types.filter((type) => type === "preview").length).toBe(1);
    expect(types.at(-1)).toBe("result");

    const ids = events.map(({ message }) => eventNumber(message.id));
    expect(ids[0]).toBe(1);
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
    expect(new Set(ids).size).toBe(ids.length);
    expect(events.every(({ message }) => message.event === undefined)).toBe(true);

    const requestId = response.headers.get("x-request-id");
    for (const { event } of events) expect(event).toMatchObject({ request_id: requestId, input_id: "in-1" });
    const result = events.at(-1)!.event;
    expect(result).toMatchObject({ prompt: "phare à l’aube 灯台", seed: 7 });
    expect(result.images).toHaveLength(1);
    expect(result.image.url).toMatch(/^data:image\/jpeg;base64,/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the newline of the format
    expect(text).toMatch(/^[\x0a\x20-\x7e]*$/);
    expect(text).not.toMatch(/^(event:|data: \[DONE\])/m);
  });

  it("has exactly the headers of the protocol, whatever is accepted", async () => {
    const response = await post(
      await serving(gradientRun()),
      { prompt: "x", request_id: "job-7" },
      { headers: { accept: "application/json" } },
    );
    await response.text();
    const {
      date,
      connection,
      "keep-alive": _,
      "transfer-encoding": encoding,
      ...ours
    } = Object.fromEntries(response.headers);
    expect(ours).toEqual({
      "content-type": "text/event-stream",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
      "x-request-id": "job-7",
      "x-fal-request-id": "job-7",
    });
    // These are Node's own for HTTP/1.1.
    expect([connection, encoding, typeof date]).toEqual(["keep-alive", "chunked", "string"]);
  });

  it("sends its headers before the first event", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const response = await post(
      await serving(async function* () {
        await held;
        yield { type: "result" };
      }),
      { prompt: "x" },
    );
    expect(response.status).toBe(200);
    release();
    expect(parsed(await response.text())).toHaveLength(1);
  });

  it("is told by events as they happen, not at the end", async () => {
    const response = await post(await serving(gradientRun()), { prompt: "x", step_ms: 60, num_inference_steps: 4 });
    const times: number[] = [];
    for await (const _ of response.body!) times.push(performance.now());
    expect(times.at(-1)! - times[0]!).toBeGreaterThan(150);
  });

  it("says a heartbeat in silence, with one newline, that adds no event", async () => {
    const quiet: Run<GradientInput, object> = async function* () {
      yield { type: "queued", position: 0 };
      await sleep(130);
      yield { type: "result" };
    };
    const text = await (await post(await serving(quiet, { heartbeatMs: 50 }), { prompt: "x" })).text();
    expect(text).toMatch(/\n\n(: ping\n)+id: [\w-]+:2\n/);
    expect(parsed(text).map(({ event }) => event.type)).toEqual(["queued", "result"]);
  });

  it("is read by curl -N and by GET, and an EventSource that returns is told to stay away", async () => {
    const url = await serving(gradientRun(), { parse: (raw) => raw as GradientInput });
    const { stdout } = await promisify(execFile)("curl", ["-sN", `${url}?prompt=a%20hill`]);
    expect(parsed(stdout).at(-1)!.event).toMatchObject({ type: "result", prompt: "a hill" });
    const again = await fetch(`${url}?prompt=a%20hill`, { headers: { "last-event-id": "9" } });
    expect(again.status).toBe(204);
  });

  it("travels over HTTP/2 too, and breaks off there when it fails", async () => {
    const app = new Hono();
    app.post("/stream", sse(gradientRun()));
    app.post(
      "/failing",
      sse(async function* () {
        yield { type: "queued", position: 0 };
        throw new Error("no");
      }),
    );
    const server = http2.createServer(getRequestListener(app.fetch) as never);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const session = http2.connect(`http://127.0.0.1:${(server.address() as { port: number }).port}`);
    const read = async (path: string) => {
      const stream = session.request({ ":method": "POST", ":path": path });
      stream.end(JSON.stringify({ prompt: "x" }));
      let text = "";
      try {
        for await (const chunk of stream) text += chunk;
      } catch (error) {
        return { text, error };
      }
      return { text, error: stream.rstCode === 0 ? null : stream.rstCode };
    };
    try {
      const good = await read("/stream");
      expect(good.error).toBeNull();
      expect(parsed(good.text).at(-1)!.event.type).toBe("result");
      const bad = await read("/failing");
      expect(parsed(bad.text).at(-1)!.event.type).toBe("error");
      expect(bad.error).not.toBeNull();
    } finally {
      session.close();
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

describe("a failing run", () => {
  const failing: Run<GradientInput, object> = async function* () {
    yield { type: "queued", position: 0 };
    yield { type: "progress", step: 1, steps: 2, progress: 0.5, elapsed_ms: 1 };
    throw new Error("/secret/path: kernel attention_tiled lost its device");
  };

  it("sends the error event, hides what is inside, and truncates the answer", async () => {
    const reported: unknown[] = [];
    const url = await serving(failing, { onError: (error) => reported.push(error) });
    const { text, error } = await drain(await rawPost(url, { prompt: "x" }));
    expect(error?.code).toBe("ECONNRESET");
    const last = parsed(text).at(-1)!;
    expect(last.event).toMatchObject({ type: "error", detail: "Internal error", status: 500 });
    expect(eventNumber(last.message.id)).toBe(3);
    expect(text).not.toContain("secret");
    expect(reported).toHaveLength(1);
    expect(String(reported[0])).toContain("/secret/path");
  });

  it("makes fetch throw and curl report a partial transfer", async () => {
    const url = await serving(failing);
    const response = await post(url, { prompt: "x" });
    await expect(response.text()).rejects.toThrow();
    const curl = promisify(execFile)("curl", ["-sN", url, "-d", '{"prompt":"x"}']);
    // 18: "Transferred a partial file".
    await expect(curl).rejects.toMatchObject({ code: 18, stdout: expect.stringContaining('"type":"error"') });
  });

  it("lets the error event reach a reader that is behind", async () => {
    const url = await serving(async function* () {
      yield { type: "mine", text: "x".repeat(4_000_000) };
      throw new Error("late");
    });
    const response = await rawPost(url, { prompt: "x" });
    await sleep(300);
    const { text, error } = await drain(response);
    expect(error?.code).toBe("ECONNRESET");
    expect(parsed(text).map(({ event }) => event.type)).toEqual(["mine", "error"]);
  });

  it("answers with a status and the field's name while no event has been sent", async () => {
    const url = await serving(
      async function* () {
        await sleep(10);
        throw new RequestError("scheduler", "must be one of DDIM, Euler");
        // biome-ignore lint/correctness/noUnreachable: it is what makes this a generator
        yield {};
      },
      { headersWithinMs: 10_000 },
    );
    const response = await post(url, { prompt: "x" });
    expect(response.status).toBe(422);
    expect(response.headers.get("x-request-id")).toMatch(/./);
    expect(await response.json()).toEqual({
      detail: [{ loc: ["body", "scheduler"], msg: "must be one of DDIM, Euler", type: "value_error" }],
    });
  });

  it("fails when a picture cannot be encoded, and stops the run", async () => {
    const record = { aborted: false };
    const url = await serving(async function* (_: GradientInput, { signal }: RunContext) {
      signal.addEventListener("abort", () => {
        record.aborted = true;
      });
      yield { type: "preview", picture: { width: 9, height: 9, rgba: new Uint8Array(3) } };
      await sleep(10_000, undefined, { signal });
      yield { type: "result" };
    });
    const { text, error } = await drain(await rawPost(url, { prompt: "x" }));
    expect(error?.code).toBe("ECONNRESET");
    expect(parsed(text).at(-1)!.event).toMatchObject({ type: "error", status: 500 });
    expect(record.aborted).toBe(true);
  });
});

describe("bad input", () => {
  it.each([
    ["not JSON", "{", 400],
    ["too long", JSON.stringify({ prompt: "x".repeat(2000) }), 413],
  ])("%s is refused before the stream", async (_, body, status) => {
    const url = await serving(gradientRun(), { maxBodyBytes: 1000 });
    const response = await fetch(url, { method: "POST", body });
    expect(response.status).toBe(status);
    expect(await response.json()).toEqual({ detail: expect.any(String) });
  });

  it("too long without a Content-Length is refused as well", async () => {
    const url = await serving(gradientRun(), { maxBodyBytes: 1000 });
    const status = await new Promise((resolve, reject) => {
      const request = http.request(url, { method: "POST", agent: false }, (response) => resolve(response.statusCode));
      request.on("error", reject);
      request.write("x".repeat(900));
      request.end("x".repeat(900));
    });
    expect(status).toBe(413);
  });
});

describe("a client that goes away", () => {
  it("stops the run before its next step", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const url = await serving(gradientRun(record));
    const client = new AbortController();
    const response = await post(
      url,
      { prompt: "x", num_inference_steps: 1000, step_ms: 20 },
      { signal: client.signal },
    );
    await response.body!.getReader().read();
    await until(() => record.steps >= 3);
    client.abort();
    await until(() => record.aborted);
    const steps = record.steps;
    await until(() => record.ended);
    expect(record.steps).toBeLessThanOrEqual(steps + 1);
    await sleep(80);
    expect(record.steps).toBeLessThanOrEqual(steps + 1);
  });

  it("stops a run that does not look at its signal", async () => {
    let steps = 0;
    let ended = false;
    const url = await serving(async function* () {
      try {
        for (;;) {
          await sleep(10);
          yield { type: "mine", step: ++steps };
        }
      } finally {
        ended = true;
      }
    });
    const response = await rawPost(url, { prompt: "x" });
    await until(() => steps >= 3);
    response.destroy();
    await until(() => ended);
  });

  it("stops a run that never waits, without the server standing still", async () => {
    let ended = false;
    const url = await serving(async function* () {
      try {
        for (let step = 1; ; step++) yield { type: "progress", step };
      } finally {
        ended = true;
      }
    });
    const response = await rawPost(url, { prompt: "x" });
    response.resume();
    await sleep(50);
    response.destroy();
    await until(() => ended);
  });

  it("stops the run even before the headers were sent", async () => {
    const record = { started: false, aborted: false };
    const url = await serving(
      async function* (_: GradientInput, { signal }: RunContext) {
        record.started = true;
        await sleep(10_000, undefined, { signal }).catch(() => {
          record.aborted = true;
        });
        yield { type: "result" };
      },
      { headersWithinMs: 10_000 },
    );
    const request = http.request(url, { method: "POST", agent: false });
    request.on("error", () => {});
    request.end('{"prompt":"x"}');
    await until(() => record.started);
    request.destroy();
    await until(() => record.aborted);
  });
});

describe("a slow client", () => {
  it("loses previews, never the result, and does not slow the run", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    // 1024 × 1024 of noise at quality 70 is about half a megabyte: sixty are far more than a socket holds.
    const url = await serving(gradientRun(record));
    const input = { prompt: "x", num_inference_steps: 60, preview_every: 1, side: 1024 };
    const response = await rawPost(url, input);
    await until(() => record.ended, 20_000);
    expect(record.steps).toBe(60);
    const { text, error } = await drain(response);
    expect(error).toBeNull();
    const events = parsed(text).map(({ event }) => event);
    const previews = events.filter((event) => event.type === "preview");
    expect(previews.length).toBeGreaterThan(0);
    expect(previews.length).toBeLessThan(59);
    // The newest preview was the one kept.
    expect(previews.at(-1).step).toBe(59);
    expect(events.at(-1).type).toBe("result");
  });

  it("holds back a run whose events may not be dropped, and gets every one", async () => {
    let made = 0;
    const total = 400;
    const url = await serving(async function* () {
      while (made < total) yield { type: "mine", n: ++made, text: "x".repeat(100_000) };
    });
    const response = await rawPost(url, { prompt: "x" });
    await until(() => made > 15);
    let before = 0;
    while (before !== made) {
      before = made;
      await sleep(150);
    }
    // 40 MB in all; what was made fits into the socket's buffers and the outbox.
    expect(made).toBeLessThan(total / 2);
    const { text, error } = await drain(response);
    expect(error).toBeNull();
    expect(parsed(text).map(({ event }) => event.n)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
  });

  it("is cut off when it never reads again", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const url = await serving(gradientRun(record), { stalledAfterMs: 200 });
    const input = { prompt: "x", num_inference_steps: 100_000, preview_every: 1, side: 512 };
    const response = await rawPost(url, input);
    response.on("error", () => {});
    await until(() => record.ended, 30_000);
    expect(record.steps).toBeLessThan(100_000);
    const { error } = await drain(response);
    expect(error?.code).toBe("ECONNRESET");
  });
});

it("is usable without Node's server", async () => {
  const app = new Hono();
  app.post("/stream", sse(gradientRun()));
  app.post(
    "/failing",
    sse(async function* () {
      yield { type: "preview", picture: gradient(8, 1) };
      throw new Error("no");
    }),
  );
  const good = await app.request("/stream", { method: "POST", body: '{"prompt":"x"}' });
  expect(parsed(await good.text()).at(-1)!.event.type).toBe("result");
  const bad = await app.request("/failing", { method: "POST", body: '{"prompt":"x"}' });
  await expect(bad.text()).rejects.toThrow("the run failed");
});
