/**
 * Hostile input over every way in: an answer in the documented form or a closed
 * connection, nothing of the inside in any of it, and a server that still works.
 */
import type { IncomingMessage } from "node:http";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, ExtData, encode } from "@msgpack/msgpack";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { gradientRun } from "../../test/gradient-run.ts";
import { createApp } from "../app.ts";
import { DONE } from "../job-routes.ts";
import { createMetrics } from "../observe/metrics.ts";
import { openaiErrorSchema } from "../openai/openai-error.ts";
import { FAILURE } from "../openapi/describe.ts";
import { resultSchema } from "../wire/events.ts";
import { type Listening, listen } from "./listen.ts";

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 4, countTokens: () => 3 };
const BODY_BYTES = 64 * 1024;
/** A stack, a file of ours or of Node's, a module. */
const INSIDE = /node_modules|node:internal|\.(ts|js|mjs):\d|\/work\/|\/usr\/|\/root|\bat \S+ \(|ECONN|ENOENT|zod/i;

let server: Listening;
const reported: unknown[] = [];
beforeAll(async () => {
  const run = gradientRun();
  const metrics = createMetrics();
  const app = createApp({
    run: (input, context) => run({ ...input, step_ms: 0, side: 64 }, context),
    health: () => ({}),
    model: MODEL,
    metrics,
    limits: { bodyBytes: BODY_BYTES, steps: 8 },
    jobs: { retainedJobs: 8 },
    onError: (error) => reported.push(error),
  });
  server = await listen(app, 0, "127.0.0.1", {
    headersMs: 500,
    requestMs: 1_000,
    frameBytes: 256 * 1024,
    connections: 200,
    onServer: metrics.watch,
  });
});
afterAll(() => server.close(), 10_000);

/** mulberry32, so that a failure can be repeated. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const WAYS = [
  ["POST", "/"],
  ["POST", "/stream"],
  ["POST", "/v1/images/generations"],
  ["POST", "/v1/images/edits"],
  ["POST", "/sdapi/v1/txt2img"],
  ["POST", "/sdapi/v1/img2img"],
  ["POST", "/sdapi/v1/options"],
  ["POST", "/sdapi/v1/png-info"],
  ["GET", "/sdapi/v1/progress"],
  ["POST", "/queue/a/b"],
  ["POST", "/queue/a/requests/b"],
  ["POST", "/auth/token"],
  ["PATCH", "/jobs/none"],
  ["DELETE", "/jobs/%00"],
  ["GET", "/jobs/%F0%28%8C%28"],
  ["GET", "/jobs/..%2f..%2fetc%2fpasswd"],
  ["GET", "/stream/none"],
  ["GET", "/stream"],
  ["GET", "/playground/..%2f..%2fpackage.json"],
  ["GET", "/queue/a/requests/none/status"],
  ["GET", "/queue/a/requests/none/status/stream"],
  ["PUT", "/queue/a/requests/none/cancel"],
  ["PUT", "/"],
  ["PROPFIND", "/"],
] as const;

const FIELDS = [
  "prompt",
  "width",
  "seed",
  "image",
  "image_url",
  "loras",
  "num_images",
  "request_id",
  "size",
  "n",
  "stream",
];

function hostileValue(random: () => number, depth: number = 0): unknown {
  const pick = <T>(...values: T[]): T => values[Math.floor(random() * values.length)] as T;
  const kind = Math.floor(random() * 10);
  if (kind < 6 || depth > 3) {
    return pick<unknown>(
      null,
      true,
      -1,
      0.5,
      1e308,
      -0,
      2 ** 53,
      "",
      "\u0000",
      "\ud800",
      "../../etc/passwd",
      "data:image/png;base64,AAAA",
      "data:image/svg+xml;base64,PHN2Zy8+",
      `data:image/png;base64,${"A".repeat(2000)}`,
      "file:///etc/passwd",
      "http://169.254.169.254/",
      "x".repeat(9000),
      "{{7*7}}",
      [],
      {},
    );
  }
  if (kind < 8) return Array.from({ length: Math.floor(random() * 12) }, () => hostileValue(random, depth + 1));
  const object: Record<string, unknown> = {};
  for (let i = 0; i < random() * 6; i++) {
    object[pick(...FIELDS, "__proto__", "constructor", "toString", "a.b", "")] = hostileValue(random, depth + 1);
  }
  return object;
}

function hostileBody(random: () => number): string {
  const kind = Math.floor(random() * 12);
  if (kind === 0) return "[".repeat(20_000);
  if (kind === 1) return `{"prompt":${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}}`;
  if (kind === 2) return '{"prompt":"x"'.slice(0, Math.floor(random() * 13));
  if (kind === 3) return '{"__proto__":{"prompt":"x"},"constructor":{"prototype":{"prompt":"x"}}}';
  if (kind === 4) return "\u0000\u0001\u0002";
  if (kind === 5) return `{"prompt":"${"y".repeat(BODY_BYTES)}"}`;
  if (kind === 6) return '--b\r\nContent-Disposition: form-data; name="image"; filename="../../x"\r\n\r\n\u0000\r\n--b';
  const fields: Record<string, unknown> = random() < 0.7 ? { prompt: "x" } : {};
  for (let i = 0; i < 4; i++) {
    fields[FIELDS[Math.floor(random() * FIELDS.length)] as string] = hostileValue(random);
  }
  return JSON.stringify(random() < 0.1 ? hostileValue(random) : fields);
}

/** Messages of a session: an event, and a frame about the session. */
const FrameEvent = z.looseObject({
  type: z.enum(["queued", "progress", "preview", "result", "error"]),
  // The id of the request is sent back, even if the request is refused for it.
  request_id: z.string().max(128),
});
const ControlFrame = z.union([
  z.looseObject({ type: z.literal("x-fal-message"), action: z.enum(["session", "superseded", "not-found"]) }),
  z.looseObject({ type: z.literal("x-fal-error"), error: z.string().regex(/^HTTP_\d{3}$/), reason: z.string().min(1) }),
]);

function hostileFrame(random: () => number): Uint8Array | string {
  const pick = <T>(...values: T[]): T => values[Math.floor(random() * values.length)] as T;
  const request = () => ({
    type: pick<unknown>(undefined, undefined, "request", "cancel", "update", "defaults", "surprise", 7),
    request_id: pick<unknown>("r", "r2", "", "x".repeat(300), 7, undefined, null),
    prompt: pick<unknown>("x", "x", "x", undefined, 3),
    num_inference_steps: pick<unknown>(1, 2, 1, 0, "many"),
    interrupt: pick<unknown>(true, false, undefined, "yes"),
    mode: pick<unknown>("queue", "latest", undefined, {}),
    image_bytes: pick<unknown>(undefined, undefined, Uint8Array.of(1, 2, 3), "http://169.254.169.254/", 7),
  });
  const fields = () => {
    const made: Record<string, unknown> = request();
    if (random() < 0.3) made[pick(...FIELDS, "__proto__", "toString", "image_bytes")] = hostileValue(random);
    return made;
  };
  const packed = () => encode(fields(), { ignoreUndefined: random() < 0.5 });
  switch (Math.floor(random() * 10)) {
    case 0:
      return Uint8Array.from({ length: Math.floor(random() * 60) }, () => random() * 256);
    case 1: {
      const frame = packed();
      return frame.slice(0, Math.floor(random() * frame.length));
    }
    case 2: {
      const frame = Uint8Array.from(packed());
      for (let hits = 0; hits < 3; hits++) frame[Math.floor(random() * frame.length)] = random() * 256;
      return frame;
    }
    case 3:
      // Lengths that lie, in each of their forms.
      return Uint8Array.of(pick(0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf), 255, 255, 255, 255, 0x61);
    case 4:
      return pick<Uint8Array>(
        encode({ prompt: new ExtData(Math.floor(random() * 127), Uint8Array.of(1, 2)) }),
        encode({ prompt: new Date() }),
        new Uint8Array(20_000).fill(pick(0x91, 0x81)),
      );
    case 5:
      return pick("{", "", "null", "[]", "7", '{"prompt":', `${'{"a":'.repeat(3_000)}1${"}".repeat(3_000)}`, "\u0000");
    case 6:
      return JSON.stringify({ ...fields(), image_bytes: undefined });
    default:
      return packed();
  }
}

const CONTENT_TYPES = [
  "application/json",
  "multipart/form-data; boundary=b",
  "multipart/form-data",
  "text/plain",
  "application/x-www-form-urlencoded",
  "x",
];

async function works(): Promise<void> {
  const answer = await fetch(server.url, { method: "POST", body: '{"prompt":"x"}' });
  expect(resultSchema.safeParse(await answer.json()).error).toBeUndefined();
}

describe("hostile requests", () => {
  it("of 2,000 random kinds are answered in the documented form", async () => {
    const random = randomFrom(20261121);
    const statuses: Record<number, number> = {};
    for (let round = 0; round < 2000; round += 10) {
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          const [method, path] = WAYS[Math.floor(random() * WAYS.length)] as (typeof WAYS)[number];
          const query =
            random() < 0.3
              ? `?prompt=${encodeURIComponent("%00\u{1F600}")}&width=${random() < 0.5 ? -1 : "1e99"}&fal_webhook=http://127.0.0.1/`
              : "";
          const body = method === "GET" || method === "PROPFIND" ? undefined : hostileBody(random);
          const type = CONTENT_TYPES[Math.floor(random() * CONTENT_TYPES.length)] as string;
          const headers = {
            "content-type": type,
            "last-event-id": random() < 0.1 ? "-1e9" : "0",
            "x-forwarded-for": "::1",
          };
          const response = await fetch(server.url + path + query, { method, headers, body });
          // A stream that fails after it has begun ends with its connection.
          const text = await response.text().catch(() => "");
          const where = `${method} ${path}${query} ${type} ${body?.slice(0, 300)} → ${response.status} ${text.slice(0, 300)}`;
          statuses[response.status] = (statuses[response.status] ?? 0) + 1;
          // 503 is the full line; nothing else may be the server's fault.
          expect(response.status < 500 || response.status === 503, where).toBe(true);
          const answer = text.replace(/"b64_json":"[^"]*"|"url":"[^"]*"|"prompt":"[^"]*"/g, "");
          expect(answer, where).not.toMatch(INSIDE);
          if (response.status < 400 || response.status === 204) return;
          const form = path.startsWith("/v1/")
            ? openaiErrorSchema
            : path.endsWith("/cancel")
              ? DONE.schema
              : FAILURE.schema;
          expect(form.safeParse(JSON.parse(text)).error, where).toBeUndefined();
        }),
      );
    }
    expect(Object.keys(statuses).length).toBeGreaterThan(4);
    expect(({} as Record<string, unknown>).prompt).toBeUndefined();
    expect(reported).toEqual([]);
    await works();
  });

  it("of 8,000 random frames over WebSocket are answered in the documented form, or closed with the documented code", async () => {
    const random = randomFrom(20261125);
    const seen: Record<string, number> = {};
    const count = (what: string) => {
      seen[what] = (seen[what] ?? 0) + 1;
    };
    const FRAMES = 8_000;
    let sent = 0;
    async function client(): Promise<void> {
      const socket = new WebSocket(
        `${server.url.replace("http", "ws")}/realtime?mode=${random() < 0.2 ? "queue" : ""}`,
      );
      const faults: string[] = [];
      socket.on("message", (data: Buffer, binary) => {
        const message = binary ? (decode(data) as Record<string, unknown>) : JSON.parse(data.toString());
        const form = binary ? FrameEvent : ControlFrame;
        const told = JSON.stringify({
          ...message,
          session: undefined,
          image: undefined,
          images: undefined,
          prompt: undefined,
        });
        if (form.safeParse(message).error !== undefined || INSIDE.test(told)) faults.push(told);
        count(binary ? `event ${message.type} ${message.status ?? ""}` : `control ${message.action ?? message.error}`);
      });
      const closed = new Promise<number>((resolve) => socket.once("close", resolve));
      socket.on("error", () => {});
      await new Promise((resolve) => socket.once("open", resolve).once("close", resolve));
      for (let n = 0; n < 20 && socket.readyState === socket.OPEN; n++) {
        const frame = hostileFrame(random);
        socket.send(frame);
        sent++;
        // Some come one by one, so that what is next finds a session in a state of its own.
        if (random() < 0.3) await sleep(2);
      }
      if (socket.readyState === socket.OPEN) socket.close(1000);
      const code = await closed;
      count(`closed ${code}`);
      expect(faults).toEqual([]);
      expect([1000, 1008, 1009]).toContain(code);
    }
    while (sent < FRAMES) await Promise.all(Array.from({ length: 8 }, client));
    // Every kind of answer was among them.
    for (const what of ["event error 422", "event result ", "control HTTP_400", "control superseded", "closed 1008"]) {
      expect(seen).toHaveProperty([what]);
    }
    expect(reported).toEqual([]);
    await works();
  });

  it("that break WebSocket's own rules are closed with its codes", async () => {
    const frame = (first: number, length: number[], payload: Buffer = Buffer.alloc(0)) =>
      Buffer.concat([Buffer.from([first, ...length]), Buffer.alloc(length[0]! >= 0x80 ? 4 : 0), payload]);
    const cases: [string, Buffer, number][] = [
      ["no mask", frame(0x82, [1], Buffer.from([0xc0])), 1002],
      ["a reserved bit", frame(0xf2, [0x81], Buffer.from([0xc0])), 1002],
      ["a reserved opcode", frame(0x83, [0x81], Buffer.from([0xc0])), 1002],
      ["a continuation of nothing", frame(0x80, [0x81], Buffer.from([0xc0])), 1002],
      ["a ping of 200 bytes", frame(0x89, [0xfe, 0, 200], Buffer.alloc(200)), 1002],
      ["2^62 bytes, they say", frame(0x82, [0xff, 0x40, 0, 0, 0, 0, 0, 0, 0]), 1009],
      ["64 MiB, they say", frame(0x82, [0xff, 0, 0, 0, 0, 4, 0, 0, 0]), 1009],
      ["text that is not UTF-8", frame(0x81, [0x82], Buffer.from([0xc3, 0x28])), 1007],
      ["a close code that is none", frame(0x88, [0x82], Buffer.from([0, 1])), 1002],
    ];
    for (const [what, bytes, code] of cases) {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime`);
      socket.on("error", () => {});
      const closed = new Promise((resolve) => socket.once("close", resolve));
      const { socket: raw } = await new Promise<IncomingMessage>((resolve) => socket.once("upgrade", resolve));
      raw.write(bytes);
      expect(await closed, what).toBe(code);
    }
    // A message in parts without end is too large at last.
    const endless = new WebSocket(`${server.url.replace("http", "ws")}/realtime`);
    endless.on("error", () => {});
    const closed = new Promise((resolve) => endless.once("close", resolve));
    const { socket: raw } = await new Promise<IncomingMessage>((resolve) => endless.once("upgrade", resolve));
    raw.write(frame(0x02, [0xfe, 0x40, 0], Buffer.alloc(0x4000)));
    const part = frame(0x00, [0xfe, 0x40, 0], Buffer.alloc(0x4000));
    const pushing = setInterval(() => raw.writable && raw.write(part), 1);
    expect(await closed).toBe(1009);
    clearInterval(pushing);
    await works();
  });

  it("below HTTP are closed, and none of them keeps the server", async () => {
    const raw = (chunks: (string | Buffer)[], waitMs: number = 0) =>
      new Promise<string>((resolve) => {
        let got = "";
        const socket = net.connect(server.port, "127.0.0.1", async () => {
          for (const chunk of chunks) {
            if (!socket.destroyed) socket.write(chunk);
            if (waitMs > 0) await sleep(waitMs);
          }
        });
        socket.on("data", (data) => {
          got += data;
        });
        socket.on("error", () => {});
        socket.on("close", () => resolve(got));
        setTimeout(() => {
          resolve("open");
          socket.destroy();
        }, 8_000).unref();
      });
    const head = "POST /stream HTTP/1.1\r\nHost: x\r\n";
    const answers = await Promise.all([
      raw(["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]),
      raw(["GET / HTTP/9.9\r\n\r\n"]),
      raw([`GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`]),
      raw([`GET / HTTP/1.1\r\nHost: x\r\n${"X-A: b\r\n".repeat(4000)}\r\n`]),
      raw([`${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`]),
      raw([`${head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde`]),
      raw([`${head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n`]),
      raw([`${head}Content-Length: 99999999999\r\nConnection: close\r\n\r\n{}`]),
      raw([`${head}Content-Length: 100\r\n\r\n`, "{", '"', "p"], 400),
      raw(["GET /health HT"]),
      raw([]),
      raw(["GET /realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"]),
      raw(["GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n"]),
    ]);
    for (const answer of answers) {
      expect(answer, "it was still open after 8 s").not.toBe("open");
      expect(answer.split("\r\n")[0]).toMatch(/^$|^HTTP\/1\.1 (4\d\d|200)/);
      expect(answer).not.toMatch(INSIDE);
    }
    await works();
  });

  it("of 100 half-open sockets are closed in time, and others are served meanwhile", async () => {
    const closed: Promise<unknown>[] = [];
    for (let i = 0; i < 100; i++) {
      const socket = net.connect(server.port, "127.0.0.1", () => socket.write("POST / HTTP/1.1\r\nHost: x\r\n"));
      socket.on("error", () => {});
      socket.resume();
      closed.push(new Promise((resolve) => socket.once("close", resolve)));
    }
    await works();
    const late = sleep(5_000).then(() => "late");
    expect(await Promise.race([Promise.all(closed).then(() => "closed"), late])).toBe("closed");
    await works();
  });
});
