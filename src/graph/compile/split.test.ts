import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateParameters, normals } from "../../../test/generated-weights.ts";
import { type Gpu, openGpu } from "../../gpu/device.ts";
import { compile } from "../plan.ts";
import { GraphError, headPadding, Recorder } from "../recorder.ts";
import { type Storage, type Tensor, tensorBytes } from "../tensor.ts";
import { split } from "./split.ts";

type Build = (g: Recorder, x: Tensor, y: Tensor) => Tensor;

// Two pictures of odd sides, one number of channels that is no multiple of four.
const SHAPE = [2, 7, 9, 24];
const OTHER = [2, 7, 9, 18];
const PIXELS = 2 * 7 * 9;
/** Bytes of so many channels of such pictures in f32. */
const channels = (count: number) => (PIXELS * count * 16) / 4;
const padding = 1;

/** Each with its limit: how many channels of a picture may lie in one tensor. */
const networks: { name: string; most: number; build: Build }[] = [
  {
    name: "convolutions into slices, between slices and out of them",
    most: 8,
    build: (g, x) => {
      const h = g.conv2d(x, "a", { outputs: 32, padding });
      return g.conv2d(g.conv2d(h, "b", { outputs: 20, padding }), "c", { outputs: 8, padding });
    },
  },
  {
    name: "a residual beside slices, with the activation after it",
    most: 8,
    build: (g, x) => {
      const h = g.conv2d(x, "a", { outputs: 24, padding });
      const sum = g.activation(g.add(g.conv2d(h, "b", { outputs: 24, padding }), h), "relu");
      return g.conv2d(sum, "c", { outputs: 4, padding });
    },
  },
  {
    name: "a residual beside slices, with the activation before it",
    most: 12,
    build: (g, x) => {
      const h = g.conv2d(x, "a", { outputs: 24, padding });
      const sum = g.add(g.activation(g.conv2d(h, "b", { outputs: 24, padding }), "silu"), h);
      return g.conv2d(sum, "c", { outputs: 4, padding });
    },
  },
  {
    name: "one row an image added by a convolution",
    most: 8,
    build: (g, x) => {
      const row = g.linear(g.input("row", [2, 6]), "row", { outputs: 22 });
      const h = g.add(g.conv2d(x, "a", { outputs: 22, padding }), row);
      return g.conv2d(h, "b", { outputs: 4, padding });
    },
  },
  {
    name: "one row an image added by itself, to a tensor that is read twice",
    most: 8,
    build: (g, x) => {
      const row = g.linear(g.input("row", [2, 6]), "row", { outputs: 22 });
      const h = g.conv2d(x, "a", { outputs: 22, padding });
      return g.add(g.conv2d(g.add(h, row), "b", { outputs: 4, padding }), g.conv2d(h, "c", { outputs: 4, padding }));
    },
  },
  {
    name: "group normalisation with groups of five channels across slices of eight",
    most: 8,
    build: (g, x) => {
      const h = g.conv2d(x, "a", { outputs: 30, padding });
      return g.conv2d(g.activation(g.groupNorm(h, "norm", { groups: 6, eps: 1e-5 }), "silu"), "b", { outputs: 4 });
    },
  },
  {
    name: "a concatenation of slices and a whole tensor, normalised and convolved",
    most: 20,
    build: (g, x, y) => {
      const both = g.concat(g.conv2d(x, "a", { outputs: 36, padding }), y);
      const h = g.conv2d(g.activation(g.groupNorm(both, "norm", { groups: 9, eps: 1e-5 }), "silu"), "b", {
        outputs: 8,
      });
      return g.add(h, g.conv2d(both, "shortcut", { outputs: 8 }));
    },
  },
  {
    name: "elementwise operations on slices, with and without another",
    most: 8,
    build: (g, x, y) => {
      const a = g.conv2d(x, "a", { outputs: 22, padding });
      const b = g.affine(a, "b", { inputScale: 0.5, activation: "tanh", scale: 2, shift: 1 });
      const c = g.affine(g.add(b, a), "c", { scale: 0.25 });
      return g.conv2d(g.add(c, g.conv2d(y, "d", { outputs: 22, padding })), "e", { outputs: 4, padding });
    },
  },
  {
    name: "an upsampling that two layers read, into more slices than it comes from",
    most: 24,
    build: (g, x, y) => {
      const both = g.concat(x, y);
      const h = g.upsampleNearest(g.conv2d(both, "a", { outputs: 40, padding }), "up", { height: 15, width: 13 });
      return g.add(g.conv2d(h, "b", { outputs: 4, padding }), g.conv2d(h, "c", { outputs: 4, padding }));
    },
  },
  {
    name: "a convolution that reads slices resized, and one with stride two",
    most: 24,
    build: (g, x) => {
      const h = g.upsampleNearest(g.conv2d(x, "a", { outputs: 36, padding }), "up", { height: 14, width: 19 });
      const large = g.conv2d(h, "b", { outputs: 9, padding });
      return g.conv2d(large, "c", { outputs: 12, stride: 2, padding: { before: 0, after: 1 } });
    },
  },
  {
    name: "a gate between slices",
    most: 12,
    build: (g, x) => {
      const h = g.geglu(g.linear(x, "a", { outputs: 88 }), "gate");
      return g.linear(h, "b", { outputs: 8 });
    },
  },
];

for (const variant of ["subgroups", "workgroup tiles"] as const) {
  describe(`splitting, with kernels of ${variant}`, () => {
    let gpu: Gpu;
    beforeAll(async () => {
      gpu = await openGpu({ withoutSubgroups: variant === "workgroup tiles" });
    });
    afterAll(() => gpu.close());

    const run = async (build: Build, storage: Storage, maxTensorBytes?: number) => {
      const g = new Recorder();
      const output = build(g, g.input("x", SHAPE), g.input("y", OTHER));
      g.output("out", output);
      const parameters = await generateParameters(gpu, g, "f32");
      const plan = await compile(gpu, g, { label: "split", storage, parameters, maxTensorBytes });
      try {
        for (const [index, tensor] of [...g.inputs.values()].entries()) {
          const count = tensor.shape.reduce((product, size) => product * size, 1);
          plan.write(tensor.name, normals(count, index + 1));
        }
        plan.run();
        return { values: (await plan.read("out")) as Float32Array, dispatches: plan.dispatches };
      } finally {
        plan.destroy();
        parameters.destroy();
      }
    };

    it.each(networks)("gives what the whole gives: $name", async ({ build, most }) => {
      for (const storage of ["f32", "f16"] as const) {
        const whole = await run(build, storage);
        const sliced = await run(build, storage, channels(most) / (storage === "f16" ? 2 : 1));
        expect(sliced.dispatches).toBeGreaterThan(whole.dispatches);
        const largest = whole.values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
        expect(largest).toBeGreaterThan(0.1);
        const error = whole.values.reduce((max, value, i) => Math.max(max, Math.abs(value - sliced.values[i]!)), 0);
        // Sums in another order; in f16 each partial sum is rounded too.
        expect(error / largest).toBeLessThan(storage === "f32" ? 2e-6 : 2e-3);
      }
    });
  });
}

describe("split", () => {
  const options = { storage: "f32" as const, maxTensorBytes: channels(8) };
  const record = (build: Build) => {
    const g = new Recorder();
    const output = build(g, g.input("x", SHAPE), g.input("y", OTHER));
    return { operations: g.operations, output };
  };

  it("leaves no tensor over the limit, and nothing changed that is under it", () => {
    for (const { build, most } of networks) {
      const { operations, output } = record(build);
      const largest = Math.max(...operations.map((operation) => tensorBytes(operation.output, "f32")));
      expect(split(operations, [output], { storage: "f32", maxTensorBytes: largest })).toEqual(operations);
      const maxTensorBytes = channels(most);
      expect(largest).toBeGreaterThan(maxTensorBytes);
      for (const operation of split(operations, [output], { storage: "f32", maxTensorBytes })) {
        expect(tensorBytes(operation.output, "f32")).toBeLessThanOrEqual(maxTensorBytes);
      }
    }
  });

  it("slices tensors of one shape alike, in as few parts as fit", () => {
    const { operations, output } = record((g, x) => {
      const a = g.conv2d(x, "a", { outputs: 40, padding });
      const b = g.conv2d(a, "b", { outputs: 40, padding });
      return g.conv2d(g.add(a, b), "c", { outputs: 4, padding });
    });
    const sizes = (name: string) =>
      split(operations, [output], { ...options, maxTensorBytes: channels(18) })
        .filter((operation) => operation.name === name)
        .map((operation) => operation.output.shape.at(-1));
    // Sixteen whole channels fit at a time: three parts of as equal a size as quads allow.
    expect(sizes("a")).toEqual([16, 16, 8]);
    expect(sizes("b")).toEqual([16, 16, 8]);
    expect(sizes("c")).toEqual([4]);
  });

  it.each<{ name: string; build: Build; says: RegExp }>([
    {
      name: "attention",
      build: (g, x) => {
        const h = g.linear(x, "qkv", { outputs: 24 });
        const view = (offset: number) => ({ tensor: h, offset });
        const views = { query: view(0), key: view(8), value: view(16) };
        return g.attention("attend", views, { heads: 2, head: headPadding(4) });
      },
      says: /^attend: attention needs \[2,7,9,24\] in one piece of 12096 bytes.* at most 4032; at most 42 of these 126 rows/,
    },
    {
      name: "layer normalisation",
      build: (g, x) => g.layerNorm(g.conv2d(x, "a", { outputs: 24, padding }), "norm", { eps: 1e-5 }),
      says: /^norm: layer-norm needs \[2,7,9,24\] in one piece/,
    },
    {
      name: "an output of the plan",
      build: (g, x) => g.conv2d(x, "a", { outputs: 24, padding }),
      says: /^a: convolution needs \[2,7,9,24\] in one piece/,
    },
    {
      name: "a picture of which not even four channels fit",
      build: (g, x) => {
        const h = g.upsampleNearest(x, "up", { height: 70, width: 90 });
        return g.conv2d(g.conv2d(h, "a", { outputs: 24, padding }), "b", { outputs: 4, stride: 9 });
      },
      says: /^up: upsample-nearest needs \[2,70,90,24\] in one piece of 1209600 bytes/,
    },
    {
      name: "addends that are not sliced alike",
      build: (g, x, y) => {
        const both = g.concat(g.linear(x, "a", { outputs: 20 }), g.linear(y, "b", { outputs: 8 }));
        const norm = g.groupNorm(both, "norm", { groups: 4, eps: 1e-5 });
        return g.linear(g.add(g.linear(x, "c", { outputs: 28 }), norm), "d", { outputs: 4 });
      },
      says: /^add: elementwise needs \[2,7,9,28\] in one piece/,
    },
  ])("names the layer where it cannot: $name", ({ build, says }) => {
    const { operations, output } = record(build);
    const attempt = () => split(operations, [output], options);
    expect(attempt).toThrow(GraphError);
    expect(attempt).toThrow(says);
  });
});
