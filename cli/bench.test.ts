/** `daguerre bench` and `daguerre tune` on the built-in model, made small; and what is advised when. */

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adviceOn, type BenchTimes, bench } from "./bench.ts";
import { tuneModel } from "./tune.ts";

const small = { width: 32, height: 32 };

it("bench prints a figure for each phase, in a table", async () => {
  const lines: string[] = [];
  const told = new Set<string>();
  const options = { precision: "f32", size: small, steps: 2, rounds: 1 } as const;
  await bench({ ...options, onProgress: ({ what }) => told.add(what) }, (line) => lines.push(line));
  expect(lines[0]).toMatch(/^landscapes at 32x32, f32, on /);
  for (const row of [
    "load the model",
    "compile its kernels",
    "read a prompt",
    "a denoising step",
    "decode the picture",
    "a linear preview",
    "a tiny preview",
    "a picture of 2 steps",
  ]) {
    const line = lines.find((line) => line.startsWith(`  ${row} `));
    const [, value] = /([\d.]+) m?s$/.exec(line ?? "") ?? [];
    expect(Number(value), row).toBeGreaterThan(0);
  }
  const memory = lines.find((line) => line.includes("the model's memory"))!;
  expect(Number(/(\d+) MiB$/.exec(memory)![1])).toBeGreaterThan(5);
  expect([...told]).toEqual(expect.arrayContaining(["unet", "kernels"]));
});

describe("advice", () => {
  const measured: BenchTimes & { tuned: boolean } = {
    ...{ load: 500, compile: 100, text: 5, step: 100, decode: 100, picture: 2600, steps: 25 },
    ...{ width: 512, height: 512, modelBytes: 1e9, peakBytes: 2e9, tuned: true },
  };
  const card = { kind: "hardware", features: ["shader-f16"] } as const;
  const software = { kind: "software", driver: "swiftshader", features: [] } as const;

  it("is none where there is nothing to gain", () => {
    expect(adviceOn(card, "f16", measured)).toEqual([]);
  });

  it.each([
    ["a software GPU", software, {}, /any GPU with a Vulkan driver/],
    ["SwiftShader", software, {}, /lavapipe/],
    ["f32 on a card with f16", card, {}, /--precision f16/],
    ["many slow steps", card, { step: 1000, picture: 25_100 }, /8 instead of 25 take 8\.1 s/],
    ["a slow picture", card, { step: 1000, picture: 25_100 }, /--size 256x256/],
    ["a slow decoder", card, { decode: 2000, picture: 2600 }, /Decoding is 77%/],
    ["dear previews", card, { tinyPreview: 250 }, /costs 2\.5 steps/],
    ["an adapter that was never tuned", card, { tuned: false }, /daguerre tune/],
    ["a first start", card, { compile: 9000 }, /next start/],
  ] as const)("on %s", (_, adapter, changes, words) => {
    expect(adviceOn(adapter, "f32", { ...measured, ...changes }).join("\n")).toMatch(words);
  });
});

describe("tune", () => {
  let folder: string;
  let cacheHome: string | undefined;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-tune-"));
    cacheHome = process.env.XDG_CACHE_HOME;
    process.env.XDG_CACHE_HOME = folder;
  });
  afterAll(async () => {
    if (cacheHome === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = cacheHome;
    await rm(folder, { recursive: true });
  });

  it("prints each shape with its candidates, remembers them, and does not time them again", async () => {
    const run = async () => {
      const lines: string[] = [];
      await tuneModel({ precision: "f32", size: small, again: false }, (line) => lines.push(line));
      return lines;
    };
    const lines = await run();
    if (lines.at(-1) === "no shape that more than one kernel can do") return; // an adapter without subgroups
    const rows = lines.filter((line) => line.includes("→ "));
    expect(rows.length).toBeGreaterThan(20);
    for (const row of rows) expect(row).toMatch(/ (conv|attention|group norm) .* \d+ × {2}(\w[\w-]* [\d.]+ {2})+→ \w/);
    expect(lines[1]).toContain(`${rows.length} shapes`);
    expect(await readdir(join(folder, "daguerre", "tuning"))).toHaveLength(1);
    expect((await run()).at(-1)).toMatch(/every shape is remembered/);
  });
});
