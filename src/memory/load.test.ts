/** Packing of checkpoints, on every adapter: what lies in the buffers, bit for bit, whatever the type, shape and size. */

import { afterAll, describe, expect, test } from "vitest";
import type { Gpu } from "../gpu/device.ts";
import { headPadding, Recorder } from "../graph/recorder.ts";
import type { MatrixParameter, Storage, TableParameter, VectorParameter } from "../graph/tensor.ts";
import { tensorEntry } from "../graph/testing/checkpoint.ts";
import { closeAll, openAdapters } from "../graph/testing/devices.ts";
import { entriesOf, type Weights, weightsFor } from "../graph/testing/run.ts";
import { random, stored } from "../graph/testing/values.ts";
import { tablePieces, tilesInBuffer } from "../graph/weights.ts";
import { type FloatType, toFloat32 } from "../weights/element-types.ts";
import { loadParameters } from "./load.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

const TYPES: FloatType[] = ["F32", "F16", "BF16"];
const STORAGES: Storage[] = ["f32", "f16"];

async function values(gpu: Gpu, buffer: GPUBuffer, storage: Storage): Promise<Float32Array> {
  return toFloat32(await gpu.read(buffer, 0, buffer.size), storage === "f16" ? "F16" : "F32");
}

/** Stored channel → the source's channel, or undefined in the padding between heads. */
function unpadded(channel: number, head: { width: number; padded: number } | undefined): number | undefined {
  if (!head) return channel;
  const within = channel % head.padded;
  return within < head.width ? Math.floor(channel / head.padded) * head.width + within : undefined;
}

/** Tiles [tap][input quad][output quad][4 inputs][4 outputs], by the words of `shaders/prelude/weights_f32.wgsl`. */
function packedMatrix(of: MatrixParameter, weights: Weights, storage: Storage): Float32Array {
  const packed = new Float32Array(of.taps * of.inputQuads * of.outputQuads * 16);
  let firstQuad = 0;
  for (const [index, part] of of.parts.entries()) {
    const source = weights.get(part.name)!.values;
    const outputs = part.shape[0]!;
    for (let o = 0; o < of.partChannels[index]!; o++) {
      const output = unpadded(o, of.outputHead);
      if (output === undefined || output >= outputs) continue;
      for (let i = 0; i < of.inputQuads * 4; i++) {
        const input = unpadded(i, of.inputHead);
        if (input === undefined || input >= of.inputs) continue;
        for (let tap = 0; tap < of.taps; tap++) {
          const tile = (tap * of.inputQuads + (i >> 2)) * of.outputQuads + firstQuad + (o >> 2);
          packed[tile * 16 + (i % 4) * 4 + (o % 4)] = source[(output * of.inputs + input) * of.taps + tap]!;
        }
      }
    }
    firstQuad += Math.ceil(of.partChannels[index]! / 4);
  }
  return stored(packed, storage);
}

function packedVector(of: VectorParameter, weights: Weights): Float32Array {
  const packed = new Float32Array(of.quads * 4);
  let first = 0;
  for (const [index, part] of of.parts.entries()) {
    const source = weights.get(part.name)!.values;
    for (let channel = 0; channel < of.partChannels[index]!; channel++) {
      const from = unpadded(channel, of.head);
      if (from !== undefined) packed[first + channel] = source[from]!;
    }
    first += of.partChannels[index]!;
  }
  return packed;
}

/** Loads all that was recorded, and compares every buffer with what should be in it. */
async function check(gpu: Gpu, recorder: Recorder, weights: Weights, storage: Storage): Promise<void> {
  const before = gpu.memory;
  const parameters = [...recorder.parameters.values()];
  const loaded = await loadParameters(gpu, parameters, entriesOf(weights), { label: "test", storage });
  // Staging and uniforms are gone, the parameters' own buffers are what is said.
  expect(gpu.memory.bytes - before.bytes).toBe(loaded.bytes);
  for (const parameter of parameters) {
    const buffers = loaded.get(parameter);
    if (parameter.kind === "matrix") {
      const tiles = tilesInBuffer(gpu, "test", loaded, parameter);
      expectSame(await values(gpu, tiles.buffer, storage), packedMatrix(parameter, weights, storage), parameter.key);
      tiles.release();
    } else if (parameter.kind === "vector") {
      expectSame(await values(gpu, buffers[0]!, "f32"), packedVector(parameter, weights), parameter.key);
    } else {
      await checkTable(gpu, parameter, buffers, weights, storage);
    }
  }
  loaded.destroy();
  expect(gpu.memory.bytes).toBe(before.bytes);
}

async function checkTable(
  gpu: Gpu,
  of: TableParameter,
  buffers: readonly GPUBuffer[],
  weights: Weights,
  storage: Storage,
): Promise<void> {
  const source = stored(weights.get(of.parts[0].name)!.values, storage);
  const stride = Math.ceil(of.channels / 4) * 4;
  const pieces = tablePieces(of, { weightStorage: storage, maxBindingBytes: gpu.maxBindingBytes });
  expect(buffers.length).toBe(pieces.length);
  for (const [piece, { firstRow, endRow }] of pieces.entries()) {
    const packed = new Float32Array((endRow - firstRow) * stride);
    for (let row = firstRow; row < endRow; row++) {
      packed.set(source.subarray(row * of.channels, (row + 1) * of.channels), (row - firstRow) * stride);
    }
    const held = await values(gpu, buffers[piece]!, storage);
    expectSame(held.subarray(0, packed.length), packed, `${of.key}, piece ${piece}`);
  }
}

/** `toEqual` of millions of elements takes minutes. */
function expectSame(got: Float32Array, wanted: Float32Array, what: string): void {
  expect(got.length, what).toBe(wanted.length);
  const at = got.findIndex((value, i) => value !== wanted[i]);
  if (at >= 0) expect.fail(`${what}: element ${at} is ${got[at]}, not ${wanted[at]}`);
}

/** Beside normal values: what saturates in a half, what is subnormal in one, what vanishes. */
const EXTREMES = [70000, -3e38, 65519, 2 ** -24, -(2 ** -20), 2 ** -26, -0, 1e-30];
const withExtremes = (_: string, values: Float32Array) =>
  values.map((value, i) => (i % 5 === 0 ? EXTREMES[(i / 5) % 8]! : value));

describe.each(devices)("$name", ({ gpu }) => {
  describe.each(TYPES.flatMap((type) => STORAGES.map((storage) => ({ type, storage }))))(
    "$type to $storage",
    ({ type, storage }) => {
      const load = (build: (g: Recorder) => void) => {
        const g = new Recorder();
        build(g);
        return check(gpu, g, weightsFor(g, random(60), { type, adjust: withExtremes }), storage);
      };

      // Odd numbers everywhere: halves then begin in the middle of a word.
      test.each([
        { c: 1, outputs: 1, kernel: 1 },
        { c: 5, outputs: 7, kernel: 3 },
        { c: 16, outputs: 8, kernel: 3 },
        { c: 33, outputs: 66, kernel: 1 },
      ])("a convolution of $c channels to $outputs, $kernel × $kernel", async ({ c, outputs, kernel }) => {
        await load((g) => g.conv2d(g.input("x", [1, 4, 4, c]), "conv", { outputs, kernel }));
      });

      test("layers side by side, and without a bias", async () => {
        await load((g) => {
          const x = g.input("x", [1, 7]);
          g.linear(x, ["a", "b", "c"], { outputs: [8, 4, 5] });
          g.linear(x, "d", { outputs: 3, bias: false });
        });
      });

      test.each([3, 6, 10, 40])("heads of %i, out of a layer and into one", async (width) => {
        await load((g) => {
          const head = headPadding(width);
          const x = g.input("x", [1, 7]);
          const heads = g.linear(x, ["q", "k", "v"], { outputs: 3 * width, outputHead: head });
          g.linear(g.input("h", [1, 3 * head.padded]), "out", { outputs: 5, inputHead: head });
          expect(heads.shape).toEqual([1, 9 * head.padded]);
        });
      });

      test("norm weights and an embedding table", async () => {
        await load((g) => {
          g.layerNorm(g.input("x", [1, 5]), "norm", { eps: 1 });
          const ids = g.input("ids", [2], { element: "u32" });
          g.embedding(
            ids,
            { table: "token", positions: "position" },
            { images: 1, tokens: 2, vocabulary: 31, positions: 3, channels: 9 },
          );
        });
      });
    },
  );

  // A piece is 16 MiB; these begin in the middle of heads, quads and words where that were possible. Where a piece ends is
  // decided on the host, so one adapter will do: millions of elements are compared.
  test.skipIf(gpu !== devices[0]!.gpu).each<{ name: string; type: FloatType; build: (g: Recorder) => void }>([
    {
      name: "a matrix of two pieces, rows of an odd number of halves",
      type: "F16",
      build: (g) => g.linear(g.input("x", [1, 4501]), "layer", { outputs: 2050 }),
    },
    {
      name: "padded heads in two pieces",
      type: "BF16",
      build: (g) => g.linear(g.input("x", [1, 3001]), "q", { outputs: 3000, outputHead: headPadding(6) }),
    },
    {
      name: "four rows that are longer than a piece",
      type: "F32",
      build: (g) => g.conv2d(g.input("x", [1, 3, 3, 116_509]), "conv", { outputs: 5, bias: false }),
    },
    {
      name: "a table of two pieces, rows of an odd number of halves",
      type: "F16",
      build: (g) => {
        const ids = g.input("ids", [1], { element: "u32" });
        g.embedding(
          ids,
          { table: "token", positions: "p" },
          { images: 1, tokens: 1, vocabulary: 112_003, positions: 1, channels: 77 },
        );
      },
    },
  ])("larger than a piece: $name", async ({ type, build }) => {
    const g = new Recorder();
    build(g);
    // Cheaper than normals, as different from one another as a half can tell.
    const weights: Weights = new Map(
      [...weightNames(g)].map(([name, shape]) => {
        const count = shape.reduce((a, b) => a * b, 1);
        return [name, { shape, type, values: Float32Array.from({ length: count }, (_, i) => ((i * 37) % 251) - 125) }];
      }),
    );
    await check(gpu, g, weights, "f16");
  });

  test("a table in several buffers, where an adapter binds little at once", async () => {
    for (const storage of STORAGES) {
      const g = new Recorder();
      const ids = g.input("ids", [1], { element: "u32" });
      g.embedding(
        ids,
        { table: "token", positions: "p" },
        { images: 1, tokens: 1, vocabulary: 101, positions: 1, channels: 7 },
      );
      const limited = Object.create(gpu, { maxBindingBytes: { value: 13 * 2 * 16 } }) as Gpu;
      expect(
        tablePieces([...g.parameters.values()][0] as TableParameter, { weightStorage: storage, maxBindingBytes: 416 })
          .length,
      ).toBe(storage === "f32" ? 8 : 4);
      await check(limited, g, weightsFor(g, random(61), { type: "F16" }), storage);
    }
  });

  test("disk is read in pieces of 16 MiB at most, and progress is told in bytes", async () => {
    const g = new Recorder();
    g.linear(g.input("x", [1, 2048]), "layer", { outputs: 2300 });
    const shape = [2300, 2048];
    const sizes: number[] = [];
    const weight = tensorEntry("layer.weight", shape, new Float32Array(2300 * 2048));
    const tensors = new Map([
      [
        "layer.weight",
        {
          ...weight,
          read(into: Uint8Array, offset?: number) {
            sizes.push(into.byteLength);
            return weight.read(into, offset);
          },
        },
      ],
      ["layer.bias", tensorEntry("layer.bias", [2300], new Float32Array(2300))],
    ]);
    const told: [number, number][] = [];
    const onProgress = (done: number, total: number) => told.push([done, total]);
    const loaded = await loadParameters(gpu, g.parameters.values(), tensors, {
      label: "test",
      storage: "f16",
      onProgress,
    });
    expect(Math.max(...sizes)).toBeLessThanOrEqual(16 * 2 ** 20);
    expect(sizes.reduce((a, b) => a + b)).toBe(2300 * 2048 * 4);
    const total = 2300 * 2048 * 4 + 2300 * 4;
    expect(told).toEqual([
      [2300 * 2048 * 4, total],
      [total, total],
    ]);
    loaded.destroy();
  });

  test("where a file cannot be read, that is what is thrown, and nothing stays on the device", async () => {
    const before = gpu.memory;
    const g = new Recorder();
    g.conv2d(g.input("x", [1, 4, 4, 4]), "conv", { outputs: 4 });
    const tensors = new Map(entriesOf(weightsFor(g, random(62))));
    const broken = { ...tensors.get("conv.bias")!, read: () => Promise.reject(new Error("the file ended early")) };
    tensors.set("conv.bias", broken);
    const loading = loadParameters(gpu, g.parameters.values(), tensors, { label: "test", storage: "f32" });
    await expect(loading).rejects.toThrow("the file ended early");
    expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
  });

  test("one pipeline serves all sizes of a type and storage", async () => {
    // Compiling takes a software GPU up to seconds: a pipeline for each shape would take minutes for a model.
    const g = new Recorder();
    g.linear(g.linear(g.input("x", [1, 5]), "a", { outputs: 9 }), "b", { outputs: 3 });
    const asked = new Set<string>();
    const counting = Object.create(gpu, {
      pipeline: {
        value(label: string, code: string) {
          asked.add(code);
          return gpu.pipeline(label, code);
        },
      },
    }) as Gpu;
    const loaded = await loadParameters(counting, g.parameters.values(), entriesOf(weightsFor(g, random(63))), {
      label: "test",
      storage: "f32",
    });
    expect(asked.size).toBe(1);
    loaded.destroy();
  });
});

function weightNames(g: Recorder): Map<string, readonly number[]> {
  return new Map(
    [...g.parameters.values()].flatMap(({ parts }) => parts.map(({ name, shape }) => [name, shape] as const)),
  );
}
