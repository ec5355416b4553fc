/** An embedding program's own GPU: `createRuntime({ gpu })` draws the same picture on it. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createRuntime, deviceDescriptor, type Runtime } from "../index.ts";
import { openAdapter } from "../src/gpu/drivers/adapter.ts";
import { cacheDirectory } from "../src/platform/cache-directory.ts";

const runtimes: Runtime[] = [];
let cache: string;

// The same kernels on each: a GPU of the program's own has another name, under which nothing was tuned.
beforeAll(async () => {
  process.env.MESA_SHADER_CACHE_DIR ??= join(cacheDirectory(), "mesa");
  cache = process.env.XDG_CACHE_HOME = await mkdtemp(join(tmpdir(), "daguerre-own-gpu-"));
});

afterAll(async () => {
  await Promise.all(runtimes.map((runtime) => runtime.close()));
  await rm(cache, { recursive: true });
});

async function pictureOf(options: Parameters<typeof createRuntime>[0]): Promise<Uint8Array> {
  const runtime = await createRuntime(options);
  runtimes.push(runtime);
  for await (const event of runtime.textToImage({ prompt: "a sunset over the sea", num_inference_steps: 2, seed: 3 })) {
    if (event.type === "result") return event.pictures[0]!.rgba;
  }
  throw new Error("no picture");
}

it("draws on a GPU and on a device of the program's own what it draws by itself", { timeout: 120_000 }, async () => {
  const expected = await pictureOf({});
  const { gpu } = await openAdapter();
  expect(await pictureOf({ gpu })).toEqual(expected);
  const { adapter } = await openAdapter();
  const device = await adapter.requestDevice(deviceDescriptor(adapter));
  expect(await pictureOf({ gpu: device })).toEqual(expected);
  device.destroy();
});
