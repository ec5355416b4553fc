/** The plan cache: what is given up, in which order, and what never is. */

import { afterAll, expect, test } from "vitest";
import { compile, type Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import { closeAll, openAdapters } from "../graph/testing/devices.ts";
import { createPlanCache } from "./plan-cache.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));
const { gpu } = devices[0]!;

let made: string[] = [];

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

async function use(cache: ReturnType<typeof createPlanCache>, ...keys: string[]): Promise<void> {
  for (const key of keys) {
    const loan = cache.borrow();
    await loan.get(key, maker(key));
    loan.giveBack();
  }
}

test("the least recently used is given up, and its memory with it", async () => {
  const cache = createPlanCache(2.5 * size);
  const before = gpu.memory;
  made = [];
  await use(cache, "a", "b", "a", "c", "a", "b");
  expect(made).toEqual(["a", "b", "c", "b"]); // c took b's place, since a had been used after b
  expect(cache.size).toBe(2);
  expect(cache.bytes).toBe(2 * size);
  expect(gpu.memory.bytes - before.bytes).toBe(2 * size);
  cache.drop("");
  expect(gpu.memory.bytes).toBe(before.bytes);
});

test("a borrowed plan stays, beyond the bound if need be, until all who borrowed it gave it back", async () => {
  const cache = createPlanCache(1.5 * size);
  made = [];
  const [first, second] = [cache.borrow(), cache.borrow()];
  const plan = await first.get("a", maker("a"));
  expect(await second.get("a", maker("a"))).toBe(plan);
  expect(await first.get("a", maker("a"))).toBe(plan); // borrowed twice by one: given back once
  await first.get("b", maker("b"));
  expect(cache.size).toBe(2);
  first.giveBack();
  expect(cache.bytes).toBeLessThanOrEqual(1.5 * size);
  plan.run(); // still there for the second
  await gpu.idle();
  expect(made).toEqual(["a", "b"]);
  second.giveBack();
  expect(cache.size).toBe(1);
  cache.drop("");
});

test("a plan larger than the bound serves its run and is gone after it", async () => {
  const cache = createPlanCache(0.5 * size);
  const loan = cache.borrow();
  (await loan.get("a", maker("a"))).run();
  await gpu.idle();
  expect(cache.size).toBe(1);
  loan.giveBack();
  expect(cache.size).toBe(0);
});

test("a prefix drops what begins with it, and nothing else", async () => {
  const cache = createPlanCache(10 * size);
  await use(cache, "sd15/unet", "sd15/vae", "sdxl/unet");
  cache.drop("sd15/");
  expect(cache.size).toBe(1);
  made = [];
  await use(cache, "sdxl/unet", "sd15/vae");
  expect(made).toEqual(["sd15/vae"]);
  cache.drop("");
});

test("a plan that cannot be made leaves no trace", async () => {
  const cache = createPlanCache(10 * size);
  const loan = cache.borrow();
  await expect(loan.get("a", () => Promise.reject(new Error("no memory")))).rejects.toThrow("no memory");
  loan.giveBack();
  expect(cache.size).toBe(0);
  await use(cache, "a");
  expect(cache.size).toBe(1);
  cache.drop("");
});
