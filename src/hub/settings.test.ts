import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getHFHubCachePath } from "@huggingface/hub";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Environment, hubCache, hubSettings } from "./settings.ts";

const NAMES = ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"];

afterEach(() => vi.unstubAllEnvs());

describe("the cache's folder is the one that @huggingface/hub takes", () => {
  it.each<Environment>([
    {},
    { XDG_CACHE_HOME: "/xdg" },
    { HF_HOME: "/hf", XDG_CACHE_HOME: "/xdg" },
    { HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old" },
    { HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "/new" },
  ])("%j", (env) => {
    for (const name of NAMES) vi.stubEnv(name, env[name]);
    expect(hubCache(env)).toBe(getHFHubCachePath());
  });
});

describe("the token", () => {
  it("comes from the environment, else from the file that tools of the hub share", async () => {
    const folder = await mkdtemp(join(tmpdir(), "daguerre-token-"));
    await writeFile(join(folder, "token"), "hf_file\n");
    await writeFile(join(folder, "other"), "hf_other");
    expect((await hubSettings({ HF_HOME: folder })).token).toBe("hf_file");
    expect((await hubSettings({ HF_HOME: folder, HF_TOKEN: " hf_mine " })).token).toBe("hf_mine");
    expect((await hubSettings({ HF_HOME: folder, HF_TOKEN_PATH: join(folder, "other") })).token).toBe("hf_other");
    expect((await hubSettings({ HF_HOME: join(folder, "none") })).token).toBeUndefined();
    await expect(hubSettings({ HF_TOKEN: "hf_\r\nx: y" })).rejects.toThrow(
      /^HF_TOKEN has characters that no token has$/,
    );
    await rm(folder, { recursive: true });
  });
});

it("the endpoint is an address", async () => {
  expect((await hubSettings({ HF_ENDPOINT: "https://mirror.example/hub/" })).endpoint).toBe(
    "https://mirror.example/hub",
  );
  for (const text of ["mirror.example", "file:///x", "https://me:word@mirror.example"]) {
    await expect(hubSettings({ HF_ENDPOINT: text })).rejects.toThrow(/^HF_ENDPOINT must be an address/);
  }
});

it.each([
  ["1", true],
  ["true", true],
  ["YES", true],
  ["0", false],
  ["", false],
])("HF_HUB_OFFLINE=%s: %s", async (value, isOffline) => {
  expect((await hubSettings({ HF_HUB_OFFLINE: value })).isOffline).toBe(isOffline);
});
