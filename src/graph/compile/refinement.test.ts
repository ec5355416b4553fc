/** Stand-ins: plans that begin with fewer kernels, and get their own when the device is idle, with the same bits. */

import { afterAll, describe, expect, test } from "vitest";
import type { Gpu } from "../../gpu/device.ts";
import { loadParameters } from "../../memory/load.ts";
import { sleep } from "../../platform/sleep.ts";
import { compile, type Plan } from "../plan.ts";
import { Recorder } from "../recorder.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import { entriesOf, weightsFor } from "../testing/run.ts";
import { normals, random } from "../testing/values.ts";
import { Refinements } from "./refinement.ts";

const devices = (await openAdapters()).filter(({ gpu }) => gpu.facts.kind === "software" && gpu.lanes !== undefined);
afterAll(() => closeAll(devices));

/** Convolutions of several sizes of tile, each with another ending: a prologue, a phased one, a gated one, a residual. */
function network(): Recorder {
  const g = new Recorder();
  const text = g.input("text", [1, 6, 12], { constant: true });
  g.output("keys", g.linear(text, "keys", { outputs: 20 }));
  const x = g.input("x", [1, 9, 11, 6]);
  const wide = g.conv2d(x, "wide", { outputs: 80, padding: 1 });
  const h = g.add(wide, g.conv2d(wide, "same", { outputs: 80, padding: 1 }));
  g.output("few", g.conv2d(h, "few", { outputs: 4, padding: 1 }));
  g.output("strided", g.conv2d(h, "strided", { outputs: 24, padding: 1, stride: 2 }));
  const doubled = g.upsampleNearest(g.conv2d(h, "in", { outputs: 16 }), "up", { height: 18, width: 22 });
  g.output("doubled", g.conv2d(doubled, "out", { outputs: 16, padding: 1 }));
  g.output("gated", g.geglu(g.linear(g.reshape(h, [1, 99, 80]), "both", { outputs: 320 }), "gate"));
  return g;
}

/** The same device, without what it has compiled; `made` are the kernels that it is asked for. */
function fresh(gpu: Gpu): { readonly gpu: Gpu; readonly made: Set<string> } {
  const made = new Set<string>();
  const counted: Gpu = Object.create(gpu, {
    pipeline: {
      value: (label: string, code: string) => {
        made.add(code);
        return gpu.pipeline(label, code);
      },
    },
  });
  return { gpu: counted, made };
}

async function make(gpu: Gpu, standIns: boolean) {
  const g = network();
  const weights = entriesOf(weightsFor(g, random(50), { deviation: 0.3 }));
  const parameters = await loadParameters(gpu, g.parameters.values(), weights, { label: "weights", storage: "f32" });
  const plan = await compile(gpu, g, { label: "small", storage: "f32", parameters, standIns });
  for (const [name, { shape }] of g.inputs) {
    plan.write(
      name,
      normals(
        random(3),
        shape.reduce((a, b) => a * b),
      ),
    );
  }
  const destroy = () => {
    plan.destroy();
    parameters.destroy();
  };
  return { plan, outputs: [...g.outputs.keys()], destroy };
}

async function results(plan: Plan, outputs: readonly string[]) {
  await plan.replay();
  return Promise.all(outputs.map((name) => plan.read(name)));
}

describe.each(devices)("$name", ({ gpu }) => {
  test("a plan begins with fewer kernels; its own come later, and give the same bits", async () => {
    const whole = fresh(gpu);
    const { plan: usual, outputs, destroy } = await make(whole.gpu, false);
    const wanted = await results(usual, outputs);
    destroy();

    const { gpu: own, made } = fresh(gpu);
    const { plan, destroy: destroyOwn } = await make(own, true);
    expect(await results(plan, outputs)).toEqual(wanted);
    expect(made.size).toBeLessThan(whole.made.size);
    await Refinements.of(own).makeAll();
    for (const code of whole.made) expect(made.has(code)).toBe(true);
    // Neither the prologue's results nor a state has been touched meanwhile.
    expect(await Promise.all(outputs.map((name) => plan.read(name)))).toEqual(wanted);
    expect(await results(plan, outputs)).toEqual(wanted);
    destroyOwn();
    await gpu.idle();
  });

  test("they come by themselves when the device has had nothing to do, and not if the plan is gone", async () => {
    const { gpu: own, made } = fresh(gpu);
    const { plan, outputs, destroy } = await make(own, true);
    const wanted = await results(plan, outputs);
    const before = made.size;
    for (let waited = 0; made.size === before && waited < 20_000; waited += 50) await sleep(50);
    expect(made.size).toBeGreaterThan(before);
    await Refinements.of(own).end();
    expect(await results(plan, outputs)).toEqual(wanted);
    destroy();

    const gone = fresh(gpu);
    const { destroy: destroyGone } = await make(gone.gpu, true);
    const begun = gone.made.size;
    destroyGone();
    await Refinements.of(gone.gpu).makeAll();
    expect(gone.made.size).toBe(begun);
    await gpu.idle();
  });
});
