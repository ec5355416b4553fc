/**
 * Clients that generators write from `/openapi.json`: the code compiles under strict rules, a request needs no field but
 * those that it must have, and a call to a real server works.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createApp } from "../transports/app.ts";
import { createAuthenticator } from "../transports/gate/auth.ts";
import { type Listening, listen } from "../transports/http/listen.ts";
import { createMetrics } from "../transports/observe/metrics.ts";
import { gradientRun } from "./gradient-run.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../", import.meta.url));
const bin = (name: string) => join(root, "node_modules", ".bin", name);

/** How each generator is called, and a program that makes calls with what it has written. */
const GENERATORS: Readonly<Record<string, { readonly command: readonly string[]; readonly program: string }>> = {
  orval: {
    command: ["orval", "--config", "orval.config.mjs"],
    program: `
import { getHealth, post, postV1ImagesGenerations } from "./orval/api";
const picture = await post({ prompt: "a hill", request_id: 7 });
if (picture.status !== 200) throw new Error(String(picture.status));
const id: string = picture.data.request_id;
const health = await getHealth();
const status: "ok" = health.data.status;
const images = await postV1ImagesGenerations({ prompt: "a hill" });
if (images.status !== 200) throw new Error(String(images.status));
console.log(JSON.stringify([id, picture.data.images.length, status]));
`,
  },
  "openapi-ts": {
    command: ["openapi-ts", "-i", "openapi.json", "-o", "openapi-ts", "-c", "@hey-api/client-fetch"],
    program: `
import { getHealth, post, postStream } from "./openapi-ts";
const { data } = await post({ body: { prompt: "a hill", request_id: 7 }, throwOnError: true });
const id: string = data.request_id;
const health = await getHealth({ throwOnError: true });
const status: "ok" = health.data.status;
const { stream } = await postStream({ body: { prompt: "a hill" } });
const types = new Set<string>();
for await (const event of stream) types.add((event as { type: string }).type);
if (!types.has("progress") || !types.has("result")) throw new Error([...types].join());
console.log(JSON.stringify([id, data.images.length, status]));
`,
  },
  "openapi-typescript": {
    command: ["openapi-typescript", "openapi.json", "-o", "openapi-typescript.d.ts"],
    program: `
import createClient from "openapi-fetch";
import type { paths } from "./openapi-typescript";
const client = createClient<paths>({ baseUrl: process.argv[2]! });
const { data, error } = await client.POST("/", { body: { prompt: "a hill", request_id: 7 } });
if (data === undefined) throw new Error(JSON.stringify(error));
const id: string = data.request_id;
const health = await client.GET("/health");
const status: "ok" = health.data!.status;
// @ts-expect-error: a request needs its prompt
client.POST("/jobs/{job}", { params: { path: {} }, body: {} }).catch(() => {});
console.log(JSON.stringify([id, data.images.length, status]));
`,
  },
};

const TSCONFIG = {
  compilerOptions: {
    strict: true,
    noEmit: true,
    target: "es2022",
    module: "esnext",
    moduleResolution: "bundler",
    lib: ["es2023", "dom", "dom.iterable"],
    types: ["node"],
  },
  include: ["."],
};

describe("generators of clients", () => {
  let server: Listening;
  let folder: string;

  beforeAll(async () => {
    const model = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
    const options = { run: gradientRun(), health: () => ({ version: "1.2.3" }), model, metrics: createMetrics() };
    server = await listen(createApp(options), 0, "127.0.0.1");
    // Where the packages that the written code imports are found.
    const cache = join(root, "node_modules", ".cache");
    await mkdir(cache, { recursive: true });
    folder = await mkdtemp(join(cache, "generators-"));
    await writeFile(join(folder, "package.json"), '{"type":"module"}');
    await writeFile(join(folder, "tsconfig.json"), JSON.stringify(TSCONFIG));
    await writeFile(join(folder, "openapi.json"), await (await fetch(`${server.url}/openapi.json`)).text());
    const output = { target: "orval/api.ts", client: "fetch", mode: "single", baseUrl: server.url };
    await writeFile(
      join(folder, "orval.config.mjs"),
      `export default ${JSON.stringify({ daguerre: { input: "./openapi.json", output } })};`,
    );
  });
  afterAll(async () => {
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it("write code that compiles, and calls that work", { timeout: 300_000 }, async () => {
    for (const [name, { command, program }] of Object.entries(GENERATORS)) {
      const [tool, ...options] = command as [string, ...string[]];
      await run(bin(tool), options, { cwd: folder });
      await writeFile(join(folder, `call-${name}.ts`), program);
    }
    const compiled = await run(bin("tsc"), ["-p", "."], { cwd: folder }).catch((error) => error);
    expect(compiled.stdout).toBe("");
    for (const name of Object.keys(GENERATORS)) {
      const { stdout } = await run(bin("tsx"), [`call-${name}.ts`, server.url], { cwd: folder });
      expect(JSON.parse(stdout.trim().split("\n").at(-1)!), name).toEqual(["7", 1, "ok"]);
    }
    // A default does not make a field one that is always sent.
    const types = await readFile(join(folder, "openapi-typescript.d.ts"), "utf8");
    expect(/Generation: \{[\s\S]*?negative_prompt(\??):/.exec(types)?.[1]).toBe("?");
  });
});

describe("the document", () => {
  const secured = createAuthenticator({ keys: [{ name: "a", key: "k" }], tokenSecret: "x".repeat(32) });

  it.each([undefined, { authenticator: secured }])(
    "holds nothing that generators are known to trip over",
    async (gate) => {
      const app = createApp({ run: gradientRun(), health: () => ({}), gate, metrics: createMetrics() });
      const { components, paths } = (await (await app.request("/openapi.json")).json()) as {
        components: { schemas: Record<string, unknown> };
        paths: Record<string, Record<string, { requestBody?: { content: object } }>>;
      };
      expect(JSON.stringify(components.schemas)).not.toContain('"const":');
      const bodies = JSON.stringify(
        Object.values(paths).flatMap((path) => Object.values(path).map((one) => one.requestBody)),
      );
      const named = new Set([...bodies.matchAll(/#\/components\/schemas\/(\w+)/g)].map(([, name]) => name!));
      expect(named.size).toBeGreaterThan(2);
      for (const name of named) expect(JSON.stringify(components.schemas[name]), name).not.toContain('"default":');
    },
  );
});
