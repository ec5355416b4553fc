import { createHash } from "node:crypto";
import net from "node:net";
import { Hono } from "hono";
import { SignJWT } from "jose";
import { afterEach, describe, expect, it, vi } from "vitest";
import WebSocket from "ws";
import { gradientRun, until } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { type Failure, failureResponse } from "../failure.ts";
import { type Listening, listen } from "../http/listen.ts";
import { createMetrics } from "../observe/metrics.ts";
import { type ApiKey, createAuthenticator, guard, principalOf } from "./auth.ts";
import type { GateOptions } from "./gate.ts";
import { rateLimit } from "./rate.ts";

const open: Listening[] = [];
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(open.splice(0).map((server) => server.close()));
});

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
const SECRET = "0123456789abcdef0123456789abcdef";

async function serving(gate: Partial<GateOptions> = {}, options: Partial<AppOptions> = {}) {
  const app = createApp({ run: gradientRun(), health: () => ({}), model: MODEL, gate, ...options });
  const server = await listen(app, 0, "127.0.0.1", { onServer: options.metrics?.watch });
  open.push(server);
  return server.url;
}

const withKeys = (keys: ApiKey[], more: { tokenSecret?: string; tokenSeconds?: number } = {}) => ({
  authenticator: createAuthenticator({ keys, ...more }),
});
const post = (url: string, headers: Record<string, string> = {}, body: string = '{"prompt":"x"}') =>
  fetch(url, { method: "POST", headers, body });
const bearer = (value: string) => ({ authorization: `Bearer ${value}` });
const status = async (response: Promise<Response>) => {
  const { status, body } = await response;
  await body?.cancel();
  return status;
};

describe("keys", () => {
  it("are asked for everywhere but where nothing is told or computed", async () => {
    const url = await serving(withKeys([{ name: "a", key: "secret-a" }]));
    for (const path of ["/health", "/"]) expect(await status(fetch(url + path)), path).toBe(200);
    for (const path of ["/stream?prompt=x", "/metrics", "/realtime", "/nowhere", "/jobs/1", "/queue/x/requests/1"]) {
      expect(await status(fetch(url + path)), path).toBe(401);
    }
    for (const path of [
      "/",
      "/stream",
      "/v1/images/generations",
      "/sdapi/v1/txt2img",
      "/sdapi/v1/x",
      "/auth/token",
      "/health",
      "/docs",
      "//stream",
    ]) {
      expect(await status(post(url + path)), path).toBe(401);
    }
    const refused = await post(`${url}/stream`);
    expect(refused.headers.get("www-authenticate")).toContain("Bearer");
    expect(await refused.json()).toEqual({ detail: "A key or a token is required" });
  });

  it("are taken in both schemes, plain or hashed, and nowhere else", async () => {
    const hash = createHash("sha256").update("secret-b").digest("hex");
    const url = await serving(
      withKeys([
        { name: "a", key: "secret-a" },
        { name: "b", key: `sha256:${hash}` },
      ]),
    );
    expect(await status(post(url, bearer("secret-a")))).toBe(200);
    expect(await status(post(url, { authorization: "Key secret-a" }))).toBe(200);
    expect(await status(post(url, { authorization: "key secret-b" }))).toBe(200);
    for (const wrong of ["secret-", "secret-aa", `sha256:${hash}`, hash, "a", "*"]) {
      expect(await status(post(url, bearer(wrong))), wrong).toBe(401);
    }
    expect(await status(post(url, { authorization: "Basic c2VjcmV0LWE=" }))).toBe(401);
    expect(await status(post(`${url}/?fal_jwt_token=secret-a`))).toBe(401);
  });

  it("reach only their scopes and models", async () => {
    const url = await serving(
      withKeys([
        { name: "stream", key: "k-run", scopes: ["run"] },
        { name: "gpt", key: "k-openai", scopes: ["openai"] },
        { name: "other", key: "k-other", models: ["sdxl"] },
        { name: "this", key: "k-this", models: ["gradient"] },
      ]),
    );
    const statuses = async (key: string) => [
      await status(post(`${url}/stream`, bearer(key))),
      await status(post(`${url}/v1/images/generations`, bearer(key))),
    ];
    expect(await statuses("k-run")).toEqual([200, 403]);
    expect(await statuses("k-openai")).toEqual([403, 200]);
    expect(await statuses("k-other")).toEqual([403, 403]);
    expect(await statuses("k-this")).toEqual([200, 200]);
    const refused = await post(`${url}/v1/images/generations`, bearer("k-run"));
    expect(await refused.json()).toMatchObject({ error: { type: "permission_error" } });
  });

  it("must not be empty, nor the token secret short", () => {
    expect(() => createAuthenticator({ keys: [{ name: "a", key: "" }] })).toThrow(RangeError);
    expect(() => createAuthenticator({ keys: [], tokenSecret: "short" })).toThrow(RangeError);
  });
});

describe("tokens", () => {
  const keys: ApiKey[] = [{ name: "studio", key: "k", scopes: ["run", "openai"] }];
  const token = async (url: string, wanted: object = {}) =>
    (await (await post(`${url}/auth/token`, bearer("k"), JSON.stringify(wanted))).json()) as {
      token: string;
      expires_in: number;
    };

  it("carry a part of their key's rights, in a header or in the address", async () => {
    const url = await serving(withKeys(keys, { tokenSecret: SECRET, tokenSeconds: 60 }));
    const made = await token(url, { scopes: ["run", "metrics"], seconds: 3600 });
    expect(made.expires_in).toBe(60);
    expect(await status(fetch(`${url}/stream?prompt=x&fal_jwt_token=${made.token}`))).toBe(200);
    expect(await status(post(`${url}/stream`, bearer(made.token)))).toBe(200);
    expect(await status(post(`${url}/v1/images/generations`, bearer(made.token)))).toBe(403);
    expect(await status(fetch(`${url}/metrics`, { headers: bearer(made.token) }))).toBe(403);
    expect(await status(post(`${url}/auth/token`, bearer(made.token), "{}"))).toBe(403);
  });

  it("end", async () => {
    const url = await serving(withKeys(keys, { tokenSecret: SECRET }));
    const { token: value } = await token(url, { seconds: 1 });
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 10_000 });
    const late = await post(`${url}/stream`, bearer(value));
    expect([late.status, await late.json()]).toEqual([401, { detail: "The token has expired" }]);
  });

  it("are refused when forged, unsigned, without an end, too long, or for another audience", async () => {
    const url = await serving(withKeys(keys, { tokenSecret: SECRET, tokenSeconds: 60 }));
    const signed = (secret: string, change: (jwt: SignJWT) => SignJWT) =>
      change(new SignJWT({ scope: "run" }).setProtectedHeader({ alg: "HS256" }).setAudience("daguerre")).sign(
        new TextEncoder().encode(secret),
      );
    const good = await signed(SECRET, (jwt) => jwt.setIssuedAt().setExpirationTime("30s"));
    expect(await status(post(url, bearer(good)))).toBe(200);
    const [, payload] = good.split(".");
    const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${payload}.`;
    const bad = {
      forged: await signed(`${SECRET}x`, (jwt) => jwt.setIssuedAt().setExpirationTime("30s")),
      unsigned,
      "unsigned, with a signature": `${unsigned}AAAA`,
      endless: await signed(SECRET, (jwt) => jwt.setIssuedAt()),
      "without a beginning": await signed(SECRET, (jwt) => jwt.setExpirationTime("30s")),
      "too long": await signed(SECRET, (jwt) => jwt.setIssuedAt().setExpirationTime("1d")),
      "another audience": await signed(SECRET, (jwt) => jwt.setAudience("x").setIssuedAt().setExpirationTime("30s")),
    };
    for (const [name, value] of Object.entries(bad)) expect(await status(post(url, bearer(value))), name).toBe(401);
  });

  it("are not made without a secret", async () => {
    const url = await serving(withKeys(keys));
    expect(await status(post(`${url}/auth/token`, bearer("k"), "{}"))).toBe(404);
  });
});

it("is usable part by part, in an app of somebody else's", async () => {
  const refuse = (_: unknown, failure: Failure) => failureResponse(failure);
  const authenticator = createAuthenticator({ keys: [{ name: "a", key: "k", scopes: ["run"] }] });
  const app = new Hono();
  app.use("/pictures/*", guard({ authenticator, scopeOf: () => "run", model: "mine", refuse }));
  app.use("/pictures/*", rateLimit({ requestsPerMinute: 1, proxies: 0, counts: () => true, refuse }));
  app.get("/pictures/*", (c) => c.text(principalOf(c).name));
  app.get("/open", (c) => c.text("open"));
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  expect(await status(fetch(`${server.url}/open`))).toBe(200);
  expect(await status(fetch(`${server.url}/pictures/1`))).toBe(401);
  expect(await (await fetch(`${server.url}/pictures/1`, { headers: bearer("k") })).text()).toBe("a");
  expect(await status(fetch(`${server.url}/pictures/1`, { headers: bearer("k") }))).toBe(429);
});

describe("jobs", () => {
  it("of a key are nobody else's, however they were started", async () => {
    const ids: string[] = [];
    const run = gradientRun();
    const url = await serving(
      withKeys([
        { name: "a", key: "k-a" },
        { name: "b", key: "k-b" },
      ]),
      {
        run: (input, context) => {
          ids.push(context.requestId);
          return run({ ...input, step_ms: 500 }, context);
        },
        jobs: { concurrency: 5 },
      },
    );
    const [mine, theirs] = [bearer("k-a"), bearer("k-b")];
    const input = { prompt: "x", num_inference_steps: 200 };
    const session = new WebSocket(`${url.replace("http", "ws")}/realtime`, { headers: mine });
    await new Promise((resolve) => session.once("open", resolve));
    session.send(JSON.stringify(input));
    const answers = [
      post(url, mine, JSON.stringify({ ...input, request_id: "json" })),
      post(`${url}/stream`, mine, JSON.stringify({ ...input, request_id: "stream" })),
      post(`${url}/queue/a/b`, mine, JSON.stringify({ ...input, request_id: "queue" })),
      post(`${url}/v1/images/generations`, mine, '{"prompt":"x","quality":"high"}'),
    ];
    await until(() => ids.length === 5);
    for (const id of [...ids]) {
      const job = `${url}/jobs/${id}`;
      for (const [address, method] of [
        [job, "GET"],
        [job, "DELETE"],
        [job, "PATCH"],
        [`${url}/stream/${id}`, "GET"],
        [`${url}/queue/a/b/requests/${id}`, "GET"],
        [`${url}/queue/a/b/requests/${id}/status`, "GET"],
        [`${url}/queue/a/b/requests/${id}/status/stream`, "GET"],
        [`${url}/queue/a/b/requests/${id}/cancel`, "PUT"],
      ] as const) {
        const body = method === "PATCH" ? '{"prompt":"y"}' : undefined;
        expect(await status(fetch(address, { method, headers: theirs, body })), `${method} ${address}`).toBe(404);
      }
      // The same id is another job of theirs, and says nothing of mine.
      const own = post(`${url}/stream`, theirs, JSON.stringify({ prompt: "x", request_id: id }));
      expect(await status(own)).toBe(200);
      expect(await status(fetch(job, { headers: mine }))).toBe(200);
      expect(await status(fetch(job, { method: "DELETE", headers: mine }))).toBe(202);
    }
    expect((await answers[0]!).status).toBe(499);
    await Promise.all(answers.map(async (answer) => (await answer).text().catch(() => {})));
    session.close();
  });

  it("are joined by their key's idempotency key alone", async () => {
    const ids: string[] = [];
    const url = await serving(
      withKeys([
        { name: "a", key: "k-a" },
        { name: "b", key: "k-b" },
      ]),
      {
        run: (input, context) => {
          ids.push(context.requestId);
          return gradientRun()(input, context);
        },
      },
    );
    const ask = async (key: string, path: string) => {
      const answer = await post(url + path, { ...bearer(key), "idempotency-key": "once" });
      await answer.text();
      return answer.headers.get("x-request-id");
    };
    const first = await ask("k-a", "/");
    expect(await ask("k-a", "/")).toBe(first);
    expect(await ask("k-b", "/")).not.toBe(first);
    expect(ids).toHaveLength(2);
  });
});

describe("pages", () => {
  it("of other origins are refused, whatever the method, unless configured", async () => {
    const url = await serving();
    const foreign = { origin: "http://evil.example" };
    expect(await status(post(`${url}/stream`, foreign))).toBe(403);
    expect(await status(fetch(`${url}/stream?prompt=x`, { headers: foreign }))).toBe(403);
    expect(await status(fetch(`${url}/health`, { headers: { origin: "null" } }))).toBe(403);
    expect(await status(post(`${url}/stream`, { origin: url }))).toBe(200);
    expect(await status(post(`${url}/stream`, { origin: url.replace(/\d+$/, "1") }))).toBe(403);
    expect(await status(post(`${url}/v1/images/generations`, foreign))).toBe(403);
    const cors = (await fetch(`${url}/health`)).headers;
    expect([...cors.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  it("that are configured may ask and read the ids", async () => {
    const url = await serving({ corsOrigins: ["https://app.example"], ...withKeys([{ name: "a", key: "k" }]) });
    const preflight = await fetch(`${url}/stream`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization",
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-headers")).toBe("content-type,authorization");
    const answer = await post(`${url}/stream`, { origin: "https://app.example", ...bearer("k") });
    await answer.text();
    expect(answer.headers.get("access-control-allow-origin")).toBe("https://app.example");
    expect(answer.headers.get("access-control-expose-headers")).toContain("x-fal-request-id");
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    // A page must be able to read why it was refused.
    const refused = await post(`${url}/stream`, { origin: "https://app.example" });
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([401, "https://app.example"]);
    expect(await status(post(`${url}/stream`, { origin: "https://app.example.evil", ...bearer("k") }))).toBe(403);
  });

  it("are told by headers what they may not do with an answer", async () => {
    const url = await serving();
    for (const path of ["/", "/health", "/nowhere", "/stream?prompt=x"]) {
      const { headers, body } = await fetch(url + path);
      await body?.cancel();
      expect(headers.get("x-content-type-options"), path).toBe("nosniff");
      expect(headers.get("x-frame-options"), path).toBe("DENY");
      expect(headers.get("referrer-policy"), path).toBe("no-referrer");
      expect(headers.get("x-powered-by"), path).toBeNull();
    }
  });
});

describe("sessions", () => {
  /** The status that refused the upgrade, or 101; an open session is given back. */
  const upgrade = (url: string, headers: Record<string, string> = {}, query: string = "") =>
    new Promise<{ status: number; socket?: WebSocket }>((resolve, reject) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/realtime${query}`, { headers });
      socket.on("open", () => resolve({ status: 101, socket }));
      socket.on("unexpected-response", (request, response) => {
        request.destroy();
        resolve({ status: response.statusCode ?? 0 });
      });
      socket.on("error", reject);
    });
  const sockets: WebSocket[] = [];
  const opened = async (...wanted: Parameters<typeof upgrade>) => {
    const { status, socket } = await upgrade(...wanted);
    if (socket !== undefined) sockets.push(socket);
    return status;
  };
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.terminate();
  });

  it("are refused before the upgrade without a credential, a scope, or with a foreign origin", async () => {
    const url = await serving(
      withKeys(
        [
          { name: "a", key: "k" },
          { name: "b", key: "k-run", scopes: ["run"] },
        ],
        { tokenSecret: SECRET },
      ),
      // With everything that a server has: a listener too many, and refusals are never answered.
      { metrics: createMetrics() },
    );
    const body = '{"scopes":["realtime"]}';
    const { token } = (await (await post(`${url}/auth/token`, bearer("k"), body)).json()) as { token: string };
    expect(await opened(url)).toBe(401);
    expect(await opened(url, {}, "?fal_jwt_token=x.y.z")).toBe(401);
    expect(await opened(url, bearer("k-run"))).toBe(403);
    expect(await opened(url, { ...bearer("k"), origin: "http://evil.example" })).toBe(403);
    expect(await opened(url, bearer("k"))).toBe(101);
    expect(await opened(url, { origin: url }, `?fal_jwt_token=${token}`)).toBe(101);
  });

  it("of one client are counted until their socket is closed", async () => {
    const url = await serving({ sessions: 2 });
    expect([await opened(url), await opened(url), await opened(url)]).toEqual([101, 101, 429]);
    sockets.pop()?.terminate();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([await opened(url), await opened(url)]).toEqual([101, 429]);
  });

  it("are not opened while the server is draining", async () => {
    const url = await serving({ draining: () => true });
    expect(await opened(url)).toBe(503);
  });
});

describe("limits", () => {
  it("of requests a minute are counted by key, and by address where there is none", async () => {
    const url = await serving({
      requestsPerMinute: 2,
      ...withKeys([
        { name: "a", key: "k-a" },
        { name: "b", key: "k-b" },
      ]),
    });
    const first = await post(url, bearer("k-a"));
    expect(first.headers.get("ratelimit-policy")).toBe('"default";q=2;w=60');
    expect(first.headers.get("ratelimit")).toMatch(/^"default";r=1;t=(60|59)$/);
    expect(await status(post(`${url}/v1/images/generations`, bearer("k-a")))).toBe(200);
    const over = await post(url, bearer("k-a"));
    expect(over.status).toBe(429);
    expect(Number(over.headers.get("retry-after"))).toBeGreaterThan(55);
    expect(over.headers.get("ratelimit")).toMatch(/^"default";r=0;t=\d+$/);
    const openai = await post(`${url}/v1/images/generations`, bearer("k-a"));
    expect(openai.headers.get("x-should-retry")).toBe("true");
    expect(await openai.json()).toMatchObject({ error: { type: "rate_limit_error", code: "rate_limit_exceeded" } });
    expect(await status(fetch(`${url}/health`))).toBe(200);
    expect(await status(post(url, bearer("k-b")))).toBe(200);
  });

  it("believe of X-Forwarded-For only what a trusted proxy wrote", async () => {
    const from = (address: string) => ({ "x-forwarded-for": address });
    const direct = await serving({ requestsPerMinute: 1 });
    expect(await status(post(direct, from("203.0.113.1")))).toBe(200);
    expect(await status(post(direct, from("203.0.113.2")))).toBe(429);
    const behind = await serving({ requestsPerMinute: 1, proxies: 1 });
    expect(await status(post(behind, from("203.0.113.1")))).toBe(200);
    expect(await status(post(behind, from("203.0.113.2")))).toBe(200);
    expect(await status(post(behind, from("198.51.100.7, 203.0.113.2")))).toBe(429);
  });

  it("of one request name the field", async () => {
    const url = await serving(
      {},
      { limits: { promptCharacters: 10, pixels: 64 * 64, steps: 20, images: 1, bodyBytes: 2000 } },
    );
    const asked = { prompt: "x".repeat(11), width: 128, height: 64, num_inference_steps: 21, num_images: 2 };
    for (const path of ["/", "/stream"]) {
      const answer = await post(url + path, {}, JSON.stringify(asked));
      expect(answer.status).toBe(422);
      const { detail } = (await answer.json()) as { detail: { loc: string[]; msg: string }[] };
      expect(detail.map(({ loc }) => loc[1])).toEqual(["prompt", "width", "num_inference_steps", "num_images"]);
    }
    expect(await status(post(url, {}, JSON.stringify({ prompt: "x", negative_prompt: "x".repeat(3000) })))).toBe(413);
    const openai = await post(`${url}/v1/images/generations`, {}, '{"prompt":"x","n":2}');
    expect([openai.status, await openai.json()]).toEqual([
      400,
      { error: expect.objectContaining({ param: "num_images" }) },
    ]);
    expect(await status(post(url, {}, '{"prompt":"x","width":64,"height":64}'))).toBe(200);
  });

  it("of connections and of the time that a request may take to arrive", async () => {
    const app = createApp({ run: gradientRun(), health: () => ({}) });
    const server = await listen(app, 0, "127.0.0.1", { connections: 2, headersMs: 200, requestMs: 400 });
    open.push(server);
    const raw = (text: string) =>
      new Promise<string>((resolve) => {
        let got = "";
        const socket = net.connect(server.port, "127.0.0.1", () => socket.write(text));
        socket.on("data", (data) => {
          got += data;
        });
        socket.on("error", () => {});
        socket.on("close", () => resolve(got));
      });
    const [slowHeaders, slowBody] = await Promise.all([
      raw("POST /stream HTTP/1.1\r\nHost: x\r\nX-Slow: "),
      raw('POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"prompt'),
    ]);
    expect(slowHeaders).toMatch(/^HTTP\/1.1 408/);
    expect(slowBody).toMatch(/^HTTP\/1.1 408/);
    // Two that stay, one too many.
    const kept = [net.connect(server.port, "127.0.0.1"), net.connect(server.port, "127.0.0.1")];
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await raw("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).toBe("");
    for (const socket of kept) socket.destroy();
  });
});
