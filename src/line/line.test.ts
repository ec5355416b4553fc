import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Line, type LineOptions, type Waiting } from "./line.ts";
import type { Priority } from "./priority.ts";

interface Entry extends Waiting {
  readonly name: string;
}

/** A line, and what it has said: `a!` for a's turn, `b:1` for one that is ahead of b. */
function lineOf(concurrency: number, options?: Partial<LineOptions<Entry>>) {
  const said: string[] = [];
  const line = new Line<Entry>({
    ...options,
    concurrency,
    begin: ({ name }) => said.push(`${name}!`),
    moved: ({ name }, position) => said.push(`${name}:${position}`),
  });
  const join = (name: string, client?: string, inputBytes = 0, more: Partial<Waiting> = {}) => {
    const entry = { name, client, inputBytes, ...more };
    line.join(entry);
    return entry;
  };
  return { line, join, said: () => said.splice(0).join(" ") };
}

describe("a line", () => {
  it("gives so many their turn at once; the others are told how many are ahead, 0 for the next", () => {
    const { line, join, said } = lineOf(2);
    const [a, b] = [join("a"), join("b")];
    join("c");
    const d = join("d");
    expect(said()).toBe("a! b! c:0 d:1");
    expect([line.position(a), line.position(d), line.length, line.isIdle]).toEqual([undefined, 1, 2, false]);
    line.end(b);
    expect(said()).toBe("c! d:0");
    line.end(a);
    expect(said()).toBe("d!");
  });

  it("closes up behind one that leaves, says nothing to those before it, and gives its place to nobody twice", () => {
    const { line, join, said } = lineOf(1);
    const a = join("a");
    join("b");
    const c = join("c");
    join("d");
    said();
    expect(line.withdraw(c)).toBe(true);
    expect(said()).toBe("d:1");
    expect(line.withdraw(c)).toBe(false);
    // It has its turn: it does not wait any more, and its place is free when it ends.
    expect(line.withdraw(a)).toBe(false);
    expect(said()).toBe("");
    line.end(a);
    line.end(a);
    line.end(c);
    expect(said()).toBe("b! d:0");
  });

  it("gives clients their turns, and tells those that fall back", () => {
    const { line, join, said } = lineOf(1);
    const first = join("a1", "a");
    join("a2", "a");
    join("a3", "a");
    said();
    join("b1", "b");
    expect(said()).toBe("a3:2 b1:1".split(" ").reverse().join(" "));
    line.end(first);
    expect(said()).toBe("a2! b1:0 a3:1");
  });

  it("brings realtime entries before streams and those before detached ones, but nobody waits for ever", () => {
    const { line, join, said } = lineOf(1);
    const entries = new Map<string, Entry>();
    const add = (name: string, priority: Priority) => entries.set(name, join(name, name, 0, { priority }));
    add("first", "stream");
    add("detached", "detached");
    add("stream", "stream");
    add("realtime", "realtime");
    said();
    const order: string[] = [];
    for (let running = "first"; running !== "detached" && order.length < 20; ) {
      add(`late${order.length}`, order.length % 2 === 0 ? "stream" : "realtime");
      line.end(entries.get(running)!);
      running = /([a-z0-9]+)!/.exec(said())![1]!;
      order.push(running);
    }
    expect(order[0]).toBe("realtime");
    expect(order).toContain("stream");
    expect(order.at(-1)).toBe("detached");
  });

  it("has reserved places for realtime entries alone", () => {
    const { line, join, said } = lineOf(1, { reserved: 1 });
    const realtime = { priority: "realtime" } as const;
    const long = join("long");
    join("stream");
    const first = join("r1", undefined, 0, realtime);
    join("r2", undefined, 0, realtime);
    expect(said()).toBe("long! stream:0 r1! r2:0 stream:1");
    line.end(first);
    expect(said()).toBe("r2! stream:0");
    line.end(long);
    expect(said()).toBe("stream!");
  });

  it("keeps a place for those who have none", () => {
    const { line, join, said } = lineOf(3, { ofClient: 2 });
    const [first] = ["a1", "a2", "a3", "a4"].map((name) => join(name, "a"));
    expect(said()).toBe("a1! a2! a3:0 a4:1");
    join("b1", "b");
    expect(said()).toBe("b1!");
    line.end(first!);
    expect(said()).toBe("a3! a4:0");
  });

  it("counts a client's turns by their cost", () => {
    const { line, join, said } = lineOf(1);
    const first = join("first", "x");
    join("a1", "a", 0, { cost: 2.5 });
    for (const name of ["b1", "b2", "b3"]) join(name, "b");
    said();
    expect(line.costBefore({ client: "c", inputBytes: 0 })).toBe(0.5 + 1);
    expect(line.costBefore({ client: "c", inputBytes: 0, cost: 9 })).toBe(0.5 + 2.5 + 3);
    line.end(first);
    // Behind b's second: it is as much work as two and a half of b's.
    expect(said()).toBe("b1! b2:0 a1:1 b3:2");
  });

  it("has one that is alone wait until nothing runs, and lets nobody overtake it", () => {
    const { line, join, said } = lineOf(2, { reserved: 1 });
    const [a, b] = [join("a"), join("b")];
    const alone = join("alone", undefined, 0, { isAlone: true });
    join("c");
    said();
    line.end(a);
    expect(said()).toBe("");
    line.end(b);
    expect(said()).toBe("alone! c:0");
    line.end(alone);
    expect(said()).toBe("c!");
  });

  it("lets those run together that have room together, and one that needs all of it alone", () => {
    const { line, join, said } = lineOf(3, { maxWorkingBytes: 100 });
    const [a, b] = ["a", "b"].map((name) => join(name, undefined, 0, { workingBytes: 40 }));
    const large = join("large", undefined, 0, { workingBytes: 500 });
    join("c", undefined, 0, { workingBytes: 10 });
    expect(said()).toBe("a! b! large:0 c:1");
    line.end(a!);
    expect(said()).toBe("");
    line.end(b!);
    expect(said()).toBe("large! c:0");
    line.end(large);
    expect(said()).toBe("c!");
  });

  it("refuses more than a client's share, and nobody while a place is free", () => {
    const { line, join } = lineOf(1, { maxQueued: 4, maxQueuedBytes: 100 });
    expect(line.refusal("a", 1_000)).toBeUndefined();
    join("a1", "a");
    expect(line.refusal("a", 1_000)).toBeUndefined();
    for (const name of ["a2", "a3"]) join(name, "a", 10);
    expect(line.refusal("a", 10)).toBeUndefined();
    join("a4", "a", 10);
    expect(line.refusal("a", 10)).toMatch(/^3 of your jobs are waiting/);
    expect(line.refusal("b", 10)).toBeUndefined();
    expect(line.refusal("b", 80)).toMatch(/^3 jobs are waiting/);
    join("b1", "b", 10);
    expect(line.refusal("c", 10)).toMatch(/^4 jobs are waiting/);
  });

  it("keeps its promises whatever happens", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("join" as const), client: fc.constantFrom("a", "b", "c", undefined) }),
      fc.record({ do: fc.constantFrom("withdraw" as const, "end" as const), which: fc.nat(40) }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), fc.array(step, { maxLength: 60 }), (concurrency, steps) => {
        const running = new Set<Entry>();
        const positions = new Map<Entry, number>();
        const order: Entry[] = [];
        const begin = (entry: Entry) => {
          positions.delete(entry);
          running.add(entry);
          order.push(entry);
        };
        const line = new Line<Entry>({ concurrency, begin, moved: (entry, at) => positions.set(entry, at) });
        const all: Entry[] = [];
        for (const step of steps) {
          if (step.do === "join") {
            const entry = { name: String(all.length), client: step.client, inputBytes: 0 };
            all.push(entry);
            line.join(entry);
          } else {
            const entry = all[step.which];
            if (entry === undefined) continue;
            if (step.do === "end" && running.delete(entry)) line.end(entry);
            if (step.do === "withdraw" && line.withdraw(entry)) positions.delete(entry);
          }
          // A place is free only if nobody waits; whoever waits was told its true position.
          expect(running.size).toBe(Math.min(concurrency, running.size + line.length));
          expect([...positions.values()].sort((one, other) => one - other)).toEqual(
            Array.from({ length: line.length }, (_, index) => index),
          );
          for (const [entry, position] of positions) expect(line.position(entry)).toBe(position);
        }
        // The entries of one client have their turns in the order in which they came.
        for (const client of ["a", "b", "c", undefined]) {
          const own = order.filter((entry) => entry.client === client).map(({ name }) => Number(name));
          expect(own).toEqual([...own].sort((one, other) => one - other));
        }
      }),
      { seed: 20, numRuns: 300 },
    );
  });
});
