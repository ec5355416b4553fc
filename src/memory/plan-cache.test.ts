/** The plan cache: what is given up, in which order, and what never is. */

import { afterAll, expect, test } from "vitest";
import { compile, type Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import { closeAll, openAdapters } from "../graph/testing/devices.ts";
import { Budget } from "./budget.ts";
import { PlanCache, type PlanKey } from "./plan-cache.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));
const { gpu } = devices[0]!;

let made: string[] = [];
const [model, other] = [{}, {}];

/** A plan's key; it is the model's own unless another owner is given. */
const keyOf = (part: string, changes: Partial<PlanKey> = {}): PlanKey => ({
  owner: model,
  part,
  shape: {},
  components: [part],
  ...changes,
});

/** A plan of some kilobytes; all are of one size. */
const maker = (label: string) => async (): Promise<Plan> => {
  made.push(label);
  const g = new Recorder();
  g.output("y", g.softmax(g.input("x", [1, 64, 8]), "softmax"));
  return compile(gpu, g, { label, storage: "f32", parameters: { storage: "f32", get: () => [] } });
};
const size = await (async () => {
  const plan = await maker("measured")();
  const { bytes } = plan;
  plan.destroy();
  return bytes;
})();

async function use(cache: PlanCache, ...keys: string[]): Promise<void> {
  for (const key of keys) {
    const loan = cache.borrow();
    await loan.get(keyOf(key), maker(key));
    loan.giveBack();
  }
}

test("the least recently used is given up, and its memory with it", async () => {
  const cache = new PlanCache(new Budget(2.5 * size));
  const before = gpu.memory;
  made = [];
  await use(cache, "a", "b", "a", "c", "a", "b");
  expect(made).toEqual(["a", "b", "c", "b"]); // c took b's place, since a had been used after b
  expect(cache.size).toBe(2);
  expect(cache.bytes).toBe(2 * size);
  expect(gpu.memory.bytes - before.bytes).toBe(2 * size);
  cache.drop();
  expect(gpu.memory.bytes).toBe(before.bytes);
});

test("a borrowed plan stays, beyond the bound if need be, until all who borrowed it gave it back", async () => {
  const cache = new PlanCache(new Budget(1.5 * size));
  made = [];
  const [first, second] = [cache.borrow(), cache.borrow()];
  const plan = await first.get(keyOf("a"), maker("a"));
  expect(await second.get(keyOf("a"), maker("a"))).toBe(plan);
  expect(await first.get(keyOf("a"), maker("a"))).toBe(plan); // borrowed twice by one: given back once
  await first.get(keyOf("b"), maker("b"));
  expect(cache.size).toBe(2);
  first.giveBack();
  expect(cache.bytes).toBeLessThanOrEqual(1.5 * size);
  plan.run(); // still there for the second
  await gpu.idle();
  expect(made).toEqual(["a", "b"]);
  second.giveBack();
  expect(cache.size).toBe(1);
  cache.drop();
});

test("a plan larger than the bound serves its run and is gone after it", async () => {
  const cache = new PlanCache(new Budget(0.5 * size));
  const loan = cache.borrow();
  (await loan.get(keyOf("a"), maker("a"))).run();
  await gpu.idle();
  expect(cache.size).toBe(1);
  loan.giveBack();
  expect(cache.size).toBe(0);
});

test("plans are an owner's own, and each shape has its own", async () => {
  const cache = new PlanCache(new Budget(10 * size));
  const loan = cache.borrow();
  made = [];
  const keys = [
    keyOf("unet", { shape: { height: 8, width: 4 } }),
    keyOf("unet", { shape: { height: 4, width: 8 } }),
    keyOf("unet", { owner: other, shape: { height: 8, width: 4 } }),
    keyOf('unet", "height', { shape: { height: 8, width: 4 } }),
    keyOf("unet", { shape: { height: "8", width: 4 } }),
  ];
  const plans = new Set<Plan>();
  for (const [index, key] of keys.entries()) plans.add(await loan.get(key, maker(`${index}`)));
  expect(plans.size).toBe(keys.length);
  // The order of a shape's fields is not part of it.
  const again = await loan.get(keyOf("unet", { shape: { width: 4, height: 8 } }), maker("again"));
  expect(plans.has(again)).toBe(true);
  expect(made).toEqual(["0", "1", "2", "3", "4"]);
  loan.giveBack();
  cache.drop(other);
  expect(cache.size).toBe(4);
  cache.drop();
});

test("says which components are read by plans in use", async () => {
  const cache = new PlanCache(new Budget(10 * size));
  const loan = cache.borrow();
  await loan.get(keyOf("step", { components: ["unet", "controlnet"] }), maker("step"));
  expect(["unet", "controlnet", "vae"].map((component) => cache.reads(component))).toEqual([true, true, false]);
  expect(cache.dropUnused()).toBe(false);
  loan.giveBack();
  expect(cache.reads("unet")).toBe(false);
  expect(cache.dropUnused()).toBe(true);
  expect(cache.size).toBe(0);
});

test("two who want one plan at once share it", async () => {
  const cache = new PlanCache(new Budget(10 * size));
  const [first, second] = [cache.borrow(), cache.borrow()];
  const before = gpu.memory.bytes;
  const [one, another] = await Promise.all([first.get(keyOf("a"), maker("a")), second.get(keyOf("a"), maker("a"))]);
  expect(one).toBe(another);
  expect(gpu.memory.bytes - before).toBe(size);
  first.giveBack();
  second.giveBack();
  cache.drop();
});

test("a plan that cannot be made leaves no trace", async () => {
  const cache = new PlanCache(new Budget(10 * size));
  const loan = cache.borrow();
  await expect(loan.get(keyOf("a"), () => Promise.reject(new Error("no memory")))).rejects.toThrow("no memory");
  loan.giveBack();
  expect(cache.size).toBe(0);
  await use(cache, "a");
  expect(cache.size).toBe(1);
  cache.drop();
});
