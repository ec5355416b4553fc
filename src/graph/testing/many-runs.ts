/**
 * A program: replays a small plan three thousand times, and prints as JSON what memory did. A process of its own, because a test
 * runner's heap grows and shrinks by more than a leak would. Wants `--expose-gc`; argument: the driver, or none.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { SoftwareDriver } from "../../gpu/adapter-facts.ts";
import { openGpu } from "../../gpu/device.ts";
import { compile } from "../plan.ts";
import { Recorder } from "../recorder.ts";

const RUNS = 3000;

/** Memory before and after. */
export interface MemoryRecord {
  /** Bytes of the JavaScript heap in use after collection, of the whole process, and of buffers on the device. */
  readonly heap: number;
  readonly process: number;
  readonly device: number;
  readonly buffers: number;
}

const driver = process.argv[2] as SoftwareDriver | undefined;
const gpu = await openGpu({ adapter: driver ? { driver } : { prefer: "hardware" } });
const g = new Recorder();
const x = g.input("x", [1, 8, 8, 4]);
g.output("y", g.softmax(g.affine(x, "affine", { scale: 2 }), "softmax"));
const plan = await compile(gpu, g, {
  label: "many runs",
  storage: "f32",
  parameters: { storage: "f32", get: () => [] },
});

async function runs(count: number): Promise<void> {
  const values = new Float32Array(256).fill(1);
  for (let i = 0; i < count; i++) {
    plan.write("x", values);
    plan.run();
    await gpu.idle();
    if (i % 10 === 0) await plan.read("y");
  }
}

async function memory(): Promise<MemoryRecord> {
  for (let i = 0; i < 5; i++) {
    globalThis.gc!();
    await sleep(5); // finalizers run between turns
  }
  const { heapUsed, rss } = process.memoryUsage();
  return { heap: heapUsed, process: rss, device: gpu.memory.bytes, buffers: gpu.memory.buffers };
}

await runs(RUNS / 2); // what is made once, is made
const before = await memory();
await runs(RUNS);
console.log(JSON.stringify({ before, after: await memory() }));
process.exit(0);
