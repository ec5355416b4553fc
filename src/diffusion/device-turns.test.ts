import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Priority } from "../line/priority.ts";
import { type Candidate, type Customer, DeviceTurns } from "./device-turns.ts";

// The clock goes on by the work alone.
beforeEach(() => vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => vi.useRealTimers());

function busy(milliseconds: number): void {
  vi.advanceTimersByTime(milliseconds);
}

/** A candidate that takes turns of so many milliseconds, as long as `more` says so; it writes its name at each. */
async function taking(
  turns: DeviceTurns,
  customers: Customer[],
  name: string,
  ms: number,
  log: string[],
  count: number,
) {
  const candidate: Candidate = { customers, used: 0 };
  for (let i = 0; i < count; i++) {
    for (const customer of customers) turns.arrive(customer);
    const turn = await turns.wait(candidate);
    log.push(name);
    busy(ms);
    turn.end(customers);
    await setImmediate();
  }
}

describe("turns on the device", () => {
  it("are one at a time", async () => {
    const turns = new DeviceTurns();
    let inside = 0;
    const work = async () => {
      expect(++inside).toBe(1);
      await setImmediate();
      inside--;
    };
    await Promise.all(Array.from({ length: 20 }, () => turns.during(turns.customer(undefined), work)));
  });

  it("go by time between clients, whatever they ask for and however often", async () => {
    const turns = new DeviceTurns();
    const log: string[] = [];
    await Promise.all([
      taking(turns, [turns.customer("a")], "long", 9, log, 6),
      ...[1, 2, 3].map((n) => taking(turns, [turns.customer("b")], `short${n}`, 3, log, 6)),
    ]);
    // For each long turn of a's, b has three in all, not three of each.
    const until = log.lastIndexOf("long");
    const shorts = log.slice(0, until).filter((name) => name !== "long");
    expect(shorts.length).toBeGreaterThanOrEqual(11);
    expect(shorts.length).toBeLessThanOrEqual(18);
    // Those of one client take turns.
    for (const n of [1, 2, 3]) expect(shorts.filter((name) => name === `short${n}`).length).toBeGreaterThanOrEqual(3);
  });

  it("come at once to one who has waited for nothing, and give no credit for the time that it was away", async () => {
    const turns = new DeviceTurns();
    const log: string[] = [];
    const long = taking(turns, [turns.customer("a")], "a", 4, log, 12);
    await setImmediate();
    const late = taking(turns, [turns.customer("b")], "b", 4, log, 4);
    await Promise.all([long, late]);
    const first = log.indexOf("b");
    expect(first).toBeLessThanOrEqual(2);
    // They alternate: it does not have all of its turns before a's next.
    expect(log.slice(first, first + 6).join("")).toMatch(/^ba+ba+b/);
  });

  it("come earlier to realtime requests and later to detached ones, but come to all", async () => {
    const turns = new DeviceTurns();
    const log: string[] = [];
    const blocker = await turns.wait({ customers: [turns.customer(undefined)], used: 0 });
    const all = (["detached", "stream", "realtime"] satisfies Priority[]).map((priority) =>
      taking(turns, [turns.customer(undefined, priority)], priority, 60, log, 14),
    );
    blocker.end([]);
    await Promise.all(all);
    expect(log[0]).toBe("realtime");
    expect(log.indexOf("stream")).toBeLessThan(14);
    expect(log.indexOf("stream")).toBeLessThan(log.indexOf("detached"));
    expect(log.indexOf("detached")).toBeLessThan(log.lastIndexOf("realtime") + 14);
  });

  it("are shared equally beside one who never stops, after its lead", async () => {
    const turns = new DeviceTurns();
    const log: string[] = [];
    const realtime = taking(turns, [turns.customer(undefined, "realtime")], "realtime", 50, log, 60);
    const stream = taking(turns, [turns.customer(undefined)], "stream", 50, log, 20);
    await Promise.all([realtime, stream]);
    // At most ten turns of lead, and then each its own.
    expect(log.lastIndexOf("stream")).toBeLessThan(10 + 2 * 20 + 2);
  });

  it("are given back by work that fails", async () => {
    const turns = new DeviceTurns();
    const customer = turns.customer("a");
    await expect(turns.during(customer, () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    expect(await turns.during(customer, async () => "next")).toBe("next");
  });
});
