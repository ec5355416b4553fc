import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { createFalClient } from "@fal-ai/client";
import { decode } from "@msgpack/msgpack";
import { Hono } from "hono";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { worker } from "../src/hosts/worker.ts";
import { map } from "../src/jobs/map.ts";
import type { AnyRun } from "../src/jobs/run.ts";
import { gradientRun, type RunRecord, until } from "../test/gradient-run.ts";
import { type Listening, listen } from "./http/listen.ts";
import { json } from "./json.ts";
import { realtime } from "./realtime/websocket.ts";
import { type SseOptions, sse } from "./stream/sse.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds; the assertions say what it should
type Fields = any;

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function serving<Event>(run: AnyRun<Fields, Event>, options: SseOptions<Fields> = {}): Promise<string> {
  const app = new Hono();
  app.post("/stream", sse(run, options));
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return `${server.url}/stream`;
}

const post = (url: string, input: object = {}) => fetch(url, { method: "POST", body: JSON.stringify(input) });

describe("content types", () => {
  it("NDJSON: a line an event, the error among them", async () => {
    const url = await serving(
      function* () {
        yield { type: "item", text: "é" };
        throw Object.assign(new Error("no more"), { status: 503 });
      },
      { contentType: "application/x-ndjson" },
    );
    const response = await post(url);
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    let text = "";
    const reading = (async () => {
      for await (const chunk of response.body!) text += new TextDecoder().decode(chunk);
    })();
    await expect(reading).rejects.toThrow();
    const request_id = response.headers.get("x-request-id");
    expect(
      text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([
      { type: "item", text: "é", request_id, event_id: 1 },
      { type: "error", detail: "no more", status: 503, request_id, event_id: 2 },
    ]);
  });

  it("text and bytes: nothing is added, and events arrive as they are yielded", async () => {
    async function* words() {
      for (const word of ["a ", "lighthouse ", "灯台"]) {
        yield word;
        await sleep(50);
      }
    }
    const text = await post(await serving(words, { contentType: "text/plain; charset=utf-8" }));
    const times: number[] = [];
    const chunks: Uint8Array[] = [];
    for await (const chunk of text.body!) {
      times.push(performance.now());
      chunks.push(chunk);
    }
    expect(Buffer.concat(chunks).toString()).toBe("a lighthouse 灯台");
    expect(times.at(-1)! - times[0]!).toBeGreaterThan(70);
    const bytes = await post(
      await serving(
        () =>
          new ReadableStream({
            start(controller) {
              for (let n = 0; n < 3; n++) controller.enqueue(Uint8Array.of(n, 255));
              controller.close();
            },
          }),
        { contentType: "audio/wav" },
      ),
    );
    expect([...new Uint8Array(await bytes.arrayBuffer())]).toEqual([0, 255, 1, 255, 2, 255]);
  });

  it("a generator, an array or a ReadableStream is served as it is, over each transport", async () => {
    const app = new Hono();
    async function* words() {
      yield* ["a", "b"];
    }
    app.get("/stream", (c) => sse(words(), { contentType: "text/plain" })(c));
    app.get("/map", (c) =>
      sse(
        map([1, 2, 3], (n) => `${n * n} `),
        { contentType: "text/plain" },
      )(c),
    );
    app.get("/array", sse([Uint8Array.of(1), Uint8Array.of(2)], { contentType: "application/octet-stream" }));
    app.get("/json", (c) => json(ReadableStream.from([{ n: 7 }]))(c));
    app.get("/realtime", realtime([{ type: "item", n: 1 }]));
    const server = await listen(app, 0, "127.0.0.1");
    open.push(server);
    const text = async (path: string) => (await fetch(server.url + path)).text();
    for (let time = 0; time < 2; time++) {
      expect(await text("/stream")).toBe("ab");
      expect(await text("/map")).toBe("1 4 9 ");
      expect(await text("/array")).toBe("\u0001\u0002");
      expect(JSON.parse(await text("/json"))).toMatchObject({ n: 7 });
    }
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime`);
    const got: Fields[] = [];
    socket.on("message", (data: Buffer, binary) => binary && got.push(decode(data)));
    socket.on("open", () => socket.send("{}"));
    await until(() => got.length === 1);
    expect(got[0]).toMatchObject({ type: "item", n: 1 });
    socket.terminate();
  });

  it("map goes straight into a response", async () => {
    const url = await serving(({ words }: { words: string[] }, { signal }) =>
      map(words, async (word) => ({ type: "item", upper: await sleep(word.length, word.toUpperCase()) }), { signal }),
    );
    const text = await (await post(url, { words: ["three", "to", "a"] })).text();
    expect([...text.matchAll(/"upper":"(\w+)"/g)].map(([, word]) => word)).toEqual(["THREE", "TO", "A"]);
  });
});

describe("worker", () => {
  const folder = mkdtempSync(join(tmpdir(), "daguerre-worker-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "render.mjs");
  writeFileSync(
    file,
    `export default function* render({ n = 3, ms = 0, hang = false, fail = false }) {
      for (let i = 1; i <= n; i++) {
        const end = Date.now() + ms;
        while (Date.now() < end || hang);
        if (fail) throw Object.assign(new Error("too bright"), { status: 409 });
        yield { type: "item", n: i, bytes: new Uint8Array([i]) };
      }
    }
    export async function* sleepy(_, { signal }) {
      yield { type: "item" };
      await new Promise((resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }`,
  );
  const module = pathToFileURL(file);
  const context = (signal = new AbortController().signal) => ({ signal, requestId: "x" });

  it("runs a module's synchronous generator while this thread stays free", async () => {
    const run = worker<Fields, Fields>(module);
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 5);
    const events: Fields[] = [];
    for await (const event of run({ n: 4, ms: 150 }, context())) events.push(event);
    clearInterval(timer);
    expect(events.map(({ n, bytes }) => [n, ...bytes])).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
    ]);
    expect(longest).toBeLessThan(140);
  });

  it.each([relative(process.cwd(), file).replace(/^(?!\.)/, "./"), file])("takes a path: %s", async (path) => {
    const events: Fields[] = [];
    for await (const event of worker<Fields, Fields>(path)({ n: 2 }, context())) events.push(event);
    expect(events.map(({ n }) => n)).toEqual([1, 2]);
  });

  it("makes no event before the one before was taken", async () => {
    const events = worker<Fields, Fields>(module)({ n: 1e9 }, context());
    const iterator = events[Symbol.asyncIterator]();
    expect((await iterator.next()).value.n).toBe(1);
    await sleep(100);
    expect((await iterator.next()).value.n).toBe(2);
    await iterator.return?.();
  });

  it("passes on what the run throws, and serves the next one", async () => {
    const url = await serving(worker<Fields, Fields>(module), { headersWithinMs: 5_000 });
    const failed = await post(url, { fail: true });
    expect([failed.status, await failed.json()]).toEqual([409, { detail: "too bright" }]);
    expect(await (await post(url, { n: 2 })).text()).toContain('"n":2');
  });

  it.each([
    ["that hangs", { hang: true }, "default"],
    ["that waits", {}, "sleepy"],
  ])("ends a run %s when it is cancelled", async (_, input, name) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 200);
    const began = performance.now();
    const all = (async () => {
      for await (const _ of worker(module, { graceMs: 200, name })(input, context(stop.signal)));
    })();
    await expect(all).rejects.toMatchObject({ name: "AbortError" });
    expect(performance.now() - began).toBeLessThan(3_000);
  });
});

describe("@fal-ai/client", () => {
  const client = createFalClient({ credentials: "key" });

  it("streams: every event, and the result from done()", async () => {
    const url = await serving(gradientRun());
    const stream = await client.stream("somebody/daguerre", { url, input: { prompt: "灯台" } } as Fields);
    const types: string[] = [];
    for await (const event of stream as AsyncIterable<Fields>) types.push(event.type);
    expect(types[0]).toBe("queued");
    expect(types).toContain("preview");
    expect(await stream.done()).toMatchObject({ type: "result", prompt: "灯台", seed: 7 });
  });

  it("rejects with an ApiError when the run fails, before and after its first event", async () => {
    const late = await serving(async function* () {
      yield { type: "progress", step: 1 };
      await sleep(20);
      throw new Error("no");
    });
    const stream = await client.stream("somebody/daguerre", { url: late, input: {} } as Fields);
    stream.on("error", () => {});
    await expect(stream.done()).rejects.toBeInstanceOf(Error);
    // biome-ignore lint/correctness/useYield: it fails first
    const early = await serving(async function* () {
      throw Object.assign(new Error("busy"), { status: 409 });
    });
    const refused = await client.stream("somebody/daguerre", { url: early, input: {} } as Fields);
    refused.on("error", () => {});
    await expect(refused.done()).rejects.toMatchObject({ name: "ApiError", status: 409 });
  });

  it("cancels the job when it aborts", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const url = await serving(gradientRun(record));
    const input = { prompt: "x", num_inference_steps: 1000, step_ms: 20 };
    const stream = await client.stream("somebody/daguerre", { url, input } as Fields);
    stream.on("error", () => {});
    stream.done().catch(() => {});
    await until(() => record.steps > 2);
    stream.abort();
    await until(() => record.ended);
    expect(record.steps).toBeLessThan(50);
  });
});
