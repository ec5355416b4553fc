/** Arithmetic, resizing, gathering and pictures against float64, on every adapter. */

import { afterAll, describe, expect, test } from "vitest";
import { latentToRgb as recordLatentToRgb } from "../ops/diffusion/latent-to-rgb.ts";
import { packPicture } from "../ops/diffusion/pack-picture.ts";
import { GraphError, Recorder } from "../recorder.ts";
import { type Activation, activationCode, type Storage } from "../tensor.ts";
import { expectClose } from "../testing/closeness.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import {
  byteOf,
  elementwise,
  embedding,
  exact,
  geglu,
  groupNorm,
  latentToRgb,
  upsampleNearest,
} from "../testing/reference.ts";
import { onDevice, run, STORAGES, weightsFor } from "../testing/run.ts";
import { normals, random, stored } from "../testing/values.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

const ACTIVATIONS = Object.keys(activationCode) as Activation[];

describe.each(devices)("$name", ({ gpu }) => {
  describe.each(["f32", "f16"] as Storage[])("%s", (storage) => {
    // Tails, both sides of zero in even steps, the smallest numbers, the largest halves.
    const sweep = stored(
      Float32Array.from([
        ...Array.from({ length: 1201 }, (_, i) => (i - 600) / 20),
        ...[0, -0, 2 ** -24, -(2 ** -24), 1e-6, -1e-6, 80, -80, 300, -300, 65504, -65504],
      ]),
      storage,
    );

    test.each(ACTIVATIONS)("%s, tails and all", async (activation) => {
      const recorder = new Recorder();
      recorder.output("y", recorder.activation(recorder.input("x", [1, sweep.length, 1]), activation));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: sweep } });
      expectClose(outputs.y!, elementwise(sweep, { activation }), storage);
    });

    test.each([
      { name: "scale and shift", inputScale: 1, activation: "none", scale: 0.18215, shift: -0.1159 },
      { name: "tanh(x / 3) · 3 (the tiny encoder's clamp)", inputScale: 1 / 3, activation: "tanh", scale: 3, shift: 0 },
      { name: "a scale of the input only", inputScale: -7.5, activation: "silu", scale: 1, shift: 0 },
    ] as const)("affine: $name", async ({ name: _, ...of }) => {
      const shape = [2, 5, 7, 6];
      const input = stored(normals(random(31), 2 * 5 * 7 * 6, { deviation: 3 }), storage);
      const recorder = new Recorder();
      recorder.output("y", recorder.affine(recorder.input("x", shape), "affine", of));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input } });
      // The constants are given to the kernel in f32.
      const [inputScale, scale, shift] = [of.inputScale, of.scale, of.shift].map(Math.fround);
      expectClose(
        outputs.y!,
        elementwise(input, { ...of, inputScale: inputScale!, scale: scale!, shift: shift! }),
        storage,
      );
    });

    test.each([
      { name: "the same shape", shape: [2, 9, 5, 6], other: [2, 9, 5, 6] },
      { name: "one row an image", shape: [3, 9, 5, 6], other: [3, 6] },
      { name: "one row an image, written with its one pixel", shape: [3, 65, 7], other: [3, 1, 7] },
      { name: "channels of one row an image", shape: [3, 9, 5, 6], other: [3, 22], offset: 8 },
      { name: "the last channels of one row an image of one pixel", shape: [3, 1, 1, 6], other: [3, 22], offset: 16 },
    ])("add: $name", async ({ shape, other, offset = 0 }) => {
      const source = random(32);
      const [x, y] = [shape, other].map((of) =>
        stored(
          normals(
            source,
            of.reduce((a, b) => a * b),
          ),
          storage,
        ),
      );
      const recorder = new Recorder();
      const b = recorder.input("b", other);
      const isView = other.at(-1) !== shape.at(-1);
      recorder.output("y", recorder.add(recorder.input("a", shape), isView ? { tensor: b, offset } : b));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { a: x!, b: y! } });
      const [c, width] = [shape.at(-1)!, other.at(-1)!];
      const perImage = x!.length / shape[0]!;
      const addend = (i: number) =>
        y!.length === x!.length ? y![i]! : y![Math.floor(i / perImage) * width + offset + (i % c)]!;
      expectClose(outputs.y!, elementwise(x!, { addend }), storage);
    });

    test("what is shifted stays zero in the padding", async () => {
      // Read through a linear layer whose weights could not tell, unless the fourth channel of the quad is zero: it has none.
      const recorder = new Recorder();
      const shifted = recorder.affine(recorder.input("x", [1, 5, 3]), "shift", { shift: 4 });
      recorder.output("y", recorder.softmax(shifted, "softmax"));
      recorder.output("norm", recorder.layerNorm(shifted, "norm", { eps: 1e-5 }));
      const weights = weightsFor(recorder, random(33), {
        adjust: (name, values) => values.fill(name.endsWith("bias") ? 0 : 1),
      });
      const { outputs } = await run(gpu, { recorder, storage, weights, inputs: { x: new Float32Array(15) } });
      outputs.y!.forEach((value) => {
        expect(value).toBeCloseTo(1 / 3, 3);
      });
      expect([...outputs.norm!]).toEqual(Array(15).fill(0));
    });

    test.each([{ shape: [1, 1, 8] }, { shape: [2, 37, 40] }, { shape: [3, 5, 2 * 68] }])(
      "geglu [$shape]",
      async ({ shape }) => {
        const channels = shape[2]! / 2;
        const input = stored(
          normals(
            random(34),
            shape.reduce((a, b) => a * b),
            { deviation: 3 },
          ),
          storage,
        );
        input.set(
          sweep.subarray(0, channels).map((value) => Math.max(-20, Math.min(20, value))),
          channels,
        );
        const recorder = new Recorder();
        recorder.output("y", recorder.geglu(recorder.input("x", shape), "geglu"));
        const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input } });
        expectClose(outputs.y!, geglu(input, channels), storage);
      },
    );

    test.each([
      { shape: [1, 1, 1, 1], height: 2, width: 2 },
      { shape: [2, 5, 7, 6], height: 10, width: 14 },
      { shape: [2, 5, 7, 6], height: 9, width: 13 }, // what an odd skip connection asks for
      { shape: [3, 8, 6, 5], height: 5, width: 4 }, // smaller
      { shape: [1, 4, 9, 3], height: 17, width: 9 },
    ] as const)("nearest resize of [$shape] to $height × $width", async ({ shape, height, width }) => {
      const input = stored(
        normals(
          random(35),
          shape.reduce((a: number, b: number) => a * b, 1),
        ),
        storage,
      );
      const recorder = new Recorder();
      recorder.output("y", recorder.upsampleNearest(recorder.input("x", shape), "resize", { height, width }));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input } });
      expectClose(outputs.y!, exact(upsampleNearest(input, shape, { height, width }).values), storage);
    });

    test.each([
      [6, 8],
      [3, 3],
      [5, 70],
      [1, 2],
    ])("%i and %i channels side by side", async (first, second) => {
      const [n, h, w] = [2, 5, 9];
      const source = random(43);
      const [a, b] = [first, second].map((c) => stored(normals(source, n * h * w * c), storage));
      const recorder = new Recorder();
      const joined = recorder.concat(recorder.input("a", [n, h, w, first]), recorder.input("b", [n, h, w, second]));
      // Layer normalisation sums over the padding too, so that it had better be zero.
      recorder.output("y", joined);
      recorder.output("norm", recorder.layerNorm(joined, "norm", { eps: 1e-5 }));
      const weights = weightsFor(recorder, source);
      const { outputs } = await run(gpu, { recorder, storage, weights, inputs: { a: a!, b: b! } });
      const rows = Array.from({ length: n * h * w }, (_, row) => [
        ...a!.subarray(row * first, (row + 1) * first),
        ...b!.subarray(row * second, (row + 1) * second),
      ]);
      expect([...outputs.y!]).toEqual(rows.flat());
      const layer = { eps: 1e-5, gamma: weights.get("norm.weight")!.values, beta: weights.get("norm.bias")!.values };
      const shape = { images: rows.length, pixels: 1, channels: first + second, groups: 1 };
      expectClose(outputs.norm!, groupNorm(Float32Array.from(rows.flat()), shape, layer), storage);
    });

    test("one row of each image, the last one where the index is beyond it", async () => {
      const [n, tokens, c] = [4, 9, 70];
      const input = stored(normals(random(36), n * tokens * c), storage);
      const rows = Uint32Array.of(8, 0, 3, 1000);
      const recorder = new Recorder();
      const x = recorder.input("x", [n, tokens, c]);
      recorder.output("y", recorder.gatherRows(x, recorder.input("rows", [n], { element: "u32" }), "pool"));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input, rows } });
      const wanted = [8, 0, 3, 8].flatMap((row, image) => [
        ...input.subarray((image * tokens + row) * c, (image * tokens + row + 1) * c),
      ]);
      expect([...outputs.y!]).toEqual(wanted);
    });

    test("rows of one table for all images", async () => {
      const [tokens, c] = [5, 70];
      const input = stored(normals(random(38), tokens * c), storage);
      const rows = Uint32Array.of(3, 3, 0);
      const recorder = new Recorder();
      const x = recorder.input("x", [1, tokens, c]);
      recorder.output("y", recorder.gatherRows(x, recorder.input("rows", [3], { element: "u32" }), "rows"));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input, rows } });
      expect([...outputs.y!]).toEqual([...rows].flatMap((row) => [...input.subarray(row * c, (row + 1) * c)]));
    });

    test("a picture becomes bytes as NumPy rounds them", async () => {
      const source = random(37);
      const [n, h, w] = [2, 9, 11];
      const edges = [-1, 1, 0, -3, 3, 1 / 255, -1 / 255, 0.999, 65504, -65504];
      const input = stored(
        Float32Array.from({ length: n * h * w * 3 }, (_, i) => edges[i] ?? source.uniform() * 2.2 - 1.1),
        storage,
      );
      const recorder = new Recorder();
      recorder.output("y", packPicture(recorder, recorder.input("x", [n, h, w, 3]), "picture"));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input } });
      const rgba = new Uint8Array(outputs.y!.slice().buffer);
      expect(rgba.length).toBe(n * h * w * 4);
      input.forEach((value, i) => {
        const byte = rgba[Math.floor(i / 3) * 4 + (i % 3)]!;
        const real = byteOf(value);
        // Half-way cases may fall either way by f32's rounding, others not.
        expect(Math.abs(byte - real), `x = ${value}`).toBeLessThanOrEqual(0.5 + 255 * 2 ** -22);
      });
      // Where halves saturate, the largest one stands for infinity.
      const infinite = storage === "f16" ? 65504 : Number.POSITIVE_INFINITY;
      for (let pixel = 0; pixel < n * h * w; pixel++) {
        const isBroken = input.subarray(pixel * 3, pixel * 3 + 3).some((value) => Math.abs(value) >= infinite);
        expect(rgba[pixel * 4 + 3]).toBe(isBroken ? 0 : 255);
      }
    });

    test("exact halves round to the even byte", async () => {
      // x/2 + ½ = (2k + 1)/510 is no float32, but clamped sums that are: ½ gives 127.5.
      const recorder = new Recorder();
      recorder.output("y", packPicture(recorder, recorder.input("x", [1, 1, 1, 3]), "picture"));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: Float32Array.of(0, -1, 1) } });
      expect(outputs.y![0]).toBe(0xffff0000 + 128);
    });

    test.each([4, 12, 6])("latents of %i channels to RGB", async (c) => {
      const source = random(38);
      const [n, h, w] = [2, 5, 9];
      const latents = normals(source, n * h * w * c);
      const matrix = normals(source, c * 3);
      const bias = normals(source, 3);
      const padded = Math.ceil(c / 4) * 4;
      const table = new Float32Array((padded + 1) * 4);
      for (let channel = 0; channel < c; channel++)
        table.set(matrix.subarray(channel * 3, channel * 3 + 3), channel * 4);
      table.set(bias, padded * 4);
      const recorder = new Recorder();
      const z = recorder.input("z", [n, h, w, c], { element: "f32" });
      recorder.output(
        "y",
        recordLatentToRgb(recorder, z, recorder.input("m", [padded + 1, 4], { element: "f32" }), "preview"),
      );
      const { outputs } = await run(gpu, { recorder, storage, inputs: { z: latents, m: table } });
      expectClose(outputs.y!, latentToRgb(latents, c, matrix, bias), storage);
    });
  });

  describe.each(STORAGES)("embedding, $name", ({ storage, weightStorage }) => {
    const [images, tokens, vocabulary, channels] = [3, 7, 200, 10];

    // Pieces as on an adapter that binds little.
    test.each([Infinity, 100, 63])("a table in pieces of %d rows", async (rowsAPiece) => {
      const rowBytes = Math.ceil(channels / 4) * (weightStorage === "f16" ? 8 : 16);
      const source = random(39);
      const recorder = new Recorder();
      const ids = Uint32Array.from(
        { length: images * tokens },
        (_, i) => [0, vocabulary - 1, 62, 63, 99, 100][i] ?? source.integer(0, vocabulary - 1),
      );
      recorder.output(
        "y",
        recorder.embedding(
          recorder.input("ids", [images * tokens], { element: "u32" }),
          { table: "token", positions: "position" },
          { images, tokens, vocabulary, positions: tokens + 2, channels },
        ),
      );
      const weights = weightsFor(recorder, source);
      const limited = Object.create(gpu, {
        maxBindingBytes: { value: Math.min(gpu.maxBindingBytes, rowsAPiece * rowBytes) },
      });
      const { outputs, dispatches } = await run(limited, {
        recorder,
        storage,
        weightStorage,
        weights,
        inputs: { ids },
      });
      expect(dispatches).toBe(Math.ceil(vocabulary / Math.min(vocabulary, rowsAPiece)));
      const table = onDevice(weights, "token.weight", weightStorage);
      const positions = onDevice(weights, "position.weight", weightStorage);
      expectClose(outputs.y!, embedding(ids, table, positions, { channels, length: tokens }), storage);
    });

    test("an id beyond the table gives zeros, also where an earlier run left something", async () => {
      const recorder = new Recorder();
      const ids = recorder.input("ids", [tokens], { element: "u32" });
      const sizes = { images: 1, tokens, vocabulary, positions: tokens, channels };
      recorder.output("y", recorder.embedding(ids, { table: "token", positions: "position" }, sizes));
      const weights = weightsFor(recorder, random(40));
      const first = Uint32Array.of(1, 2, 3, 4, 5, 6, 7);
      const then = { ids: Uint32Array.of(1, vocabulary, 3, 4e9, 5, 6, 7) };
      const { outputs } = await run(gpu, { recorder, storage, weightStorage, weights, inputs: { ids: first }, then });
      const table = onDevice(weights, "token.weight", weightStorage);
      const positions = onDevice(weights, "position.weight", weightStorage);
      const wanted = embedding(first, table, positions, { channels, length: tokens });
      for (const token of [1, 3]) wanted.values.fill(0, token * channels, (token + 1) * channels);
      expectClose(outputs.y!, wanted, storage);
    });
  });

  test("more elements than one dimension of workgroups holds", async () => {
    const rows = 32768 * 64 + 77; // one quad each
    const recorder = new Recorder();
    recorder.output("y", recorder.affine(recorder.input("x", [1, rows, 1]), "scale", { scale: 2 }));
    const input = Float32Array.from({ length: rows }, (_, i) => i % 1021);
    const { outputs } = await run(gpu, { recorder, storage: "f32", inputs: { x: input } });
    let wrong = 0;
    for (let i = 0; i < rows; i++) if (outputs.y![i] !== (i % 1021) * 2) wrong++;
    expect(wrong).toBe(0);
  });

  test("more positions than tokens are needed, never fewer", () => {
    const recorder = new Recorder();
    const ids = recorder.input("ids", [9], { element: "u32" });
    const sizes = { images: 1, tokens: 9, vocabulary: 5, positions: 8, channels: 4 };
    expect(() => recorder.embedding(ids, { table: "token", positions: "position" }, sizes)).toThrow(GraphError);
  });
});
