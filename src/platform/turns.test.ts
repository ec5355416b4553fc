import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { startTurnMeter } from "../../test/turn-meter.ts";
import { atOnce, inTurns, ownTurn } from "./turns.ts";

/** Computes for so many ms and says how often it yielded. */
function* work(ms: number): Generator<void, number, void> {
  let pieces = 0;
  for (; pieces < ms; pieces++) {
    for (const end = performance.now() + 1; performance.now() < end; );
    yield;
  }
  return pieces;
}

test("many computations at once share the turns", async () => {
  const meter = startTurnMeter();
  const results = await Promise.all(Array.from({ length: 8 }, () => inTurns(work(30))));
  expect(results).toEqual(Array(8).fill(30));
  expect(meter.stop().longestMs).toBeLessThan(25);
});

test("others are served between the pieces", async () => {
  let served = 0;
  let done = false;
  const other = (async () => {
    for (; !done; served++) await setImmediate();
  })();
  await inTurns(work(80));
  done = true;
  await other;
  expect(served).toBeGreaterThan(5);
});

test("who waits first is resumed first, one a turn", async () => {
  const order: string[] = [];
  let turns = 0;
  const count = async () => {
    for (; order.length < 3; turns++) await setImmediate();
  };
  await Promise.all([count(), ...["a", "b", "c"].map((name) => ownTurn().then(() => order.push(`${name} ${turns}`)))]);
  expect(order.map((entry) => entry[0])).toEqual(["a", "b", "c"]);
  expect(new Set(order.map((entry) => entry.slice(2))).size).toBe(3);
});

describe("what is thrown", () => {
  function* failing(): Generator<void, never, void> {
    yield;
    throw new RangeError("no");
  }
  test("rejects, and does not hold up the next", async () => {
    const [failed, fine] = await Promise.allSettled([inTurns(failing()), inTurns(work(2))]);
    expect(failed).toMatchObject({ status: "rejected", reason: new RangeError("no") });
    expect(fine).toMatchObject({ value: 2 });
  });
  test("is thrown at once", () => {
    expect(() => atOnce(failing())).toThrow(RangeError);
    expect(atOnce(work(3))).toBe(3);
  });
});
