/** Memory that clients can make a server hold: each way has a bound, and something happens at it. */
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode } from "@msgpack/msgpack";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket, type WebSocketServer } from "ws";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { type Account, createAccount, type MemoryBounds } from "../../src/jobs/account.ts";
import { gradientRun, until } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { type Listening, listen } from "./listen.ts";

const MIB = 2 ** 20;
const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 4, countTokens: () => 3 };

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

interface Serving extends Listening {
  readonly account: Account;
  readonly inputs: GenerationRequest[];
}

async function serving(bounds: Partial<MemoryBounds> = {}, options: Partial<AppOptions> = {}): Promise<Serving> {
  const account = createAccount(bounds);
  const inputs: GenerationRequest[] = [];
  const run = gradientRun();
  const app = createApp({
    run: (input, context) => {
      inputs.push(input);
      return run({ ...input, step_ms: 1, side: 64 }, context);
    },
    health: () => ({}),
    model: MODEL,
    account,
    ...options,
  });
  const server = await listen(app, 0, "127.0.0.1", { account, frameBytes: 28 * MIB });
  open.push(server);
  return { ...server, account, inputs };
}

/** A connection that sends `bytes` and stays. */
async function sending({ port }: Listening, bytes: string | Buffer, localAddress = "127.0.0.1") {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress });
  socket.on("error", () => {});
  open.push({ close: () => socket.destroy() });
  const state = { got: "", closed: false, socket };
  socket.on("data", (data) => {
    state.got += data;
  });
  socket.on("close", () => {
    state.closed = true;
  });
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write(bytes);
  return state;
}

async function session({ url }: Listening, query = "") {
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime${query}`);
  // biome-ignore lint/suspicious/noExplicitAny: whatever a server says
  const messages: any[] = [];
  const state = { socket, messages, code: 0 };
  socket.on("message", (data: Buffer, binary) => messages.push(binary ? decode(data) : JSON.parse(data.toString())));
  socket.on("close", (code) => {
    state.code = code;
  });
  socket.on("error", () => {});
  open.push({ close: () => socket.terminate() });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("close", reject));
  await until(() => messages.length > 0);
  return state;
}

const draw = async ({ url }: Listening) =>
  (await fetch(url, { method: "POST", body: '{"prompt":"x","num_inference_steps":1}' })).status;

describe("bodies that arrive", () => {
  const part = (bytes: number) =>
    Buffer.concat([
      Buffer.from(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${26 * MIB}\r\n\r\n{"prompt":"`),
      Buffer.alloc(bytes, "x"),
    ]);

  it("end with 408 where they take too much together, the slowest of the greediest first; others are served", async () => {
    const server = await serving({ bodies: 8 * MIB });
    const greedy: Awaited<ReturnType<typeof sending>>[] = [];
    for (let n = 0; n < 40; n++) greedy.push(await sending(server, part(MIB), "127.0.0.2"));
    await until(() => greedy.filter(({ closed }) => closed).length >= 32, 10_000);
    for (const { got, closed } of greedy) if (closed) expect(got).toMatch(/^HTTP\/1\.1 408 |^$/);
    expect(server.account.bytes("bodies")).toBeLessThanOrEqual(8 * MIB);
    const image = `data:image/png;base64,${Buffer.alloc(3 * MIB, 7).toString("base64")}`;
    const honest = await fetch(server.url, { method: "POST", body: JSON.stringify({ prompt: "x", image }) });
    expect(honest.status).toBe(200);
    expect(server.inputs.at(-1)?.image?.byteLength).toBe(3 * MIB);
    for (const { socket } of greedy) socket.destroy();
    await until(() => server.account.bytes("bodies") === 0);
  });

  it("of up to 64 KiB are on nobody's account", async () => {
    const server = await serving({ bodies: 1 });
    const small = await Promise.all(Array.from({ length: 50 }, () => sending(server, part(60_000), "127.0.0.2")));
    await sleep(100);
    expect(small.filter(({ closed }) => closed)).toEqual([]);
    expect(await draw(server)).toBe(200);
  });

  it("that break off are told to nobody as an error", async () => {
    const errors: unknown[] = [];
    const entries: { status: number; address: string }[] = [];
    const server = await serving(
      {},
      { onError: (error) => errors.push(error), onRequest: (entry) => entries.push(entry) },
    );
    for (const path of [
      "/",
      "/stream",
      "/queue/a/b",
      "/v1/images/generations",
      "/v1/images/edits",
      "/sdapi/v1/txt2img",
    ]) {
      const type = path.endsWith("edits") ? "multipart/form-data; boundary=b" : "application/json";
      const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: 5000\r\n\r\n{`;
      const { socket } = await sending(server, head);
      await sleep(30);
      socket.destroy();
    }
    await until(() => entries.length === 6);
    expect(entries.map(({ status, address }) => `${status} ${address}`)).toEqual(Array(6).fill("499 127.0.0.1"));
    expect(errors).toEqual([]);
  });
});

it("of a connection nothing is held when it is gone, whatever was under way on it", async () => {
  const run = gradientRun();
  const server = await serving({}, { run: (input, context) => run({ ...input, step_ms: 5, side: 512 }, context) });
  const body = '{"prompt":"x","num_inference_steps":4,"output_format":"png"}';
  const ask = (path: string) => `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const broken = [];
  for (const paths of [
    ["/", "/", "/"],
    ["/stream", "/", "/v1/images/generations"],
    ["/v1/images/generations", "/stream"],
    ["/sdapi/v1/txt2img", "/"],
  ]) {
    const gets = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    broken.push(await sending(server, paths.map(ask).join("") + gets));
  }
  const { socket } = await session(server, "?mode=queue");
  const frame = Buffer.concat([Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(MIB)]);
  for (let n = 0; n < 5; n++) socket.send(encode({ prompt: "x", num_inference_steps: 4, output_format: "png" }));
  (socket as unknown as { _socket: net.Socket })._socket.write(frame);
  socket.pause();
  await until(() => server.account.bytes("bodies") > MIB / 2);
  await sleep(150);
  for (const { socket } of broken) socket.destroy();
  socket.terminate();
  const held = () => (["bodies", "answers"] as const).map((kind) => server.account.bytes(kind));
  await until(() => held().every((bytes) => bytes === 0), 10_000);
  await sleep(300);
  expect(held()).toEqual([0, 0]);
});

describe("sessions", () => {
  it("refuse a frame of more values than a message may hold, whatever its bytes", async () => {
    const server = await serving();
    const wide = (count: number, unit: number) =>
      Buffer.concat([
        Buffer.from([0x81, 0xa1, 0x7a, 0xdd, count >>> 24, count >>> 16, count >>> 8, count]),
        Buffer.alloc(count, unit),
      ]);
    const before = process.memoryUsage();
    for (const frame of [
      wide(27 * MIB, 0x80),
      wide(27 * MIB, 0x90),
      wide(27 * MIB, 0xc0),
      Buffer.alloc(27 * MIB, 0x91),
    ]) {
      const { socket, messages } = await session(server);
      const began = performance.now();
      socket.send(frame);
      await until(() => messages.some(({ type }) => type === "x-fal-error"), 5_000);
      expect(messages.at(-1).reason).toMatch(/20000 items and names|32 deep/);
      expect(performance.now() - began).toBeLessThan(2_000);
      socket.terminate();
    }
    expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(50 * MIB);
    expect(await draw(server)).toBe(200);
  });

  it("refuse names that no field has", async () => {
    const server = await serving();
    for (const frame of [encode({ prompt: "x", ["k".repeat(27e6)]: 1 }), encode({ z: [{ ["é".repeat(200)]: 1 }] })]) {
      const { socket, messages } = await session(server);
      socket.send(frame);
      await until(() => messages.some(({ type }) => type === "x-fal-error"), 5_000);
      expect(messages.at(-1).reason).toMatch(/name may be 256 bytes/);
    }
  });

  it("keep nothing of a frame but the picture that it holds", async () => {
    const server = await serving();
    const { socket, messages } = await session(server);
    socket.send(encode({ prompt: "x", image: new Uint8Array([1, 2, 3]), rubbish: new Uint8Array(5 * MIB) }));
    await until(() => messages.some(({ type }) => type === "result"));
    expect(server.inputs[0]?.image?.buffer.byteLength).toBe(3);
    expect(Object.keys(server.inputs[0] ?? {})).not.toContain("rubbish");
  });

  it("keep the known fields of defaults alone, and refuse what is wrong with them", async () => {
    const server = await serving();
    const { socket, messages } = await session(server);
    socket.send(
      encode({
        type: "defaults",
        rubbish: new Uint8Array(20 * MIB),
        num_inference_steps: 2,
        image_bytes: new Uint8Array(9),
      }),
    );
    socket.send(encode({ type: "defaults", prompt: 3, width: 1 }));
    socket.send(encode({ prompt: "x" }));
    await until(() => messages.some(({ type }) => type === "result"), 10_000);
    expect(server.inputs[0]).toMatchObject({ num_inference_steps: 2 });
    expect(server.inputs[0]?.image?.byteLength).toBe(9);
    expect(messages.find(({ type }) => type === "x-fal-error")?.reason).toMatch(/prompt: .*string.*width: /i);
    expect(server.account.bytes("sessions")).toBeLessThan(100_000);
  });

  it("together hold no more than they may, and give it back when they end", async () => {
    const server = await serving({ sessions: 12 * MIB });
    const sessions = [];
    for (let n = 0; n < 6; n++) {
      const one = await session(server);
      one.socket.send(encode({ type: "defaults", image: new Uint8Array(3 * MIB) }));
      one.socket.send(encode({ prompt: "x", num_inference_steps: 1 }));
      await until(() => one.messages.some(({ type }) => type === "result" || type === "error"), 5_000);
      sessions.push(one);
    }
    const refused = sessions.filter(({ messages }) => messages.some(({ error }) => error === "HTTP_503"));
    expect(refused.length).toBeGreaterThanOrEqual(3);
    expect(server.account.bytes("sessions")).toBeLessThanOrEqual(12 * MIB);
    for (const { socket } of sessions) socket.close(1000);
    await until(() => server.account.bytes("sessions") === 0);
  });

  it("that were broken off count among those of their client", async () => {
    const server = await serving({}, { gate: { sessions: 4 } });
    for (let n = 0; n < 12; n++) {
      const { socket } = await session(server);
      socket.send(encode({ type: "defaults", image: new Uint8Array(MIB) }));
      await sleep(20);
      socket.terminate();
      await sleep(20);
    }
    await until(() => server.account.bytes("sessions") < 5 * MIB);
    expect(server.account.bytes("sessions")).toBeGreaterThan(3 * MIB);
  });

  it("are not told an id that no request may have", async () => {
    const errors: unknown[] = [];
    const server = await serving({}, { onError: (error) => errors.push(error) });
    const { socket, messages } = await session(server);
    const long = "\0".repeat(MIB);
    for (const type of ["cancel", "update", "request", undefined]) {
      for (const request_id of [long, 2 ** 63, 7, {}, [1], true, new Uint8Array(9), null]) {
        socket.send(encode({ type, request_id, prompt: "x", num_inference_steps: 1, input_id: long.slice(0, 2000) }));
      }
    }
    socket.send(encode({ type: "cancel", request_id: 1234567890123456789n }, { useBigInt64: true }));
    await until(() => messages.some(({ request_id }) => request_id === "1234567890123456789"), 10_000);
    const longest = Math.max(...messages.map((message) => String(message.request_id ?? "").length));
    expect(longest).toBeLessThanOrEqual(128);
    expect(errors).toEqual([]);
    expect(socket.readyState).toBe(socket.OPEN);
  });

  it("are bound by the requests of a minute", async () => {
    const server = await serving({}, { gate: { requestsPerMinute: 5 } });
    const { socket, messages } = await session(server, "?mode=queue");
    for (let n = 0; n < 10; n++) socket.send(encode({ prompt: "x", num_inference_steps: 1 }));
    await until(() => messages.filter(({ type }) => type === "result" || type === "error").length === 10, 10_000);
    // The session itself was the first of five.
    expect(messages.filter(({ type }) => type === "result").length).toBe(4);
    const refused = messages.filter(({ type }) => type === "error");
    expect(refused[0]).toMatchObject({ status: 429, retry_after: expect.any(Number) });
    expect((await fetch(server.url, { method: "POST", body: "{}" })).status).toBe(429);
  });

  it("close with 1013 when a frame stays half sent while others need the memory", async () => {
    const server = await serving({ bodies: 4 * MIB });
    const half = await session(server);
    const raw = (half.socket as unknown as { _socket: net.Socket })._socket;
    raw.write(Buffer.concat([Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(3 * MIB)]));
    await until(() => server.account.bytes("bodies") > 2 * MIB);
    await sleep(1_200);
    const other = await session(server);
    const rest = (other.socket as unknown as { _socket: net.Socket })._socket;
    rest.write(
      Buffer.concat([Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(2 * MIB)]),
    );
    await until(() => half.code !== 0);
    expect(half.code).toBe(1013);
    expect(other.code).toBe(0);
    other.socket.terminate();
    await until(() => server.account.bytes("bodies") === 0);
  });
});

describe("answers", () => {
  it("that nobody reads are cut off where they take too much together, and are given back", async () => {
    const run = gradientRun();
    const server = await serving(
      { answers: 6 * MIB },
      { run: (input, context) => run({ ...input, num_inference_steps: 1, step_ms: 0, side: 1024 }, context) },
    );
    const body = '{"prompt":"x","output_format":"png"}';
    const unread = [];
    for (const path of ["/", "/stream", "/v1/images/generations", "/sdapi/v1/txt2img"]) {
      for (let n = 0; n < 5; n++) {
        const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
        const one = await sending(server, head + body, "127.0.0.2");
        one.socket.pause();
        unread.push(one);
      }
    }
    const { socket } = await session(server, "?mode=queue");
    socket.pause();
    for (let n = 0; n < 12; n++) socket.send(encode({ prompt: "x", output_format: "png" }));
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, server.account.bytes("answers"));
    }, 1);
    await until(() => server.inputs.length >= 0 && most > 4 * MIB, 20_000);
    await sleep(1_500);
    clearInterval(watch);
    expect(most).toBeLessThanOrEqual(6 * MIB);
    expect(await draw(server)).toBe(200);
    for (const { socket } of unread) socket.destroy();
    socket.terminate();
    await until(() => server.account.bytes("answers") === 0, 10_000);
  });
});

it("limits hold for changes to what runs as for requests", async () => {
  const run = gradientRun();
  const server = await serving(
    {},
    {
      limits: { promptCharacters: 50 },
      run: (input, context) => {
        context.updates?.[Symbol.asyncIterator](); // it takes changes
        return run({ ...input, step_ms: 50, num_inference_steps: 100 }, context);
      },
    },
  );
  const job = fetch(`${server.url}/queue/a/b`, { method: "POST", body: '{"prompt":"x","request_id":"job"}' });
  expect((await job).status).toBe(200);
  const patch = (prompt: string) =>
    fetch(`${server.url}/jobs/job`, { method: "PATCH", body: JSON.stringify({ prompt }) }).then(({ status }) => status);
  expect([await patch("y".repeat(51)), await patch("y".repeat(50))]).toEqual([422, 202]);
  const { socket, messages } = await session(server);
  socket.send(encode({ prompt: "x", request_id: "mine" }));
  socket.send(encode({ type: "update", request_id: "mine", negative_prompt: "n".repeat(51) }));
  await until(() => messages.some(({ type }) => type === "x-fal-error"));
  expect(messages.find(({ type }) => type === "x-fal-error")).toMatchObject({ error: "HTTP_422" });
});

describe("pings", () => {
  /** A masked ping, as clients send it. */
  const ping = (payload: string) =>
    Buffer.concat([Buffer.from([0x89, 0x80 | payload.length, 0, 0, 0, 0]), Buffer.from(payload)]);

  it("of a client that reads are answered", async () => {
    const { url } = await serving();
    const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`);
    await once(socket, "open");
    const ponged = once(socket, "pong");
    socket.ping("one");
    expect(String((await ponged)[0])).toBe("one");
    socket.close();
  });

  it("of a client that does not read end its connection before their answers grow", async () => {
    let most = 0;
    let sockets: WebSocketServer | undefined;
    const server = await listen(createApp({ run: gradientRun(), health: () => ({}) }), 0, "127.0.0.1", {
      onServer: (_, webSockets) => {
        sockets = webSockets as WebSocketServer;
      },
    });
    open.push(server);
    const key = Buffer.alloc(16).toString("base64");
    const upgrade = `GET /realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`;
    const client = await sending(server, upgrade);
    await until(() => sockets!.clients.size === 1);
    client.socket.pause();
    const [socket] = sockets!.clients;
    socket!.on("ping", () => {
      most = Math.max(most, socket!.bufferedAmount);
    });
    const flood = Buffer.concat(Array.from({ length: 1_000 }, () => ping("x".repeat(125))));
    for (let n = 0; n < 200 && socket!.readyState === socket!.OPEN; n++) {
      client.socket.write(flood);
      await sleep(2);
    }
    await until(() => socket!.readyState === socket!.CLOSED);
    expect(most).toBeLessThan(64 * 1024);
  });
});
