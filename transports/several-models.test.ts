/** Several models behind one app: who names which in what words, and what a key may use. */
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gradientRun } from "../test/gradient-run.ts";
import { createApp } from "./app.ts";
import { createAuthenticator } from "./gate/auth.ts";
import { type Listening, listen } from "./http/listen.ts";
import { createMetrics } from "./observe/metrics.ts";
import type { RequestEntry } from "./observe/request-log.ts";

const model = (name: string, side: number) => ({
  name,
  defaultWidth: side,
  defaultHeight: side,
  defaultSteps: 4,
  isDefault: name === "quick",
  state: name === "large" ? ("absent" as const) : ("loaded" as const),
  bytes: name === "large" ? 0 : 1_000,
  loads: 1,
  evictions: 0,
  preload: false,
});
const MODELS = [model("quick", 64), model("owner/fine", 128), model("large", 256)];

interface Answer {
  readonly detail?: unknown;
}

interface Listed {
  readonly name: string;
  readonly default: boolean;
  readonly state: string;
  readonly bytes: number;
}

/** The models that were drawn with, in order. */
const drawn: (string | undefined)[] = [];
const widths: (number | undefined)[] = [];
const entries: RequestEntry[] = [];
let server: Listening;
beforeAll(async () => {
  const run = gradientRun();
  const app = createApp({
    run: (input, context) => {
      drawn.push(input.model);
      widths.push(input.width);
      return run(input, context);
    },
    health: () => ({}),
    model: { ...MODELS[0]!, countTokens: (text, name) => text.length + (name === "large" ? 100 : 0) },
    models: () => MODELS,
    limits: { pixels: 128 * 128 },
    metrics: createMetrics({ models: () => MODELS }),
    onRequest: (entry) => entries.push(entry),
    gate: {
      authenticator: createAuthenticator({
        keys: [
          { name: "all", key: "k-all" },
          { name: "narrow", key: "k-narrow", models: ["owner/fine"] },
          { name: "none", key: "k-none", models: ["elsewhere"] },
        ],
      }),
    },
  });
  server = await listen(app, 0, "127.0.0.1");
});
afterAll(() => server?.close(0));

async function post(path: string, body: object, key = "k-all"): Promise<{ status: number; body: Answer }> {
  const response = await fetch(`${server.url}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ prompt: "x", num_inference_steps: 1, width: 64, height: 64, ...body }),
  });
  const text = await response.text();
  return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : text };
}

const get = async (path: string, key = "k-all") => {
  const response = await fetch(`${server.url}${path}`, { headers: { authorization: `Bearer ${key}` } });
  return { status: response.status, text: await response.text() };
};

const UNKNOWN = "The model 'sdxl' is not served here; 'quick', 'owner/fine', 'large' are";

describe("a request means", () => {
  it.each([
    ["the default if it names none", "/", {}, "quick"],
    ["the model of its field", "/", { model: "large" }, "large"],
    ["the same on a stream", "/stream", { model: "owner/fine" }, "owner/fine"],
    ["the model whose name is the path, as fal has it", "/large", {}, "large"],
    ["the same with an owner", "/fal-ai/large/stream", {}, "large"],
    ["a name with a slash, in a path", "/owner/fine", {}, "owner/fine"],
    ["its field before its path", "/fal-ai/large", { model: "quick" }, "quick"],
    ["the app of a queue", "/queue/fal-ai/large", {}, "large"],
  ])("%s", async (_, path, body, name) => {
    drawn.length = 0;
    expect((await post(path, body)).status).toBe(200);
    await expect.poll(() => drawn).toEqual([name]);
  });

  it.each([
    ["/", { model: "sdxl" }],
    ["/stream", { model: "sdxl" }],
    ["/fal-ai/sdxl", {}],
    ["/queue/fal-ai/sdxl", {}],
  ])("nothing at %s by a name that is not there: 404 with the names", async (path, body) => {
    const { status, body: answer } = await post(path, body);
    expect(status).toBe(404);
    const name = path.endsWith("sdxl") ? "fal-ai/sdxl" : "sdxl";
    expect(answer.detail).toEqual([
      { loc: ["body", "model"], msg: UNKNOWN.replace("sdxl", name), type: "model_not_found" },
    ]);
  });

  it("what OpenAI's client names; OpenAI's own names mean the default, sizes are the model's", async () => {
    const client = new OpenAI({ apiKey: "k-all", baseURL: `${server.url}/v1`, maxRetries: 0 });
    drawn.length = 0;
    const fine = await client.images.generate({ prompt: "abc", model: "owner/fine" });
    expect(fine.usage).toMatchObject({ total_tokens: 3 });
    expect(widths.at(-1)).toBe(128);
    await client.images.generate({ prompt: "abc", model: "gpt-image-1" });
    expect(drawn).toEqual(["owner/fine", "quick"]);
    await expect(client.images.generate({ prompt: "x", model: "sdxl" })).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      param: "model",
    });
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(["quick", "owner/fine", "large"]);
    expect(await client.models.retrieve("owner/fine")).toMatchObject({ id: "owner/fine" });
  });

  it("what its limits are measured by: those of its own model", async () => {
    const large = await post("/", { model: "large", width: null, height: null });
    expect(large.status).toBe(422);
    expect(JSON.stringify(large.body)).toContain("at most 16384");
    expect((await post("/", { width: null, height: null })).status).toBe(200);
  });
});

it("tells which models are on the device", async () => {
  const { models } = JSON.parse((await get("/models")).text);
  expect(models.map(({ name, default: isDefault, state, bytes }: Listed) => [name, isDefault, state, bytes])).toEqual([
    ["quick", true, "loaded", 1_000],
    ["owner/fine", false, "loaded", 1_000],
    ["large", false, "absent", 0],
  ]);
  expect(models[1].defaults).toMatchObject({ width: 128, height: 128, num_inference_steps: 4 });
});

describe("a key of one model", () => {
  it("has that one as its default, and sees no other", async () => {
    drawn.length = 0;
    expect((await post("/", {}, "k-narrow")).status).toBe(200);
    expect(drawn).toEqual(["owner/fine"]);
    expect(JSON.parse((await get("/models", "k-narrow")).text).models).toHaveLength(1);
    expect(JSON.parse((await get("/v1/models", "k-narrow")).text).data).toHaveLength(1);
  });

  it("may not use another, and learns no other name", async () => {
    const { status, body } = await post("/", { model: "large" }, "k-narrow");
    expect([status, body.detail]).toEqual([403, "This credential may not use the model 'large'"]);
    expect((await post("/fal-ai/large", {}, "k-narrow")).status).toBe(403);
    expect(
      (await post("/v1/images/generations", { model: "large", width: null, height: null }, "k-narrow")).status,
    ).toBe(403);
    const unknown = await post("/", { model: "sdxl" }, "k-narrow");
    expect(unknown.status).toBe(404);
    expect(JSON.stringify(unknown.body)).not.toContain("large");
  });

  it("that is not here may nothing", async () => {
    const { status, body } = await post("/", {}, "k-none");
    expect([status, body.detail]).toEqual([403, "This credential may use none of the models here"]);
  });
});

it("metrics and log lines carry the model", async () => {
  await post("/", { model: "large" });
  const { text } = await get("/metrics");
  expect(text).toContain('daguerre_model_loads_total{model="owner/fine"} 1');
  expect(text).toContain('daguerre_model_evictions_total{model="large"} 0');
  expect(text).toContain('daguerre_model_bytes{model="quick"} 1000');
  expect(text).toContain('daguerre_model_loaded{model="large"} 0');
  expect(text).toMatch(/daguerre_step_seconds_count\{model="large"\} [1-9]/);
  await expect.poll(() => entries.findLast(({ path }) => path === "/")).toMatchObject({ model: "large" });
});
