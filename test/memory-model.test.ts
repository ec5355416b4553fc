/** The built-in model from files in memory draws the same picture as from its folder on disk, its own variant included. */

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { createRuntime, memoryFiles, type Runtime } from "../index.ts";
import { packagePath } from "../src/platform/package-files.ts";

const folder = packagePath("models", "landscapes");
const PARTS = /^(unet|vae|text_encoder|tokenizer|scheduler|few-step)\/|^(model_index|daguerre|latent_rgb|words)\.json$/;
const runtimes: Runtime[] = [];
afterAll(() => Promise.all(runtimes.map((runtime) => runtime.close())));

async function inMemory() {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  const parts = paths.filter((path) => PARTS.test(path));
  return memoryFiles(
    Object.fromEntries(await Promise.all(parts.map(async (path) => [path, await readFile(join(folder, path))]))),
  );
}

async function drawn(model: Parameters<typeof createRuntime>[0]) {
  const runtime = await createRuntime(model);
  runtimes.push(runtime);
  const pictures: Uint8Array[] = [];
  for (const few_step of [false, true]) {
    for await (const event of runtime.textToImage({
      prompt: "a night sky",
      num_inference_steps: 2,
      seed: 1,
      few_step,
    })) {
      if (event.type === "result") pictures.push(event.pictures[0]!.rgba);
    }
  }
  return { facts: runtime.model, pictures };
}

it("draws what the model in its folder draws", { timeout: 120_000 }, async () => {
  const expected = await drawn({});
  expect(expected.pictures).toHaveLength(2);
  expect(await drawn({ model: await inMemory() })).toEqual(expected);
});
