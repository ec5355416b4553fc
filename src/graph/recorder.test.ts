/** The recorder: the parameters of a checkpoint that it asks for, shapes that follow from one another, and errors. */

import { describe, expect, test } from "vitest";
import { packPicture } from "./ops/diffusion/pack-picture.ts";
import { GraphError, headPadding, Recorder } from "./recorder.ts";

const names = (g: Recorder) =>
  Object.fromEntries([...g.parameters.values()].flatMap(({ parts }) => parts.map(({ name, shape }) => [name, shape])));

describe("parameters", () => {
  test("are named as in the checkpoint, by scopes", () => {
    const g = new Recorder();
    const x = g.input("x", [1, 8, 8, 4]);
    g.scope("down_blocks", () =>
      g.scope("1", () => {
        const h = g.conv2d(g.groupNorm(x, "norm1", { groups: 2, eps: 1e-5 }), "conv1", { outputs: 6 });
        g.linear(g.reshape(h, [1, 36, 6]), "proj", { outputs: 5, bias: false });
      }),
    );
    expect(names(g)).toEqual({
      "down_blocks.1.norm1.weight": [4],
      "down_blocks.1.norm1.bias": [4],
      "down_blocks.1.conv1.weight": [6, 4, 3, 3],
      "down_blocks.1.conv1.bias": [6],
      "down_blocks.1.proj.weight": [5, 6],
    });
    expect(g.operations.at(-1)!.name).toBe("down_blocks.1.proj");
  });

  test("a scope ends where its builder throws", () => {
    const g = new Recorder();
    expect(() =>
      g.scope("broken", () => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    g.linear(g.input("x", [1, 4]), "layer", { outputs: 2 });
    expect(Object.keys(names(g))).toEqual(["layer.weight", "layer.bias"]);
  });

  test("layers side by side, with names of old files, and 1 × 1 convolutions that are linear", () => {
    const g = new Recorder();
    const x = g.input("x", [2, 7, 8]);
    const y = g.linear(x, ["to_q", "to_k"], { outputs: [12, 8], aliases: ["query"] });
    expect(y.shape).toEqual([2, 7, 20]);
    g.linear(x, "proj_in", { outputs: 4, asConvolution: true });
    expect(names(g)).toMatchObject({ "to_q.weight": [12, 8], "to_k.weight": [8, 8], "proj_in.weight": [4, 8, 1, 1] });
    const matrix = [...g.parameters.values()].find(({ key }) => key === "to_q.weight+to_k.weight");
    expect(matrix).toMatchObject({ kind: "matrix", partChannels: [12, 8], inputQuads: 2, outputQuads: 5 });
    expect(matrix!.parts[0]!.aliases).toEqual(["query.weight"]);
  });

  test("heads are stored padded and named unpadded", () => {
    const g = new Recorder();
    expect(headPadding(40)).toEqual({ width: 40, padded: 40 });
    const head = headPadding(6);
    expect(head).toEqual({ width: 6, padded: 8 });
    const q = g.linear(g.input("x", [1, 7, 10]), "q", { outputs: 18, outputHead: head });
    expect(q.shape).toEqual([1, 7, 24]);
    expect(g.linear(q, "out", { outputs: 10, inputHead: head }).shape).toEqual([1, 7, 10]);
    expect(names(g)).toMatchObject({ "q.weight": [18, 10], "q.bias": [18], "out.weight": [10, 18] });
  });

  test("a layer that is used twice is one parameter", () => {
    const g = new Recorder();
    const x = g.input("x", [1, 4]);
    g.linear(g.linear(x, "layer", { outputs: 4 }), "layer", { outputs: 4 });
    expect(g.parameters.size).toBe(2);
    expect(g.operations.length).toBe(2);
  });
});

describe("shapes", () => {
  test.each([
    { of: { outputs: 5 }, shape: [2, 7, 9, 5] },
    { of: { outputs: 5, padding: 1 }, shape: [2, 9, 11, 5] },
    { of: { outputs: 5, padding: 1, stride: 2 }, shape: [2, 5, 6, 5] },
    { of: { outputs: 5, padding: { before: 0, after: 1 }, stride: 2 }, shape: [2, 4, 5, 5] },
    { of: { outputs: 5, kernel: 1, stride: 2 }, shape: [2, 5, 6, 5] },
  ])("conv2d of [2, 9, 11, 3], $of", ({ of, shape }) => {
    const g = new Recorder();
    expect(g.conv2d(g.input("x", [2, 9, 11, 3]), "conv", of).shape).toEqual(shape);
  });

  test("what each layer gives", () => {
    const g = new Recorder();
    const x = g.input("x", [2, 4, 6, 8]);
    expect(g.upsampleNearest(x, "up", { height: 7, width: 12 }).shape).toEqual([2, 7, 12, 8]);
    expect(g.geglu(g.reshape(x, [2, 24, 8]), "geglu").shape).toEqual([2, 24, 4]);
    expect(g.concat(x, g.input("y", [2, 4, 6, 3])).shape).toEqual([2, 4, 6, 11]);
    expect(g.concat(g.input("z", [2, 4, 6, 3]), x).shape).toEqual([2, 4, 6, 11]);
    expect(packPicture(g, x, "picture")).toMatchObject({ shape: [48], element: "u32" });
    expect(g.gatherRows(g.reshape(x, [2, 24, 8]), g.input("rows", [2], { element: "u32" }), "pool").shape).toEqual([
      2, 8,
    ]);
  });
});

describe("refuses, naming the layer", () => {
  const g = new Recorder();
  const x = g.input("x", [2, 4, 6, 8]);
  test.each<[string, RegExp, () => unknown]>([
    ["a picture too small for the kernel", /^mid\.conv: .*4 × 6/, () => g.conv2d(x, "conv", { outputs: 4, kernel: 5 })],
    [
      "a convolution of tokens",
      /^mid\.conv: wants \[n, h, w, c\]/,
      () => g.conv2d(g.reshape(x, [2, 24, 8]), "conv", { outputs: 4 }),
    ],
    [
      "groups that do not divide",
      /^mid\.norm: 8 channels .* 3 groups/,
      () => g.groupNorm(x, "norm", { groups: 3, eps: 1 }),
    ],
    ["halves that are no quads", /^mid\.geglu: 12 channels/, () => g.geglu(g.input("g", [1, 3, 12]), "geglu")],
    ["shapes that do not add", /^mid\.add: shapes 2,4,6,8 and 2,4,5,8/, () => g.add(x, g.input("a", [2, 4, 5, 8]))],
    ["channels that do not add", /^mid\.add: shapes/, () => g.add(x, g.input("b", [2, 4, 6, 7]))],
    ["a row an image of other channels", /^mid\.add: shapes/, () => g.add(x, g.input("c", [2, 4]))],
    [
      "a reshape that loses elements",
      /^mid\.reshape: \[2,4,6,8\] does not hold \[2,23,8\]/,
      () => g.reshape(x, [2, 23, 8]),
    ],
    ["a reshape to channels that are no quads", /^mid\.reshape/, () => g.reshape(x, [2, 32, 6])],
    ["pictures of two sizes side by side", /^mid\.concat/, () => g.concat(x, g.input("e", [2, 4, 5, 8]))],
    [
      "layers side by side that are no quads",
      /^mid\.q: layers side by side/,
      () => g.linear(x, ["q", "k"], { outputs: [6, 8] }),
    ],
    ["keys of other images", /^mid\.attn: keys/, () => attend(g.input("f", [3, 24, 8]))],
    ["an impossible size", /impossible shape \[2,0,6,8\]/, () => g.upsampleNearest(x, "up", { height: 0, width: 6 })],
  ])("%s", (_, message, build) => {
    const record = () => g.scope("mid", build);
    expect(record).toThrow(GraphError);
    expect(record).toThrow(message);
  });

  function attend(keys: ReturnType<Recorder["input"]>) {
    const view = { tensor: keys, offset: 0 };
    const query = { tensor: g.reshape(x, [2, 24, 8]), offset: 0 };
    return g.attention("attn", { query, key: view, value: view }, { heads: 1, head: headPadding(8) });
  }
});
