import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { map } from "./map.ts";

async function taken<T>(results: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const result of results) out.push(result);
  return out;
}

const waits = [60, 10, 30, 5];
const wait = async (ms: number) => sleep(ms, ms);

it("gives results in the order of the inputs, or as they come", async () => {
  expect(await taken(map(waits, wait))).toEqual(waits);
  expect(await taken(map(waits, wait, { ordered: false }))).toEqual([5, 10, 30, 60]);
});

it("runs so many at once and no more, and takes inputs only as they are needed", async () => {
  let running = 0;
  let most = 0;
  let asked = 0;
  async function* inputs() {
    while (asked < 20) yield ++asked;
  }
  const results = map(
    inputs(),
    async (n) => {
      most = Math.max(most, ++running);
      await sleep(2);
      running--;
      return n;
    },
    { concurrency: 3 },
  );
  await results.next();
  await sleep(30);
  expect(asked).toBe(3);
  expect(await taken(results)).toHaveLength(19);
  expect(most).toBe(3);
});

it("ends with the first error and aborts what runs; closes its inputs when the consumer leaves", async () => {
  const signals: AbortSignal[] = [];
  const failing = map(
    waits,
    async (ms, index, signal) => {
      signals.push(signal);
      if (index === 1) throw new Error("no");
      await sleep(ms);
    },
    { ordered: false },
  );
  await expect(taken(failing)).rejects.toThrow("no");
  expect(signals[0]!.aborted).toBe(true);

  let closed = false;
  function* endless() {
    try {
      for (let n = 0; ; n++) yield n;
    } finally {
      closed = true;
    }
  }
  for await (const n of map(endless(), (n) => n)) if (n === 5) break;
  expect(closed).toBe(true);
});

it("stops at its signal, even while a call hangs", async () => {
  const stop = new AbortController();
  const results = map([1], () => new Promise<never>(() => {}), { signal: stop.signal });
  setTimeout(() => stop.abort(), 20);
  await expect(taken(results)).rejects.toMatchObject({ name: "AbortError" });
});
