// The runner on the small cases of test/fixtures, and that it fails what it must: a runner that passes everything is worth
// nothing. `npm run conformance` runs the same on whole sets.

import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cpuGenerator } from "../../src/diffusion/noise.ts";
import { generate } from "../../src/diffusion/run.ts";
import { loadModel } from "../../src/engine/load-model.ts";
import { builtInModel } from "../../src/engine/runtime.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { AdapterError } from "../../src/gpu/errors.ts";
import { openSafetensors } from "../../src/weights/safetensors.ts";
import { fixturePath } from "../fixtures/read-fixture.ts";
import { type TensorToWrite, writeSafetensors } from "../fixtures/safetensors-writer.ts";
import { CaseError, findCases } from "./case-folder.ts";
import { compare } from "./comparison.ts";
import { allPassed, caseTable, summary } from "./report.ts";
import { type CaseResult, runCase } from "./run-case.ts";
import { withinFloor } from "./tolerances.ts";

let gpu: Gpu;
let scratch: string;
beforeAll(async () => {
  gpu = await softwareGpu();
  scratch = await mkdtemp(join(tmpdir(), "conformance-"));
});
afterAll(async () => {
  gpu?.close();
  await rm(scratch, { recursive: true });
});

/** lavapipe where it is installed, else SwiftShader. */
async function softwareGpu(): Promise<Gpu> {
  try {
    return await openGpu({ adapter: { prefer: "software", driver: "lavapipe" } });
  } catch (error) {
    if (!(error instanceof AdapterError)) throw error;
    return openGpu({ adapter: { prefer: "software", driver: "swiftshader" } });
  }
}

const bench = (intermediates = false) => ({ gpu, storage: "f32", activations: "f32", intermediates }) as const;

const failures = ({ checks }: CaseResult) => checks.filter((check) => !check.passed);

describe("cases of set A", () => {
  test.each([
    ["conformance/unet-sd15", "unet", 3],
    ["conformance/clip-l", "clip", 18],
    ["conformance/vae-kl", "autoencoder", 11],
    ["conformance/taesd", "autoencoder", 6],
    ["lora-sd15", "lora", 9],
    ["rng", "noise", 120],
    ["schedulers", "schedulers", 1500],
    ["tokenizer", "tokenizer", 50],
  ])("%s", async (folder, kind, comparisons) => {
    const result = await runCase(fixturePath(folder), bench());
    expect(failures(result)).toEqual([]);
    expect(result.kinds).toEqual([kind]);
    expect(result.checks.length).toBeGreaterThanOrEqual(comparisons);
    expect(allPassed([result])).toBe(true);
  });

  test.each(["unet-sd15", "clip-l", "vae-kl", "taesd"])("%s with weights and activations in f16", async (folder) => {
    const path = fixturePath(`conformance/${folder}`);
    expect(failures(await runCase(path, { gpu, storage: "f16", activations: "f16", intermediates: false }))).toEqual(
      [],
    );
  });

  test("a folder of cases is all its cases", async () => {
    const names = (await findCases([fixturePath("conformance")])).map((path) => path.split("/").at(-1));
    expect(names).toEqual(["clip-l", "taesd", "unet-sd15", "vae-kl"]);
  });
});

/**
 * Whole runs have no reference small enough to be kept here. This case is drawn by the pipeline itself, so it says nothing of
 * the pictures: it holds that the runner can still watch a run, and that it fails what is off.
 */
describe("a case of whole runs", () => {
  const run = { prompt: "a lake", negative_prompt: "snow", num_inference_steps: 3, guidance_scale: 3, seed: "5" };
  const size = { width: 64, height: 64 };

  async function drawCase(name: string, off = 0): Promise<string> {
    const path = join(scratch, name);
    const model = await loadModel(gpu, builtInModel(), { precision: "f32" });
    const latents: Float32Array[] = [];
    let picture = new Uint8Array();
    try {
      const request = { ...size, prompt: run.prompt, negativePrompt: run.negative_prompt, seed: BigInt(run.seed) };
      const asked = { ...request, steps: run.num_inference_steps, guidanceScale: run.guidance_scale };
      for await (const event of generate(model, asked)) {
        if (event.type === "step") latents.push(await event.latents());
        if (event.type === "result") picture = event.pictures[0]!.rgba.filter((_, at) => at % 4 !== 3);
      }
    } finally {
      model.memory.destroy();
    }
    const steps = Float32Array.from(
      latents.flatMap((each) => [...each]),
      (value) => value + off,
    );
    const noise = cpuGenerator(BigInt(run.seed)).randn(latents[0]!.length);
    const [channels, side] = [latents[0]!.length / 64, 8];
    await mkdir(path);
    const facts = { model: relative(path, builtInModel()), runs: { main: { ...run, ...size } } };
    await writeFile(join(path, "case.json"), JSON.stringify(facts));
    const bytes = (values: Float32Array | Uint8Array) =>
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const shape = [1, channels, side, side];
    await writeSafetensors(join(path, "expected.safetensors"), [
      { name: "latents_after_step", dtype: "F32", shape: [latents.length, ...shape], data: bytes(steps) },
      { name: "init_noise", dtype: "F32", shape, data: bytes(Float32Array.from(noise)) },
      { name: "image_u8", dtype: "U8", shape: [64, 64, 3], data: bytes(picture) },
    ]);
    return path;
  }

  test("is compared from the noise to the pixels", async () => {
    const result = await runCase(await drawCase("whole"), bench());
    expect(failures(result)).toEqual([]);
    expect(result.kinds).toEqual(["pipeline"]);
    expect(result.checks.map(({ what }) => what).sort()).toEqual(["image_u8", "init_noise", "latents_after_step"]);
  });

  test("fails if its latents are off", async () => {
    const failed = failures(await runCase(await drawCase("whole-off", 0.01), bench()));
    expect(failed.map(({ what }) => what)).toContain("latents_after_step");
  });
});

/** A copy of a case with its expectations changed. */
async function changed(
  name: string,
  folder: string,
  change: (tensors: TensorToWrite[]) => TensorToWrite[],
): Promise<string> {
  const copy = join(scratch, name);
  await cp(fixturePath(folder), copy, { recursive: true });
  const file = await openSafetensors(join(copy, "expected.safetensors"));
  const tensors: TensorToWrite[] = [];
  for (const tensor of [...file.names()].map((each) => file.get(each)!)) {
    const data = new Uint8Array(tensor.byteLength);
    await tensor.read(data);
    tensors.push({ name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, data });
  }
  await file.close();
  await writeSafetensors(join(copy, "expected.safetensors"), change(tensors));
  return copy;
}

/** The first value of `name` increased. */
const increase = (name: string, by: number) => (tensors: TensorToWrite[]) => {
  const values = tensors.find((tensor) => tensor.name === name)!.data as Uint8Array;
  const view = new DataView(values.buffer);
  view.setFloat32(0, view.getFloat32(0, true) + by, true);
  return tensors;
};

describe("what must fail does", () => {
  test("a value that is off by more than the limit, and only that", async () => {
    const path = await changed("off", "conformance/clip-l", increase("short.last_hidden_state", 1e-3));
    const [failed, ...others] = failures(await runCase(path, bench()));
    expect(others).toEqual([]);
    expect(failed).toMatchObject({ group: "short", what: "last_hidden_state" });
    // The network does not amplify rounding, so nothing excuses it.
    expect(failed!.relative).toBeGreaterThan(1e-4);
    expect(failed!.floor).toBeLessThan(1e-5);
  });

  test("a tensor that nothing is compared with", async () => {
    const path = await changed("extra", "conformance/vae-kl", (tensors) => [
      ...tensors,
      { name: "noquant.d1.mystery", dtype: "F32", shape: [1], data: new Uint8Array(4) },
    ]);
    const failed = failures(await runCase(path, bench()));
    expect(failed).toMatchObject([{ group: "not compared", what: "noquant.d1.mystery" }]);
  });

  test("a case of no known kind", async () => {
    const path = await changed("unknown", "conformance/vae-kl", (tensors) => tensors);
    await rm(join(path, "vae_noquant"), { recursive: true });
    const result = await runCase(path, bench());
    expect(result.kinds).toEqual([]);
    expect(failures(result)[0]!.note).toContain("not recognised");
    expect(allPassed([result])).toBe(false);
    expect(caseTable(result).join("\n")).toContain("FAIL");
    expect(summary([result])).toContain("FAILED (unknown)");
  });

  test("a case whose model is not there", async () => {
    const path = join(scratch, "nowhere", "lora");
    await cp(fixturePath("lora-sd15"), path, { recursive: true });
    const result = await runCase(path, bench());
    expect(failures(result).map((check) => check.group)).toContain("unet");
    expect(failures(result)[0]!.note).toContain("WeightsError");
  });

  test("a case whose expectations cannot be read", async () => {
    const path = await changed("broken", "tokenizer", (tensors) => tensors);
    const file = join(path, "expected.safetensors");
    await writeFile(file, (await readFile(file)).subarray(0, 100));
    expect(failures(await runCase(path, bench()))[0]!.note).toContain("expected.safetensors");
  });

  test("folders without a case", async () => {
    await expect(findCases([join(scratch, "none")])).rejects.toThrow(CaseError);
    await expect(findCases([fixturePath("conformance/vae-kl/vae_noquant")])).rejects.toThrow("has no case.json");
    // One folder of cases with a folder among them that is none: not skipped.
    await expect(findCases([fixturePath(".")])).rejects.toThrow("no case.json in conformance, lora-sdxl");
  });

  test("nothing at all", () => {
    expect(allPassed([])).toBe(false);
    expect(allPassed([{ name: "empty", kinds: ["unet"], checks: [], milliseconds: 0 }])).toBe(false);
  });
});

describe("comparison", () => {
  const limit = { bound: 1e-4, measure: "relative" } as const;
  const reference = { shape: [3], values: Float64Array.of(-10, 1, 0) };

  test("is relative to the largest magnitude of the reference", () => {
    expect(compare("", "", [-10, 1, 0.0009], reference, limit)).toMatchObject({ passed: true, absolute: 0.0009 });
    expect(compare("", "", [-10, 1, 0.0011], reference, limit)).toMatchObject({ passed: false });
  });

  test("fails NaN, infinities and other counts", () => {
    expect(compare("", "", [Number.NaN, 1, 0], reference, limit)).toMatchObject({ passed: false });
    expect(compare("", "", [Number.POSITIVE_INFINITY, 1, 0], reference, limit)).toMatchObject({ passed: false });
    expect(compare("", "", [-10, 1], reference, limit)).toMatchObject({ passed: false });
  });

  test("takes nothing but zeros for zeros", () => {
    const zeros = { shape: [2], values: new Float64Array(2) };
    expect(compare("", "", [0, 0], zeros, limit)).toMatchObject({ passed: true });
    expect(compare("", "", [0, 1e-30], zeros, limit)).toMatchObject({ passed: false });
  });

  test("of uint8 pictures counts what is off by more than one", () => {
    const pixels = { shape: [1000], values: new Float64Array(1000).fill(100) };
    const actual = new Float64Array(1000).fill(101);
    actual[0] = 90;
    const measure = { bound: 1e-3, measure: "pixels" } as const;
    expect(compare("", "", actual, pixels, measure)).toMatchObject({ passed: true, figure: 1e-3 });
    actual[1] = 98;
    expect(compare("", "", actual, pixels, measure)).toMatchObject({ passed: false });
  });

  test("a network's own amplification of rounding excuses as much, in f32 alone", () => {
    const over = { passed: false, relative: 5e-4 };
    expect(withinFloor(over, 2e-5, "f32")).toBe(true);
    expect(withinFloor(over, 1e-6, "f32")).toBe(false);
    expect(withinFloor(over, 2e-5, "f16")).toBe(false);
  });
});
