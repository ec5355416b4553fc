/** The tuner on every adapter that has a choice. */

import { afterAll, describe, expect, test } from "vitest";
import type { Gpu } from "../gpu/device.ts";
import { loadParameters } from "../memory/load.ts";
import { compile } from "./plan.ts";
import { headPadding, Recorder } from "./recorder.ts";
import { closeAll, openAdapters } from "./testing/devices.ts";
import { entriesOf, weightsFor } from "./testing/run.ts";
import { normals, random } from "./testing/values.ts";
import { chooserOf, type TunedShape, tune } from "./tuner.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

/** Two convolutions of one shape, one of another, and an attention over the last one's pixels. */
function network(): Recorder {
  const g = new Recorder();
  let x = g.input("x", [1, 6, 6, 8]);
  x = g.conv2d(x, "first", { outputs: 8, padding: 1 });
  x = g.conv2d(x, "second", { outputs: 8, padding: 1 });
  const qkv = g.linear(x, ["q", "k", "v"], { outputs: 8 });
  const view = (offset: number) => ({ tensor: qkv, offset });
  const views = { query: view(0), key: view(8), value: view(16) };
  g.output("y", g.attention("attention", views, { heads: 1, head: headPadding(8) }));
  return g;
}

describe.each(devices)("$name", ({ gpu }) => {
  const g = network();
  const load = () =>
    loadParameters(gpu, g.parameters.values(), entriesOf(weightsFor(g, random(1))), {
      label: "tuned",
      storage: "f32",
    });

  test.runIf(gpu.lanes !== undefined)("times every shape once, by every kernel that can do it", async () => {
    const parameters = await load();
    const before = gpu.memory;
    const told: string[] = [];
    const part = { recorder: g, storage: "f32" as const, parameters };
    const shapes = await tune(gpu, [part], {
      onShape: ({ shape }, done, total) => told.push(`${done}/${total} ${shape}`),
    });
    expect(shapes.map(({ layers }) => layers)).toEqual([2, 1, 1]);
    expect(told).toEqual(shapes.map(({ shape }, index) => `${index + 1}/3 ${shape}`));
    for (const { candidates, winner } of shapes) {
      expect(candidates.length).toBeGreaterThan(1);
      for (const { milliseconds } of candidates) expect(milliseconds).toBeGreaterThan(0);
      const fastest = Math.min(...candidates.map(({ milliseconds }) => milliseconds));
      const won = candidates.find(({ variant }) => variant === winner)!;
      expect(won.milliseconds).toBeLessThanOrEqual(fastest * 1.05);
    }
    // Nothing stays on the device, and what is known is not timed again.
    expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
    expect(await tune(gpu, [part], { tunedShapes: new Set(shapes.map(({ shape }) => shape)) })).toEqual([]);
    parameters.destroy();
  });

  test.runIf(gpu.lanes !== undefined).each([
    { name: "answers otherwise than the rule's own", bias: "own_bias = -bias[" },
    { name: "the driver refuses", bias: "own_bias = no_such_bias[" },
  ])("does not take a kernel that $name", async ({ bias }) => {
    const parameters = await load();
    const before = gpu.memory;
    const faulty = Object.create(gpu, {
      pipeline: {
        value: (label: string, code: string) =>
          gpu.pipeline(label, label === "conv2d_tiled" ? code.replaceAll("own_bias = bias[", bias) : code),
      },
    }) as Gpu;
    const shapes = await tune(faulty, [{ recorder: g, storage: "f32", parameters }]);
    for (const { shape, candidates } of shapes) {
      const isThere = candidates.some(({ variant }) => variant === "tiled");
      expect([shape, isThere]).toEqual([shape, shape.startsWith("attention")]);
    }
    expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
    parameters.destroy();
  });

  // A variant that no software adapter has and that the rule would take first.
  test.runIf(gpu.lanes !== undefined && gpu.matrixUnit === undefined && gpu.device.features.has("shader-f16"))(
    "does without a matrix unit that the driver refuses",
    async () => {
      const halves = { storage: "f16" as const, recorder: g };
      const parameters = await loadParameters(gpu, g.parameters.values(), entriesOf(weightsFor(g, random(1))), {
        label: "tuned",
        storage: "f16",
      });
      const refused: string[] = [];
      const faulty = Object.create(gpu, {
        matrixUnit: { value: { rows: 16, columns: 16, inner: 16 } },
        pipeline: {
          value: (label: string, code: string) => {
            if (code.includes("chromium_experimental_subgroup_matrix")) refused.push(label);
            return gpu.pipeline(label, code);
          },
        },
      }) as Gpu;
      const shapes = await tune(faulty, [{ ...halves, parameters }]);
      expect(new Set(refused)).toEqual(new Set(["conv2d_matrix", "attention_matrix"]));
      expect(shapes.length).toBe(3);
      for (const { candidates, winner } of shapes) {
        expect(candidates.map(({ variant }) => variant).filter((variant) => variant.startsWith("matrix"))).toEqual([]);
        expect(candidates.map(({ variant }) => variant)).toContain(winner);
      }
      parameters.destroy();
    },
  );

  test.runIf(gpu.lanes !== undefined)(
    "its choice is taken by the plans made after it, to the same result",
    async () => {
      const parameters = await load();
      const part = { recorder: g, storage: "f32" as const, parameters };
      const shapes = await tune(gpu, [part]);
      const others = (shape: TunedShape) => shape.candidates.at(-1)!.variant;
      const results: Float32Array[] = [];
      for (const choice of [undefined, new Map(shapes.map((shape) => [shape.shape, others(shape)]))]) {
        const choose = choice && chooserOf(choice);
        const plan = await compile(gpu, g, { label: "chosen", storage: "f32", parameters, choose });
        plan.write("x", normals(random(2), 6 * 6 * 8));
        plan.run();
        results.push((await plan.read("y")) as Float32Array);
        const kernels = gpu.hasTimestamps ? (await plan.profile()).map(({ kernel }) => kernel) : [];
        const wanted = shapes.map((shape) => (choice ? others(shape) : shape.candidates[0]!.variant));
        for (const kernel of kernels) expect(wanted.some((variant) => kernel.includes(variant))).toBe(true);
        for (const variant of gpu.hasTimestamps ? wanted : []) {
          expect(kernels.some((kernel) => kernel.includes(variant))).toBe(true);
        }
        plan.destroy();
      }
      const [ruled, chosen] = results as [Float32Array, Float32Array];
      // The forms sum in different orders: a few roundings of f32 at the size of what was summed, some hundreds.
      const rounding = Math.max(...ruled.map(Math.abs)) * 2 ** -23;
      for (const [index, value] of ruled.entries()) {
        expect(Math.abs(chosen[index]! - value)).toBeLessThan(4 * rounding);
      }
      parameters.destroy();
    },
  );
});
