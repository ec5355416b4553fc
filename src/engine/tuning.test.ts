/** Tuning at the first start on an adapter: the built-in model, on the real device, with a cache of its own. */

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { keepMesaShaders } from "../gpu/drivers/software-driver.ts";
import type { LoadProgress, Runtime, Tune } from "./contract.ts";
import { createRuntime } from "./runtime.ts";

const smallest = { width: 32, height: 32 };
let cache: string;
let cacheHome: string | undefined;
beforeAll(async () => {
  keepMesaShaders(); // compiled kernels stay where they are
  cache = await mkdtemp(join(tmpdir(), "daguerre-tuning-"));
  cacheHome = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = cache;
});
afterAll(async () => {
  if (cacheHome === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = cacheHome;
  await rm(cache, { recursive: true });
});

let runtime: Runtime | undefined;
afterEach(() => runtime?.close());

/** A runtime, and what it says while it is made ready. */
async function open(tune: Tune | undefined) {
  const told: LoadProgress[] = [];
  const watch = { on: (_: LoadProgress) => {} };
  const onProgress = (progress: LoadProgress) => {
    told.push(progress);
    watch.on(progress);
  };
  runtime = await createRuntime({ adapter: { prefer: "software" }, tune, onProgress });
  const tuned = () => told.filter(({ what }) => what.startsWith("tuning "));
  return { runtime, told, tuned, watch };
}

async function remembered(): Promise<Record<string, string>> {
  const folder = join(cache, "daguerre", "tuning");
  const files = await readdir(folder).catch(() => []);
  expect(files.length).toBeLessThanOrEqual(1);
  const [file] = files;
  return file === undefined ? {} : JSON.parse(await readFile(join(folder, file), "utf8")).winners;
}

describe("on a software adapter", () => {
  it.each([undefined, "auto", "off"] as const)("nothing is timed where tune is %s", async (tune) => {
    const { runtime, tuned } = await open(tune);
    await runtime.warmUp(smallest);
    expect(tuned()).toEqual([]);
    expect(await remembered()).toEqual({});
  });

  it("times everything once where it is on, before kernels are compiled, and goes on where it was ended", async () => {
    const first = await open("on");
    const ended = new Promise<void>((resolve) => {
      first.watch.on = ({ what, done }) => {
        if (what === "tuning unet, guided" && done === 2) resolve(first.runtime.close());
      };
    });
    await expect(first.runtime.warmUp(smallest)).rejects.toMatchObject({ name: "AbortError" });
    await ended;
    const begun = await remembered();
    expect(Object.keys(begun)).toHaveLength(first.tuned().length);

    const second = await open("on");
    await second.runtime.warmUp(smallest);
    const parts = [...new Set(second.told.map(({ what }) => what))].slice(-4);
    expect(parts).toEqual(["tuning unet, guided", "tuning unet", "tuning vae", "kernels"]);
    for (const part of parts) {
      const { done, total } = second.told.filter(({ what }) => what === part).at(-1)!;
      expect([part, done]).toEqual([part, total]);
    }
    const all = await remembered();
    expect(all).toMatchObject(begun);
    expect(Object.keys(all)).toHaveLength(first.tuned().length + second.tuned().length);
    const held = second.runtime.device.memoryBytes;
    await second.runtime.close();

    // A later runtime uses it, without timing anything, and holds as much as the one that timed it.
    const third = await open("on");
    await third.runtime.warmUp(smallest);
    expect(third.tuned()).toEqual([]);
    expect(third.runtime.device.memoryBytes).toBe(held);
  });
});
