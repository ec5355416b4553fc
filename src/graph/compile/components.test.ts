/** Plans of several networks: parameters of one name, of components that are loaded and stored apart. */

import { afterAll, describe, expect, test } from "vitest";
import { type LoadedParameters, loadParameters } from "../../memory/load.ts";
import { compile, footprint } from "../plan.ts";
import { GraphError, Recorder } from "../recorder.ts";
import type { Storage, Tensor } from "../tensor.ts";
import { relativeDifference } from "../testing/closeness.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import { interpret } from "../testing/interpreter.ts";
import { entriesOf, onDevice, type Weights, weightsFor } from "../testing/run.ts";
import { normals, random } from "../testing/values.ts";
import { always, type Variant } from "../variants.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

const SIDE = 16;
const CHANNELS = 32;

/** The same layers under the same names in each network. */
function network(g: Recorder, x: Tensor): Tensor {
  const h = g.conv2d(x, "conv_in", { outputs: CHANNELS, padding: 1 });
  const normal = g.activation(g.groupNorm(h, "norm", { groups: 8, eps: 1e-5 }), "silu");
  return g.linear(normal, "out", { outputs: CHANNELS });
}

/** A network that another one adds to. */
function recordBoth(): Recorder {
  const g = new Recorder({ component: "unet" });
  const x = g.input("x", [1, SIDE, SIDE, CHANNELS]);
  const control = g.component("controlnet", () => g.scope("ignored", () => network(g, x)));
  g.output("y", network(g, g.add(x, control)));
  return g;
}

const COMPONENTS = ["unet", "controlnet"] as const;

function weightsByComponent(g: Recorder): ReadonlyMap<string, Weights> {
  return new Map(
    COMPONENTS.map((name, index) => {
      const parameters = g.parametersOf(name);
      return [name, weightsFor({ parameters }, random(70 + index), { deviation: 0.2 })];
    }),
  );
}

test("a component's layers have the names of its own checkpoint", () => {
  const g = new Recorder({ component: "unet" });
  const x = g.input("x", [1, 4, 4, 4]);
  g.scope("outer", () => {
    g.component("controlnet", () => g.conv2d(x, "conv", { outputs: 4 }));
    g.conv2d(x, "conv", { outputs: 8 });
  });
  expect([...g.components.keys()]).toEqual(["unet", "controlnet"]);
  expect([...g.parametersOf("controlnet").keys()]).toEqual(["conv.weight", "conv.bias"]);
  expect([...g.parameters.keys()]).toEqual(["outer.conv.weight", "outer.conv.bias"]);
  expect(g.parametersOf("controlnet").get("conv.weight")!.component).toBe("controlnet");
});

describe.each(devices)("$name", ({ gpu }) => {
  async function loadAll(
    g: Recorder,
    weights: ReadonlyMap<string, Weights>,
    storageOf: (component: string) => Storage,
  ): Promise<ReadonlyMap<string, LoadedParameters>> {
    const loaded = new Map<string, LoadedParameters>();
    for (const [name, own] of weights) {
      const options = { label: name, storage: storageOf(name) };
      loaded.set(name, await loadParameters(gpu, g.parametersOf(name).values(), entriesOf(own), options));
    }
    return loaded;
  }

  const cases = (["f32", "f16"] as const).flatMap((unet) =>
    (["f32", "f16"] as const).flatMap((controlnet) =>
      ([undefined, "winograd", "tiled"] as const).map((variant) => ({ unet, controlnet, variant })),
    ),
  );
  test.each(cases)("a unet in $unet beside a control network in $controlnet, by $variant", async (one) => {
    const variant: Variant | undefined = one.variant;
    const storageOf = (component: string) => (component === "unet" ? one.unet : one.controlnet);
    const g = recordBoth();
    const weights = weightsByComponent(g);
    const parameters = await loadAll(g, weights, storageOf);
    const options = { storage: "f32", choose: variant && always(variant) } as const;
    const plan = await compile(gpu, g, { label: "both", parameters, ...options });
    const x = normals(random(72), SIDE * SIDE * CHANNELS);
    plan.write("x", x);
    plan.run();
    const answer = (await plan.read("y")) as Float32Array;
    const stored = (component: string): Weights => {
      const own = weights.get(component)!;
      return new Map(
        [...own].map(([name, weight]) => [name, { ...weight, values: onDevice(own, name, storageOf(component)) }]),
      );
    };
    const values = interpret(g.operations, new Map([[g.inputs.get("x")!.id, x]]), stored);
    expect(relativeDifference(answer, values.get(g.outputs.get("y")!.id)!)).toBeLessThan(2e-5);
    const held = new Map(COMPONENTS.map((name) => [name, storageOf(name)]));
    const foretold = footprint(gpu, g, { weightStorage: held, reads: ["y"], ...options });
    expect(foretold.bytes).toBe(plan.bytes);
    plan.destroy();
    for (const loaded of parameters.values()) loaded.destroy();
  });

  test("parameters of one component alone are refused, and a component without any", async () => {
    const g = recordBoth();
    const parameters = await loadAll(g, weightsByComponent(g), () => "f32");
    const compiling = (given: Parameters<typeof compile>[2]["parameters"]) =>
      compile(gpu, g, { label: "both", storage: "f32", parameters: given });
    const before = gpu.memory.bytes;
    await expect(compiling(parameters.get("unet")!)).rejects.toThrow(
      new GraphError("parameters of controlnet and unet need buffers by component"),
    );
    await expect(compiling(new Map([["unet", parameters.get("unet")!]]))).rejects.toThrow(
      new GraphError("no parameters for the component controlnet; there are unet"),
    );
    expect(gpu.memory.bytes).toBe(before);
    for (const loaded of parameters.values()) loaded.destroy();
  });
});
