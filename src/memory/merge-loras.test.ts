// Merged weights as they lie on the device, against the sum in float64: heads that are padded, layers side by side,
// kernels with and without a `mid`, several changes at once. How files name their modules is tested in src/weights.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Gpu } from "../gpu/device.ts";
import { headPadding, Recorder } from "../graph/recorder.ts";
import type { MatrixParameter, Parameter, Storage } from "../graph/tensor.ts";
import { tensorEntry } from "../graph/testing/checkpoint.ts";
import { closeAll, openAdapters, type TestDevice } from "../graph/testing/devices.ts";
import { checkpointed, normals, random } from "../graph/testing/values.ts";
import { tilesInBuffer } from "../graph/weights.ts";
import { toFloat32 } from "../weights/element-types.ts";
import type { LoraDelta } from "../weights/lora.ts";
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
  return {
    module,
    down: entry("down", mid ? [rank, inputs] : [rank, inputs, kh, kw]),
    up: entry("up", [outputs, rank]),
    ...(mid ? { mid: entry("mid", [rank, rank, kh, kw]) } : {}),
    rank,
    scale,
    kernel: [kh, kw],
  };
}

async function valuesOf(entry: TensorEntry): Promise<Float32Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  return toFloat32(bytes, entry.dtype as "F32");
}

/** W + Σ scale · up · mid · down in float64, `[out, in, tap]`. */
async function reference(
  weight: Float32Array,
  [outputs, inputs, kh = 1, kw = 1]: readonly number[],
  deltas: readonly WeightedDelta[],
): Promise<Float64Array> {
  const taps = kh * kw;
  const sum = Float64Array.from(weight);
  for (const { delta, scale } of deltas) {
    const { rank } = delta;
    const [down, up] = [await valuesOf(delta.down), await valuesOf(delta.up)];
    const mid = delta.mid && (await valuesOf(delta.mid));
    for (let o = 0; o < outputs!; o++) {
      for (let i = 0; i < inputs!; i++) {
        for (let tap = 0; tap < taps; tap++) {
          let product = 0;
          for (let r = 0; r < rank; r++) {
            if (!mid) product += up[o * rank + r]! * down[(r * inputs! + i) * taps + tap]!;
            else
              for (let s = 0; s < rank; s++)
                product += up[o * rank + r]! * mid[(r * rank + s) * taps + tap]! * down[s * inputs! + i]!;
          }
          sum[(o * inputs! + i) * taps + tap]! += scale * delta.scale * product;
        }
      }
    }
  }
  return sum;
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
      const own = deltas.filter(({ delta }) => `${delta.module}.weight` === name);
      const wanted = await reference(base.values.get(name)!, shape, own);
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

  test("leaves the base alone, shares what it does not touch, and frees only its copies", async () => {
    for (const { gpu } of devices) {
      const parameters = model();
      const base = checkpoint(parameters);
      const loaded = await load(gpu, parameters, base, storage);
      const before = gpu.memory;
      const merged = await mergeLoras(gpu, loaded, parameters, changes(), { label: "model with LoRA" });
      expect(gpu.memory.bytes - before.bytes).toBe(merged.bytes);
      for (const parameter of parameters) {
        const touched = parameter.kind === "matrix" && parameter.key !== "untouched.weight";
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
  const unreadable = { ...bad, up: { ...bad.up, read: () => Promise.reject(new Error("gone")) } };
  const deltas = [good, unreadable].map((delta) => ({ delta, scale: 1 }));
  await expect(mergeLoras(gpu, loaded, parameters, deltas, { label: "unet" })).rejects.toThrow("gone");
  expect(gpu.memory.bytes).toBe(before.bytes);
  loaded.destroy();
});
