import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync } from "node:zlib";
import { afterEach, beforeEach, expect, it } from "vitest";
import { packedSet, unpack } from "./packed-libraries.ts";

const { XDG_CACHE_HOME } = process.env;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-packed-"));
  process.env.XDG_CACHE_HOME = join(folder, "cache");
});
afterEach(async () => {
  if (XDG_CACHE_HOME === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = XDG_CACHE_HOME;
  await rm(folder, { recursive: true });
});

async function makeSet(name: string, library = Buffer.alloc(100_000, "library")) {
  const set = join(folder, name);
  await mkdir(join(set, "dist/any"), { recursive: true });
  await writeFile(join(set, "dist/any/lib.so.1.br"), brotliCompressSync(library));
  await writeFile(join(set, "LICENSE"), "free");
  return { version: "1.0.0", folder: set };
}

it("unpacks a set once, in its folders, executable as it was", async () => {
  const set = await makeSet("lib-any-1.0.0");
  const [first, second] = await Promise.all([unpack(set), unpack(set)]);
  expect(first).toBe(join(folder, "cache/daguerre/lib-any-1.0.0"));
  expect(second).toBe(first);
  expect((await readFile(join(first, "dist/any/lib.so.1"))).length).toBe(100_000);
  expect(await readFile(join(first, "LICENSE"), "utf8")).toBe("free");
  expect(await readdir(join(folder, "cache/daguerre"))).toEqual(["lib-any-1.0.0"]);
});

it("leaves nothing behind of a damaged set, and unpacks it once it is whole", async () => {
  const set = await makeSet("broken-any-1.0.0");
  await writeFile(join(set.folder, "dist/any/lib.so.1.br"), "no brotli at all");
  await expect(unpack(set)).rejects.toThrow();
  expect(await readdir(join(folder, "cache/daguerre"))).toEqual([]);
  await makeSet("broken-any-1.0.0");
  expect(await readdir(await unpack(set))).toContain("LICENSE");
});

it("takes a folder of this process where the cache cannot be written", async () => {
  await writeFile(join(folder, "cache"), "a file");
  const at = await unpack(await makeSet("private-any-1.0.0"));
  expect(at.startsWith(join(tmpdir(), "daguerre-native-"))).toBe(true);
  await rm(at, { recursive: true });
});

it("knows no set that the package lacks", () => {
  expect(packedSet("dawn-amiga-m68k")).toBeUndefined();
});
