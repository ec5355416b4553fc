// Merged weights as they lie on the device, against the sum in float64: heads that are padded, layers side by side,
// adapters of every kind, several changes at once. How files name their modules is tested in src/weights.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mergedExactly } from "../../test/adapter-reference.ts";
import type { Gpu } from "../gpu/device.ts";
import { headPadding, Recorder } from "../graph/recorder.ts";
import type { MatrixParameter, Parameter, Storage } from "../graph/tensor.ts";
import { tensorEntry } from "../graph/testing/checkpoint.ts";
import { closeAll, openAdapters, type TestDevice } from "../graph/testing/devices.ts";
import { checkpointed, normals, random } from "../graph/testing/values.ts";
import { tilesInBuffer } from "../graph/weights.ts";
import { toFloat32 } from "../weights/element-types.ts";
import type { Factor, LoraDelta, Magnitude, MatrixDelta, ProductFactor } from "../weights/lora-changes.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";
import { type LoadedParameters, loadParameters } from "./load.ts";
import { mergeLoras, type WeightedDelta } from "./merge-loras.ts";

let devices: TestDevice[] = [];
beforeAll(async () => {
  devices = await openAdapters();
});
afterAll(() => closeAll(devices));

/** A model of one layer of each kind that a LoRA can meet; heads are 10 wide and stored 12 wide. */
function model(): Parameter[] {
  const g = new Recorder();
  const head = headPadding(10);
  const picture = g.input("picture", [1, 4, 4, 6]);
  g.conv2d(picture, "conv", { outputs: 9, padding: 1 });
  g.conv2d(picture, "untouched", { outputs: 5, kernel: 1 });
  const tokens = g.input("tokens", [1, 3, 20]);
  g.linear(tokens, ["to_q", "to_k", "to_v"], { outputs: 20, bias: false, outputHead: head });
  g.linear(g.input("heads", [1, 3, 24]), "to_out.0", { outputs: 20, inputHead: head });
  g.linear(tokens, "proj", { outputs: 7, asConvolution: true });
  g.linear(tokens, "heads", { outputs: 20, outputHead: head });
  g.layerNorm(tokens, "norm", { eps: 1e-5 });
  return [...g.parameters.values()];
}

interface Checkpoint {
  readonly entries: Map<string, TensorEntry>;
  readonly values: Map<string, Float32Array>;
}

/** By default values that are exact in f16, so that both storages begin with the same weights. */
function checkpoint(parameters: readonly Parameter[], dtype: "F16" | "F32" = "F16"): Checkpoint {
  const source = random(7);
  const values = new Map<string, Float32Array>();
  const entries = new Map<string, TensorEntry>();
  for (const { name, shape } of parameters.flatMap((parameter) => parameter.parts)) {
    const count = shape.reduce((product, size) => product * size, 1);
    const drawn = checkpointed(normals(source, count, { deviation: 0.5 }), dtype);
    values.set(name, drawn);
    entries.set(name, tensorEntry(name, shape, drawn));
  }
  return { entries, values };
}

/** A random change of `module`, its numbers kept for the reference. */
function change(
  module: string,
  weight: readonly number[],
  options: { seed: number; rank: number; scale: number; mid?: boolean; dtype?: "F32" | "F16" | "BF16" },
): LoraDelta {
  const { rank, scale, mid = false, dtype = "F32" } = options;
  const [outputs, inputs, kh = 1, kw = 1] = weight as [number, number, number?, number?];
  const source = random(options.seed);
  const entry = (part: string, shape: number[]) =>
    tensorEntry(
      `${module}.${part}`,
      shape,
      normals(
        source,
        shape.reduce((product, size) => product * size, 1),
      ),
      dtype,
    );
  const factor: ProductFactor = {
    kind: "product",
    ...{ rows: outputs, columns: inputs, taps: kh * kw, rank },
    down: entry("down", mid ? [rank, inputs] : [rank, inputs, kh, kw]),
    up: entry("up", [outputs, rank]),
    isUpTransposed: false,
    ...(mid ? { core: entry("mid", [rank, rank, kh, kw]) } : {}),
  };
  return { kind: "matrix", module, scale, factors: [factor] };
}

/** Random values of an adapter. */
function drawn(name: string, shape: readonly number[], seed: number, dtype: "F32" | "F16" = "F32"): TensorEntry {
  const count = shape.reduce((product, size) => product * size, 1);
  return tensorEntry(name, shape, normals(random(seed), count), dtype);
}

/** A factor of these sizes: written out, or a product of this rank, with a core or without. */
function factor(
  [rows, columns, taps]: readonly [number, number, number],
  { seed, rank, core = false }: { seed: number; rank?: number; core?: boolean },
): Factor {
  const extent = { rows, columns, taps };
  if (rank === undefined) return { kind: "whole", ...extent, values: drawn("whole", [rows, columns, taps], seed) };
  return {
    kind: "product",
    ...extent,
    rank,
    up: drawn("up", core ? [rank, rows] : [rows, rank], seed),
    isUpTransposed: core,
    down: drawn("down", core ? [rank, columns] : [rank, columns, taps], seed + 1),
    ...(core ? { core: drawn("core", [rank, rank, taps], seed + 2) } : {}),
  };
}

function magnitude(axis: "outputs" | "inputs", rule: "lycoris" | "peft", count: number): Magnitude {
  return { axis, rule, values: drawn("magnitude", [count], 77) };
}

/** All other kinds, on each kind of layer; some layers have several, of which one is a plain LoRA. */
function otherChanges(): WeightedDelta[] {
  const matrix = (module: string, scale: number, factors: MatrixDelta["factors"], size?: Magnitude): LoraDelta => {
    return { kind: "matrix", module, scale, factors, ...(size && { magnitude: size }) };
  };
  const square = [20, 20, 1] as const;
  const kernel = [9, 6, 9] as const;
  const vector = (module: string, of: "weight" | "bias", count: number, seed: number): LoraDelta => {
    return { kind: "vector", module, of, scale: 0.5, values: drawn(of, [count], seed) };
  };
  const deltas: LoraDelta[] = [
    // LoHa, plain and in Tucker's form
    matrix("to_k", 0.5, [factor(square, { seed: 1, rank: 3 }), factor(square, { seed: 3, rank: 2 })]),
    matrix("conv", 0.3, [
      factor(kernel, { seed: 5, rank: 2, core: true }),
      factor(kernel, { seed: 8, rank: 3, core: true }),
    ]),
    // LoKr
    matrix("to_out.0", 1, [factor([4, 5, 1], { seed: 11 }), factor([5, 4, 1], { seed: 12, rank: 2 })]),
    matrix("conv", 0.5, [factor([3, 2, 1], { seed: 14, rank: 1 }), factor([3, 3, 9], { seed: 16 })]),
    matrix(
      "proj",
      1,
      [factor([1, 4, 1], { seed: 18 }), factor([7, 5, 1], { seed: 19 })],
      magnitude("outputs", "lycoris", 7),
    ),
    // differences
    matrix("to_v", 1, [factor(square, { seed: 20 })]),
    vector("conv", "bias", 9, 21),
    vector("heads", "bias", 20, 22),
    vector("norm", "weight", 20, 23),
    vector("norm", "bias", 20, 24),
    // DoRA
    matrix("to_q", 0.5, [factor(square, { seed: 30, rank: 2 })], magnitude("outputs", "lycoris", 20)),
    matrix("to_v", 0.5, [factor(square, { seed: 32, rank: 2 })], magnitude("inputs", "lycoris", 20)),
    matrix("to_out.0", 0.5, [factor(square, { seed: 34, rank: 2 })], magnitude("outputs", "peft", 20)),
    matrix("conv", 0.5, [factor(kernel, { seed: 36, rank: 2 })], magnitude("inputs", "lycoris", 6)),
    // IA³
    { kind: "gain", module: "untouched", scale: 1, axis: "inputs", values: drawn("gain", [6], 40) },
    { kind: "gain", module: "to_k", scale: 1, axis: "outputs", values: drawn("gain", [20], 41) },
  ];
  const plain = [
    change("to_k", [20, 20], { seed: 50, rank: 4, scale: 0.25 }),
    change("conv", [9, 6, 3, 3], { seed: 51, rank: 2, scale: 0.5 }),
  ];
  return [...deltas, ...plain].map((delta, at) => ({ delta, scale: at % 3 === 0 ? 1 : 0.6 }));
}

/** The device's memory: every packed weight, and where part `part` has its weight `[o, i, tap]` among them. */
async function packedWeights(gpu: Gpu, weights: LoadedParameters, parameter: MatrixParameter) {
  const tiles = tilesInBuffer(gpu, "test", weights, parameter);
  const count = parameter.taps * parameter.inputQuads * parameter.outputQuads * 16;
  const bytes = await gpu.read(tiles.buffer, 0, count * (weights.storage === "f16" ? 2 : 4));
  tiles.release();
  const values = weights.storage === "f16" ? toFloat32(bytes, "F16") : new Float32Array(bytes.buffer, 0, count);
  const widened = (channel: number, head?: { width: number; padded: number }) =>
    head ? Math.floor(channel / head.width) * head.padded + (channel % head.width) : channel;
  const index = (part: number, o: number, i: number, tap: number) => {
    const before = parameter.partChannels.slice(0, part).reduce((sum, channels) => sum + channels, 0);
    const output = before + widened(o, parameter.outputHead);
    const input = widened(i, parameter.inputHead);
    const tile = (tap * parameter.inputQuads + (input >> 2)) * parameter.outputQuads + (output >> 2);
    return tile * 16 + (input & 3) * 4 + (output & 3);
  };
  return { values, index };
}

function tensorOf({ delta }: WeightedDelta): string {
  return `${delta.module}.${delta.kind === "vector" ? delta.of : "weight"}`;
}

/** Compares every number of every vector. */
async function compareVectors(
  gpu: Gpu,
  weights: LoadedParameters,
  parameters: readonly Parameter[],
  base: Checkpoint,
  deltas: readonly WeightedDelta[],
): Promise<void> {
  for (const parameter of parameters) {
    if (parameter.kind !== "vector") continue;
    const bytes = await gpu.read(weights.get(parameter)[0]!, 0, parameter.quads * 16);
    const wanted = new Float64Array(parameter.quads * 4);
    let first = 0;
    for (const [part, { name, shape }] of parameter.parts.entries()) {
      const own = deltas.filter((weighted) => tensorOf(weighted) === name);
      const exact = await mergedExactly({ shape, values: base.values.get(name)! }, own);
      const { width, padded } = parameter.head ?? { width: exact.length, padded: exact.length };
      for (const [at, value] of exact.entries()) wanted[first + Math.floor(at / width) * padded + (at % width)] = value;
      first += parameter.partChannels[part]!;
    }
    for (const [at, value] of new Float32Array(bytes.buffer, 0, wanted.length).entries())
      expect(Math.abs(value - wanted[at]!), `${parameter.key} ${at}`).toBeLessThanOrEqual(
        1e-6 * Math.max(1, Math.abs(wanted[at]!)),
      );
  }
}

/** Compares every weight of every matrix; `scale` of the largest bounds f32's rounding, half a unit f16's. */
async function compare(
  gpu: Gpu,
  weights: LoadedParameters,
  parameters: readonly Parameter[],
  base: Checkpoint,
  deltas: readonly WeightedDelta[],
): Promise<void> {
  for (const parameter of parameters) {
    if (parameter.kind !== "matrix") continue;
    const { values, index } = await packedWeights(gpu, weights, parameter);
    const seen = new Uint8Array(values.length);
    for (const [part, { name, shape }] of parameter.parts.entries()) {
      const own = deltas.filter((weighted) => tensorOf(weighted) === name);
      const wanted = await mergedExactly({ shape, values: base.values.get(name)! }, own);
      const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const [outputs, inputs] = shape as [number, number];
      for (let o = 0; o < outputs; o++) {
        for (let i = 0; i < inputs; i++) {
          for (let tap = 0; tap < parameter.taps; tap++) {
            const at = index(part, o, i, tap);
            const exact = wanted[(o * inputs + i) * parameter.taps + tap]!;
            const arithmetic = own.length === 0 ? 0 : 1e-6 * largest;
            const rounding = weights.storage === "f16" && own.length > 0 ? halfUnit(exact) : 0;
            expect(Math.abs(values[at]! - exact), `${name} [${o}, ${i}, ${tap}]`).toBeLessThanOrEqual(
              arithmetic + rounding,
            );
            seen[at] = 1;
          }
        }
      }
    }
    for (const [at, value] of values.entries()) if (!seen[at]) expect(value, `${parameter.key} padding ${at}`).toBe(0);
  }
}

/** Half a unit in the last place of an f16 of this size. */
function halfUnit(value: number): number {
  return 2 ** (Math.floor(Math.log2(Math.max(Math.abs(value), 2 ** -14))) - 11);
}

/** Touches each kind of layer, some of them twice. */
function changes(): WeightedDelta[] {
  return [
    { delta: change("to_k", [20, 20], { seed: 1, rank: 4, scale: 0.25 }), scale: 1 },
    { delta: change("to_out.0", [20, 20], { seed: 2, rank: 3, scale: 1, dtype: "F16" }), scale: 0.5 },
    { delta: change("conv", [9, 6, 3, 3], { seed: 3, rank: 2, scale: 0.5 }), scale: 1 },
    { delta: change("conv", [9, 6, 3, 3], { seed: 4, rank: 3, scale: 0.5, mid: true }), scale: -0.7 },
    { delta: change("to_k", [20, 20], { seed: 5, rank: 1, scale: 2, dtype: "BF16" }), scale: 0.7 },
    { delta: change("to_v", [20, 20], { seed: 6, rank: 5, scale: 0.5 }), scale: 0.3 },
    { delta: change("proj", [7, 20, 1, 1], { seed: 8, rank: 4, scale: 1 }), scale: 1 },
  ];
}

async function load(gpu: Gpu, parameters: readonly Parameter[], base: Checkpoint, storage: Storage) {
  return loadParameters(gpu, parameters, base.entries, { label: "model", storage });
}

describe.each(["f32", "f16"] as const)("weights stored as %s", (storage) => {
  test("several LoRAs add up to the float64 sum, rounded once, with nothing written between heads", async () => {
    for (const { gpu } of devices) {
      const parameters = model();
      const base = checkpoint(parameters);
      const loaded = await load(gpu, parameters, base, storage);
      const deltas = changes();
      const merged = await mergeLoras(gpu, loaded, parameters, deltas, { label: "model with LoRA" });
      expect(merged.storage).toBe(storage);
      await compare(gpu, merged, parameters, base, deltas);
      merged.destroy();
      loaded.destroy();
    }
  });

  test("adapters of all other kinds add up to the float64 sum, whatever else changes the same layer", async () => {
    for (const { gpu } of devices) {
      const parameters = model();
      const base = checkpoint(parameters);
      const loaded = await load(gpu, parameters, base, storage);
      const before = gpu.memory;
      const deltas = otherChanges();
      const merged = await mergeLoras(gpu, loaded, parameters, deltas, { label: "model with adapters" });
      expect(gpu.memory.bytes - before.bytes).toBe(merged.bytes);
      await compare(gpu, merged, parameters, base, deltas);
      await compareVectors(gpu, merged, parameters, base, deltas);
      merged.destroy();
      await compareVectors(gpu, loaded, parameters, base, []);
      loaded.destroy();
    }
  });

  test("leaves the base alone, shares what it does not touch, and frees only its copies", async () => {
    for (const { gpu } of devices) {
      const parameters = model();
      const base = checkpoint(parameters);
      const loaded = await load(gpu, parameters, base, storage);
      const before = gpu.memory;
      const merged = await mergeLoras(gpu, loaded, parameters, changes(), { label: "model with LoRA" });
      expect(gpu.memory.bytes - before.bytes).toBe(merged.bytes);
      for (const parameter of parameters) {
        const touched = parameter.kind === "matrix" && !["untouched.weight", "heads.weight"].includes(parameter.key);
        const held = (by: LoadedParameters) =>
          (parameter.kind === "matrix" && by.texture?.(parameter)) || by.get(parameter)[0];
        expect(held(merged) === held(loaded), parameter.key).toBe(!touched);
      }
      merged.destroy();
      expect(gpu.memory.bytes).toBe(before.bytes);
      expect(gpu.memory.buffers).toBe(before.buffers);
      await compare(gpu, loaded, parameters, base, []);
      loaded.destroy();
    }
  });
});

test("a sum stored as f16 is of the file's own weights, and rounded once", async () => {
  for (const { gpu } of devices) {
    const parameters = model();
    const base = checkpoint(parameters, "F32");
    const stored = await load(gpu, parameters, base, "f16");
    const finer = (parameter: MatrixParameter) => load(gpu, [parameter], base, "f32");
    // Every part of every matrix is changed: what no LoRA touches keeps the rounding that it was loaded with.
    const deltas = [
      ...changes(),
      { delta: change("to_q", [20, 20], { seed: 9, rank: 2, scale: 1 }), scale: 1 },
      { delta: change("untouched", [5, 6, 1, 1], { seed: 10, rank: 2, scale: 1 }), scale: 1 },
      { delta: change("heads", [20, 20], { seed: 11, rank: 2, scale: 1 }), scale: 1 },
    ];
    const before = gpu.memory;
    const merged = await mergeLoras(gpu, { ...stored, finer }, parameters, deltas, { label: "model with LoRA" });
    expect(gpu.memory.bytes - before.bytes).toBe(merged.bytes);
    await compare(gpu, merged, parameters, base, deltas);
    merged.destroy();
    stored.destroy();
  }
});

test("a change at strength 0 is no change: nothing is copied", async () => {
  const { gpu } = devices[0]!;
  const parameters = model();
  const loaded = await load(gpu, parameters, checkpoint(parameters), "f32");
  const delta = change("conv", [9, 6, 3, 3], { seed: 3, rank: 2, scale: 0.5 });
  const merged = await mergeLoras(gpu, loaded, parameters, [{ delta, scale: 0 }], { label: "model with LoRA" });
  expect(merged.bytes).toBe(0);
  loaded.destroy();
});

test("refuses a module that the component does not have, before anything is allocated", async () => {
  const { gpu } = devices[0]!;
  const parameters = model();
  const loaded = await load(gpu, parameters, checkpoint(parameters), "f32");
  const before = gpu.memory;
  const stray = { delta: change("to_nowhere", [20, 20], { seed: 1, rank: 2, scale: 1 }), scale: 1 };
  await expect(mergeLoras(gpu, loaded, parameters, [...changes(), stray], { label: "unet" })).rejects.toMatchObject({
    code: "lora-module",
    message: expect.stringContaining("to_nowhere"),
  });
  expect(gpu.memory.buffers).toBe(before.buffers);
  loaded.destroy();
});

test("leaves nothing behind when a file cannot be read", async () => {
  const { gpu } = devices[0]!;
  const parameters = model();
  const loaded = await load(gpu, parameters, checkpoint(parameters), "f32");
  const before = gpu.memory;
  const good = change("to_q", [20, 20], { seed: 1, rank: 2, scale: 1 });
  const bad = change("conv", [9, 6, 3, 3], { seed: 3, rank: 2, scale: 1 });
  const [product] = (bad as MatrixDelta).factors as readonly [ProductFactor];
  const up = { ...product.up, read: () => Promise.reject(new Error("gone")) };
  const unreadable: LoraDelta = { ...(bad as MatrixDelta), factors: [{ ...product, up }] };
  const deltas = [good, unreadable].map((delta) => ({ delta, scale: 1 }));
  await expect(mergeLoras(gpu, loaded, parameters, deltas, { label: "unet" })).rejects.toThrow("gone");
  expect(gpu.memory.bytes).toBe(before.bytes);
  loaded.destroy();
});
