/** The tuner's results, remembered on disk, whatever is in the file. */

import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AdapterFacts } from "../gpu/adapter-facts.ts";
import type { Convolution } from "../graph/ops/convolution.ts";
import { Recorder } from "../graph/recorder.ts";
import { shapeOf } from "../graph/tuner.ts";
import type { Variant } from "../graph/variants.ts";
import { readWinners, rememberedChoice, rememberWinners, tuningFile } from "./tuning-cache.ts";

const g = new Recorder();
g.output("y", g.conv2d(g.input("x", [1, 6, 6, 8]), "conv", { outputs: 8 }));

describe("winners of the tuner", () => {
  const facts: AdapterFacts = {
    kind: "hardware",
    name: "Card",
    vendor: "v",
    architecture: "a",
    description: "driver 1.2",
    backend: "vulkan",
    features: [],
  };
  const winners = new Map<string, Variant>([["conv a", "tiled"]]);
  let folder: string;
  let cacheHome: string | undefined;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-tuning-"));
    cacheHome = process.env.XDG_CACHE_HOME;
    process.env.XDG_CACHE_HOME = join(folder, "cache");
  });
  afterEach(async () => {
    if (cacheHome === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = cacheHome;
    await rm(folder, { recursive: true });
  });

  it("comes back, and is added to", async () => {
    const file = await tuningFile(facts);
    expect(file.startsWith(join(folder, "cache", "daguerre"))).toBe(true);
    expect(await readWinners(file)).toEqual(new Map());
    await rememberWinners(file, facts, winners);
    await rememberWinners(file, facts, new Map<string, Variant>([["conv b", "subgroup"]]));
    expect(await readWinners(file)).toEqual(new Map([...winners, ["conv b", "subgroup"]]));
    expect(await readdir(join(file, ".."))).toHaveLength(1); // no file that is half written
  });

  it.each([
    ["no JSON", "{ torn"],
    ["another form", '{"winners": []}'],
    ["a kernel that there is not", '{"adapter": "Card", "winners": {"conv a": "imaginary"}}'],
    ["nothing", ""],
  ])("is as good as none where the file has %s, and written anew", async (_, text) => {
    const file = await tuningFile(facts);
    await rememberWinners(file, facts, winners);
    await writeFile(file, text);
    expect(await readWinners(file)).toEqual(new Map());
    await rememberWinners(file, facts, winners);
    expect(await readWinners(file)).toEqual(winners);
    expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({ adapter: "Card" });
  });

  it("is of one adapter, one driver and one set of kernels", async () => {
    const shaders = join(folder, "shaders");
    await mkdir(join(shaders, "prelude"), { recursive: true });
    await writeFile(join(shaders, "conv.wgsl"), "fn main() {}");
    const own = await tuningFile(facts, shaders);
    expect(await tuningFile(facts, shaders)).toBe(own);
    await writeFile(join(shaders, "notes.txt"), "no kernel");
    expect(await tuningFile(facts, shaders)).toBe(own);
    expect(await tuningFile({ ...facts, name: "Other card" }, shaders)).not.toBe(own);
    expect(await tuningFile({ ...facts, description: "driver 1.3" }, shaders)).not.toBe(own);
    await writeFile(join(shaders, "prelude", "new.wgsl"), "fn f() {}");
    expect(await tuningFile(facts, shaders)).not.toBe(own);
    await rm(join(shaders, "prelude", "new.wgsl"));
    await writeFile(join(shaders, "conv.wgsl"), "fn main() { }");
    expect(await tuningFile(facts, shaders)).not.toBe(own);
  });

  it("is the choice of the adapter from then on", async () => {
    const operation = g.operations[0] as Convolution;
    const target = { storage: "f32", weightStorage: "f32" } as const;
    expect(await rememberedChoice(facts)).toBeUndefined();
    await rememberWinners(await tuningFile(facts), facts, new Map([[shapeOf(operation, target), "tiled"]]));
    const choose = await rememberedChoice(facts);
    expect(choose?.(operation, ["subgroup", "tiled"], target)).toBe("tiled");
    expect(choose?.(operation, ["subgroup", "tiled"], { ...target, weightStorage: "f16" })).toBeUndefined();
  });
});
