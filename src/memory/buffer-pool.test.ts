/** Buffers between runs: the same again, and no more than a bound of them, whatever sizes are asked for. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { BufferPool } from "./buffer-pool.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

it("gives a buffer of the same size again, and never one that is in use", () => {
  const pool = new BufferPool(gpu);
  const [first, second] = [pool.take("a", 1000), pool.take("b", 1000)];
  expect(first).not.toBe(second);
  pool.giveBack(first);
  expect(pool.take("c", 2000)).not.toBe(first);
  expect(pool.take("d", 1000)).toBe(first);
  expect(pool.take("e", 1000)).not.toBe(first);
});

it("keeps no more than its bound, of however many sizes, and the latest of them", () => {
  const before = gpu.memory.bytes;
  const pool = new BufferPool(gpu, 64 * 1024);
  for (let size = 1024; size <= 200 * 1024; size += 1024) {
    pool.giveBack(pool.take("one of many sizes", size));
    expect(gpu.memory.bytes - before).toBeLessThanOrEqual(64 * 1024);
  }
  const small = [pool.take("small", 1024), pool.take("small", 2048)];
  for (const buffer of small) pool.giveBack(buffer);
  const held = gpu.memory.bytes;
  expect(pool.take("small again", 2048)).toBe(small[1]);
  expect(gpu.memory.bytes).toBe(held);
  pool.giveBack(small[1]!);
  expect(pool.dropUnused()).toBe(true);
  expect(pool.dropUnused()).toBe(false);
  expect(gpu.memory.bytes).toBe(before);
});
