/** Files from any address: their names, their parts, and what is refused. */
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { weights } from "../../test/hub/hub-models.ts";
import { LoopbackHub, sha256 } from "../../test/hub/loopback-hub.ts";
import { findAddressFile } from "./address-files.ts";
import { cachedModels, removeCached } from "./listing.ts";
import { pullAddress } from "./pull-address.ts";
import type { HubSettings } from "./settings.ts";

const FILE = weights("a file", 60_000);
const TYPE = { "content-type": "application/octet-stream" };

let hub: LoopbackHub;
let settings: HubSettings;
beforeAll(async () => {
  hub = await LoopbackHub.start();
});
afterAll(() => hub.close());
beforeEach(async () => {
  const root = await mkdtemp(join(tmpdir(), "daguerre-address-"));
  settings = {
    endpoint: hub.url,
    cache: join(root, "hub"),
    files: join(root, "files"),
    token: "hf_mine",
    isOffline: false,
  };
  hub.pages.clear();
  hub.faults.clear();
});
afterEach(() => rm(join(settings.files, ".."), { recursive: true, force: true }));

const ranges = () => hub.asked.splice(0).map(({ range }) => range);
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => "",
    (error: Error) => error.message,
  );

it("a file is downloaded once, listed, found by its address and removed", async () => {
  hub.pages.set("/models/dream.safetensors", { headers: { ...TYPE, etag: '"1"' }, body: FILE });
  const address = `${hub.url}/models/dream.safetensors?token=secret`;
  const path = await pullAddress(settings, address);
  expect(basename(path)).toBe("dream.safetensors");
  expect(await readFile(path)).toEqual(Buffer.from(FILE));
  expect(hub.asked.map(({ authorization }) => authorization)).toEqual([undefined, undefined]);
  ranges();
  expect(await pullAddress(settings, address)).toBe(path);
  expect(ranges()).toEqual(["bytes=0-0"]);
  expect(await findAddressFile(settings.files, address)).toBe(path);
  const source = `${hub.url}/models/dream.safetensors`;
  expect(await cachedModels(settings)).toEqual([
    { name: "dream.safetensors", refs: [], path, bytes: FILE.byteLength, isComplete: true, source },
  ]);
  expect(await removeCached(settings, "dream.safetensors")).toBe(FILE.byteLength);
  expect(await cachedModels(settings)).toEqual([]);
});

it("a part is gone on with if it is of the same file, and left if the file has changed", async () => {
  const address = `${hub.url}/dream.safetensors`;
  const interrupted = async (etag: string, body: Uint8Array) => {
    hub.pages.set("/dream.safetensors", { headers: { ...TYPE, etag }, body });
    hub.faults.set("/dream.safetensors", { stallsAfter: 20_000 });
    const stop = new AbortController();
    const progress = (bytes: number) => bytes >= 20_000 && stop.abort();
    await expect(pullAddress(settings, address, { signal: stop.signal, report: { progress } })).rejects.toThrow();
    hub.faults.clear();
    ranges();
  };
  await interrupted('"1"', FILE);
  hub.pages.set("/dream.safetensors", { headers: { ...TYPE, etag: '"2"' }, body: weights("newer", 60_000) });
  const path = await pullAddress(settings, address);
  expect(await readFile(path)).toEqual(Buffer.from(weights("newer", 60_000)));
  expect(ranges()).toEqual(["bytes=0-0", undefined]);
  await interrupted('"3"', FILE);
  hub.pages.set("/dream.safetensors", { headers: { ...TYPE, etag: '"3"' }, body: FILE });
  await pullAddress(settings, address);
  expect(await readFile(path)).toEqual(Buffer.from(FILE));
  expect(ranges()).toEqual(["bytes=0-0", "bytes=20000-"]);
});

it.each([
  ['attachment; filename="dream shaper.safetensors"', "dream shaper.safetensors"],
  ["attachment; filename*=UTF-8''dr%C3%A9am.safetensors; filename=\"x.bin\"", "dréam.safetensors"],
  ["attachment; filename=../../../x.safetensors", "128713.gguf"],
  ['attachment; filename="/etc/x.safetensors"', "128713.gguf"],
  ["attachment; filename=%2e%2e%2fx.safetensors", "128713.gguf"],
  ["attachment; filename=.x.safetensors", "128713.gguf"],
])("%s names %s", async (disposition, name) => {
  hub.pages.set("/download/128713.gguf", { headers: { ...TYPE, "content-disposition": disposition }, body: FILE });
  if (name.startsWith("128713") && disposition.includes(".x.")) {
    expect(await refusal(pullAddress(settings, `${hub.url}/download/128713.gguf`))).toContain(
      "has no checkpoint there",
    );
    return;
  }
  const path = await pullAddress(settings, `${hub.url}/download/128713.gguf`);
  expect(path).toBe(join(settings.files, basename(join(path, "..")), name));
  expect((await stat(path)).size).toBe(FILE.byteLength);
});

it.each<[string, { headers: Record<string, string>; body: Uint8Array | string }, RegExp]>([
  [
    "a page",
    { headers: { "content-type": "text/html; charset=utf-8" }, body: "<html>" },
    /answers with a web page, not a file/,
  ],
  [
    "a page that says to be a file",
    { headers: TYPE, body: "<!DOCTYPE html><html><body>Log in</body></html>" },
    /"x\.ckpt" is a web page/,
  ],
  [
    "a pointer",
    { headers: TYPE, body: `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 9\n` },
    /is a Git LFS pointer/,
  ],
  [
    "an archive",
    { headers: TYPE, body: Buffer.concat([Buffer.from("Rar!\x1a\x07"), Buffer.alloc(90, 7)]) },
    /is a RAR archive/,
  ],
  ["an empty file", { headers: TYPE, body: "" }, /is an empty file/],
])("%s is no model", async (_, page, words) => {
  hub.pages.set("/x.ckpt", page);
  expect(await refusal(pullAddress(settings, `${hub.url}/x.ckpt`))).toMatch(words);
  expect(await findAddressFile(settings.files, `${hub.url}/x.ckpt`)).toBeUndefined();
});

it.each([
  ["http://models.invalid/x.safetensors", /an address must begin with https:/],
  ["ftp://models.invalid/x.safetensors", /an address must begin with https:/],
  ["https://me:word@models.invalid/x.safetensors", /hold no name or password$/],
  ["https://models.invalid/x.safetensors", /^models\.invalid cannot be reached/],
])("%s is refused", async (address, words) => {
  expect(await refusal(pullAddress(settings, address))).toMatch(words);
});

it("a checksum is held to", async () => {
  hub.pages.set("/x.safetensors", { headers: TYPE, body: FILE });
  const address = `${hub.url}/x.safetensors`;
  expect(await refusal(pullAddress(settings, address, { sha256: "0".repeat(64) }))).toMatch(/has not the checksum/);
  expect(await findAddressFile(settings.files, address)).toBeUndefined();
  await pullAddress(settings, address, { sha256: sha256(FILE).toUpperCase() });
});
