/** Pools of threads and processes: inputs over workers, in order or not, with workers that die. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { until } from "../../test/gradient-run.ts";
import { mapUnderFire } from "../../test/hosts/map-under-fire.ts";
import { sse } from "../../transports/stream/sse.ts";
import { faultOf } from "../faults/fault.ts";
import { createPool, type Pool, type PoolOptions } from "./pool.ts";

// biome-ignore lint/suspicious/noExplicitAny: the module's functions take and give anything
type Any = any;

const folder = mkdtempSync(join(tmpdir(), "daguerre-pool-"));
const worker = new URL("./testing/pooled.mjs", import.meta.url);
const open: Pool<Any, Any>[] = [];
afterEach(() => Promise.all(open.splice(0).map((pool) => pool.close(0))));
afterAll(() => rmSync(folder, { recursive: true }));

function poolOf(name: string, options: Partial<PoolOptions> = {}): Pool<Any, Any> {
  const pool = createPool<Any, Any>({ worker, name, size: 2, kind: "thread", ...options });
  open.push(pool);
  return pool;
}

async function all<T>(events: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const event of events) list.push(event);
  return list;
}

const range = (n: number) => [...Array(n).keys()];
const errorOf = (work: Promise<unknown>): Promise<Any> => work.then(() => undefined).catch((error) => error);

describe.each(["thread", "process"] as const)("a pool of kind %s", (kind) => {
  it("maps inputs to results, in their order", async () => {
    const pool = poolOf("square", { kind });
    const inputs = range(30).map((n) => ({ n, ms: n % 3 === 0 ? 8 : 0 }));
    expect(await all(pool.map(inputs))).toEqual(range(30).map((n) => n * n));
    expect(await pool.remote({ n: 9 })).toBe(81);
    expect(pool.stats).toMatchObject({ active: 0, waiting: 0, ended: 31, opened: 2, failed: 0, lost: 0 });
  });

  it.each([{ ordered: false }, { orderOutputs: false }])("or as they come: %o", async (options) => {
    const pool = poolOf("square", { kind });
    await pool.start();
    const inputs = [{ n: 1, ms: 300 }, { n: 2 }, { n: 3 }, { n: 4 }];
    const results = await all(pool.map(inputs, options));
    expect(results.at(-1)).toBe(1);
    expect(results.sort((left, right) => left - right)).toEqual([1, 4, 9, 16]);
  });

  it("spreads the items of an input over arguments", async () => {
    const pairs = range(5).map((n) => [n, "x"]);
    expect(await all(poolOf("add", { kind }).starmap(pairs))).toEqual(["0x", "1x", "2x", "3x", "4x"]);
  });

  it("ends with the first error, or returns errors in place of results", async () => {
    const pool = poolOf("refuses", { kind });
    const inputs = range(4).map((n) => ({ n }));
    const results: Any[] = [];
    const error = await errorOf(
      (async () => {
        for await (const result of pool.map(inputs)) results.push(result);
      })(),
    );
    expect(results).toEqual([[0]]);
    expect(faultOf(error)).toMatchObject({ status: 422, field: "n", message: "1 is odd" });
    const mixed = await all(pool.map<Any>(inputs, { returnExceptions: true }));
    expect(mixed.map((one) => one.message ?? one)).toEqual([[0], "1 is odd", [2], "3 is odd"]);
    expect(mixed[1]).toBeInstanceOf(Error);
  });

  it("serves generators that compute without pause, beside each other, without holding this thread", async () => {
    const pool = poolOf("sums", { kind });
    await pool.start();
    let turns = 0;
    const turning = setInterval(() => turns++, 5);
    const lists = await Promise.all(range(4).map(() => all(pool.remoteGen({ n: 4, ms: 25 }))));
    clearInterval(turning);
    expect(lists).toEqual(range(4).map(() => [1, 3, 6, 10]));
    expect(turns).toBeGreaterThan(10);
    expect(await pool.remote({ n: 4 })).toBe(10);
  });

  it("streams many inputs' events, all of one before the next, or as they come", async () => {
    const pool = poolOf("letters", { kind });
    await pool.start();
    const inputs = [{ text: "abc", ms: 150 }, { text: "de" }, { text: "f" }];
    const ordered = await all(pool.mapStream(inputs));
    expect(ordered.map(({ event }) => event).join("")).toBe("abcdef");
    expect(ordered.map(({ index }) => index)).toEqual([0, 0, 0, 1, 1, 2]);
    const mixed = await all(pool.mapStream(inputs, { ordered: false }));
    expect(mixed.at(-1)).toEqual({ index: 0, event: "c" });
    expect([0, 1, 2].map((one) => mixed.filter(({ index }) => index === one).map(({ event }) => event))).toEqual([
      ["a", "b", "c"],
      ["d", "e"],
      ["f"],
    ]);
  });

  it("replaces a worker that dies; its input is computed again, and no event comes twice", async () => {
    const pool = poolOf("dies", { kind });
    const events = await all(pool.remoteGen({ file: join(folder, kind), n: 8 }));
    expect(events.map(({ index }) => index)).toEqual(range(8));
    expect(events[2].place).not.toBe(events[3].place);
    expect(pool.stats).toMatchObject({ lost: 1, active: 0 });
    expect(await pool.remote({ file: join(folder, kind), n: 2 })).toMatchObject({ index: 1 });
  });

  it("gives an input up that has ended three workers, and serves the others", async () => {
    const pool = poolOf("square", { kind });
    const inputs = range(6).map((n) => ({ n, dies: n === 2 }));
    const results = await all(pool.map<Any>(inputs, { returnExceptions: true }));
    expect(results.filter((_, index) => index !== 2)).toEqual([0, 1, 9, 16, 25]);
    expect(faultOf(results[2])).toMatchObject({ code: "host-lost", status: 503 });
    expect(results[2].message).toMatch(/^3 (threads|processes) were lost while they computed this input\. .* code 3$/);
    const once = poolOf("square", { kind, retries: 0 });
    expect((await errorOf(once.remote({ n: 1, dies: true }))).message).toMatch(/^The (thread|process) .* code 3$/);
  });
});

it("a run that waits for a worker can be cancelled, and takes none", async () => {
  const pool = poolOf("where", { size: 1 });
  const first = pool.remote({ ms: 300 });
  const stop = new AbortController();
  const second = errorOf(pool.remote({}, { signal: stop.signal }));
  const third = pool.remote({});
  await sleep(20);
  expect(pool.stats).toMatchObject({ active: 1, waiting: 2 });
  stop.abort();
  expect(await second).toMatchObject({ name: "AbortError" });
  expect(await first).toBe(await third);
  await pool.close();
  expect(faultOf(await errorOf(pool.remote({})))).toMatchObject({ code: "host-closed" });
});

it("closing refuses runs that wait", async () => {
  const pool = poolOf("where", { size: 1 });
  const runs = [pool.remote({ ms: 5_000 }), pool.remote({})].map(errorOf);
  await sleep(100);
  await pool.close(50);
  for (const run of runs) expect(faultOf(await run)).toMatchObject({ code: "host-closed" });
});

it("a reader that leaves a map stops its inputs and its workers", async () => {
  const pool = poolOf("square");
  let taken = 0;
  function* inputs() {
    for (;;) yield { n: taken++, ms: 5 };
  }
  for await (const result of pool.map<number>(inputs())) if (result >= 100) break;
  expect(taken).toBeLessThan(20);
  await until(() => pool.stats.active + pool.stats.waiting === 0, 5_000);
});

it("a response streams straight from a pool", async () => {
  const pool = poolOf("letters");
  const app = new Hono();
  app.post("/one", sse(pool.run, { contentType: "text/plain" }));
  app.post("/many", (c) => sse(pool.mapStream([{ text: "ab" }, { text: "c" }]))(c));
  const post = async (path: string) => (await app.request(path, { method: "POST", body: '{"text":"xyz"}' })).text();
  expect(await post("/one")).toBe("xyz");
  const events = [...(await post("/many")).matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
  expect(events.map(({ index, event }) => `${index}${event}`)).toEqual(["0a", "0b", "1c"]);
});

it.each([0, -1, 1.5, Number.NaN])("a size of %s is refused", (size) => {
  expect(() => poolOf("add", { size })).toThrow(RangeError);
});

it("1,000 inputs over 4 workers, one killed after each 100: all results, in order, no growth (a tenth of `soak pools`)", {
  timeout: 120_000,
}, async () => {
  const { results, inOrder, kills, growthBytes } = await mapUnderFire({
    inputs: 1_000,
    every: { results: 100 },
    seed: 1,
  });
  expect([results, inOrder]).toEqual([1_000, true]);
  expect(kills).toBe(10);
  expect(growthBytes).toBeLessThan(30e6);
});
