/** Which variant computes an operation: the rule, and the choice that overrules it. */

import { describe, expect, test } from "vitest";
import type { Target } from "../dispatch.ts";
import type { Convolution } from "../ops/convolution.ts";
import { Recorder } from "../recorder.ts";
import { ATTENTION_VARIANTS, CONVOLUTION_VARIANTS, GROUP_NORM_VARIANTS, VARIANTS, variantsOf } from "../variants.ts";
import { subgroup } from "./convolution/subgroup.ts";
import { chooseVariant, type KernelVariant, ranked } from "./variant.ts";

const g = new Recorder();
g.conv2d(g.input("x", [1, 64, 64, 64]), "conv", { outputs: 64, padding: 1 });
const operation = g.operations[0] as Convolution;
const target: Target = {
  ...{ lanes: 8, storage: "f32", weightStorage: "f32", transformed: true },
  ...{ maxBindingBytes: 2 ** 27, maxTextureDimension: 8192 },
};

function variant(name: string, cost: number, options: { can?: boolean; onMatrixUnit?: boolean } = {}) {
  const { can = true, onMatrixUnit = false } = options;
  return { name, onMatrixUnit, can: () => can, cost: () => cost, lower: () => [] } satisfies KernelVariant<Convolution>;
}
const names = (list: readonly { name: string }[]) => list.map(({ name }) => name);

describe("the rule", () => {
  test("takes the cheapest that can, and of equal ones the first in the list", () => {
    const list = [variant("b", 2), variant("no", 0, { can: false }), variant("a", 1), variant("c", 2)];
    expect(names(ranked(list, operation, target))).toEqual(["a", "b", "c"]);
  });

  test("has those that are never the fastest at its end, in their order", () => {
    const list = [variant("x", Infinity), variant("y", Infinity), variant("general", 1)];
    expect(names(ranked(list, operation, target))).toEqual(["general", "x", "y"]);
  });

  test("has variants on a matrix unit in front, by their costs among each other", () => {
    const unit = { onMatrixUnit: true };
    const list = [variant("general", 1), variant("large", 9e6, unit), variant("small", 8e6, unit)];
    expect(names(ranked(list, operation, target))).toEqual(["small", "large", "general"]);
  });
});

describe("a choice", () => {
  const list = [variant("a", 1), variant("b", 2), variant("no", 0, { can: false })];
  test("overrules the rule by a candidate's name", () => {
    expect(chooseVariant(list, operation, { ...target, choose: () => "b" }).name).toBe("b");
  });

  test("leaves it to the rule otherwise", () => {
    for (const choose of [undefined, () => undefined, () => "no", () => "unknown"]) {
      expect(chooseVariant(list, operation, { ...target, choose }).name).toBe("a");
    }
  });

  test("is asked with the operation, the candidates and the target", () => {
    const asked: unknown[] = [];
    const choose: Target["choose"] = (...question) => {
      asked.push(question);
      return undefined;
    };
    chooseVariant(list, operation, { ...target, choose });
    expect(asked).toEqual([[operation, ["a", "b"], { ...target, choose }]]);
  });
});

test("a name is of one variant in each family", () => {
  for (const family of [CONVOLUTION_VARIANTS, ATTENTION_VARIANTS, GROUP_NORM_VARIANTS]) {
    expect(family).toEqual([...new Set(family)]);
    for (const name of family) expect(VARIANTS).toContain(name);
  }
});

test("every adapter has a candidate for a convolution, and only those that it can run", () => {
  expect(variantsOf(operation, { ...target, lanes: undefined })).toEqual(["tiled"]);
  expect(variantsOf(operation, target)[0]).toBe("winograd");
  expect(variantsOf(operation, { ...target, transformed: false })).toEqual(["subgroup", "tiled"]);
  expect(variantsOf(operation, { ...target, lanes: 32, hardware: true })[0]).toBe("tiled");
  const unit = { rows: 16, columns: 16, inner: 16 };
  const halves = { storage: "f16", weightStorage: "f16", maxWorkgroupBytes: 49152 } as const;
  expect(variantsOf(operation, { ...target, lanes: 32, hardware: true, matrixUnit: unit, ...halves })[0]).toMatch(
    /^matrix/,
  );
  expect(variantsOf({ ...operation, gated: true }, { ...target, lanes: 4 })).toEqual(["subgroup", "tiled"]);
});

describe.each([4, 8])("on subgroups of %d", (lanes) => {
  const wanted: Target = { ...target, lanes, textured: () => true };
  const codesOf = (...operations: Convolution[]) =>
    new Set(operations.flatMap((one) => subgroup.lower(one, wanted)).map(({ kernel }) => kernel.code));
  const { residual: _, perImage: __, bias: ___, ...bare } = operation;
  const tensor = g.input("y", [1, 64, 64, 64]);

  // A pipeline is a second of compiling on a software adapter.
  test("one kernel does for all endings of a convolution, and for gated layers", () => {
    const endings: Partial<Convolution>[] = [
      {},
      { bias: operation.bias! },
      { residual: tensor },
      { perImage: { tensor, offset: 0 } as Convolution["perImage"] & object },
      { activation: "silu" },
      { activation: "relu", activationAfterResidual: false, residual: tensor },
      { gated: true },
    ];
    expect(codesOf(...endings.map((ending) => ({ ...bare, ...ending }))).size).toBe(1);
  });

  test("an input in several parts takes no other", () => {
    const parts = { ...operation, input: { ...operation.input, parts: [operation.input, tensor] } } as Convolution;
    expect(codesOf(parts)).toEqual(codesOf(operation));
  });
});
