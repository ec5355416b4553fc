import SwaggerParser from "@apidevtools/swagger-parser";
import { createParser } from "eventsource-parser";
import { afterEach, describe, expect, it } from "vitest";
import { encodePicture } from "../../src/image/encode.ts";
import { gradient, gradientRun } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";
import { createMetrics } from "../observe/metrics.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };

function appOf(options: Partial<AppOptions> = {}) {
  return createApp({
    run: gradientRun(),
    health: () => ({ version: "1.2.3" }),
    model: MODEL,
    metrics: createMetrics(),
    ...options,
  });
}

async function serving(options: Partial<AppOptions> = {}) {
  const server = await listen(appOf(options), 0, "127.0.0.1");
  open.push(server);
  return server.url;
}

const secured = () => ({
  authenticator: createAuthenticator({
    keys: [{ name: "a", key: "k" }],
    tokenSecret: "0123456789abcdef0123456789abcdef",
  }),
});

describe("GET /openapi.json", () => {
  it("is valid OpenAPI 3.1, with and without credentials", async () => {
    for (const gate of [undefined, secured()]) {
      const url = await serving({ gate });
      const document = await (await fetch(`${url}/openapi.json`)).json();
      // biome-ignore lint/suspicious/noExplicitAny: the validator's own type
      const api: any = await SwaggerParser.validate(document as never);
      expect(api.openapi).toBe("3.1.0");
      expect(api.info.version).toBe("1.2.3");
      const { required, properties } = api.components.schemas.Generation;
      expect(required).toEqual(["prompt"]);
      expect(properties.num_inference_steps).toMatchObject({ type: "integer", minimum: 1, maximum: 200 });
      expect(api.paths["/"].post.security).toEqual(gate && [{ key: [] }]);
    }
  });

  it("describes every route there is", () => {
    const app = appOf();
    const there = new Set(
      app.routes
        .filter(({ method, path }) => method !== "ALL" && !path.includes("*") && !path.startsWith("/playground/"))
        .filter(({ path }) => path !== "/favicon.ico")
        .map(({ method, path }) => `${method} ${path.replace(/\{[^}]*\}/g, "").replace(/:(\w+)/g, "{$1}")}`),
    );
    const described = new Set(app.routeTable.descriptions.map(({ method, path }) => `${method} ${path}`));
    // Paths that are an app's whatever it is called have no pattern of Hono's, and others have `*`.
    for (const asked of [
      "GET /queue/status",
      "POST /{app}",
      "POST /{app}/stream",
      "GET /{app}",
      "GET /{app}/stream",
      "GET /{app}/realtime",
    ]) {
      expect(described.delete(asked), asked).toBe(true);
    }
    expect([...there].sort()).toEqual([...described].sort());
  });

  it("says where the server is: the public address, else the one that was asked", async () => {
    const servers = async (gate: AppOptions["gate"], headers: Record<string, string> = {}) => {
      const response = await appOf({ gate }).request("/openapi.json", { headers });
      return ((await response.json()) as { servers: { url: string }[] }).servers.map(({ url }) => url);
    };
    expect(await servers({ publicUrl: "https://pictures.example/base/" })).toEqual(["https://pictures.example/base"]);
    expect(await servers({ publicUrl: "https://pictures.example" })).toEqual(["https://pictures.example"]);
    expect(await servers({})).toEqual(["http://localhost"]);
    const forwarded = { "x-forwarded-host": "a.example", "x-forwarded-proto": "https", "x-forwarded-prefix": "/base" };
    expect(await servers({}, forwarded)).toEqual(["http://localhost"]);
    expect(await servers({ proxies: 1 }, forwarded)).toEqual(["https://a.example/base"]);
    const app = appOf({ gate: { proxies: 1 } });
    for (const [headers, url] of [
      [{}, "http://localhost"],
      [forwarded, "https://a.example/base"],
      [{}, "http://localhost"],
    ] as const) {
      expect(await (await app.request("/openapi.json", { headers })).json()).toMatchObject({ servers: [{ url }] });
    }
  });

  it("leaves out what a server does not have", async () => {
    const url = await serving({ model: undefined, metrics: undefined });
    const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: object };
    expect(Object.keys(paths)).not.toContain("/v1/images/generations");
    expect(Object.keys(paths)).not.toContain("/metrics");
    expect(Object.keys(paths)).toContain("/stream");
  });
});

describe("every route that is described", () => {
  it("answers with a status and a body that are described", async () => {
    const url = await serving({ gate: secured() });
    const authorization = { authorization: "Bearer k" };
    const generation = JSON.stringify({ prompt: "x", request_id: "known" });
    await (await fetch(`${url}/stream`, { method: "POST", headers: authorization, body: generation })).text();
    const form = new FormData();
    const { bytes } = await encodePicture(gradient(64, 1), { format: "png" });
    const base64 = Buffer.from(bytes).toString("base64");
    form.set("image", new Blob([Buffer.from(bytes)]), "a.png");
    form.set("prompt", "x");
    const bodies: Record<string, string | FormData> = {
      Generation: '{"prompt":"x"}',
      Update: '{"prompt":"y"}',
      TokenRequest: "{}",
      ImageGeneration: '{"prompt":"x"}',
      ImageEdit: form,
      A1111TextToImage: '{"prompt":"x","steps":2}',
      A1111ImageToImage: JSON.stringify({ prompt: "x", steps: 2, init_images: [base64], styles: ["soft"] }),
      A1111OptionsChange: '{"jpeg_quality":70}',
      A1111Picture: JSON.stringify({ image: base64 }),
    };
    for (const { method, path, about } of appOf().routeTable.descriptions) {
      const { answers, body } = about;
      const where = `${method} ${path}`;
      const address = path
        .replace("{job}", "known")
        .replace("{id}", "known")
        .replace("{app}", "a/b")
        .replace("{model}", "gradient");
      const query = where === "GET /stream" ? "?prompt=x" : "";
      const response = await fetch(url + address + query, {
        method,
        headers: authorization,
        body: body && bodies[body.schema.name],
      });
      const text = await response.text();
      const described = answers[response.status];
      expect(described, `${where} answered ${response.status}: ${text.slice(0, 200)}`).toBeDefined();
      if (described?.schema === undefined) continue;
      const type = response.headers.get("content-type") ?? "";
      expect(type, where).toContain(described.type ?? "application/json");
      const values: unknown[] = [];
      if (type.includes("event-stream")) {
        createParser({ onEvent: ({ data }) => values.push(JSON.parse(data)) }).feed(text);
        expect(values.length, where).toBeGreaterThan(0);
      } else values.push(JSON.parse(text));
      for (const value of values) {
        const checked = described.schema.schema.safeParse(value);
        expect(checked.error?.issues, where).toBeUndefined();
      }
    }
  });

  it("asks for a credential where it says so, and only there", async () => {
    const url = await serving({ gate: secured() });
    for (const { method, path, scope } of appOf().routeTable.descriptions) {
      const address = path.replace(/\{\w+\}/g, "x");
      const response = await fetch(url + address, { method });
      await response.body?.cancel();
      expect(response.status === 401, `${method} ${path} answered ${response.status}`).toBe(scope !== "open");
    }
  });
});

describe("GET /docs", () => {
  it("shows every route, without scripts or anything from elsewhere", async () => {
    const url = await serving();
    const response = await fetch(`${url}/docs`);
    const page = await response.text();
    for (const { path } of appOf().routeTable.descriptions) expect(page).toContain(path);
    expect(page).toContain("num_inference_steps");
    expect(page).not.toMatch(/<script|src=|https?:\/\//);
    const policy = response.headers.get("content-security-policy");
    expect(policy).toContain("default-src 'none'");
    const style = /<style>(.*?)<\/style>/s.exec(page)![1]!;
    const hash = Buffer.from(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style))).toString("base64");
    expect(policy).toContain(hash);
  });
});

it.each(["/openapi.json", "/docs"])("%s goes out compressed, and with a tag", async (path) => {
  const url = await serving();
  const get = (headers: Record<string, string>) => fetch(url + path, { headers });
  const plain = await get({ "accept-encoding": "identity" });
  const text = await plain.text();
  expect([plain.headers.get("content-encoding"), plain.headers.get("vary")]).toEqual([null, "Accept-Encoding"]);
  for (const encoding of ["br", "gzip"]) {
    const packed = await get({ "accept-encoding": encoding });
    expect(packed.headers.get("content-encoding")).toBe(encoding);
    expect(Number(packed.headers.get("content-length"))).toBeLessThan(text.length / 4);
    expect(packed.headers.get("content-type")).toBe(plain.headers.get("content-type"));
    expect(packed.headers.get("content-security-policy")).toBe(plain.headers.get("content-security-policy"));
    expect(await packed.text()).toBe(text);
    const etag = packed.headers.get("etag")!;
    expect((await get({ "accept-encoding": encoding, "if-none-match": etag })).status).toBe(304);
  }
});
