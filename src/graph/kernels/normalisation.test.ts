/** Group norm, layer norm and softmax against float64, on every adapter. */

import { afterAll, describe, expect, test } from "vitest";
import type { Gpu } from "../../gpu/device.ts";
import { Recorder } from "../recorder.ts";
import type { Storage } from "../tensor.ts";
import { expectClose } from "../testing/closeness.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import { groupNorm, type Reference, softmax } from "../testing/reference.ts";
import { run, weightsFor } from "../testing/run.ts";
import { type Distribution, normals, random, stored } from "../testing/values.ts";
import { always, GROUP_NORM_VARIANTS } from "../variants.ts";

const adapters = await openAdapters();
afterAll(() => closeAll(adapters));
/** Software adapters twice: the second time with the forms for hardware, which have other sizes of workgroups. */
const devices = adapters.flatMap(({ name, gpu }) => {
  if (gpu.facts.kind === "hardware" || gpu.lanes === undefined) return [{ name, gpu }];
  const facts = { ...gpu.facts, kind: "hardware" };
  return [
    { name, gpu },
    { name: `${name}, as hardware`, gpu: Object.create(gpu, { facts: { value: facts } }) as Gpu },
  ];
});

const references = new Map<string, Reference>();
function once(key: string, make: () => Reference): Reference {
  let reference = references.get(key);
  if (!reference) references.set(key, (reference = make()));
  return reference;
}

interface GroupCase extends Distribution {
  readonly name: string;
  readonly shape: readonly [n: number, h: number, w: number, c: number];
  readonly groups: number;
  readonly eps?: number;
  readonly silu?: boolean;
  /** Channels of the first of two sources. */
  readonly first?: number;
  readonly only?: Storage;
}

const generated = (() => {
  const source = random(21);
  return Array.from({ length: 8 }, (_, i): GroupCase => {
    const groups = source.pick([1, 2, 5, 8]);
    const shape = [
      source.integer(1, 3),
      source.integer(1, 13),
      source.integer(1, 15),
      groups * source.integer(1, 9),
    ] as const;
    return { name: `generated ${i}`, shape, groups, silu: source.uniform() < 0.5 };
  });
})();

const groupCases: GroupCase[] = [
  { name: "groups of three channels, across quads", shape: [2, 5, 7, 30], groups: 10 },
  { name: "groups of one channel", shape: [2, 5, 7, 6], groups: 6 },
  { name: "several chunks of 64 pixels, the last one short", shape: [2, 9, 21, 8], groups: 2, silu: true },
  { name: "chunks longer than 64 pixels", shape: [1, 33, 37, 6], groups: 2 },
  { name: "two sources", shape: [2, 6, 7, 20], groups: 4, first: 8, silu: true },
  { name: "two sources, one group over both", shape: [2, 9, 8, 18], groups: 3, first: 4 },
  // Neighbouring halves are 8 apart at 10⁴, and ⅛ at 200.
  { name: "a mean of 10⁴ beside a deviation of 1", shape: [2, 16, 16, 8], groups: 2, mean: 1e4, only: "f32" },
  { name: "a mean of 200 beside a deviation of 1", shape: [2, 16, 16, 8], groups: 2, mean: 200 },
  { name: "a mean of −3·10⁴, chunks of different means", shape: [1, 20, 20, 4], groups: 1, mean: -3e4, deviation: 300 },
  { name: "deviations of 10⁻³, where eps counts", shape: [1, 8, 8, 8], groups: 2, deviation: 1e-3, eps: 1e-5 },
  { name: "nothing but zeros", shape: [1, 4, 4, 8], groups: 2, deviation: 0 },
  ...generated,
];

describe.each(devices)("$name", ({ gpu }) => {
  describe.each(["f32", "f16"] as Storage[])("%s", (storage) => {
    test.each(groupCases.filter(({ only }) => only === undefined || only === storage))(
      "group norm: $name",
      async (of) => {
        const { shape, groups, eps = 1e-6, silu = false, first, mean = 0, deviation = 1 } = of;
        const [n, h, w, c] = shape;
        const source = random(22);
        const values = normals(source, n * h * w * c, { mean, deviation });
        // Chunks and channels that differ, so that merging them is more than an average.
        const input = stored(
          mean ? values.map((value, i) => value + (deviation * i) / values.length) : values,
          storage,
        );
        const recorder = new Recorder();
        let inputs: Record<string, Float32Array>;
        let x = recorder.input("x", first ? [n, h, w, first] : shape);
        if (first) {
          x = recorder.concat(x, recorder.input("y", [n, h, w, c - first]));
          inputs = { x: channels(input, c, 0, first), y: channels(input, c, first, c) };
        } else {
          inputs = { x: input };
        }
        let y = recorder.groupNorm(x, "norm", { groups, eps });
        if (silu) y = recorder.activation(y, "silu");
        recorder.output("out", y);
        const weights = weightsFor(recorder, source);
        const reference = once(`${storage} ${of.name}`, () =>
          groupNorm(
            input,
            { images: n, pixels: h * w, channels: c, groups },
            {
              eps,
              gamma: weights.get("norm.weight")!.values,
              beta: weights.get("norm.bias")!.values,
              activation: silu ? "silu" : "none",
            },
          ),
        );
        for (const variant of gpu.lanes ? GROUP_NORM_VARIANTS : (["apart"] as const)) {
          const choose = always(variant);
          const { outputs, dispatches } = await run(gpu, { recorder, storage, weights, inputs, choose });
          expect(dispatches).toBe(variant === "joined" ? 1 : 2);
          expectClose(outputs.out!, reference, storage);
        }
        // A bound that would let anything pass is no test.
        if (deviation > 0.01) expect(Math.max(...reference.bound)).toBeLessThan(0.15);
      },
    );

    test.each<{ name: string; shape: number[] } & Distribution & { eps?: number }>([
      { name: "one row", shape: [1, 1, 4] },
      { name: "channels that are no multiple of four", shape: [2, 11, 7] },
      { name: "more rows than a workgroup has", shape: [3, 50, 33] },
      { name: "CLIP's width", shape: [1, 9, 768] },
      { name: "a mean of 10⁴ beside a deviation of 1", shape: [2, 9, 64], mean: 1e4 },
      { name: "deviations of 10⁻³, where eps counts", shape: [1, 5, 20], deviation: 1e-3, eps: 1e-5 },
      { name: "the largest halves", shape: [1, 5, 12], deviation: 3e4 },
    ])("layer norm: $name", async ({ name, shape, eps = 1e-5, ...distribution }) => {
      const c = shape.at(-1)!;
      const rows = shape[0]! * shape[1]!;
      const source = random(23);
      const input = stored(normals(source, rows * c, distribution), storage);
      const recorder = new Recorder();
      recorder.output("out", recorder.layerNorm(recorder.input("x", shape), "norm", { eps }));
      const weights = weightsFor(recorder, source);
      const { outputs } = await run(gpu, { recorder, storage, weights, inputs: { x: input } });
      const reference = once(`layer norm ${storage} ${name}`, () =>
        groupNorm(
          input,
          { images: rows, pixels: 1, channels: c, groups: 1 },
          { eps, gamma: weights.get("norm.weight")!.values, beta: weights.get("norm.bias")!.values },
        ),
      );
      expectClose(outputs.out!, reference, storage);
    });

    test.each<{ name: string; shape: number[] } & Distribution>([
      { name: "one channel", shape: [3, 1] },
      { name: "channels that are no multiple of four", shape: [2, 5, 7] },
      { name: "more rows than a workgroup has", shape: [71, 34] },
      { name: "scores of ±10⁴", shape: [40, 77], deviation: 4e3 },
      { name: "far from zero", shape: [9, 30], mean: -3e4 },
      { name: "all equal", shape: [4, 30], mean: 5, deviation: 0 },
    ])("softmax: $name", async ({ name, shape, ...distribution }) => {
      const c = shape.at(-1)!;
      const input = stored(
        normals(
          random(24),
          shape.reduce((a, b) => a * b),
          distribution,
        ),
        storage,
      );
      const recorder = new Recorder();
      recorder.output("out", recorder.softmax(recorder.input("x", shape), "softmax"));
      const { outputs } = await run(gpu, { recorder, storage, inputs: { x: input } });
      expectClose(
        outputs.out!,
        once(`softmax ${storage} ${name}`, () => softmax(input, c)),
        storage,
      );
      for (let row = 0; row < input.length; row += c) {
        const sum = (outputs.out as Float32Array).subarray(row, row + c).reduce((a, b) => a + b, 0);
        expect(sum).toBeCloseTo(1, storage === "f32" ? 5 : 2);
      }
    });
  });
});

/** Channels `from` to `to` of rows of `c`. */
function channels(values: Float32Array, c: number, from: number, to: number): Float32Array {
  return values.filter((_, i) => i % c >= from && i % c < to);
}
