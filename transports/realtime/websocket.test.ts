import { setTimeout as sleep } from "node:timers/promises";
import { fal } from "@fal-ai/client";
import { decode, ExtData, encode } from "@msgpack/msgpack";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { type ClientOptions, WebSocket } from "ws";
import { RequestError } from "../../src/engine/errors.ts";
import type { RunEvent } from "../../src/engine/events.ts";
import { createAccount } from "../../src/jobs/account.ts";
import type { Run } from "../../src/jobs/run.ts";
import { type GradientInput, gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { type Listening, listen } from "../http/listen.ts";
import { type RealtimeOptions, realtime } from "./websocket.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the message holds; the assertions say what it should
type Fields = any;

const open: Listening[] = [];
const clients: WebSocket[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.terminate();
  await Promise.all(open.splice(0).map((server) => server.close()));
});

type Input = GradientInput & { request_id?: string };

async function serving(
  run: Run<Input, RunEvent> = gradientRun(),
  options: RealtimeOptions<Input> = {},
  frameBytes?: number,
): Promise<Listening> {
  const app = new Hono();
  app.get("/realtime", realtime(run, options));
  const server = await listen(app, 0, "127.0.0.1", { frameBytes });
  open.push(server);
  return server;
}

/** A ws client that keeps what it gets: msgpack messages, and control frames. */
async function connect(server: Listening, query = "", options: ClientOptions = {}) {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime${query}`, options);
  clients.push(socket);
  const messages: Fields[] = [];
  const control: Fields[] = [];
  let closed: number | undefined;
  socket.on("message", (data: Buffer, binary) => {
    if (binary) messages.push(decode(data));
    else control.push(JSON.parse(data.toString()));
  });
  socket.on("close", (code) => {
    closed = code;
  });
  socket.on("error", () => {});
  await until(() => control.length > 0 || closed !== undefined);
  return {
    socket,
    messages,
    control,
    get closed() {
      return closed;
    },
    send: (message: object) => socket.send(encode(message)),
    of: (id: string) => messages.filter(({ request_id }) => request_id === id),
    result: (id: string) => messages.find(({ request_id, type }) => request_id === id && type === "result"),
  };
}

describe("a session", () => {
  it("answers with pictures as bytes, each output saying which request it is of", async () => {
    const client = await connect(await serving());
    client.send({ prompt: "a hill", request_id: "r1", input_id: "i1", seed: undefined });
    await until(() => client.result("r1") !== undefined);
    const events = client.of("r1");
    expect(events.map(({ event_id }) => event_id)).toEqual(
      [...events.map(({ event_id }) => event_id)].sort((a, b) => a - b),
    );
    for (const event of events) expect(event.input_id).toBe("i1");
    const { images, prompt } = client.result("r1");
    expect(prompt).toBe("a hill");
    expect(images[0].content_type).toBe("image/jpeg");
    expect([...images[0].content.subarray(0, 2)]).toEqual([0xff, 0xd8]);
    expect(events.some(({ type, image }) => type === "preview" && image.content instanceof Uint8Array)).toBe(true);
  });

  it("lets the latest win over those that wait, and answers the one that ran", async () => {
    const client = await connect(await serving());
    for (let n = 1; n <= 6; n++) client.send({ prompt: `${n}`, request_id: `r${n}`, step_ms: 10 });
    await until(() => client.result("r6") !== undefined);
    expect(client.messages.filter(({ type }) => type === "result").map(({ prompt }) => prompt)).toEqual(["1", "6"]);
    const gone = client.control.filter(({ action }) => action === "superseded").map(({ request_id }) => request_id);
    expect(gone).toEqual(["r2", "r3", "r4", "r5"]);
  });

  it("interrupts the one that runs when asked, between two steps", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const client = await connect(await serving(gradientRun(record)));
    client.send({ prompt: "1", request_id: "r1", step_ms: 20, num_inference_steps: 200 });
    await until(() => record.steps > 2);
    client.send({ prompt: "2", request_id: "r2", interrupt: true, num_inference_steps: 2 });
    await until(() => client.result("r2") !== undefined);
    expect(client.result("r1")).toBeUndefined();
    expect(client.control).toContainEqual({ type: "x-fal-message", action: "superseded", request_id: "r1" });
    expect(client.messages.some(({ type }) => type === "error")).toBe(false);
  });

  it("answers every request in order in queue mode, and max_buffering bounds them", async () => {
    const client = await connect(await serving(), "?mode=queue&max_buffering=4");
    for (let n = 1; n <= 6; n++) client.send({ prompt: `${n}`, request_id: `r${n}` });
    await until(() => client.result("r4") !== undefined);
    expect(client.messages.filter(({ type }) => type === "result").map(({ prompt }) => prompt)).toEqual([
      "1",
      "2",
      "3",
      "4",
    ]);
    for (const id of ["r5", "r6"]) expect(client.of(id)[0]).toMatchObject({ type: "error", status: 429 });
  });

  it("cancels by id, one that waits and one that runs", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const client = await connect(await serving(gradientRun(record)));
    client.send({ prompt: "1", request_id: "r1", step_ms: 20, num_inference_steps: 200 });
    client.send({ prompt: "2", request_id: "r2" });
    await until(() => record.steps > 2);
    client.send({ type: "cancel", request_id: "r2" });
    client.send({ type: "cancel", request_id: "r1" });
    await until(() => client.of("r1").some(({ type }) => type === "error"));
    expect(client.of("r1").at(-1)).toMatchObject({ type: "error", status: 499 });
    expect(client.of("r2")).toMatchObject([{ type: "error", status: 499 }]);
    await until(() => record.ended);
    expect(record.steps).toBeLessThan(30);
    client.send({ type: "cancel", request_id: "r9" });
    await until(() => client.control.some(({ action }) => action === "not-found"));
  });

  it("hands changes to the run while it is under way, and lays defaults under requests", async () => {
    const taken: unknown[] = [];
    const run: Run<Input, RunEvent> = async function* (input, { updates }) {
      void (async () => {
        for await (const update of updates!) taken.push(update);
      })();
      for (let step = 1; step <= 40; step++) {
        await sleep(10);
        yield { type: "progress", step, steps: 40, progress: step / 40, elapsed_ms: 0 };
      }
      yield { type: "result", pictures: [], seed: 1, prompt: `${input.prompt} ${input.side}`, timings: {} };
    };
    const client = await connect(await serving(run));
    client.send({ type: "defaults", side: 9 });
    client.send({ prompt: "x", request_id: "r1" });
    await until(() => client.of("r1").length > 2);
    client.send({ type: "update", request_id: "r1", prompt: "y", guidance_scale: 3 });
    await until(() => client.result("r1") !== undefined);
    expect(client.result("r1").prompt).toBe("x 9");
    expect(taken).toEqual([{ request_id: "r1", prompt: "y", guidance_scale: 3 }]);
  });

  it("changes a request that waits: it is begun with the change", async () => {
    const begun: Input[] = [];
    const run: Run<Input, RunEvent> = (input, context) => {
      begun.push(input);
      return gradientRun()(input, context);
    };
    const client = await connect(await serving(run), "?max_buffering=3");
    client.send({ prompt: "runs", request_id: "r1", step_ms: 30, num_inference_steps: 15 });
    await until(() => client.of("r1").length > 0);
    client.send({ prompt: "waits", request_id: "r2", num_inference_steps: 3 });
    client.send({ prompt: "waits too", request_id: 3, num_inference_steps: 3 });
    client.send({ type: "update", request_id: "r2", prompt: "changed" });
    client.send({ type: "update", request_id: "r2", num_inference_steps: 4 });
    client.send({ type: "update", request_id: 3, prompt: "changed too" });
    client.send({ type: "update", request_id: "r9", prompt: "nobody's" });
    await until(() => client.result("3") !== undefined);
    expect(begun).toMatchObject([
      { prompt: "runs" },
      { prompt: "changed", num_inference_steps: 4, request_id: "r2" },
      { prompt: "changed too", num_inference_steps: 3 },
    ]);
    expect(client.result("r2").prompt).toBe("changed");
    expect(client.control.filter(({ action }) => action === "not-found")).toEqual([
      { type: "x-fal-message", action: "not-found", request_id: "r9" },
    ]);
  });

  it("refuses a change for which a session has no room, and begins the request as it was", async () => {
    const prompts: string[] = [];
    const run: Run<Input, RunEvent> = (input, context) => {
      prompts.push(input.prompt);
      return gradientRun()(input, context);
    };
    const account = createAccount({ sessions: 100_000 });
    const client = await connect(await serving(run, { account }));
    client.send({ prompt: "runs", request_id: "r1", step_ms: 30, num_inference_steps: 10 });
    await until(() => client.of("r1").length > 0);
    client.send({ prompt: "waits", request_id: "r2" });
    client.send({ type: "update", request_id: "r2", prompt: "x".repeat(50_000) });
    await until(() => client.result("r2") !== undefined);
    expect(client.control).toContainEqual(expect.objectContaining({ error: "HTTP_503", request_id: "r2" }));
    expect(prompts).toEqual(["runs", "waits"]);
  });

  it("says that a run takes no changes", async () => {
    const client = await connect(await serving(gradientRun()));
    client.send({ prompt: "x", request_id: "r1", step_ms: 20 });
    await until(() => client.of("r1").length > 0);
    client.send({ type: "update", request_id: "r1", prompt: "y" });
    await until(() => client.control.some(({ error }) => error === "HTTP_409"));
    expect(client.control).toContainEqual({
      type: "x-fal-error",
      error: "HTTP_409",
      reason: "This job runs already and takes no changes",
      request_id: "r1",
    });
    await until(() => client.result("r1") !== undefined);
  });

  it("says what is wrong with a request and goes on", async () => {
    const client = await connect(
      await serving(gradientRun(), {
        parse: (raw) => {
          if (raw.prompt === undefined) throw new RequestError("prompt", "Field required");
          return raw as unknown as Input;
        },
      }),
    );
    client.send({ request_id: "r1" });
    client.send({ prompt: "x", request_id: "r2" });
    await until(() => client.result("r2") !== undefined);
    expect(client.of("r1")).toMatchObject([{ type: "error", status: 422, detail: [{ loc: ["body", "prompt"] }] }]);
    expect(client.control).toContainEqual(
      expect.objectContaining({ type: "x-fal-error", error: "HTTP_422", request_id: "r1" }),
    );
  });
});

describe("a broken connection", () => {
  it("is taken up with the session's token: no output is missing or repeated", async () => {
    const server = await serving(gradientRun(), { graceMs: 5_000 });
    const first = await connect(server);
    const [{ session }] = first.control;
    first.send({ prompt: "x", request_id: "r1", num_inference_steps: 40, preview_every: 1, step_ms: 10 });
    await until(() => first.of("r1").length > 10);
    first.socket.terminate();
    await sleep(100);
    const seen = first.of("r1");
    const second = await connect(server, `?session=${session}&after=r1:${seen.at(-1).event_id}`);
    expect(second.control[0]).toMatchObject({ action: "session", resumed: true, session });
    await until(() => second.result("r1") !== undefined);
    const ids = [...seen, ...second.of("r1")].map(({ event_id }) => event_id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
    // Events from the time when nobody was connected were replayed.
    expect(second.of("r1")[0].event_id).toBe(seen.at(-1).event_id + 1);
  });

  it("cancels when nobody comes back in time, and at once when the client left on purpose", async () => {
    const records: RunRecord[] = [];
    const server = await serving(
      (input, context) => {
        const record = { steps: 0, ended: false, aborted: false };
        records.push(record);
        return gradientRun(record)(input, context);
      },
      { graceMs: 300 },
    );
    const lost = await connect(server);
    lost.send({ prompt: "x", num_inference_steps: 10_000, step_ms: 10 });
    await until(() => (records[0]?.steps ?? 0) > 2);
    lost.socket.terminate();
    await sleep(100);
    expect(records[0]!.aborted).toBe(false);
    await until(() => records[0]!.ended);
    const left = await connect(server);
    left.send({ prompt: "x", num_inference_steps: 10_000, step_ms: 10 });
    await until(() => (records[1]?.steps ?? 0) > 2);
    const before = performance.now();
    left.socket.close(1000);
    await until(() => records[1]!.ended);
    expect(performance.now() - before).toBeLessThan(200);
  });
});

describe("flow", () => {
  it("sends a client that does not read a few previews, and the result when it reads again", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const client = await connect(await serving(gradientRun(record)));
    client.socket.pause();
    client.send({ prompt: "x", request_id: "r1", num_inference_steps: 60, preview_every: 1, side: 512, step_ms: 10 });
    await until(() => record.ended, 20_000);
    expect(record.steps).toBe(60);
    client.socket.resume();
    await until(() => client.result("r1") !== undefined);
    const previews = client.of("r1").filter(({ type }) => type === "preview");
    expect(previews.length).toBeGreaterThan(0);
    expect(previews.length).toBeLessThan(5);
  });

  it("adapts to a client that takes 400 ms a picture", async () => {
    const client = await connect(await serving(), "", { autoPong: false });
    // A network on which a picture takes 400 ms: the client's pong comes so much later.
    let free = performance.now();
    client.socket.on("ping", (data) => {
      free = Math.max(free, performance.now()) + 400;
      setTimeout(() => client.socket.pong(data), free - performance.now());
    });
    client.send({ prompt: "x", request_id: "r1", num_inference_steps: 60, preview_every: 1, side: 256, step_ms: 50 });
    await until(() => client.result("r1") !== undefined, 20_000);
    const previews = client.of("r1").filter(({ type }) => type === "preview");
    // 60 steps of 50 ms and a little more, a picture each 400 ms, two on their way.
    expect(previews.length).toBeGreaterThan(5);
    expect(previews.length).toBeLessThan(15);
    expect(previews.at(-1).step).toBeGreaterThan(45);
  });

  it("sends no more previews a second than asked, and shrinks them", async () => {
    const client = await connect(await serving());
    client.send({
      prompt: "x",
      request_id: "r1",
      num_inference_steps: 50,
      preview_every: 1,
      step_ms: 20,
      preview_max_fps: 5,
      preview_size: 16,
      preview_format: "webp",
    });
    await until(() => client.result("r1") !== undefined, 20_000);
    const previews = client.of("r1").filter(({ type }) => type === "preview");
    expect(previews.length).toBeGreaterThan(2);
    expect(previews.length).toBeLessThan(10);
    expect(previews[0].image).toMatchObject({ width: 16, height: 16, content_type: "image/webp" });
    expect(client.result("r1").image).toMatchObject({ width: 64, content_type: "image/jpeg" });
  });

  it("terminates a client that answers no ping", async () => {
    const client = await connect(await serving(gradientRun(), { pingMs: 50 }));
    await sleep(300);
    expect(client.closed).toBeUndefined();
    client.socket.pause();
    await sleep(300);
    client.socket.resume();
    await until(() => client.closed !== undefined);
    expect(client.closed).toBe(1006);
  });

  it("closes with 1012 when the server ends, after what runs", async () => {
    const server = await serving();
    const idle = await connect(server);
    const busy = await connect(server);
    busy.send({ prompt: "x", request_id: "r1", num_inference_steps: 20, step_ms: 20 });
    await until(() => busy.of("r1").length > 1);
    open.splice(0);
    await server.close(10_000);
    await until(() => idle.closed !== undefined && busy.closed !== undefined);
    expect([idle.closed, busy.closed]).toEqual([1012, 1012]);
    expect(busy.result("r1")).toBeDefined();
  });
});

describe("hostile input", () => {
  const bytes = (...values: number[]) => Uint8Array.from(values);
  it.each([
    ["an array that claims 4 billion items", bytes(0xdd, 0xff, 0xff, 0xff, 0xff)],
    ["a map that claims 4 billion fields", bytes(0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, 0x61)],
    ["a string longer than the frame", bytes(0xdb, 0x7f, 0xff, 0xff, 0xff, 0x61)],
    ["an extension type", encode(new ExtData(7, bytes(1, 2, 3)))],
    ["nesting beyond the stack", new Uint8Array(100_000).fill(0x91)],
    ["nesting, ended well", Uint8Array.from([...new Array(40).fill(0x91), 0xc0])],
    ["two values", bytes(0xc0, 0xc0)],
    ["the byte that msgpack never uses", bytes(0xc1)],
    ["nothing", bytes()],
    ["a number", encode(7)],
    ["an unknown type", encode({ type: "surprise" })],
    ["text that is not JSON", "{"],
  ])("%s gets an error, and the session goes on", async (_, frame) => {
    const client = await connect(await serving());
    client.socket.send(frame);
    await until(() => client.control.length > 1);
    expect(client.control[1]).toMatchObject({ type: "x-fal-error", error: "HTTP_400", reason: expect.any(String) });
    client.send({ prompt: "x", request_id: "r1", num_inference_steps: 2 });
    await until(() => client.result("r1") !== undefined);
  });

  it("is ended with 1008 when it does not stop, and with 1009 when a frame is too large", async () => {
    const server = await serving(gradientRun(), {}, 1000);
    const persistent = await connect(server);
    for (let n = 0; n < 10; n++) persistent.socket.send(bytes(0xc1));
    await until(() => persistent.closed !== undefined);
    expect(persistent.closed).toBe(1008);
    const large = await connect(server);
    large.send({ prompt: "x".repeat(2000) });
    await until(() => large.closed !== undefined);
    expect(large.closed).toBe(1009);
  });
});

describe("@fal-ai/client", () => {
  function falConnect(server: Listening, more: object = {}) {
    // The client's address is fixed; only its constructor can be pointed elsewhere. Node 20 has none of its own, and
    // the client looks for it again when a socket closes, so it stays.
    globalThis.WebSocket = class extends WebSocket {
      constructor(url: string) {
        const { search } = new URL(url);
        super(`${server.url.replace("http", "ws")}/realtime${search}`);
        clients.push(this);
      }
    } as never;
    const results: Fields[] = [];
    const errors: Fields[] = [];
    const connection = fal.realtime.connect("somebody/daguerre", {
      tokenProvider: async () => "token",
      throttleInterval: 0,
      onResult: (result: Fields) => results.push(result),
      onError: (error: Fields) => errors.push(error),
      connectionKey: crypto.randomUUID(),
      ...more,
    } as never) as { send(input: object): void; close(): void };
    return { connection, results, errors };
  }

  it("sends requests and pictures, and gets results; the latest wins", async () => {
    const images: unknown[] = [];
    const server = await serving((input, context) => {
      images.push((input as Fields).image);
      return gradientRun()(input, context);
    });
    const { connection, results, errors } = falConnect(server, { maxBuffering: 1 });
    connection.send({ prompt: "first", request_id: "a", image_bytes: Uint8Array.of(1, 2, 3), step_ms: 20 });
    await until(() => results.length > 0);
    for (let n = 0; n < 5; n++) connection.send({ prompt: `${n}`, request_id: `b${n}` });
    await until(() => results.some(({ type, prompt }) => type === "result" && prompt === "4"));
    expect([...(images[0] as Uint8Array)]).toEqual([1, 2, 3]);
    expect(results.filter(({ type }) => type === "result").map(({ prompt }) => prompt)).toEqual(["first", "4"]);
    expect(results[0]).toMatchObject({ request_id: "a" });
    expect(errors).toEqual([]);
    connection.close();
  });

  it("raises what the server refuses, and connects again after a broken connection", async () => {
    const server = await serving(gradientRun(), {
      parse: (raw) => {
        if (raw.prompt === "bad") throw new RequestError("prompt", "is bad");
        return raw as unknown as Input;
      },
    });
    const { connection, results, errors } = falConnect(server);
    connection.send({ prompt: "bad", request_id: "a" });
    await until(() => errors.length > 0);
    expect(errors[0]).toMatchObject({ status: 400, message: "HTTP_422: prompt: is bad" });
    clients.at(-1)!.terminate();
    await until(() => clients.at(-1)!.readyState === WebSocket.CLOSED);
    connection.send({ prompt: "again", request_id: "b" });
    await until(() => results.some(({ type, prompt }) => type === "result" && prompt === "again"));
    connection.close();
  });
});
