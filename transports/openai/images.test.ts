import { Hono } from "hono";
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError, toFile } from "openai";
import { afterEach, describe, expect, it } from "vitest";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { decodePicture, pictureFormat } from "../../src/image/decode.ts";
import { encodePicture } from "../../src/image/encode.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { Run } from "../../src/jobs/run.ts";
import { gradient, gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { type Listening, listen } from "../http/listen.ts";
import { openaiImages } from "./images.ts";
import { sizeOf } from "./images-request.ts";
import { openaiFailure } from "./openai-error.ts";

const MODEL = { name: "gradient", defaultWidth: 512, defaultHeight: 512, defaultSteps: 12 };

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

/** A server of the images API, and OpenAI's own client pointed at it. */
async function serving(run: Run<GenerationRequest, RunEvent> = gradientRun(), maxBodyBytes?: number) {
  const reported: unknown[] = [];
  const app = new Hono();
  let requests = 0;
  app.use(async (_, next) => {
    requests++;
    await next();
  });
  const images = openaiImages(createJobs(run), {
    model: MODEL,
    countTokens: (text) => text.split(" ").length + 2,
    maxBodyBytes,
    onError: (error) => reported.push(error),
  });
  app.route("/v1", images);
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  const client = new OpenAI({ apiKey: "key", baseURL: `${server.url}/v1` });
  return { client, server, reported, requests: () => requests };
}

async function png() {
  const { bytes } = await encodePicture(gradient(64, 1), { format: "png" });
  return toFile(bytes, "start.png", { type: "image/png" });
}

describe("images.generate", () => {
  it("answers with pictures in base64, PNG unless asked otherwise, and counts tokens", async () => {
    const { client } = await serving();
    const answer = await client.images.generate({ model: "gpt-image-1", prompt: "a red hill" });
    expect(answer).toMatchObject({ size: "64x64", quality: "medium", output_format: "png", background: "opaque" });
    expect(answer.usage).toEqual({
      total_tokens: 5,
      input_tokens: 5,
      output_tokens: 0,
      input_tokens_details: { text_tokens: 5, image_tokens: 0 },
    });
    const picture = await decodePicture(Buffer.from(answer.data![0]!.b64_json!, "base64"));
    expect(picture.rgba).toEqual(gradient(64, 1).rgba);
  });

  it("maps size, quality and count, and passes our own fields on", async () => {
    const seen: GenerationRequest[] = [];
    const { client } = await serving((input, context) => {
      seen.push(input);
      return gradientRun()(input, context);
    });
    await client.images.generate({
      model: "gradient",
      prompt: "x",
      size: "1536x1024",
      quality: "low",
      n: 2,
      output_format: "webp",
      user: "somebody",
      // @ts-expect-error: not a field of OpenAI's
      seed: 9,
    });
    expect(seen[0]).toMatchObject({
      width: 640,
      height: 448,
      num_inference_steps: 6,
      num_images: 2,
      seed: 9,
      output_format: "webp",
      preview_every: 0,
    });
  });

  it.each([0, 1, 2, 3] as const)("streams %i partial images, then the picture", async (partial_images) => {
    const { client } = await serving();
    const stream = await client.images.generate({ prompt: "a hill", stream: true, partial_images });
    const events = [];
    for await (const event of stream) events.push(event);
    expect(events.map((event) => event.type)).toEqual([
      ...Array(partial_images).fill("image_generation.partial_image"),
      "image_generation.completed",
    ]);
    events.slice(0, -1).forEach((event, index) => {
      expect(event).toMatchObject({ partial_image_index: index, size: "64x64", output_format: "png" });
      expect(pictureFormat(Buffer.from(event.b64_json, "base64"))).toBe("png");
    });
    expect(events.at(-1)).toMatchObject({
      usage: { total_tokens: 4, input_tokens_details: { text_tokens: 4 } },
      created_at: expect.any(Number),
      quality: "auto",
      background: "opaque",
    });
  });

  it("stops the run when the client leaves the stream", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const { client } = await serving((input, context) => gradientRun(record)({ ...input, step_ms: 20 }, context));
    const stream = await client.images.generate({
      prompt: "x",
      stream: true,
      partial_images: 3,
      // Not a field of OpenAI's.
      ...{ num_inference_steps: 100 },
    });
    for await (const _ of stream) break;
    await until(() => record.ended);
    expect(record.steps).toBeLessThan(100);
  });

  it("names the field at fault as the client's own error", async () => {
    const { client, requests } = await serving();
    const wrong = client.images.generate({ prompt: "x", n: 99 });
    await expect(wrong).rejects.toBeInstanceOf(BadRequestError);
    await expect(wrong).rejects.toMatchObject({ status: 400, param: "n", type: "invalid_request_error" });
    const other = client.images.generate({ prompt: "x", model: "another-model" });
    await expect(other).rejects.toBeInstanceOf(NotFoundError);
    await expect(other).rejects.toMatchObject({ code: "model_not_found", param: "model" });
    expect(requests()).toBe(2);
  });

  it("takes what clients send unasked, and says in the result what has no effect", async () => {
    const { client } = await serving();
    const told = async (fields: object) =>
      ((await client.images.generate({ prompt: "x", ...fields })) as { warnings?: string[] }).warnings;
    expect(await told({ background: "auto", moderation: "auto", quality: "standard", n: 1 })).toBeUndefined();
    expect(await told({ background: "transparent" })).toEqual([expect.stringMatching(/^background 'transparent'/)]);
    expect(await told({ moderation: "low", style: "vivid", user: "u", input_fidelity: "high", odd: {} })).toEqual([
      expect.stringMatching(/^moderation /),
      expect.stringMatching(/: style, user, input_fidelity, odd$/),
    ]);
    expect(await told({ quality: "ultra" })).toEqual([expect.stringMatching(/^quality 'ultra'.*auto/)]);
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`${"x".repeat(99)}${index}`, 1]));
    expect((await told(many))![0]!.length).toBeLessThan(1000);
    const stream = await client.images.generate({ prompt: "x", stream: true, background: "transparent" });
    const events = [];
    for await (const event of stream) events.push(event);
    expect(events.at(-1)).toMatchObject({ type: "image_generation.completed", warnings: [expect.any(String)] });
  });

  it("passes the run's own warnings on", async () => {
    const { client } = await serving(async function* (input, context) {
      for await (const event of gradientRun()(input, context)) {
        yield event.type === "result" ? { ...event, warnings: ["too many words"] } : event;
      }
    });
    expect(await client.images.generate({ prompt: "x" })).toMatchObject({ warnings: ["too many words"] });
  });

  it("makes ten pictures and no more", async () => {
    const { client } = await serving(async function* (input) {
      const pictures = Array.from({ length: input.num_images }, () => gradient(64, 1));
      yield { type: "result", pictures, seed: 7, prompt: input.prompt, timings: {} };
    });
    expect((await client.images.generate({ prompt: "x", n: 10 })).data).toHaveLength(10);
    await expect(client.images.generate({ prompt: "x", n: 11 })).rejects.toMatchObject({ status: 400, param: "n" });
  });

  it("is repeated by the client when busy, not when broken", async () => {
    let calls = 0;
    const busy = await serving(async function* (input, context) {
      if (++calls < 3) throw Object.assign(new Error("busy"), { status: 503, retryAfter: 0.01 });
      yield* gradientRun()(input, context);
    });
    expect((await busy.client.images.generate({ prompt: "x" })).data).toHaveLength(1);
    expect(busy.requests()).toBe(3);

    const broken = await serving(async function* (): AsyncGenerator<RunEvent> {
      yield { type: "queued", position: 0 };
      throw new Error("/secret/path");
    });
    const failed = broken.client.images.generate({ prompt: "x" });
    await expect(failed).rejects.toMatchObject({
      status: 500,
      error: { message: "Internal error", type: "server_error" },
    });
    expect(broken.requests()).toBe(1);
    expect(String(broken.reported[0])).toContain("/secret/path");
  });

  it("fails in mid-stream with an error event", async () => {
    const { client } = await serving(async function* (input, context) {
      for await (const event of gradientRun()(input, context)) {
        yield event;
        if (event.type === "preview") throw new Error("/secret/path");
      }
    });
    const stream = await client.images.generate({ prompt: "x", stream: true, partial_images: 2 });
    const events: unknown[] = [];
    const read = (async () => {
      for await (const event of stream) events.push(event);
    })();
    await expect(read).rejects.toBeInstanceOf(APIError);
    await expect(read).rejects.toMatchObject({ error: { message: "Internal error", type: "server_error" } });
    expect(events).toHaveLength(1);
  });
});

describe("images.edit", () => {
  it("starts from the picture of the form and streams", async () => {
    const seen: GenerationRequest[] = [];
    const { client } = await serving((input, context) => {
      seen.push(input);
      return gradientRun()(input, context);
    });
    const stream = await client.images.edit({
      image: await png(),
      prompt: "at night",
      stream: true,
      partial_images: 2,
      n: 2,
      output_format: "jpeg",
    });
    const types = [];
    for await (const event of stream) types.push(event.type);
    expect(types).toEqual(["image_edit.partial_image", "image_edit.partial_image", "image_edit.completed"]);
    expect(seen[0]).toMatchObject({ prompt: "at night", num_images: 2, strength: 0.8, output_format: "jpeg" });
    expect(seen[0]!.image).toEqual(new Uint8Array(await (await png()).arrayBuffer()));
  });

  it("takes image[] with one picture, of two the first with a warning, and refuses none", async () => {
    const { client } = await serving();
    expect((await client.images.edit({ image: [await png()], prompt: "x" })).data).toHaveLength(1);
    const two = await client.images.edit({ image: [await png(), await png()], prompt: "x" });
    expect(two).toMatchObject({ warnings: [expect.stringMatching(/first of 2 pictures/)] });
    // @ts-expect-error: an image is required
    await expect(client.images.edit({ prompt: "x" })).rejects.toMatchObject({ status: 400 });
  });

  it("takes a mask, whose transparent part is drawn anew, in the picture's proportions", async () => {
    const seen: GenerationRequest[] = [];
    const { client, server } = await serving((input, context) => {
      seen.push(input);
      return gradientRun()(input, context);
    });
    const mask = new Uint8Array(await (await png()).arrayBuffer());
    await client.images.edit({ image: await png(), mask: await png(), prompt: "x" });
    expect(seen.at(-1)).toMatchObject({ mask, mask_channel: "alpha" });
    expect(seen.at(-1)!.width).toBeUndefined();
    const uri = `data:image/png;base64,${Buffer.from(mask).toString("base64")}`;
    for (const given of [uri, { image_url: uri }]) {
      const body = JSON.stringify({ prompt: "x", image: uri, mask: given, size: "512x512" });
      const headers = { "content-type": "application/json" };
      expect((await fetch(`${server.url}/v1/images/edits`, { method: "POST", headers, body })).status).toBe(200);
      expect(seen.at(-1)).toMatchObject({ mask: Buffer.from(mask), width: 512, height: 512 });
    }
    await client.images.edit({ image: await png(), mask: await toFile(new Uint8Array(), ""), prompt: "x" });
    expect(seen.at(-1)!.mask).toBeUndefined();
  });

  it("takes JSON: a picture, a list, or images with their addresses", async () => {
    const seen: GenerationRequest[] = [];
    const { server } = await serving((input, context) => {
      seen.push(input);
      return gradientRun()(input, context);
    });
    const bytes = new Uint8Array(await (await png()).arrayBuffer());
    const uri = `data:image/png;base64,${Buffer.from(bytes).toString("base64")}`;
    const edit = async (fields: object) => {
      const body = JSON.stringify({ prompt: "x", strength: 0.5, ...fields });
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${server.url}/v1/images/edits`, { method: "POST", headers, body });
      // biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds; the assertions say what it should
      return [response.status, (await response.json()) as any] as const;
    };
    for (const [fields, warnings] of [
      [{ image: uri }, undefined],
      [{ image: uri.split(",")[1] }, undefined],
      [{ image: [uri] }, undefined],
      [{ images: [{ image_url: uri }] }, undefined],
      [{ images: [{ image_url: uri }, { image_url: uri }], mask: null }, [expect.stringMatching(/first of 2/)]],
    ] as const) {
      const [status, answer] = await edit(fields);
      expect([status, answer.data?.length, answer.warnings]).toEqual([200, 1, warnings]);
      expect(seen.at(-1)).toMatchObject({ image: Buffer.from(bytes), strength: 0.5 });
    }
    const large = Buffer.concat([bytes, Buffer.alloc(200_000)]);
    expect((await edit({ image: `data:image/png;base64,${large.toString("base64")}` }))[0]).toBe(200);
    expect(seen.at(-1)!.image!.length).toBe(large.length);
    for (const [fields, param] of [
      [{}, "image"],
      [{ image: 5 }, "image"],
      [{ image: "https://example.com/a.png" }, "image"],
      [{ images: [{ file_id: "file-1" }] }, "image"],
      [{ image: uri, mask: 5 }, "mask"],
      [{ image: uri, images: [{ image_url: uri }], n: 99 }, "n"],
    ] as const) {
      const [status, answer] = await edit(fields);
      expect([status, answer.error.param], JSON.stringify(fields).slice(0, 80)).toEqual([400, param]);
    }
  });

  it("refuses a form that is too long, and one that is none", async () => {
    const { client, server } = await serving(gradientRun(), 1000);
    await expect(client.images.edit({ image: await png(), prompt: "x" })).rejects.toMatchObject({ status: 413 });
    const response = await fetch(`${server.url}/v1/images/edits`, { method: "POST", body: "{" });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error" } });
  });
});

describe("sizes", () => {
  it.each([
    ["auto", 512, 512],
    ["512x512", 512, 512],
    ["256x256", 256, 256],
    ["1024x1024", 512, 512],
    ["1024x1536", 448, 640],
    ["9999x1", 2048, 64],
    ["500x500", 512, 512],
  ])("%s becomes %ix%i for a model of 512x512", (size, width, height) => {
    expect(sizeOf(size, MODEL)).toEqual({ width, height });
  });

  it("stay on a finer grid for a small model", () => {
    const small = { ...MODEL, defaultWidth: 128, defaultHeight: 128 };
    expect(sizeOf("1536x1024", small)).toEqual({ width: 160, height: 112 });
  });
});

it("a refused key is the client's AuthenticationError", async () => {
  const app = new Hono();
  app.all("*", () => openaiFailure({ status: 401, detail: "no such key" }));
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  const client = new OpenAI({ apiKey: "wrong", baseURL: `${server.url}/v1` });
  const refused = client.images.generate({ prompt: "x" });
  await expect(refused).rejects.toBeInstanceOf(AuthenticationError);
  await expect(refused).rejects.toMatchObject({ code: "invalid_api_key" });
});

describe("models", () => {
  it("lists the one that is served, and knows it by OpenAI's names", async () => {
    const { client } = await serving();
    const { data } = await client.models.list();
    expect(data).toEqual([{ id: "gradient", object: "model", created: expect.any(Number), owned_by: "daguerre" }]);
    expect(await client.models.retrieve("gradient")).toEqual(data[0]);
    expect(await client.models.retrieve("gpt-image-1")).toMatchObject({ id: "gpt-image-1", object: "model" });
    await expect(client.models.retrieve("another/model")).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      param: "model",
    });
  });
});
