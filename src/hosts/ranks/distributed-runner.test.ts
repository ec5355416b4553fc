/** Groups of ranks in threads and in processes. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import sharp from "sharp";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../../test/gradient-run.ts";
import { sse } from "../../../transports/stream/sse.ts";
import { faultOf } from "../../faults/fault.ts";
import { PROCESS_MAIN } from "../mains.ts";
import { DistributedRunner, type DistributedRunnerOptions } from "./distributed-runner.ts";

// biome-ignore lint/suspicious/noExplicitAny: the worker's calls take and give anything
type Any = any;

process.env.DAGUERRE_BUILT_HOSTS = new URL("index.js", PROCESS_MAIN).href;
const worker = new URL("../testing/ranks.mjs", import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "daguerre-ranks-"));
afterAll(() => rmSync(folder, { recursive: true }));

const open: DistributedRunner<Any, Any, Any>[] = [];

async function started(options: DistributedRunnerOptions, setup?: unknown) {
  const runner = new DistributedRunner<Any, Any, Any>(worker, options);
  open.push(runner);
  await runner.start(setup);
  return runner;
}

async function all<T>(events: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const event of events) list.push(event);
  return list;
}

const errorOf = (work: Promise<unknown>): Promise<Any> => work.then(() => undefined).catch((error) => error);
const range = (n: number) => [...Array(n).keys()];

describe.each(["threads", "processes"] as const)("ranks in %s", (ranks) => {
  let group: DistributedRunner<Any, Any, Any>;
  beforeAll(async () => {
    const devices = [{ name: "first" }, { name: "second" }];
    group = new DistributedRunner(worker, { worldSize: 3, ranks, devices, graceMs: 2_000 });
    await group.start({ start: 5 });
  });
  afterAll(() => group.stop());
  afterEach(() => Promise.all(open.splice(0).map((runner) => runner.terminate())));

  it("know their rank, the size of their world, their device, and the fields of `start`", async () => {
    expect(group.isAlive()).toBe(true);
    expect(await group.invoke({ does: "facts" })).toMatchObject({
      rank: 0,
      worldSize: 3,
      device: { name: "first" },
      start: 5,
    });
    expect(group.pids.every((pid) => (pid === undefined) === (ranks === "threads"))).toBe(true);
    await expect(group.start()).rejects.toThrow("run already");
  });

  it.each([0, 2])("meet in every collective, with rank %s as the root", async (from) => {
    const results = await group.invoke({ does: "collectives", from });
    expect(results.map((one: Any) => one.gathered)).toEqual(
      range(3).map((r) => (r === from ? ["r0", "r1", "r2"] : undefined)),
    );
    for (const [rank, one] of results.entries()) {
      expect(one).toMatchObject({ parts: [0, 1, 2], told: { word: "from", from }, share: rank * 10, mean: 1, max: 2 });
      const tenth = Math.fround(0.1);
      expect([...one.sum]).toEqual([3, Math.fround(Math.fround(tenth + tenth) + tenth)]);
    }
  });

  it("stream results as they are added, and then what the call returns", async () => {
    const events = await all(group.stream({ does: "steps", id: 7 }));
    expect(events.map((event) => event.step)).toEqual([0, 1, 2, undefined]);
    expect(events[1].parts).toEqual(range(3).map((rank) => ({ id: 7, step: 1, rank })));
    expect(events.at(-1)).toEqual({ id: 7 });
    expect(await group.invoke({ does: "steps", id: 8 })).toEqual({ id: 8 });
  });

  it("four calls at once do not disturb each other's collectives", async () => {
    const calls = range(4).map((id) => all(group.stream({ does: "steps", id, n: 12, ms: id % 2 })));
    for (const [id, events] of (await Promise.all(calls)).entries()) {
      expect(events.at(-1)).toEqual({ id });
      for (const { step, parts } of events.slice(0, -1)) {
        expect(parts).toEqual(range(3).map((rank) => ({ id, step, rank })));
      }
    }
  });

  it("wait for a slow reader, and end with one that leaves", async () => {
    const before = await group.invoke({ does: "counts" });
    const events = group.stream({ does: "endless" });
    await events.next();
    await sleep(200);
    // One was read; the next is on its way, and the one after it waits.
    expect(await group.invoke({ does: "howMany" })).toBeLessThanOrEqual(2);
    await events.return();
    const after = await group.invoke({ does: "counts" });
    for (const [rank, { calls, ended, aborted }] of after.entries()) {
      expect([ended - before[rank].ended, aborted]).toEqual([3, before[rank].aborted + 1]);
      expect(ended).toBe(calls - 1);
    }
  });

  it("end if the signal aborts", async () => {
    const stop = new AbortController();
    const events = group.stream({ does: "endless" }, { signal: stop.signal });
    await events.next();
    const rest = errorOf(all(events));
    stop.abort();
    expect(await rest).toMatchObject({ name: "AbortError" });
    const counts = await group.invoke({ does: "counts" });
    for (const { calls, ended } of counts) expect(ended).toBe(calls - 1);
  });

  it.each([
    [
      "mismatch",
      /^The ranks do not meet: rank \d waits in (gather of rank 0|barrier) \(ranks\.mjs:\d+\), but rank \d waits in (gather of rank 0|barrier) \(ranks\.mjs:\d+\)$/,
    ],
    [
      "otherRoot",
      /rank (\d) waits in broadcast of rank \1 \(ranks\.mjs:\d+\), but rank (\d) waits in broadcast of rank \2 \(/,
    ],
    ["leavesEarly", /rank \d waits in barrier \(ranks\.mjs:\d+\), but rank 1 has ended its call/],
  ])("that do not meet fail the call at once: %s", async (does, message) => {
    const began = performance.now();
    const error = await errorOf(group.invoke({ does }));
    expect(error.message).toMatch(message);
    expect(faultOf(error)).toMatchObject({ code: "rank-mismatch", status: 500 });
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(group.isAlive()).toBe(true);
    expect(await group.invoke({ does: "facts" })).toMatchObject({ rank: 0 });
  });

  it("that sum lists of different lengths say so", async () => {
    expect((await errorOf(group.invoke({ does: "unevenSums" }))).message).toMatch(
      /rank 0 has Float32Array of 1, rank 1 has Float32Array of 2/,
    );
  });

  it.each([0, 2])(
    "one that throws (rank %s) fails the call with its own fault, and the others are released",
    async (rank) => {
      const error = await errorOf(group.invoke({ does: "throws", rank }));
      expect(faultOf(error)).toEqual({ code: "http-422", status: 422, message: "too bright", field: "prompt" });
      const counts = await group.invoke({ does: "counts" });
      for (const { calls, ended } of counts) expect(ended).toBe(calls - 1);
    },
  );

  it.each(["barrier", "gather", "allGather", "broadcast", "scatter", "allReduce"])(
    "one that dies fails the others' %s within a second, and is replaced",
    { retry: 0 },
    async (collective) => {
      const rank = collective.length % 3;
      const began = performance.now();
      const error = await errorOf(group.invoke({ does: "dies", rank, collective }));
      expect(faultOf(error)).toMatchObject({ code: "host-lost", status: 503, retryAfter: 5 });
      expect(error.message).toMatch(
        new RegExp(`^Rank ${rank}: The .* code 9; rank \\d waits in ${collective}.*ranks.mjs:`),
      );
      expect(performance.now() - began).toBeLessThan(2_000);
      expect(await group.invoke({ does: "steps", id: 1, n: 1 })).toEqual({ id: 1 });
      expect(group.isAlive()).toBe(true);
    },
  );

  it("keep their deadlines: of a call, and between results", async () => {
    const whole = await errorOf(all(group.stream({ does: "endless" }, { timeout: 0.2 })));
    expect(faultOf(whole)).toMatchObject({ code: "timed-out", status: 504 });
    const results: unknown[] = [];
    const quiet = await errorOf(
      (async () => {
        for await (const one of group.stream({ does: "quiet", ms: 700 }, { streamingTimeout: 0.2 })) results.push(one);
      })(),
    );
    expect(results).toEqual(["first"]);
    expect(quiet.message).toMatch(/No result for 0.2 s/);
    // A reader that takes its time is not silence.
    let count = 0;
    for await (const _ of group.stream({ does: "steps", n: 2 }, { streamingTimeout: 0.5 })) {
      await sleep(600);
      if (++count === 2) break;
    }
  });

  it.each([
    [{}, "image/jpeg"],
    [{ imageFormat: "png" }, "image/png"],
    [{ imageFormat: "webp", asTextEvent: true }, "image/webp"],
  ])("pack pictures where they are drawn: %o", async (options, type) => {
    const [streamed, last] = await all(group.stream({ does: "picture", ...options, image_format: "png" }));
    for (const [one, kind] of [
      [streamed.deep[0].picture, type],
      [last, "image/png"],
    ] as const) {
      expect(one).toMatchObject({ width: 8, height: 8, content_type: kind });
      const { width, format } = await sharp(Buffer.from(one.url.split(",")[1], "base64")).metadata();
      expect([width, `image/${format}`]).toEqual([8, kind]);
    }
    const [raw] = await all(group.stream({ does: "picture", imageFormat: "raw" }));
    expect(raw.deep[0].picture.rgba.length).toBe(256);
  });

  it.each([true, false])("give ready text events (made by the rank: %s)", async (asTextEvent) => {
    const payload = { does: "picture", asTextEvent };
    const text = Buffer.concat(await all(group.stream(payload, { asTextEvents: true }))).toString();
    const [streamed, last] = [...text.matchAll(/^data: (.*)\n\n/gm)].map(([, data]) => JSON.parse(data!));
    expect(streamed.deep[0].picture.url).toMatch(/^data:image\/jpeg;base64,/);
    expect(last.width).toBe(8);
  });

  it("are served by a transport as they are", async () => {
    const app = new Hono().post("/stream", sse(group.stream, { headersWithinMs: 10_000 }));
    const answer = await app.request("/stream", {
      method: "POST",
      body: JSON.stringify({ does: "steps", id: 3, n: 2 }),
    });
    const events = [...(await answer.text()).matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
    expect(events.map(({ step, id }) => step ?? id)).toEqual([0, 1, 3]);
    const refused = await app.request("/stream", { method: "POST", body: JSON.stringify({ does: "throws", rank: 1 }) });
    expect(refused.status).toBe(422);
    expect(await refused.json()).toEqual({ detail: "too bright" });
  });

  it("that cannot be set up fail the start with their own fault, and none is left", async () => {
    const runner = new DistributedRunner(worker, { worldSize: 2, ranks });
    const error = await errorOf(runner.start({ failsOn: 1 }));
    expect(faultOf(error)).toMatchObject({ status: 404, message: "no such model" });
    expect(runner.isAlive()).toBe(false);
    await expect(runner.invoke({})).rejects.toMatchObject({ code: "host-closed" });
    await runner.start();
    expect(await runner.invoke({ does: "facts" })).toMatchObject({ worldSize: 2 });
    await runner.stop();
  });

  it("are torn down when the runner stops; calls under way fail, and it can be started again", async () => {
    const log = join(folder, ranks);
    const runner = await started({ worldSize: 2, ranks }, { log });
    const events = runner.stream({ does: "endless" });
    await events.next();
    const rest = errorOf(all(events));
    await runner.stop();
    expect(faultOf(await rest)).toMatchObject({ code: "host-closed", status: 503 });
    expect([0, 1].map((rank) => existsSync(`${log}-${rank}`))).toEqual([true, true]);
    expect(runner.isAlive()).toBe(false);
    await runner.start({ start: 9 });
    expect(await runner.invoke({ does: "facts" })).toMatchObject({ start: 9 });
  });

  it("are kept awake when nobody calls", async () => {
    const runner = await started({ worldSize: 2, ranks, keepAliveInterval: 0.05, keepAlivePayload: { does: "facts" } });
    await until(async () => {
      await sleep(200);
      return (await runner.invoke({ does: "counts" }))[1].calls > 2;
    }, 20_000);
  });
});

it("a rank in a process that is stopped fails its call by its silence", async () => {
  const runner = await started({ worldSize: 2, heartbeatMs: 2_000 });
  const error = await errorOf(runner.invoke({ does: "dies", rank: 1, collective: "barrier", stop: true }));
  expect(faultOf(error)).toMatchObject({ code: "host-hung", status: 503 });
  expect(error.message).toMatch(/^Rank 1: .*no sign of life.*; rank 0 waits in barrier/);
  expect(await runner.invoke({ does: "steps", id: 2, n: 1 })).toEqual({ id: 2 });
  await runner.terminate();
});

it.each([0, 1.5, -1])("a world of %s ranks is refused", (worldSize) => {
  expect(() => new DistributedRunner(worker, { worldSize })).toThrow(RangeError);
});
