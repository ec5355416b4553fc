/** Methods that a path does not have, at a real server: derived from the routes, so every route is asked. */
import { readdir, readFile } from "node:fs/promises";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { gradientRun } from "../test/gradient-run.ts";
import { type AppOptions, createApp } from "./app.ts";
import { createAuthenticator } from "./gate/auth.ts";
import { type Listening, listen } from "./http/listen.ts";
import { createMetrics } from "./observe/metrics.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
const appOf = (options: Partial<AppOptions> = {}) =>
  createApp({ run: gradientRun(), health: () => ({}), model: MODEL, metrics: createMetrics(), ...options });

async function serving(app: Pick<Hono, "fetch">): Promise<string> {
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return server.url;
}

/** An address for each path that is described, and the methods that it has. */
function described(): Map<string, Set<string>> {
  const paths = new Map<string, Set<string>>();
  for (const { method, path } of appOf().routeTable.descriptions) {
    const address = path.replace("{app}", path.startsWith("/queue") ? "a/b" : "gradient").replace(/\{\w+\}/g, "x");
    paths.set(address, (paths.get(address) ?? new Set()).add(method));
  }
  return paths;
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];

it("each address that a document asks with curl is there", async () => {
  const docs = (await readdir("docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`);
  const texts = await Promise.all([...docs, "README.md"].map((name) => readFile(name, "utf8")));
  const ASKED = /curl [^\n]*?http:\/\/(?:127\.0\.0\.1|localhost):8080(\/[^\s"'?]*)/g;
  const paths = texts.flatMap((text) => [...text.matchAll(ASKED)].map(([, path]) => path!));
  expect(paths.length).toBeGreaterThan(3);
  const app = appOf();
  for (const path of paths) expect((await app.request(path, { method: "OPTIONS" })).status, path).toBe(204);
});

it("all routes are such that Hono's fast router takes them", async () => {
  const app = appOf({ preprocess: () => Promise.reject(new Error("no device")) });
  await app.request("/health");
  expect(app.router.name).toBe("SmartRouter + RegExpRouter");
});

describe("a method that a path does not have", () => {
  it.each(["", "/pictures"])("is 405 with the methods that it has, on every path below '%s'", async (base) => {
    const inner = appOf();
    const url = await serving(base === "" ? inner : new Hono().route(base, inner));
    for (const [path, methods] of described()) {
      const allowed = [...methods, ...(methods.has("GET") ? ["HEAD"] : []), "OPTIONS"];
      // fal's clients cancel by PUT, others by POST.
      if (path.endsWith("/cancel")) allowed.push("POST");
      for (const method of METHODS.filter((name) => !allowed.includes(name))) {
        const response = await fetch(url + base + path, { method });
        const text = await response.text();
        const asked = `${method} ${path}`;
        expect([response.status, response.headers.get("allow")?.split(", ").sort()], asked).toEqual([
          405,
          expect.arrayContaining(allowed.sort()),
        ]);
        const words = path.startsWith("/v1/")
          ? { error: { message: expect.anything() } }
          : { detail: expect.anything() };
        if (method !== "HEAD") expect(JSON.parse(text), asked).toMatchObject(words);
      }
      const options = await fetch(url + base + path, { method: "OPTIONS" });
      expect([options.status, options.headers.get("allow")?.split(", ")], path).toEqual([
        204,
        expect.arrayContaining(allowed),
      ]);
    }
  });

  it("is 404 where there is no path", async () => {
    const url = await serving(appOf());
    for (const method of METHODS) {
      const response = await fetch(`${url}/nowhere`, { method });
      expect([response.status, response.headers.get("allow")], method).toEqual([404, null]);
    }
    // A file of the page that is not there, by the method that such files have.
    expect((await fetch(`${url}/playground/none.js`)).status).toBe(404);
    expect((await fetch(`${url}/playground/none.js`, { method: "POST" })).status).toBe(405);
  });

  it("needs a credential where one is asked for", async () => {
    const authenticator = createAuthenticator({ keys: [{ name: "a", key: "k", scopes: ["openai"] }] });
    const url = await serving(appOf({ gate: { authenticator } }));
    const asked = async (method: string, path: string, authorization = "") =>
      (await fetch(url + path, { method, headers: { authorization } })).status;
    expect(await asked("POST", "/health")).toBe(401);
    expect(await asked("PUT", "/stream")).toBe(401);
    expect(await asked("PUT", "/stream", "Bearer k")).toBe(403);
    expect(await asked("GET", "/v1/images/generations", "Bearer k")).toBe(405);
    expect(await asked("OPTIONS", "/stream")).toBe(204);
  });
});

describe("HEAD", () => {
  it("is GET without the body, on every path that has one", async () => {
    const url = await serving(appOf());
    for (const [path, methods] of described()) {
      if (!methods.has("GET")) continue;
      const [head, get] = await Promise.all([
        fetch(url + path, { method: "HEAD" }),
        fetch(url + path, { headers: { connection: "close" } }),
      ]);
      expect(await head.text(), path).toBe("");
      expect(head.status, path).toBe(get.status);
      const [typeOfHead, typeOfGet] = [head, get].map(({ headers }) => headers.get("content-type")?.split(";")[0]);
      expect(typeOfHead, path).toBe(typeOfGet);
      await get.body?.cancel();
    }
  });
});

describe("a body", () => {
  it("that is compressed is 415 on every path that takes one, in the words of its clients", async () => {
    const url = await serving(appOf());
    for (const { method, path, about } of appOf().routeTable.descriptions) {
      if (about.body === undefined || path === "/jobs/{job}" || path === "/auth/token") continue;
      const address = url + path.replace("{app}", "a/b");
      for (const coding of ["gzip", "br", "zstd", "deflate, gzip"]) {
        const response = await fetch(address, { method, headers: { "content-encoding": coding }, body: "{}" });
        expect([response.status, response.headers.get("accept-encoding")], address).toEqual([415, "identity"]);
        expect(await response.text()).toMatch(/Content-Encoding/);
        expect(about.answers).toHaveProperty("415");
      }
    }
    const plain = { method: "POST", headers: { "content-encoding": "identity" }, body: '\ufeff{"prompt":"x"}' };
    expect((await fetch(`${url}/`, plain)).status).toBe(200);
  });
});
