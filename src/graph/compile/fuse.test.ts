/** Fusion: what is fused and what must not be, by name; and that no network's result changes. */

import { describe, expect, test } from "vitest";
import type { Convolution } from "../ops/convolution.ts";
import type { GroupNormApply } from "../ops/group-norm.ts";
import type { Operation } from "../ops/table.ts";
import { Recorder } from "../recorder.ts";
import type { Tensor } from "../tensor.ts";
import { relativeDifference } from "../testing/closeness.ts";
import { randomNetwork } from "../testing/graphs.ts";
import { interpret } from "../testing/interpreter.ts";
import { weightsFor } from "../testing/run.ts";
import { normals, random } from "../testing/values.ts";
import { fuse, joinGates } from "./fuse.ts";

const SHAPE = [2, 4, 5, 8];

/** The operations that are left of a network whose result is `build`'s. */
function fused(build: (g: Recorder, x: Tensor) => Tensor | Tensor[]): Operation[] {
  const g = new Recorder();
  const built = build(g, g.input("x", SHAPE));
  for (const [i, tensor] of [built].flat().entries()) g.output(`out${i}`, tensor);
  return fuse(g.operations, g.outputs.values());
}
const kinds = (operations: readonly Operation[]) => operations.map(({ kind }) => kind);
const conv = (g: Recorder, x: Tensor, name = "conv") => g.conv2d(x, name, { outputs: 8, padding: 1 });

describe("becomes part of the convolution before it", () => {
  test("an activation", () => {
    const operations = fused((g, x) => g.activation(conv(g, x), "silu"));
    expect(kinds(operations)).toEqual(["convolution"]);
    expect(operations[0]).toMatchObject({ name: "conv", activation: "silu" });
  });

  test("a residual, on either side of the addition", () => {
    for (const order of ["x + y", "y + x"]) {
      const operations = fused((g, x) => {
        const y = conv(g, x);
        return order === "x + y" ? g.add(x, y) : g.add(y, x);
      });
      expect(kinds(operations)).toEqual(["convolution"]);
      expect((operations[0] as Convolution).residual?.name).toBe("x");
    }
  });

  test("a residual and then an activation, or the other way round", () => {
    const after = fused((g, x) => g.activation(g.add(conv(g, x), x), "relu"));
    expect(after).toMatchObject([{ kind: "convolution", activation: "relu", activationAfterResidual: true }]);
    const before = fused((g, x) => g.add(g.activation(conv(g, x), "relu"), x));
    expect(before).toMatchObject([{ kind: "convolution", activation: "relu", activationAfterResidual: false }]);
  });

  test("one row an image, then a residual, then an activation", () => {
    const operations = fused((g, x) => {
      const row = g.input("row", [2, 8]);
      return g.activation(g.add(g.add(conv(g, x), row), x), "silu");
    });
    expect(kinds(operations)).toEqual(["convolution"]);
    const perImage = { tensor: { name: "row" }, offset: 0 };
    expect(operations[0]).toMatchObject({ activation: "silu", perImage, residual: { name: "x" } });
  });

  test("channels of one row an image, even where a picture is one pixel", () => {
    const g = new Recorder();
    const row = g.input("row", [2, 24]);
    const y = g.add(conv(g, g.input("x", [2, 1, 1, 8])), { tensor: row, offset: 12 });
    const operations = fuse(g.operations, [y]);
    expect(operations).toMatchObject([{ kind: "convolution", perImage: { tensor: { name: "row" }, offset: 12 } }]);
    expect((operations[0] as Convolution).residual).toBeUndefined();
  });

  test("of two convolutions that are added, the later one takes the other as its residual", () => {
    const operations = fused((g, x) => g.add(conv(g, x, "first"), conv(g, x, "second")));
    expect(operations).toMatchObject([{ name: "first" }, { name: "second", residual: { name: "first" } }]);
  });
});

test("an activation becomes part of group normalisation", () => {
  const operations = fused((g, x) => g.activation(g.groupNorm(x, "norm", { groups: 2, eps: 1e-5 }), "silu"));
  expect(kinds(operations)).toEqual(["group-norm-stats", "group-norm-apply"]);
  expect((operations[1] as GroupNormApply).activation).toBe("silu");
});

test("a resize becomes the way in which the convolution after it reads", () => {
  const operations = fused((g, x) => conv(g, g.upsampleNearest(x, "resize", { height: 9, width: 11 })));
  expect(operations).toMatchObject([
    {
      kind: "convolution",
      picture: { inHeight: 4, inWidth: 5, outHeight: 9, outWidth: 11 },
      virtual: { height: 9, width: 11 },
    },
  ]);
});

describe("a gate", () => {
  const gated = (record: (g: Recorder, x: Tensor) => Tensor | readonly Tensor[], joins = true) => {
    const g = new Recorder();
    const made = record(g, g.input("x", [2, 5, 8]));
    const outputs = Array.isArray(made) ? (made as readonly Tensor[]) : [made as Tensor];
    return joinGates(fuse(g.operations, outputs), outputs, () => joins);
  };

  test("becomes part of the layer that makes both of its halves", () => {
    const operations = gated((g, x) => g.geglu(g.linear(x, "proj", { outputs: 24 }), "gate"));
    expect(operations).toMatchObject([
      { kind: "convolution", name: "proj", gated: true, output: { shape: [2, 5, 12] } },
    ]);
  });

  test.each<[string, (g: Recorder, x: Tensor) => Tensor | readonly Tensor[], boolean?]>([
    ["where no kernel can", (g, x) => g.geglu(g.linear(x, "proj", { outputs: 24 }), "gate"), false],
    ["of an input", (g, x) => g.geglu(x, "gate")],
    [
      "of a layer that is read from outside",
      (g, x) => {
        const h = g.linear(x, "proj", { outputs: 24 });
        return [g.geglu(h, "gate"), h];
      },
    ],
    [
      "of a layer that others read",
      (g, x) => {
        const h = g.linear(x, "proj", { outputs: 24 });
        return [g.geglu(h, "gate"), g.layerNorm(h, "norm", { eps: 1e-5 })];
      },
    ],
    [
      "of a layer with a residual",
      (g, x) => {
        return g.geglu(g.add(g.linear(x, "proj", { outputs: 24 }), g.input("r", [2, 5, 24])), "gate");
      },
    ],
  ])("stays as it is %s", (_, record, joins) => {
    expect(kinds(gated(record, joins)).filter((kind) => kind === "geglu")).toHaveLength(1);
  });
});

describe("stays as it is", () => {
  test("a value that is read twice", () => {
    const operations = fused((g, x) => {
      const y = conv(g, x);
      return [g.activation(y, "silu"), g.activation(y, "relu")];
    });
    expect(kinds(operations)).toEqual(["convolution", "elementwise", "elementwise"]);
  });

  test("a value that is also read from outside", () => {
    const operations = fused((g, x) => {
      const y = conv(g, x);
      return [y, g.activation(y, "silu")];
    });
    expect(kinds(operations)).toEqual(["convolution", "elementwise"]);
  });

  test("a value added to itself", () => {
    const operations = fused((g, x) => {
      const y = conv(g, x);
      return g.add(y, y);
    });
    expect(kinds(operations)).toEqual(["convolution", "elementwise"]);
  });

  test("a second activation, a second residual", () => {
    expect(kinds(fused((g, x) => g.activation(g.activation(conv(g, x), "silu"), "tanh")))).toEqual([
      "convolution",
      "elementwise",
    ]);
    expect(kinds(fused((g, x) => g.add(g.add(conv(g, x), x), x)))).toEqual(["convolution", "elementwise"]);
  });

  test("one row an image after an activation", () => {
    const operations = fused((g, x) => g.add(g.activation(conv(g, x), "silu"), g.input("row", [2, 8])));
    expect(kinds(operations)).toEqual(["convolution", "elementwise"]);
  });

  test("an activation that comes with a scale", () => {
    const operations = fused((g, x) => g.affine(conv(g, x), "affine", { activation: "tanh", scale: 3 }));
    expect(kinds(operations)).toEqual(["convolution", "elementwise"]);
  });

  test("a resize before a layer that takes the picture as rows", () => {
    const operations = fused((g, x) =>
      g.linear(g.upsampleNearest(x, "resize", { height: 8, width: 10 }), "linear", { outputs: 4 }),
    );
    expect(kinds(operations)).toEqual(["upsample-nearest", "convolution"]);
  });
});

test("what nobody reads is left out", () => {
  const operations = fused((g, x) => {
    g.activation(conv(g, x, "unread"), "silu");
    return conv(g, x);
  });
  expect(operations.map(({ name }) => name)).toEqual(["conv"]);
});

// 120 networks of 14 layers: any two layers follow one another many times.
test.each(Array.from({ length: 120 }, (_, seed) => seed))("network %i gives the same fused", (seed) => {
  const g = randomNetwork(seed, 14);
  const weights = weightsFor(g, random(seed), { deviation: 0.3 });
  const inputs = new Map(
    [...g.inputs.values()].map((tensor) => [
      tensor.id,
      normals(
        random(tensor.id),
        tensor.shape.reduce((a, b) => a * b),
      ),
    ]),
  );
  const operations = fuse(g.operations, g.outputs.values());
  expect(operations.length).toBeLessThanOrEqual(g.operations.length);
  const wanted = interpret(g.operations, inputs, weights);
  const got = interpret(operations, inputs, weights);
  for (const tensor of g.outputs.values()) {
    expect(relativeDifference(got.get(tensor.id)!, wanted.get(tensor.id)!)).toBeLessThan(1e-9);
  }
});
