import { execFile } from "node:child_process";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import type { RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import type { Run, RunContext } from "../src/jobs/run.ts";
import { gradientRun, type RunRecord, until } from "../test/gradient-run.ts";
import { createApp } from "./app.ts";
import { createAuthenticator, SCOPES } from "./gate/auth.ts";
import { type Listening, listen } from "./http/listen.ts";
import { createMetrics } from "./observe/metrics.ts";
import type { Route } from "./route.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

// biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds; the assertions say what it should
const fields = (response: Response) => response.json() as Promise<any>;

async function serving(run: Run<GenerationRequest, RunEvent> = gradientRun()): Promise<Listening> {
  const app = createApp({ run, health: () => ({ version: "1.2.3", model: "gradient" }) });
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return server;
}

describe("scopes", () => {
  it("are those of the routes: none that no route needs, none that there is not", () => {
    const model = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
    const app = createApp({ run: gradientRun(), health: () => ({}), model, metrics: createMetrics() });
    const needed = new Set(app.routeTable.descriptions.map(({ scope }) => scope));
    expect([...needed].sort()).toEqual(["any", "open", ...SCOPES].sort());
    // A route with a scope that is not in the list does not compile.
    // @ts-expect-error
    const scope: Route["scope"] = "pictures";
    expect(SCOPES).not.toContain(scope);
  });
});

describe("GET /schedulers", () => {
  it("lists samplers by the names of guides, and the ways to space their levels", async () => {
    const { url } = await serving();
    const { schedulers, sigma_schedules } = await fields(await fetch(`${url}/schedulers`));
    expect(schedulers).toContainEqual({
      name: "DPM++ 2M SDE",
      aliases: expect.arrayContaining(["dpmpp_2m_sde"]),
      class_name: "DPMSolverMultistepScheduler",
    });
    expect(sigma_schedules).toContain("karras");
  });
});

describe("POST /", () => {
  it("answers with the result alone", async () => {
    const { url } = await serving();
    const response = await fetch(url, {
      method: "POST",
      body: JSON.stringify({ prompt: "a hill", request_id: "r-1" }),
    });
    expect(response.status).toBe(200);
    expect(response.headers.get("x-request-id")).toBe("r-1");
    const answer = await fields(response);
    expect(answer).toEqual({
      image: answer.images[0],
      images: [
        { url: expect.stringMatching(/^data:image\/jpeg;base64,/), content_type: "image/jpeg", width: 64, height: 64 },
      ],
      seed: 7,
      prompt: "a hill",
      timings: { total: expect.any(Number) },
      request_id: "r-1",
    });
  });

  it("asks the run for no previews", async () => {
    const seen: GenerationRequest[] = [];
    const { url } = await serving((input, context) => {
      seen.push(input);
      return gradientRun()(input, context);
    });
    await (await fetch(url, { method: "POST", body: '{"prompt":"x","preview_every":1}' })).json();
    expect(seen[0]?.preview_every).toBe(0);
  });

  it("is told when its deadline has passed, which is no fault of the server's", async () => {
    const reported: unknown[] = [];
    const app = createApp({
      run: (input, context) => gradientRun()({ ...input, step_ms: 50, num_inference_steps: 200 }, context),
      health: () => ({}),
      model: { name: "m", defaultWidth: 64, defaultHeight: 64, defaultSteps: 4, countTokens: () => 1 },
      jobs: { deadlineMs: 30 },
      onError: (error) => reported.push(error),
    });
    for (const path of ["/", "/v1/images/generations", "/sdapi/v1/txt2img"]) {
      expect((await app.request(path, { method: "POST", body: '{"prompt":"x"}' })).status, path).toBe(504);
    }
    const late = await app.request("/stream", { method: "POST", body: '{"prompt":"x"}' });
    // After its error event a stream breaks off.
    await expect(late.text()).rejects.toThrow();
    expect(reported).toEqual([]);
  });

  it("stops the run when the client goes", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const { url } = await serving((input, context) => gradientRun(record)({ ...input, step_ms: 20 }, context));
    const request = http.request(url, { method: "POST", agent: false });
    request.on("error", () => {});
    request.end('{"prompt":"x","num_inference_steps":200}');
    await until(() => record.steps >= 2);
    request.destroy();
    await until(() => record.ended);
    expect(record.steps).toBeLessThan(100);
  });

  it("says nothing of an error that is ours", async () => {
    const reported: unknown[] = [];
    const run: Run<GenerationRequest, RunEvent> = async function* () {
      yield { type: "queued", position: 0 };
      throw new Error("/secret");
    };
    const app = createApp({ run, health: () => ({}), onError: (error) => reported.push(error) });
    const response = await app.request("/", { method: "POST", body: '{"prompt":"x"}' });
    expect([response.status, await response.json()]).toEqual([500, { detail: "Internal error" }]);
    expect(String(reported[0])).toContain("/secret");
  });
});

describe("every way in", () => {
  it.each(["/", "/stream"])("POST %s answers 422 naming each field", async (path) => {
    const { url } = await serving();
    const response = await fetch(url + path, {
      method: "POST",
      body: JSON.stringify({ num_inference_steps: 0, width: 100, guidanceScale: 3 }),
    });
    expect(response.status).toBe(422);
    const { detail } = await fields(response);
    expect(detail).toEqual([
      { loc: ["body", "prompt"], msg: "Field required", type: "missing" },
      { loc: ["body", "width"], msg: "Input should be a multiple of 8", type: "multiple_of" },
      {
        loc: ["body", "num_inference_steps"],
        msg: "Input should be greater than or equal to 1",
        type: "greater_than_equal",
      },
      { loc: ["body", "guidanceScale"], msg: "Unknown field; did you mean guidance_scale?", type: "extra_forbidden" },
    ]);
  });

  it("GET /stream reads numbers from the query and names fields there", async () => {
    const { url } = await serving();
    const good = await fetch(`${url}/stream?prompt=12&num_inference_steps=3&seed=5&output_format=png`);
    const text = await good.text();
    expect(text).toContain('"steps":3');
    expect(text).toContain('"prompt":"12"');
    expect(text).toContain("data:image/png");
    const bad = await fetch(`${url}/stream?prompt=x&num_inference_steps=many`);
    expect(bad.status).toBe(422);
    expect((await fields(bad)).detail[0].loc).toEqual(["query", "num_inference_steps"]);
  });

  it("streams as it goes with the headers of the whole app", async () => {
    const { url } = await serving(async function* (_: GenerationRequest, { signal }: RunContext) {
      yield { type: "queued", position: 0 };
      await sleep(10_000, undefined, { signal });
    });
    const client = new AbortController();
    const response = await fetch(`${url}/stream?prompt=x`, { signal: client.signal });
    const { value } = await response.body!.getReader().read();
    expect(new TextDecoder().decode(value)).toContain('"type":"queued"');
    client.abort();
  });

  it("answers the curl line that GET / shows", async () => {
    const { url } = await serving();
    const page = await (await fetch(url)).text();
    const line = page.split("\n").find((text) => text.includes("curl -N"))!;
    const { stdout } = await promisify(execFile)("sh", ["-c", `${line} -s`]);
    expect(stdout).toContain('"type":"result"');
  });

  it("tells its health, and that what is not there is not", async () => {
    const { url } = await serving();
    expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: "ok", version: "1.2.3", model: "gradient" });
    const missing = await fetch(`${url}/nowhere`);
    expect([missing.status, await missing.json()]).toEqual([404, { detail: "Not Found" }]);
  });
});

describe("an app that is a part of another", () => {
  it.each(["/", "/pictures"])("below %s, knows what its routes need", async (base) => {
    const authenticator = createAuthenticator({
      keys: [
        { name: "a", key: "k", scopes: ["openai"] },
        { name: "b", key: "all" },
      ],
    });
    const model = { name: "m", defaultWidth: 64, defaultHeight: 64, defaultSteps: 4, countTokens: () => 1 };
    const inner = createApp({ run: gradientRun(), health: () => ({}), model, gate: { authenticator } });
    const app = new Hono().route(base, inner);
    const at = base === "/" ? "" : base;
    const status = async (method: string, path: string, headers: Record<string, string> = {}) => {
      const body = method === "POST" ? '{"prompt":"x"}' : undefined;
      const response = await app.request(at + path, { method, headers, body });
      const text = await response.text();
      return [response.status, text.startsWith('{"error":')];
    };
    const key = { authorization: "Bearer k" };
    expect(await status("GET", "/health")).toEqual([200, false]);
    expect(await status("GET", "/stream?prompt=x")).toEqual([401, false]);
    expect(await status("GET", "/stream?prompt=x", key)).toEqual([403, false]);
    expect(await status("POST", "/v1/images/generations")).toEqual([401, true]);
    expect(await status("POST", "/v1/images/generations", key)).toEqual([200, false]);
    // A picture tag of a page starts nothing.
    const all = { authorization: "Bearer all" };
    expect(await status("GET", "/stream?prompt=x", all)).toEqual([200, false]);
    const tag = { ...all, "sec-fetch-site": "same-origin", "sec-fetch-dest": "image" };
    expect(await status("GET", "/stream?prompt=x", tag)).toEqual([403, false]);
  });
});

describe("listen", () => {
  it("lets a running stream finish when it closes, and takes no new one", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const app = createApp({ run: gradientRun(record), health: () => ({}) });
    const server = await listen(app, 0, "127.0.0.1");
    const response = await fetch(`${server.url}/stream?prompt=x&num_inference_steps=100`);
    await until(() => record.steps > 2);
    const closed = server.close(10_000);
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    expect(await response.text()).toContain('"type":"result"');
    await closed;
  });

  it("cuts off and cancels what runs longer than its grace", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const app = createApp({
      run: (input, context) => gradientRun(record)({ ...input, step_ms: 50 }, context),
      health: () => ({}),
    });
    const server = await listen(app, 0, "127.0.0.1");
    const response = await fetch(`${server.url}/stream?prompt=x&num_inference_steps=200`);
    await until(() => record.steps > 1);
    await server.close(50);
    await expect(response.text()).rejects.toThrow();
    await until(() => record.ended);
    expect(record.aborted).toBe(true);
  });

  it("rejects when the port is taken", async () => {
    const { port } = await serving();
    const app = createApp({ run: gradientRun(), health: () => ({}) });
    await expect(listen(app, port, "127.0.0.1")).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});
