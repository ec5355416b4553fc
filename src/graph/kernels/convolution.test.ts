/** Convolutions and matrix products against float64, in every form and on every device. */

import { afterAll, describe, expect, test } from "vitest";
import { fuse } from "../compile/fuse.ts";
import type { Convolution } from "../ops/convolution.ts";
import { lower } from "../ops/table.ts";
import { headPadding, Recorder } from "../recorder.ts";
import type { Activation, Tensor } from "../tensor.ts";
import { expectClose } from "../testing/closeness.ts";
import { closeAll, openDevices } from "../testing/devices.ts";
import { convolution, geglu, type Reference, type Convolution as ReferenceConvolution } from "../testing/reference.ts";
import { onDevice, run, STORAGES, weightsFor } from "../testing/run.ts";
import { normals, type Random, random, stored } from "../testing/values.ts";
import { always, variantsOf } from "../variants.ts";

interface Case {
  readonly shape: readonly [n: number, h: number, w: number, c: number];
  readonly outputs: number;
  readonly kernel: number;
  readonly stride: number;
  readonly padding: { readonly before: number; readonly after: number };
}

/** The four ways in which the models pad: not at all, all around, and diffusers' downsampling, below and right only. */
const PADDINGS = [
  { before: 0, after: 0 },
  { before: 1, after: 1 },
  { before: 0, after: 1 },
  { before: 1, after: 0 },
];

function generated(source: Random): Case {
  const kernel = source.pick([1, 3, 3]);
  return {
    // Up to three rows of tiles of 64 pixels, and inputs over several steps of 16 channels.
    shape: [source.integer(1, 3), source.integer(3, 9), source.integer(3, 11), source.integer(1, 39)],
    outputs: source.integer(1, 75), // over two columns of 64
    kernel,
    stride: source.integer(1, 2),
    padding: kernel === 1 ? PADDINGS[0]! : source.pick(PADDINGS),
  };
}

const source = random(1);
const cases: Case[] = [
  { shape: [1, 1, 1, 1], outputs: 1, kernel: 1, stride: 1, padding: PADDINGS[0]! },
  { shape: [1, 1, 1, 5], outputs: 3, kernel: 3, stride: 1, padding: PADDINGS[1]! },
  { shape: [2, 7, 5, 4], outputs: 130, kernel: 3, stride: 2, padding: PADDINGS[1]! },
  { shape: [1, 8, 8, 64], outputs: 64, kernel: 3, stride: 1, padding: PADDINGS[1]! },
  { shape: [3, 6, 7, 9], outputs: 6, kernel: 3, stride: 2, padding: PADDINGS[2]! },
  ...Array.from({ length: 9 }, () => generated(source)),
];

const title = ({ shape, outputs, kernel, stride, padding }: Case) =>
  `[${shape}] → ${outputs}, ${kernel} × ${kernel}, stride ${stride}, padding ${padding.before} and ${padding.after}`;

/** The size by the formula in PyTorch's documentation of Conv2d. */
function outputSize({ shape: [, h, w], kernel, stride, padding }: Case): { height: number; width: number } {
  const size = (side: number) => Math.floor((side + padding.before + padding.after - kernel) / stride) + 1;
  return { height: size(h), width: size(w) };
}

function geometry(of: Case): Omit<ReferenceConvolution, "input" | "weight"> {
  return {
    shape: of.shape,
    outputs: of.outputs,
    kernel: { height: of.kernel, width: of.kernel },
    stride: of.stride,
    before: { top: of.padding.before, left: of.padding.before },
    output: outputSize(of),
  };
}

const count = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

// References are the same for all devices; float64 loops are the slow part of these tests.
const references = new Map<string, Reference>();
function once(key: string, make: () => Reference): Reference {
  let reference = references.get(key);
  if (!reference) references.set(key, (reference = make()));
  return reference;
}

const devices = await openDevices();
afterAll(() => closeAll(devices));

describe.each(devices)("$name", ({ gpu }) => {
  describe.each(STORAGES)("$name", ({ name: form, storage, weightStorage }) => {
    test.each(cases.map((of) => ({ ...of, title: title(of) })))("conv2d $title", async (of) => {
      const values = random(2);
      const recorder = new Recorder();
      const { outputs, kernel, stride, padding } = of;
      const x = recorder.input("x", of.shape);
      recorder.output("y", recorder.conv2d(x, "conv", { outputs, kernel, stride, padding }));
      const weights = weightsFor(recorder, values, { type: weightStorage === "f16" ? "F16" : "F32" });
      const input = stored(normals(values, count(of.shape)), storage);
      const ran = await run(gpu, { recorder, storage, weightStorage, weights, inputs: { x: input } });
      const reference = once(`${form} ${of.title}`, () =>
        convolution({
          ...geometry(of),
          input,
          weight: onDevice(weights, "conv.weight", weightStorage),
          bias: onDevice(weights, "conv.bias", weightStorage),
        }),
      );
      expectClose(ran.outputs.y!, reference, storage);
    });
  });

  /** A 3 × 3 convolution with all that the graph fuses into it. */
  interface Epilogue {
    readonly name: string;
    readonly activation?: Activation;
    /** One row an image; with `first`, of a longer row the channels from there on. */
    readonly perImage?: { readonly first?: number };
    readonly residual?: "before activation" | "after activation";
    readonly bias?: boolean;
    readonly resizedTo?: { height: number; width: number };
  }
  const epilogues: Epilogue[] = [
    { name: "no bias", bias: false },
    { name: "SiLU", activation: "silu" },
    { name: "ReLU", activation: "relu" },
    { name: "GELU", activation: "gelu" },
    { name: "quick GELU", activation: "quick_gelu" },
    { name: "tanh", activation: "tanh" },
    { name: "one row an image", perImage: {} },
    { name: "the last channels of one row an image", perImage: { first: 20 } },
    { name: "residual", residual: "before activation" },
    { name: "residual, then ReLU", residual: "before activation", activation: "relu" },
    { name: "SiLU, then residual", residual: "after activation", activation: "silu" },
    { name: "one row an image, residual, SiLU", perImage: {}, residual: "before activation", activation: "silu" },
    { name: "input twice as large", resizedTo: { height: 14, width: 10 } },
    { name: "input of another size, residual", resizedTo: { height: 13, width: 9 }, residual: "before activation" },
  ];

  test.each(epilogues)("in one dispatch: $name", async (of) => {
    for (const storage of ["f32", "f16"] as const) {
      const values = random(3);
      const [n, h, w, c, outputs] = [2, 7, 5, 11, 18];
      const size = of.resizedTo ?? { height: h, width: w };
      const recorder = new Recorder();
      const input = stored(normals(values, n * h * w * c), storage);
      const { first = 0 } = of.perImage ?? {};
      const rows = stored(normals(values, n * (first + outputs)), storage);
      const perImage = rows.filter((_, i) => i % (first + outputs) >= first);
      const residual = stored(normals(values, n * size.height * size.width * outputs), storage);
      const inputs: Record<string, Float32Array> = { x: input };

      let y: Tensor = recorder.input("x", [n, h, w, c]);
      if (of.resizedTo) y = recorder.upsampleNearest(y, "resize", of.resizedTo);
      y = recorder.conv2d(y, "conv", { outputs, padding: 1, bias: of.bias ?? true });
      if (of.perImage) {
        y = recorder.add(y, { tensor: recorder.input("row", [n, first + outputs]), offset: first });
        inputs.row = rows;
      }
      const other = () => {
        inputs.residual = residual;
        return recorder.input("residual", [n, size.height, size.width, outputs]);
      };
      if (of.residual === "before activation") y = recorder.add(y, other());
      if (of.activation) y = recorder.activation(y, of.activation);
      if (of.residual === "after activation") y = recorder.add(y, other());
      recorder.output("y", y);

      const weights = weightsFor(recorder, values, { deviation: 0.3 });
      const ran = await run(gpu, { recorder, storage, weights, inputs });
      expect(ran.dispatches).toBe(1);
      const reference = once(`${storage} ${of.name}`, () =>
        convolution({
          shape: [n, h, w, c],
          ...(of.resizedTo ? { resized: of.resizedTo } : {}),
          input,
          weight: onDevice(weights, "conv.weight", storage),
          outputs,
          kernel: { height: 3, width: 3 },
          stride: 1,
          before: { top: 1, left: 1 },
          output: size,
          bias: of.bias === false ? undefined : onDevice(weights, "conv.bias", storage),
          perImage: of.perImage ? perImage : undefined,
          residual: of.residual ? residual : undefined,
          activation: of.activation ?? "none",
          activationAfterResidual: of.residual !== "after activation",
        }),
      );
      expectClose(ran.outputs.y!, reference, storage);
    }
  });

  // Halves of whole and of odd tiles; those of 80 channels lavapipe has in a texture, whatever they are stored as.
  test.each([
    { rows: 3, inputs: 9, half: 8 },
    { rows: 70, inputs: 20, half: 36 },
    { rows: 37, inputs: 33, half: 80 },
    { rows: 19, inputs: 16, half: 112 },
  ])("a layer multiplies its own halves: [2, $rows, $inputs] → $half", async ({ rows, inputs, half }) => {
    for (const { storage, weightStorage, name: form } of STORAGES) {
      const values = random(12);
      const recorder = new Recorder();
      const x = recorder.input("x", [2, rows, inputs]);
      recorder.output("y", recorder.geglu(recorder.linear(x, "proj", { outputs: 2 * half }), "geglu"));
      const weights = weightsFor(recorder, values, {
        type: weightStorage === "f16" ? "F16" : "F32",
        deviation: inputs ** -0.5,
      });
      const input = stored(normals(values, 2 * rows * inputs), storage);
      const reference = once(`gated ${form} ${rows} ${half}`, () => {
        const sums = convolution({
          shape: [1, 1, 2 * rows, inputs],
          input,
          weight: onDevice(weights, "proj.weight", weightStorage),
          bias: onDevice(weights, "proj.bias", weightStorage),
          outputs: 2 * half,
          kernel: { height: 1, width: 1 },
          stride: 1,
          before: { top: 0, left: 0 },
          output: { height: 1, width: 2 * rows },
        });
        const result = geglu(sums.values, half);
        result.bound.forEach((_, i) => {
          const at = Math.floor(i / half) * 2 * half + (i % half);
          const [value, gate] = [Math.abs(sums.values[at]!), Math.abs(sums.values[at + half]!)];
          // Where a gate is a dispatch of its own, sums are stored before it, in f16 as halves. GELU's slope is at most 1.13.
          const kept = storage === "f16" ? 2 ** -11 : 0;
          const valueError = sums.bound[at]! + kept * value;
          const gateError = 1.13 * (sums.bound[at + half]! + kept * gate);
          result.bound[i]! += valueError * (gate + gateError) + value * gateError;
        });
        return result;
      });
      const ran = await run(gpu, { recorder, storage, weightStorage, weights, inputs: { x: input } });
      expectClose(ran.outputs.y!, reference, storage);
      const tiled = await run(gpu, {
        recorder,
        storage,
        weightStorage,
        weights,
        inputs: { x: input },
        choose: always("tiled"),
      });
      expectClose(tiled.outputs.y!, reference, storage);
      expect(tiled.dispatches).toBe(1);
      if (gpu.lanes === undefined || gpu.lanes === 4) expect(ran.dispatches).toBe(1);
      if (gpu.facts.driver === "lavapipe" && half === 80) expect(ran.dispatches).toBe(1);
    }
  });

  test("a concatenation is read from its two sources", async () => {
    for (const storage of ["f32", "f16"] as const) {
      const values = random(4);
      const [n, h, w, outputs] = [2, 5, 6, 7];
      const [first, second] = [12, 9];
      const recorder = new Recorder();
      const joined = recorder.concat(recorder.input("a", [n, h, w, first]), recorder.input("b", [n, h, w, second]));
      recorder.output("y", recorder.activation(recorder.conv2d(joined, "conv", { outputs, padding: 1 }), "silu"));
      const weights = weightsFor(recorder, values, { deviation: 0.2 });
      const a = stored(normals(values, n * h * w * first), storage);
      const b = stored(normals(values, n * h * w * second), storage);
      const ran = await run(gpu, { recorder, storage, weights, inputs: { a, b } });
      const input = concatenated([a, first], [b, second]);
      const of = {
        shape: [n, h, w, first + second] as const,
        input,
        weight: onDevice(weights, "conv.weight", storage),
        outputs,
        kernel: { height: 3, width: 3 },
        stride: 1,
        before: { top: 1, left: 1 },
        output: { height: h, width: w },
        bias: onDevice(weights, "conv.bias", storage),
      };
      const reference = convolution({ ...of, activation: "silu" });
      if (storage === "f16") allow(reference, waitingAsHalf(of));
      expectClose(ran.outputs.y!, reference, storage);
    }
  });

  interface Transformed {
    readonly name: string;
    readonly shape: Case["shape"];
    readonly outputs: number;
    readonly parts?: number;
    readonly resized?: { readonly height: number; readonly width: number };
    /** How many times the steps are gone through for it: once where not given. */
    readonly portions?: number;
  }
  /** Compares a form whose weights are transformed with float64, with all that an epilogue can have. */
  const compareTransformed = async (form: "winograd" | "subpixel", of: Transformed) => {
    const { shape, outputs, parts, resized, portions = 1 } = of;
    for (const { storage, weightStorage } of STORAGES) {
      const values = random(11);
      const [n, h, w, c] = shape;
      const size = resized ?? { height: h, width: w };
      const recorder = new Recorder();
      const first = parts === 2 ? 12 : c;
      let x: Tensor = recorder.input("a", [n, h, w, first]);
      if (parts === 2) x = recorder.concat(x, recorder.input("b", [n, h, w, c - first]));
      if (resized) x = recorder.upsampleNearest(x, "resize", size);
      let y = recorder.conv2d(x, "conv", { outputs, padding: 1 });
      y = recorder.add(y, recorder.input("row", [n, outputs]));
      y = recorder.add(y, recorder.input("residual", [n, size.height, size.width, outputs]));
      recorder.output("y", recorder.activation(y, "silu"));
      const weights = weightsFor(recorder, values, {
        type: weightStorage === "f16" ? "F16" : "F32",
        deviation: (9 * c) ** -0.5,
      });
      const a = stored(normals(values, n * h * w * first), storage);
      const b = stored(normals(values, n * h * w * (c - first)), storage);
      const row = stored(normals(values, n * outputs), storage);
      const residual = stored(normals(values, n * size.height * size.width * outputs), storage);
      const inputs = { a, row, residual, ...(parts === 2 ? { b } : {}) };
      const ran = await run(gpu, { recorder, storage, weightStorage, weights, inputs, choose: always(form) });
      expect(ran.dispatches).toBe(form === "winograd" ? portions * ((parts ?? 1) + 2) : (parts ?? 1) * 4);
      const layer = {
        ...geometry({ shape, outputs, kernel: 3, stride: 1, padding: PADDINGS[1]! }),
        ...(resized ? { resized } : {}),
        output: size,
        input: parts === 2 ? concatenated([a, first], [b, c - first]) : a,
        weight: onDevice(weights, "conv.weight", weightStorage),
        bias: onDevice(weights, "conv.bias", weightStorage),
      };
      const reference = convolution({ ...layer, perImage: row, residual, activation: "silu" });
      // The transforms' own roundings are relative to a tile's typical value, not to a sum that happens to be small.
      const scale = Math.sqrt(reference.values.reduce((sum, value) => sum + value ** 2, 0) / reference.values.length);
      if (form === "winograd") allow(reference, () => scale * 1e-5);
      if (form === "subpixel" && parts === 2 && storage === "f16") allow(reference, waitingAsHalf(layer));
      expectClose(ran.outputs.y!, reference, storage);
    }
  };

  const winograd: Transformed[] = [
    { name: "whole tiles", shape: [1, 8, 8, 32], outputs: 64 },
    { name: "odd sizes, a batch", shape: [3, 7, 9, 37], outputs: 96 },
    { name: "a picture smaller than a tile", shape: [2, 3, 1, 40], outputs: 32 },
    { name: "two sources", shape: [2, 6, 11, 36], outputs: 64, parts: 2 },
    { name: "resized while it is read", shape: [1, 5, 6, 34], outputs: 64, resized: { height: 10, width: 11 } },
    { name: "more than 32 tiles, few channels", shape: [1, 21, 24, 32], outputs: 32 },
    { name: "more than 32 tiles, channels of three quads a lane", shape: [1, 24, 21, 32], outputs: 48 },
    { name: "frequencies in two rows", shape: [1, 9, 5, 352], outputs: 32 },
    { name: "frequencies in three rows, two sources", shape: [1, 5, 9, 700], outputs: 32, parts: 2 },
    { name: "frequencies in six rows", shape: [2, 5, 5, 32], outputs: 1040 },
    { name: "a picture in two portions, the second shorter", shape: [1, 85, 90, 32], outputs: 32, portions: 2 },
  ];
  test.skipIf(gpu.lanes === undefined).each(winograd)("Winograd: $name", (of) => compareTransformed("winograd", of));

  const subpixel: Transformed[] = [
    { name: "whole tiles", shape: [1, 8, 8, 32], outputs: 64, resized: { height: 16, width: 16 } },
    { name: "odd sizes, a batch", shape: [3, 7, 9, 37], outputs: 32, resized: { height: 14, width: 18 } },
    { name: "one pixel", shape: [2, 1, 1, 5], outputs: 16, resized: { height: 2, width: 2 } },
    { name: "two sources", shape: [2, 6, 11, 36], outputs: 64, parts: 2, resized: { height: 12, width: 22 } },
  ];
  test.skipIf(gpu.lanes === undefined).each(subpixel)("sub-pixel: $name", (of) => compareTransformed("subpixel", of));

  const narrow: { name: string; shape: Case["shape"]; outputs: number; parts?: number; resized?: boolean }[] = [
    { name: "a row of pixels a lane", shape: [1, 4, 64, 32], outputs: 3 },
    { name: "odd sizes, a batch, several quads", shape: [3, 7, 9, 37], outputs: 10 },
    { name: "a picture smaller than a lane's pixels", shape: [2, 3, 1, 5], outputs: 4 },
    { name: "two sources", shape: [2, 6, 11, 36], outputs: 3, parts: 2 },
    { name: "resized while it is read", shape: [1, 5, 6, 34], outputs: 3, resized: true },
  ];
  test.skipIf(gpu.lanes === undefined).each(narrow)(
    "few outputs: $name",
    async ({ shape, outputs, parts, resized }) => {
      for (const { storage, weightStorage } of STORAGES) {
        const values = random(13);
        const [n, h, w, c] = shape;
        const size = resized ? { height: 2 * h, width: 2 * w - 1 } : { height: h, width: w };
        const recorder = new Recorder();
        const first = parts === 2 ? 12 : c;
        let x: Tensor = recorder.input("a", [n, h, w, first]);
        if (parts === 2) x = recorder.concat(x, recorder.input("b", [n, h, w, c - first]));
        if (resized) x = recorder.upsampleNearest(x, "resize", size);
        const y = recorder.add(
          recorder.conv2d(x, "conv", { outputs, padding: 1 }),
          recorder.input("residual", [n, size.height, size.width, outputs]),
        );
        recorder.output("y", recorder.activation(y, "silu"));
        const weights = weightsFor(recorder, values, { type: weightStorage === "f16" ? "F16" : "F32" });
        const a = stored(normals(values, n * h * w * first), storage);
        const b = stored(normals(values, n * h * w * (c - first)), storage);
        const residual = stored(normals(values, n * size.height * size.width * outputs), storage);
        const inputs = { a, residual, ...(parts === 2 ? { b } : {}) };
        const options = { recorder, storage, weightStorage, weights, inputs };
        const ran = await run(gpu, { ...options, choose: always("narrow") });
        const plain = await run(gpu, { ...options, choose: always("tiled") });
        expect(ran.dispatches).toBe(parts ?? 1);
        // Both sum in f32; a sum of two sources is rounded once between them where activations are f16.
        const tolerance = storage === "f16" ? 2 ** -9 : 2e-6;
        const scale = Math.max(...plain.outputs.y!.map(Math.abs));
        ran.outputs.y!.forEach((value, i) => {
          expect(Math.abs(value - plain.outputs.y![i]!)).toBeLessThanOrEqual(tolerance * scale);
        });
      }
    },
  );

  // Rows of 1 × 1 convolutions over pictures one pixel high: linear layers.
  test.each([
    { shape: [1, 1], outputs: [1] },
    { shape: [3, 5], outputs: [9] },
    { shape: [2, 77, 50], outputs: [67] },
    { shape: [3, 1, 130], outputs: [4] },
    { shape: [2, 13, 22], outputs: [12, 20, 7] }, // side by side
  ])("linear [$shape] → $outputs", async ({ shape, outputs }) => {
    for (const { name: form, storage, weightStorage } of STORAGES) {
      const values = random(5);
      const recorder = new Recorder();
      const names = outputs.map((_, i) => `layer${i}`);
      recorder.output("y", recorder.linear(recorder.input("x", shape), names, { outputs }));
      const weights = weightsFor(recorder, values, { type: weightStorage === "f16" ? "BF16" : "F32" });
      const input = stored(normals(values, count(shape)), storage);
      const ran = await run(gpu, { recorder, storage, weightStorage, weights, inputs: { x: input } });
      const reference = once(`linear ${form} ${shape} ${outputs}`, () => {
        const join = (suffix: string) =>
          Float32Array.from(names.flatMap((name) => [...onDevice(weights, `${name}.${suffix}`, weightStorage)]));
        return linear(
          input,
          shape,
          join("weight"),
          outputs.reduce((a, b) => a + b),
          join("bias"),
        );
      });
      expectClose(ran.outputs.y!, reference, storage);
    }
  });

  test("heads that are no multiple of four are padded on the way out, and the padding ignored on the way in", async () => {
    for (const storage of ["f32", "f16"] as const) {
      const values = random(6);
      const [n, tokens, c, heads, width] = [2, 7, 10, 3, 6];
      const head = headPadding(width);
      const recorder = new Recorder();
      const x = recorder.input("x", [n, tokens, c]);
      const padded = recorder.linear(x, ["q", "k"], { outputs: heads * width, outputHead: head });
      recorder.output("heads", padded);
      const back = recorder.linear(recorder.input("h", [n, tokens, heads * head.padded]), "out", {
        outputs: 9,
        inputHead: head,
      });
      recorder.output("back", back);
      expect(padded.shape).toEqual([n, tokens, 2 * heads * head.padded]);
      const weights = weightsFor(recorder, values);
      const input = stored(normals(values, n * tokens * c), storage);
      // Values in the padding are multiplied by zero weights.
      const held = stored(normals(values, n * tokens * heads * head.padded), storage);
      const { outputs } = await run(gpu, { recorder, storage, weights, inputs: { x: input, h: held } });

      for (const [part, name] of ["q", "k"].entries()) {
        const wanted = linear(
          input,
          [n, tokens, c],
          onDevice(weights, `${name}.weight`, storage),
          heads * width,
          weights.get(`${name}.bias`)!.values,
        );
        const { inside, between } = headsOf(outputs.heads as Float32Array, {
          heads: 2 * heads,
          width,
          padded: head.padded,
        });
        const own = inside.filter((_, i) => Math.floor(i / (heads * width)) % 2 === part);
        expectClose(own, wanted, storage);
        expect(between.every((value) => value === 0)).toBe(true);
      }
      const { inside } = headsOf(held, { heads, width, padded: head.padded });
      const wanted = linear(
        inside,
        [n, tokens, heads * width],
        onDevice(weights, "out.weight", storage),
        9,
        weights.get("out.bias")!.values,
      );
      expectClose(outputs.back!, wanted, storage);
    }
  });

  test("sums beyond the largest half saturate, subnormal halves survive, zeros give the bias", async () => {
    const [rows, c, outputs] = [6, 8, 5];
    const recorder = new Recorder();
    recorder.output("y", recorder.linear(recorder.input("x", [1, rows, c]), "layer", { outputs }));
    const weights = weightsFor(recorder, random(7), {
      adjust: (_, values) => values.map((value) => Math.abs(value) + 0.5),
    });
    const sizes = [65504, -65504, 2 ** -24, 2 ** -20, 0, 300];
    const input = Float32Array.from({ length: rows * c }, (_, i) => sizes[Math.floor(i / c)]!);
    const bias = onDevice(weights, "layer.bias", "f32");
    for (const storage of ["f32", "f16"] as const) {
      const { outputs: got } = await run(gpu, { recorder, storage, weights, inputs: { x: input } });
      expectClose(
        got.y!,
        linear(input, [1, rows, c], onDevice(weights, "layer.weight", storage), outputs, bias),
        storage,
      );
      if (storage === "f16") {
        expect([...got.y!.subarray(0, outputs)]).toEqual(Array(outputs).fill(65504));
        expect([...got.y!.subarray(outputs, 2 * outputs)]).toEqual(Array(outputs).fill(-65504));
      }
    }
  });

  // Tiles of 64 rows would be two million rows: minutes on a software GPU, and it is the same fold.
  test.skipIf(gpu.lanes === undefined && gpu.facts.kind === "software")(
    "more rows than one dimension of workgroups holds",
    async () => {
      // 32768 workgroups fill the first dimension, of 32 rows (subgroups) or 64 (tiles).
      const seam = 32768 * (gpu.lanes ? 32 : 64);
      const rows = seam + 5;
      const recorder = new Recorder();
      recorder.output("y", recorder.linear(recorder.input("x", [rows, 1]), "layer", { outputs: 1 }));
      const target = {
        lanes: gpu.lanes,
        storage: "f32",
        weightStorage: "f32",
        maxBindingBytes: gpu.maxBindingBytes,
        maxTextureDimension: gpu.device.limits.maxTextureDimension2D,
      } as const;
      expect(lower(recorder.operations[0]!, target)[0]!.workgroups).toEqual([32768, 1, 2]);
      const weights = weightsFor(recorder, random(8));
      const input = Float32Array.from({ length: rows }, (_, i) => i % 8191);
      const { outputs } = await run(gpu, { recorder, storage: "f32", weights, inputs: { x: input } });
      // Only the ends and the seam are of interest; float64 over all rows would say no more.
      for (const first of [0, seam - 40, rows - 40]) {
        const of = linear(
          input.subarray(first, first + 40),
          [40, 1],
          weights.get("layer.weight")!.values,
          1,
          weights.get("layer.bias")!.values,
        );
        expectClose(outputs.y!.subarray(first, first + 40), of, "f32");
      }
    },
  );
});

test("the sub-pixel form is for inputs that are resized to twice their size, and the first where that saves much", () => {
  const forms = (size: { height: number; width: number }, options: { padding: number; stride?: number }) => {
    const recorder = new Recorder();
    const resized = recorder.upsampleNearest(recorder.input("x", [1, 50, 60, 16]), "resize", size);
    recorder.output("y", recorder.conv2d(resized, "conv", { outputs: 16, ...options }));
    const [operation] = fuse(recorder.operations, recorder.outputs.values());
    return variantsOf(operation as Convolution, {
      ...{ storage: "f32", weightStorage: "f32", lanes: 8, transformed: true },
      ...{ maxBindingBytes: 2 ** 27, maxTextureDimension: 8192 },
    });
  };
  const doubled = { height: 100, width: 120 };
  expect(forms(doubled, { padding: 1 })[0]).toBe("subpixel");
  expect(forms({ height: 100, width: 119 }, { padding: 1 })).not.toContain("subpixel");
  expect(forms({ height: 50, width: 120 }, { padding: 1 })).not.toContain("subpixel");
  expect(forms(doubled, { padding: 0 })).not.toContain("subpixel");
  expect(forms(doubled, { padding: 1, stride: 2 })).not.toContain("subpixel");
});

function linear(
  input: Float32Array,
  shape: readonly number[],
  weight: Float32Array,
  outputs: number,
  bias: Float32Array,
): Reference {
  const c = shape.at(-1)!;
  const rows = input.length / c;
  return convolution({
    shape: [1, 1, rows, c],
    input,
    weight,
    outputs,
    kernel: { height: 1, width: 1 },
    stride: 1,
    before: { top: 0, left: 0 },
    output: { height: 1, width: rows },
    bias,
  });
}

/**
 * The rounding of two sources in f16: the first one's sum waits in the output, as a half, for the second's. One more
 * rounding, of a sum that is no larger than the sum of sizes, and SiLU's slope is at most 1.1.
 */
function waitingAsHalf(of: ReferenceConvolution): (index: number) => number {
  const sizes = convolution({
    ...of,
    input: of.input.map(Math.abs),
    weight: of.weight.map(Math.abs),
    bias: of.bias?.map(Math.abs),
  });
  return (index) => 1.1 * 2 ** -11 * sizes.values[index]!;
}

/** Widens the bound of each value. */
function allow(reference: Reference, more: (index: number) => number): void {
  reference.bound.forEach((bound, index) => {
    reference.bound[index] = bound + more(index);
  });
}

/** Channels of two tensors, one after the other. */
function concatenated([a, first]: [Float32Array, number], [b, second]: [Float32Array, number]): Float32Array {
  const rows = a.length / first;
  const joined = new Float32Array(rows * (first + second));
  for (let row = 0; row < rows; row++) {
    joined.set(a.subarray(row * first, (row + 1) * first), row * (first + second));
    joined.set(b.subarray(row * second, (row + 1) * second), row * (first + second) + first);
  }
  return joined;
}

/** The heads' own channels, and what lies between them. */
function headsOf(values: Float32Array, { heads, width, padded }: { heads: number; width: number; padded: number }) {
  const inside: number[] = [];
  const between: number[] = [];
  for (const [i, value] of values.entries()) ((i % (heads * padded)) % padded < width ? inside : between).push(value);
  return { inside: Float32Array.from(inside), between };
}
