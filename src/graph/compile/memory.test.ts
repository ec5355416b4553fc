/** Memory plans: whatever the network, no tensor is overwritten while it is needed. */

import { describe, expect, test } from "vitest";
import { type Operation, readsOf } from "../ops/table.ts";
import { GraphError, Recorder } from "../recorder.ts";
import { tensorBytes } from "../tensor.ts";
import { randomNetwork } from "../testing/graphs.ts";
import { fuse } from "./fuse.ts";
import { type ArenaOptions, align, type MemoryPlan, planMemory } from "./memory.ts";

const options: ArenaOptions = { storage: "f32", alignment: 256, maxArenaBytes: 2 ** 20 };

/** Replays a plan on paper: every place remembers whose bytes it holds. */
function overwritten(
  operations: readonly Operation[],
  kept: ReadonlySet<number>,
  { places, arenas }: MemoryPlan,
): string[] {
  const faults: string[] = [];
  const held = new Map<number, { arena: number; begin: number; end: number }>();
  const check = (id: number, when: string) => {
    if (places.has(id) && !held.has(id)) faults.push(`${when} after it was overwritten`);
  };
  for (const operation of operations) {
    const reads = readsOf(operation);
    for (const tensor of reads) check(tensor.id, `${operation.name} reads ${tensor.name}`);
    const { arena, offset, size } = places.get(operation.output.id)!;
    if (offset % options.alignment !== 0) faults.push(`${operation.name} begins at ${offset}`);
    if (offset + size > arenas[arena]!) faults.push(`${operation.name} ends beyond its arena`);
    // WebGPU allows no buffer to be read and written in one dispatch.
    if (reads.some((tensor) => places.get(tensor.id)?.arena === arena))
      faults.push(`${operation.name} writes to an arena that it reads`);
    for (const [id, other] of held)
      if (other.arena === arena && offset < other.end && other.begin < offset + size) held.delete(id);
    held.set(operation.output.id, { arena, begin: offset, end: offset + size });
  }
  for (const id of kept) check(id, `output ${id} is read`);
  return faults;
}

describe.each(Array.from({ length: 60 }, (_, seed) => seed))("network %i", (seed) => {
  const g = randomNetwork(seed, 25);
  const operations = fuse(g.operations, g.outputs.values());
  const kept = new Set([...g.outputs.values()].map((tensor) => tensor.id));

  test("no tensor is overwritten while it is needed", () => {
    expect(overwritten(operations, kept, planMemory(operations, kept, options))).toEqual([]);
  });

  test("nor in arenas that hold only a few tensors each", () => {
    const largest = Math.max(...operations.map(({ output }) => align(tensorBytes(output, "f32"), options.alignment)));
    const plan = planMemory(operations, kept, { ...options, maxArenaBytes: largest });
    expect(overwritten(operations, kept, plan)).toEqual([]);
    expect(Math.max(...plan.arenas)).toBeLessThanOrEqual(largest);
  });

  test("arenas take less than all tensors side by side, and no less than the most that is needed at once", () => {
    const { places, arenas } = planMemory(operations, kept, options);
    const total = arenas.reduce((sum, size) => sum + size, 0);
    const all = [...places.values()].reduce((sum, { size }) => sum + size, 0);
    expect(total).toBeLessThanOrEqual(all);
    const last = new Map<number, number>();
    operations.forEach((operation, at) => {
      for (const tensor of [operation.output, ...readsOf(operation)])
        last.set(tensor.id, kept.has(tensor.id) ? Infinity : at);
    });
    let most = 0;
    operations.forEach((_, at) => {
      const living = operations.slice(0, at + 1).filter(({ output }) => last.get(output.id)! >= at);
      most = Math.max(
        most,
        living.reduce((sum, { output }) => sum + places.get(output.id)!.size, 0),
      );
    });
    expect(total).toBeGreaterThanOrEqual(most);
  });
});

test("a long chain lives in two places", () => {
  const g = new Recorder();
  let x = g.input("x", [1, 8, 8, 4]);
  for (let i = 0; i < 50; i++) x = g.softmax(x, `layer${i}`);
  g.output("y", x);
  const { arenas } = planMemory(g.operations, new Set([x.id]), options);
  expect(arenas).toEqual([1024, 1024]);
});

test("a tensor that is over the limit is refused by its layer's name", () => {
  const g = new Recorder();
  const x = g.softmax(g.input("x", [1, 8, 8, 4]), "mid.softmax");
  expect(() => planMemory(g.operations, new Set([x.id]), { ...options, maxArenaBytes: 1000 })).toThrow(GraphError);
  expect(() => planMemory(g.operations, new Set([x.id]), { ...options, maxArenaBytes: 1000 })).toThrow(
    /^mid\.softmax: .*1024 bytes/,
  );
});

test("a tensor that one operation reads twice, in two views, is given back once", () => {
  const g = new Recorder();
  const x = g.activation(g.input("x", [1, 4, 4, 64]), "silu");
  const doubled = g.concat(x, { ...x });
  let y = g.conv2d(doubled, "both", { outputs: 64, padding: 1 });
  // Each of these takes a part of the memory that was given back.
  for (let i = 0; i < 4; i++)
    y = g.add(
      g.conv2d(y, `more ${i}`, { outputs: 64, kernel: 1 }),
      g.conv2d(y, `other ${i}`, { outputs: 64, kernel: 1 }),
    );
  g.output("y", y);
  const kept = new Set([...g.outputs.values()].map((tensor) => tensor.id));
  expect(overwritten(g.operations, kept, planMemory(g.operations, kept, options))).toEqual([]);
  const { places, arenas } = planMemory(g.operations, kept, options);
  const sizes = [...places.values()].map(({ arena, offset, size }) => [offset + size, arenas[arena]!] as const);
  for (const [end, size] of sizes) expect(end).toBeLessThanOrEqual(size);
});
