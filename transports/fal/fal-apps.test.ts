/** The paths of fal.run at a real server, by fal's own client and by plain WebSockets. */
import { once } from "node:events";
import { createFalClient } from "@fal-ai/client";
import { afterEach, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

const MODEL = { name: "landscapes", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };

/** A server whose pictures are as wide as was asked, and the requests that it has run. */
async function serving(options: Partial<AppOptions> = {}) {
  const ran: { prompt: string; width: number | undefined; height: number | undefined; previews: number }[] = [];
  const record: RunRecord = { steps: 0, ended: false, aborted: false };
  const app = createApp({
    run: (input, context) => {
      ran.push({ prompt: input.prompt, width: input.width, height: input.height, previews: input.preview_every });
      const step_ms = input.prompt === "slow" ? 20 : 1;
      if (input.prompt === "broken") throw new Error("secret");
      return gradientRun(record)({ ...input, side: input.width ?? 64, step_ms }, context);
    },
    health: () => ({}),
    model: MODEL,
    ...options,
  });
  const server: Listening = await listen(app, 0, "127.0.0.1");
  closing.push(() => server.close());
  return { url: server.url, ran, record, server };
}

const body = (fields: object = {}) => JSON.stringify({ prompt: "x", ...fields });
const post = (address: string, fields?: object) => fetch(address, { method: "POST", body: body(fields) });

describe("POST /{app}", () => {
  const APPS = ["landscapes", "fal-ai/flux/dev", "me/landscapes", "fal-ai/flux-pro/v1.1-ultra/redux"];

  it.each(APPS)("runs %s, and streams it", async (app) => {
    const { url, ran } = await serving();
    const response = await post(`${url}/${app}`, { image_size: { width: 128, height: 128 } });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ images: [{ width: 128 }], seed: 7 });
    const stream = await post(`${url}/${app}/stream`, { image_size: "square", width: 64 });
    expect(stream.headers.get("content-type")).toBe("text/event-stream");
    expect(await stream.text()).toMatch(/"type":"preview".*"type":"result"/s);
    expect(ran).toEqual([
      { prompt: "x", width: 128, height: 128, previews: 0 },
      { prompt: "x", width: 64, height: 512, previews: 5 },
    ]);
  });

  it("is fal's client's run and stream, unmodified but for the address", async () => {
    const { url } = await serving();
    const fal = createFalClient({
      credentials: "key",
      suppressLocalCredentialsWarning: true,
      requestMiddleware: async (request) => ({ ...request, url: request.url.replace("https://fal.run", url) }),
    });
    const { data } = await fal.run("fal-ai/flux/dev", { input: { prompt: "x", image_size: "square" } });
    expect(data).toMatchObject({ images: [{ width: 512 }] });
    const stream = await fal.stream("fal-ai/flux/dev", { input: { prompt: "x" } });
    expect(await stream.done()).toMatchObject({ type: "result", seed: 7 });
    await expect(
      fal.run("fal-ai/flux/dev", { input: { prompt: "x", image_size: "huge" as "square" } }),
    ).rejects.toMatchObject({ status: 422, body: { detail: [{ loc: ["body", "image_size"] }] } });
  });

  it("is not there under names of nobody's, and hides no route", async () => {
    const { url, ran } = await serving();
    const status = async (method: string, path: string) => {
      const response = await fetch(url + path, { method, body: method === "POST" ? body() : undefined });
      return [response.status, response.headers.get("content-type")?.split(";")[0], await response.text()];
    };
    const missing = [404, "application/json", '{"detail":"Not Found"}'];
    for (const path of [
      "/other",
      "/LANDSCAPES",
      "/a b/c",
      "//stream",
      "/stream/",
      "/a//b",
      "/%",
      "/a/b/requests/c",
      "/a/b/requests",
    ]) {
      expect(await status("POST", path), path).toEqual(missing);
    }
    for (const path of ["/other", "/a/b", "/a/b/stream", "/robots.txt", "/.well-known/x"]) {
      expect(await status("GET", path), path).toEqual(missing);
    }
    for (const path of ["/a/b/realtime", "/stream/x", "/playground/x.js", "/health", "/docs", "/jobs/x"]) {
      expect((await status("POST", path))[0], path).toBe(405);
    }
    for (const path of ["/jobs/x/y", "/auth/x", "/realtime/x", "/playground/x/y", "/metrics/x"]) {
      expect((await status("POST", path))[0], path).toBe(404);
    }
    expect(JSON.parse(String((await status("POST", "/v1/chat/completions"))[2]))).toHaveProperty("error.message");
    for (const path of ["/landscapes", "/landscapes/stream", "/landscapes/realtime"]) {
      expect((await status("GET", path))[0], path).toBe(426);
    }
    expect(ran).toEqual([]);
  });

  it("needs the scope of its transport, and counts as work", async () => {
    const authenticator = createAuthenticator({
      keys: [
        { name: "a", key: "run", scopes: ["run"] },
        { name: "b", key: "realtime", scopes: ["realtime"] },
      ],
    });
    const { url } = await serving({ gate: { authenticator, requestsPerMinute: 2 } });
    const asked = async (path: string, authorization: string) => {
      const response = await fetch(url + path, { method: "POST", headers: { authorization }, body: body() });
      await response.text();
      return response.status;
    };
    expect(await asked("/a/b", "")).toBe(401);
    expect(await asked("/a/b", "Key realtime")).toBe(403);
    expect(await asked("/a/b", "Key run")).toBe(200);
    expect(await asked("/a/b/stream", "Key run")).toBe(200);
    expect(await asked("/a/b", "Key run")).toBe(429);
  });
});

describe("wss …/{app}", () => {
  /** A client of ws.fal.run: sends, and reads the answers as its documentation says. */
  async function connected(address: string, headers: Record<string, string> = {}) {
    const socket = new WebSocket(address.replace("http", "ws"), { headers });
    // biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds
    const texts: any[] = [];
    const chunks: Buffer[] = [];
    socket.on("message", (data: Buffer, binary) => {
      if (binary) chunks.push(data);
      else texts.push(JSON.parse(data.toString()));
    });
    await once(socket, "open");
    closing.push(() => socket.terminate());
    const ends = (count: number) => until(() => texts.filter(({ type }) => type === "end").length >= count, 20_000);
    return { socket, texts, chunks, ends };
  }

  it.each(["landscapes", "fal-ai/flux/dev"])("answers requests in JSON to %s, one after the other", async (app) => {
    const { url, ran } = await serving();
    const { socket, texts, chunks, ends } = await connected(`${url}/${app}`);
    socket.send(body({ prompt: "one", request_id: 7, image_size: "square" }));
    socket.send("{");
    socket.send(body({ width: 1 }));
    socket.send(Buffer.from(body({ prompt: "last", num_inference_steps: 1 })));
    await ends(4);
    expect(chunks).toEqual([]);
    const [start, result, end, ...others] = texts;
    expect(start).toMatchObject({
      type: "start",
      request_id: "7",
      status: 200,
      headers: { "content-type": "application/json" },
    });
    expect(result).toMatchObject({ prompt: "one", request_id: "7", images: [{ width: 512 }] });
    expect(end).toEqual({
      type: "end",
      request_id: "7",
      status: 200,
      time_to_first_byte_seconds: expect.any(Number),
    });
    expect(others.filter(({ type }) => type === "end").map(({ status }) => status)).toEqual([400, 422, 200]);
    expect(ran.map(({ prompt }) => prompt)).toEqual(["one", "last"]);
  });

  it("streams from …/stream, event by event, and says that a run has failed", async () => {
    const { url, record } = await serving();
    const { socket, texts, chunks, ends } = await connected(`${url}/fal-ai/flux/dev/stream`);
    socket.send(body({ prompt: "slow", num_inference_steps: 30 }));
    await until(() => chunks.length > 3);
    expect(record.ended).toBe(false);
    await ends(1);
    expect(texts[0]).toMatchObject({ type: "start", status: 200, headers: { "content-type": "text/event-stream" } });
    expect(Buffer.concat(chunks).toString()).toMatch(/"type":"preview".*"type":"result"/s);
    socket.send(body({ prompt: "broken" }));
    await ends(2);
    expect(texts.at(-1)).toMatchObject({ type: "end", status: 500 });
    expect(JSON.stringify(texts)).not.toContain("secret");
  });

  it("cancels what runs when it closes, and is closed where too much waits", async () => {
    const { url, record, ran } = await serving();
    const { socket } = await connected(`${url}/a/b`);
    for (let index = 0; index < 5; index++) socket.send(body({ prompt: "slow", num_inference_steps: 200 }));
    await until(() => record.steps > 2);
    socket.close();
    await until(() => record.ended);
    expect([record.aborted, ran.length]).toEqual([true, 1]);
    const flood = await connected(`${url}/a/b`);
    for (let index = 0; index < 100; index++) flood.socket.send(body({ prompt: "slow", num_inference_steps: 200 }));
    expect((await once(flood.socket, "close"))[0]).toBe(1008);
  });

  it("needs the scope realtime before it opens, and keeps to the rate", async () => {
    const authenticator = createAuthenticator({
      keys: [
        { name: "a", key: "run", scopes: ["run"] },
        { name: "b", key: "k", scopes: ["realtime"] },
      ],
    });
    const { url } = await serving({ gate: { authenticator, requestsPerMinute: 3 } });
    await expect(connected(`${url}/a/b`, { authorization: "Key run" })).rejects.toThrow("403");
    await expect(connected(`${url}/a/b`)).rejects.toThrow("401");
    const { socket, texts, ends } = await connected(`${url}/a/b`, { authorization: "Key k" });
    for (let index = 0; index < 3; index++) socket.send(body());
    await ends(3);
    expect(texts.filter(({ type }) => type === "end").map(({ status }) => status)).toEqual([200, 200, 429]);
  });

  it("ends when the server does, after the request that runs", async () => {
    const { url, record, server } = await serving();
    const { socket, texts } = await connected(`${url}/a/b`);
    closing.length = 0;
    socket.send(body({ prompt: "slow", num_inference_steps: 20 }));
    await until(() => record.steps > 2);
    const closed = once(socket, "close");
    await server.close(10_000);
    expect((await closed)[0]).toBe(1012);
    expect(texts.at(-1)).toMatchObject({ type: "end", status: 200 });
  });
});

describe("GET /{app}/realtime", () => {
  it("is the session of /realtime", async () => {
    const { url } = await serving();
    const socket = new WebSocket(`${url.replace("http", "ws")}/fal-ai/flux/dev/realtime`);
    closing.push(() => socket.terminate());
    const [first] = (await once(socket, "message")) as [Buffer];
    expect(JSON.parse(first.toString())).toMatchObject({ action: "session" });
  });
});
