/**
 * Fields that mean the same on every transport: sizes in fal's words, ids that are numbers, seeds that no number holds.
 */
import { once } from "node:events";
import { decode, encode } from "@msgpack/msgpack";
import { afterEach, describe, expect, it } from "vitest";
import WebSocket from "ws";
import type { GenerationRequest } from "../src/engine/request.ts";
import { encodePicture } from "../src/image/encode.ts";
import { gradient, until } from "../test/gradient-run.ts";
import { createApp } from "./app.ts";
import { type Listening, listen } from "./http/listen.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
const SEED = 2n ** 64n - 1n;

// biome-ignore lint/suspicious/noExplicitAny: whatever an answer holds; the assertions say what it should
type Fields = any;

async function serving() {
  const ran: GenerationRequest[] = [];
  const app = createApp({
    run: async function* (input, { signal }) {
      ran.push(input);
      // A request that is to be cancelled.
      if (input.prompt === "long") await once(signal, "abort");
      signal.throwIfAborted();
      yield { type: "result", pictures: [gradient(64, 1)], seed: input.seed ?? 0, prompt: input.prompt, timings: {} };
    },
    health: () => ({}),
    model: MODEL,
  });
  const server: Listening = await listen(app, 0, "127.0.0.1");
  closing.push(() => server.close());
  return { url: server.url, ran };
}

const post = (address: string, fields: object) => fetch(address, { method: "POST", body: JSON.stringify(fields) });

/** A session of /realtime, and what it has been sent: outputs as they are decoded, control frames as JSON. */
async function session(url: string) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime?mode=queue`);
  const outputs: Fields[] = [];
  const controls: Fields[] = [];
  socket.on("message", (data: Buffer, binary) =>
    binary ? outputs.push(decode(data)) : controls.push(JSON.parse(data.toString())),
  );
  await once(socket, "open");
  closing.push(() => socket.terminate());
  return { socket, outputs, controls, send: (message: object) => socket.send(encode(message)) };
}

/** Asks in each way for a picture; gives the last event, or the answer. */
const TRANSPORTS: Readonly<Record<string, (url: string, fields: Fields) => Promise<Fields>>> = {
  "POST /": async (url, fields) => (await post(`${url}/`, fields)).json(),
  "POST /stream": async (url, fields) => lastOf(await (await post(`${url}/stream`, fields)).text()),
  "GET /stream": async (url, fields) =>
    lastOf(await (await fetch(`${url}/stream?${new URLSearchParams(fields)}`)).text()),
  "POST /{app}": async (url, fields) => (await post(`${url}/fal-ai/flux/dev`, fields)).json(),
  "POST /{app}/stream": async (url, fields) => lastOf(await (await post(`${url}/fal-ai/flux/stream`, fields)).text()),
  "POST /queue/{app}": async (url, fields) => {
    const { response_url, detail } = (await (await post(`${url}/queue/a/b`, fields)).json()) as Fields;
    if (detail !== undefined) return { detail };
    for (;;) {
      const answer = await fetch(response_url);
      const result = (await answer.json()) as Fields;
      if (answer.status !== 400) return result;
    }
  },
  "POST /sdapi/v1/txt2img": async (url, fields) => {
    const answer = (await (await post(`${url}/sdapi/v1/txt2img`, fields)).json()) as Fields;
    return answer.info === undefined ? answer : JSON.parse(answer.info);
  },
  "a session": async (url, fields) => {
    const { outputs, send } = await session(url);
    send(fields);
    await until(() => outputs.length > 0);
    return outputs[0];
  },
  "a session in JSON": async (url, fields) => {
    const { outputs, socket } = await session(url);
    socket.send(JSON.stringify(fields));
    await until(() => outputs.length > 0);
    return outputs[0];
  },
  "a session's defaults": async (url, { prompt, ...fields }) => {
    const { outputs, controls, send } = await session(url);
    send({ type: "defaults", ...fields });
    send({ prompt });
    await until(() => outputs.length > 0);
    const error = controls.find(({ type }) => type === "x-fal-error");
    return error === undefined ? outputs[0] : { detail: error.reason };
  },
  "a WebSocket of JSON": async (url, fields) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/fal-ai/flux`);
    closing.push(() => socket.terminate());
    const frames: Fields[] = [];
    socket.on("message", (data: Buffer) => frames.push(JSON.parse(data.toString())));
    await once(socket, "open");
    socket.send(JSON.stringify(fields));
    await until(() => frames.length === 3);
    return frames[1];
  },
};

function lastOf(text: string): Fields {
  const data = [...text.matchAll(/^data: (.*)$/gm)].at(-1)?.[1];
  return JSON.parse(data ?? text);
}

describe.each(Object.keys(TRANSPORTS))("over %s", (name) => {
  const ask = TRANSPORTS[name]!;

  // The web UI has neither, and ignores fields that it has not.
  it.skipIf(name.includes("sdapi"))(
    "image_size is a size, which width and height overrule, and nonsense is refused",
    async () => {
      const { url, ran } = await serving();
      await ask(url, { prompt: "x", image_size: "landscape_16_9" });
      await ask(url, { prompt: "x", image_size: "square", width: 64 });
      const expected: (number | undefined)[][] = [
        [1024, 576],
        [64, 512],
      ];
      // A query holds texts alone.
      if (name !== "GET /stream") {
        await ask(url, { prompt: "x", image_size: { width: 256, height: 128 } });
        expected.push([256, 128]);
      }
      expect(ran.map(({ width, height }) => [width, height])).toEqual(expected);
      expect(JSON.stringify(await ask(url, { prompt: "x", image_size: "huge" }))).toContain("image_size");
    },
  );

  // A session makes an id for each request that has none of its own.
  it.skipIf(name === "a session's defaults" || name.includes("sdapi"))(
    "a number is its decimal text as an id",
    async () => {
      const { url } = await serving();
      const answer = await ask(url, { prompt: "x", request_id: 42, input_id: 7 });
      expect(answer).toMatchObject({ request_id: "42", input_id: "7" });
    },
  );

  it("a seed that no number holds comes back digit by digit", async () => {
    const { url, ran } = await serving();
    expect(await ask(url, { prompt: "x", seed: String(SEED) })).toMatchObject({ seed: String(SEED) });
    expect(ran[0]!.seed).toBe(SEED);
    expect(await ask(url, { prompt: "x", seed: String(2n ** 53n - 1n) })).toMatchObject({ seed: 2 ** 53 - 1 });
  });
});

describe("an id that is a number", () => {
  it("finds its job on every path", async () => {
    const { url } = await serving();
    await (await post(`${url}/queue/a/b`, { prompt: "long", request_id: 42 })).json();
    expect((await fetch(`${url}/jobs/42`)).status).toBe(200);
    expect((await fetch(`${url}/queue/a/b/requests/42/status`)).status).toBe(202);
    expect((await fetch(`${url}/queue/a/b/requests/42/cancel`, { method: "PUT" })).status).toBe(202);
  });

  it("cancels its request in a session, and is named where there is none", async () => {
    const { url, ran } = await serving();
    const { outputs, controls, send } = await session(url);
    send({ prompt: "long", request_id: 42 });
    await until(() => ran.length > 0);
    send({ type: "update", request_id: 43, prompt: "y" });
    send({ type: "cancel", request_id: 42 });
    await until(() => outputs.some(({ type }) => type === "error"));
    expect(outputs).toEqual([expect.objectContaining({ request_id: "42", status: 499 })]);
    expect(controls.filter(({ action }) => action === "not-found")).toEqual([
      expect.objectContaining({ request_id: "43" }),
    ]);
  });
});

it("a request's own words for a size or a picture take the place of a session's defaults in other words", async () => {
  const { url, ran } = await serving();
  const { outputs, send } = await session(url);
  const { bytes } = await encodePicture(gradient(8, 1), { format: "png" });
  send({ type: "defaults", width: 128, height: 64, image: bytes });
  send({ prompt: "1" });
  send({ prompt: "2", image_size: { width: 512, height: 256 } });
  const other = await encodePicture(gradient(16, 1), { format: "png" });
  send({ prompt: "3", width: 256, image_url: `data:image/png;base64,${Buffer.from(other.bytes).toString("base64")}` });
  send({
    type: "defaults",
    image_size: "square",
    image_url: `data:image/png;base64,${Buffer.from(bytes).toString("base64")}`,
  });
  send({ prompt: "4", image: other.bytes });
  send({ prompt: "5", width: 64, image_bytes: other.bytes });
  await until(() => outputs.filter(({ type }) => type === "result").length === 5);
  expect(ran.map(({ prompt, width, height, image }) => [prompt, width, height, image?.length])).toEqual([
    ["1", 128, 64, bytes.length],
    ["2", 512, 256, bytes.length],
    ["3", 256, 64, other.bytes.length],
    ["4", 512, 512, other.bytes.length],
    ["5", 64, 512, other.bytes.length],
  ]);
});
