import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ConfigError, loadConfig } from "./config.ts";
import { configSchema } from "./config-schema.ts";
import { flagName, SETTINGS } from "./settings.ts";
import { checkModelFlags, modelOptions } from "./several-models.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "daguerre-config-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function file(content: unknown): Promise<string> {
  const name = path.join(dir, "daguerre.config.json");
  await writeFile(name, typeof content === "string" ? content : JSON.stringify(content));
  return name;
}
const nothing = { flags: {}, env: {}, file: undefined };
function complaint(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("configuration", () => {
  it("is the schema's defaults where nothing is said", () => {
    const config = loadConfig(nothing);
    expect(config).toEqual(configSchema.parse({}));
    expect(config).toMatchObject({ host: "127.0.0.1", port: 8080, cors_origins: [], auth: { keys: [] } });
  });

  it("has several models as a folder, or by name with paths beside the file", async () => {
    const folder = await mkdtemp(path.join(dir, "models-"));
    expect(loadConfig({ ...nothing, flags: { models: folder } }).models).toBe(folder);
    const named = await file({
      models: {
        quick: "turbo.safetensors",
        fine: { path: "xl", vae: "vae.safetensors", keep_alive_seconds: 60, preload: true },
      },
      keep_alive_seconds: 300,
    });
    const { models, keep_alive_seconds } = loadConfig({ ...nothing, file: named, flags: { preload: "quick" } });
    expect(models).toEqual({
      quick: path.join(dir, "turbo.safetensors"),
      fine: {
        path: path.join(dir, "xl"),
        vae: path.join(dir, "vae.safetensors"),
        keep_alive_seconds: 60,
        preload: true,
      },
    });
    expect(keep_alive_seconds).toBe(300);
    expect(complaint(() => loadConfig({ ...nothing, flags: { models: "/nowhere" } }))).toBe(
      '--models: there is no folder "/nowhere"',
    );
    const wrong = await file({ models: { "a/b/c": "x" } });
    expect(complaint(() => loadConfig({ ...nothing, file: wrong }))).toMatch(
      /: models: must be a folder, or an object of names/,
    );
    expect(modelOptions(models)).toMatchObject({ models: { fine: { keepAlive: 60, preload: true } } });
    expect(() => checkModelFlags({ models, vae: "vae.safetensors" })).toThrow(
      /^vae \(--vae\) is about the model of --model/,
    );
    expect(() => checkModelFlags({ model: "a", models, vae: "vae.safetensors" })).not.toThrow();
  });

  it("is taken from the file, then the environment, then the flags", async () => {
    const named = await file({
      port: 1,
      host: "10.0.0.1",
      limits: { steps: 10, images: 2 },
      cors_origins: ["https://a"],
    });
    const config = loadConfig({
      file: named,
      env: {
        DAGUERRE_PORT: "2",
        DAGUERRE_LIMITS_STEPS: "20",
        DAGUERRE_CORS_ORIGINS: "https://b, https://c",
        PORT: "9",
      },
      flags: { port: "3" },
    });
    expect(config).toMatchObject({
      port: 3,
      host: "10.0.0.1",
      limits: { steps: 20, images: 2 },
      cors_origins: ["https://b", "https://c"],
    });
    expect(loadConfig({ ...nothing, env: { PORT: "9" } }).port).toBe(9);
    expect(loadConfig({ ...nothing, env: { PORT: "9", DAGUERRE_PORT: "8" } }).port).toBe(8);
    expect(loadConfig({ ...nothing, env: { DAGUERRE_PORT: "" } }).port).toBe(8080);
  });

  it("reads keys and switches from the environment, and paths beside the file", async () => {
    const env = { DAGUERRE_AUTH_KEYS: "a=x=y,b=sha256:00", DAGUERRE_WEBHOOKS_ALLOW_PRIVATE: "true" };
    const config = loadConfig({
      flags: {},
      env,
      file: await file({ $schema: "x", model: "models/a", lora_dir: "/tmp" }),
    });
    expect(config.auth.keys).toEqual([
      { name: "a", key: "x=y" },
      { name: "b", key: "sha256:00" },
    ]);
    expect(config.webhooks.allow_private).toBe(true);
    expect(config.model).toBe(path.join(dir, "models/a"));
    expect(config.lora_dir).toBe("/tmp");
  });

  it("says what is wrong and where it was written, and never a secret", async () => {
    expect(complaint(() => loadConfig({ ...nothing, flags: { port: "80a" } }))).toMatch(/^--port: /);
    expect(complaint(() => loadConfig({ ...nothing, env: { PORT: "65536" } }))).toMatch(/^PORT: .*65535/);
    expect(complaint(() => loadConfig({ ...nothing, env: { DAGUERRE_AUTH_KEYS: "hunter2" } }))).toMatch(
      /^DAGUERRE_AUTH_KEYS: (?!.*hunter2)/,
    );
    expect(complaint(() => loadConfig({ ...nothing, env: { DAGUERRE_AUTH_TOKEN_SECRET: "hunter2" } }))).toMatch(
      /^DAGUERRE_AUTH_TOKEN_SECRET: (?!.*hunter2)/,
    );
    for (const host of ["https://hooks.example", "hooks.example/path", "hooks.example:port", "*"]) {
      const env = { DAGUERRE_WEBHOOKS_HOSTS: `hooks.example:8443,${host}` };
      expect(complaint(() => loadConfig({ ...nothing, env }))).toMatch(
        /^DAGUERRE_WEBHOOKS_HOSTS: must be a host such as/,
      );
    }
    expect(complaint(() => loadConfig({ ...nothing, env: { DAGUERRE_HOSTS: "a, https://b" } }))).toMatch(
      /^DAGUERRE_HOSTS: must be a host such as pictures\.example/,
    );
    for (const address of ["pictures.example", "ftp://a", "https://a?b=c", "https://u:p@a", "https://a#b"]) {
      expect(
        complaint(() => loadConfig({ ...nothing, flags: { "public-url": address } })),
        address,
      ).toMatch(/^--public-url: must (be an address such as https:|hold no user, query or fragment)/);
    }
    const named = await file({ limits: { step: 3 }, cors: [] });
    const both = complaint(() => loadConfig({ ...nothing, file: named }));
    expect(both).toContain(`${named}: limits: `);
    expect(both).toContain('"step"');
    expect(both).toContain('"cors"');
    const broken = await file("{");
    expect(complaint(() => loadConfig({ ...nothing, file: broken }))).toContain("is not JSON");
    expect(complaint(() => loadConfig({ ...nothing, file: `${dir}/none.json` }))).toContain("ENOENT");
    const list = await file([]);
    expect(complaint(() => loadConfig({ ...nothing, file: list }))).toContain("must be an object");
  });

  it("reads secrets of webhooks, of the server and of a key, and shows none that is wrong", async () => {
    const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
    const env = { DAGUERRE_WEBHOOKS_SECRETS: `${secret},${secret}` };
    const keys = [{ name: "a", key: "k", webhook_secrets: [secret] }];
    const config = loadConfig({ flags: {}, env, file: await file({ auth: { keys } }) });
    expect(config.webhooks.secrets).toEqual([secret, secret]);
    expect(config.auth.keys[0]!.webhook_secrets).toEqual([secret]);
    const wrong = complaint(() => loadConfig({ ...nothing, env: { DAGUERRE_WEBHOOKS_SECRETS: "hunter2" } }));
    expect(wrong).toMatch(/^DAGUERRE_WEBHOOKS_SECRETS: must be whsec_ and the base64/);
    expect(wrong).not.toContain("hunter2");
  });

  it("gives every setting its own flag and variable, and secrets no flag", () => {
    const names = SETTINGS.flatMap(({ flag, variables }) => [...(flag ? [flag] : []), ...variables]);
    expect(new Set(names).size).toBe(names.length);
    expect(SETTINGS.filter(({ flag }) => flag === undefined).map(({ key }) => key)).toEqual([
      "auth.keys",
      "auth.token_secret",
      "webhooks.secrets",
    ]);
    expect(flagName("limitsRequestsPerMinute")).toBe("limits-requests-per-minute");
  });

  it("is that of the example in its document", async () => {
    const text = await readFile(path.resolve(import.meta.dirname, "../docs/configuration.md"), "utf8");
    const example = /```json\n(.+?)```/s.exec(text)?.[1];
    expect(configSchema.parse(JSON.parse(example!))).toMatchObject({ port: 8080 });
  });
});

it.each(SETTINGS.filter(({ mustBe }) => mustBe !== undefined))("$key says what it must be", ({ key, flag, mustBe }) => {
  const name = flag?.slice(2) as string;
  for (const value of ["", "many", "-1", "1e99"]) {
    expect(() => loadConfig({ flags: { [name]: value }, env: {}, file: undefined }), value).toThrow(
      new ConfigError([`${flag}: must be ${mustBe}`]),
    );
  }
  expect(key).toBeDefined();
});

it.each([
  ["host", "", "must not be empty"],
  ["model", " ", "must not be empty"],
  ["lora-dir", "/nowhere/loras", 'there is no folder "/nowhere/loras"'],
  ["cors-origins", "app.example", "must be an origin such as https://app.example, without a path, or *"],
  ["cors-origins", "https://app.example/page", "must be an origin such as https://app.example, without a path, or *"],
])("--%s %j: %s", (name, value, message) => {
  const read = () => loadConfig({ flags: { [name]: value }, env: {}, file: undefined });
  expect(read).toThrow(new ConfigError([`--${name}: ${message}`]));
});
