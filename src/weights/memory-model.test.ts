/** The built-in model from files in memory: the same configurations, tokens and tensors as from its folder on disk. */

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { memoryFiles } from "../platform/memory-files.ts";
import { packagePath } from "../platform/package-files.ts";
import { loadClipTokenizer } from "../text/clip-tokenizer.ts";
import { type Component, type ModelDirectory, openModelDirectory } from "./model-directory.ts";

const folder = packagePath("models", "landscapes");
let disk: ModelDirectory;
let memory: ModelDirectory;

beforeAll(async () => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  const wanted = paths.filter((path) =>
    /^(model_index\.json|(unet|vae|text_encoder|tokenizer|scheduler)\/)/.test(path),
  );
  const contents = await Promise.all(wanted.map(async (path) => [path, await readFile(join(folder, path))] as const));
  memory = await openModelDirectory(memoryFiles(Object.fromEntries(contents)));
  disk = await openModelDirectory(folder);
});

async function tensorsOf(component: Component): Promise<Map<string, string>> {
  const set = await component.weights();
  try {
    const tensors = new Map<string, string>();
    for (const name of set.names()) {
      const { dtype, shape, byteLength, read } = set.get(name)!;
      const bytes = Buffer.alloc(byteLength);
      await read(bytes);
      tensors.set(name, `${dtype} ${shape} ${bytes.toString("latin1")}`);
    }
    return tensors;
  } finally {
    await set.close();
  }
}

it("has the same components and configurations", () => {
  expect([...memory.components.keys()]).toEqual([...disk.components.keys()]);
  for (const [name, { config }] of disk.components) expect(memory.component(name)!.config).toEqual(config);
});

it.each(["unet", "vae", "text_encoder"])("has the same tensors in %s", async (name) => {
  const expected = await tensorsOf(disk.component(name)!);
  expect(expected.size).toBeGreaterThan(10);
  const found = await tensorsOf(memory.component(name)!);
  expect([...found.keys()]).toEqual([...expected.keys()]);
  expect([...found].filter(([tensor, text]) => expected.get(tensor) !== text).map(([tensor]) => tensor)).toEqual([]);
});

it("has the same tokenizer", async () => {
  const prompt = "A lighthouse, at SUNSET; 日本 <|endoftext|>";
  const [a, b] = await Promise.all(
    [memory, disk].map(async (model) => loadClipTokenizer(model.component("tokenizer")!.files)),
  );
  expect(a!.encode(prompt)).toEqual(b!.encode(prompt));
});
