/** A supervised process that ends, stops, or hangs in each of its phases, under runs whose readers notice nothing. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { until } from "../../../test/gradient-run.ts";
import { faultOf } from "../../faults/fault.ts";
import { createJobs } from "../../jobs/jobs.ts";
import { DEADLINES, PhaseWatch, StepTimes } from "./phase-watch.ts";
import { type SupervisedHost, type SupervisorOptions, supervise } from "./supervise.ts";

// biome-ignore lint/suspicious/noExplicitAny: the module's run takes and gives anything
type Any = any;

const folder = mkdtempSync(join(tmpdir(), "daguerre-supervise-"));
afterAll(() => rmSync(folder, { recursive: true }));
const open: SupervisedHost<Any, Any>[] = [];
afterEach(() => Promise.all(open.splice(0).map((host) => host.close(0))));

let files = 0;
const newFile = () => join(folder, String(files++));

function supervised(options: Partial<SupervisorOptions> = {}): SupervisedHost<Any, Any> {
  const worker = new URL("../testing/scripted.mjs", import.meta.url);
  const deadlines = { load: 20_000, compile: 1_000, "first-step": 1_000, step: 1_000, encode: 1_000 };
  const host = supervise<Any, Any>({ worker, heartbeatMs: 1_500, deadlines, ...options });
  open.push(host);
  return host;
}

const context = () => ({ signal: new AbortController().signal, requestId: "x" });

async function all(events: AsyncIterable<Any>): Promise<Any[]> {
  const list: Any[] = [];
  for await (const event of events) list.push(event);
  return list;
}

const errorOf = (work: Promise<unknown>): Promise<Any> => work.then(() => undefined).catch((error) => error);

/** The events without what tells processes apart. */
const seen = (events: readonly Any[]) => events.map(({ pid, resumed, ...event }) => event);
const undisturbed = (id = 0, steps = 6) => {
  const events: object[] = [];
  let sum = id;
  for (let step = 1; step <= steps; step++) {
    sum = (sum * 31 + step) % 1_000_003;
    events.push({ step, sum, words: [] });
  }
  return [...events, { result: sum }];
};

const HOWS = ["exit", "SIGKILL", "SIGSEGV", "SIGSTOP", "blocks", "hang"] as const;
const PHASES = [["compile"], ["first-step"], ["step", 3], ["step", 6], ["encode"]] as const;
// Every way and every phase, not every pair of them.
const CASES = HOWS.map((how, index) => [how, ...PHASES[index % PHASES.length]!] as const);

it.each(CASES)("%s in phase %s: no event twice, none left out", async (how, phase, step?: number) => {
  const lost: Error[] = [];
  const host = supervised({ onLost: (error) => lost.push(error) });
  const script = { how, phase, step, file: newFile() };
  const events = await all(host.run({ script }, context()));
  expect(seen(events)).toEqual(undisturbed());
  expect(lost.length).toBe(1);
  const code = ["SIGSTOP", "blocks", "hang"].includes(how) ? "host-hung" : "host-lost";
  expect(faultOf(lost[0])).toMatchObject({ code });
  expect(host.unready).toBeUndefined();
  expect(host.stats).toMatchObject({ active: 0, ended: 1, failed: 0 });
});

it.each(["hang", "exit"])("%s as it loads: it is started again", async (how) => {
  const host = supervised({ env: { DAGUERRE_TEST_LOAD: `${how}:${newFile()}` }, deadlines: { load: 5_000 } });
  expect(seen(await all(host.run({}, context())))).toEqual(undisturbed());
  expect(host.stats).toMatchObject({ opened: 2, lost: 1 });
});

it("a module that cannot be loaded is an error of the start and of each run", async () => {
  const host = supervised({ name: "nowhere" });
  expect((await errorOf(host.start())).message).toMatch(/nowhere is not a function/);
  expect((await errorOf(all(host.run({}, context())))).message).toMatch(/nowhere is not a function/);
  expect(host.unready).toBeDefined();
});

it("a run goes on from its last checkpoint", async () => {
  const host = supervised();
  const script = { how: "SIGKILL", phase: "step", step: 6, file: newFile() };
  const events = await all(host.run({ script, checkpoints: true, steps: 8 }, context()));
  expect(seen(events)).toEqual(undisturbed(0, 8));
  expect(events.map(({ resumed }) => resumed)).toEqual([...Array(5).fill(false), true, true, true, undefined]);
});

it("a job that ends three processes fails alone; those beside it come to their ends", async () => {
  const host = supervised();
  const script = { how: "exit", phase: "step", step: 4, file: newFile(), times: 99 };
  const runs = [1, 2, 3].map((id) => errorAsValue(all(host.run({ id, steps: 10, ms: 20 }, context()))));
  const poison = errorOf(all(host.run({ script, ms: 20 }, context())));
  const error = await poison;
  expect(faultOf(error)).toMatchObject({ code: "host-lost", status: 503 });
  expect(error.message).toMatch(/^3 processes were lost while they computed this\. .*code 70/);
  for (const [index, events] of (await Promise.all(runs)).entries()) {
    expect(seen(events)).toEqual(undisturbed(index + 1, 10));
  }
  expect(host.stats).toMatchObject({ failed: 1, ended: 4 });
});

const errorAsValue = (work: Promise<Any[]>): Promise<Any[]> => work.catch((error) => [error]);

it("a spare takes over at once", async () => {
  const host = supervised({ spares: 1 });
  await host.start();
  await until(() => host.spares === 1, 20_000);
  const script = { how: "SIGKILL", phase: "step", step: 3, file: newFile() };
  const { pid } = host;
  const run = all(host.run({ script, ms: 30 }, context()));
  await until(() => host.pid !== pid, 10_000);
  expect(host.unready).toBeUndefined();
  const events = await run;
  expect(seen(events)).toEqual(undisturbed());
  expect(events.at(-1).pid).toBe(host.pid);
  await until(() => host.spares === 1, 20_000);
});

it("says that it is not ready while a process starts", async () => {
  const host = supervised();
  await host.start();
  expect(host.unready).toBeUndefined();
  process.kill(host.pid!, "SIGKILL");
  await until(() => host.unready !== undefined, 5_000);
  await until(() => host.unready === undefined, 10_000);
});

it("a run that waits for its reader, or for a slow step that was announced, is not late", async () => {
  const host = supervised({ deadlines: { step: 300, "first-step": 2_000, compile: 2_000, encode: 2_000 } });
  const list: Any[] = [];
  for await (const event of host.run({ steps: 3 }, context())) {
    list.push(event);
    await sleep(500);
  }
  expect(seen(list)).toEqual(undisturbed(0, 3));
  expect(host.stats.lost).toBe(0);
  const steps = new StepTimes();
  expect(steps.deadline(10_000)).toBe(10_000);
  for (const ms of [60_000, 59_000, 61_000, 1]) steps.add(ms);
  expect(steps.deadline(10_000)).toBe(20 * 60_000);
});

it("a step that hangs is found although its reader has left", async () => {
  const lost: Error[] = [];
  const host = supervised({ onLost: (error) => lost.push(error), graceMs: 60_000 });
  const script = { how: "hang", phase: "step", step: 3, file: newFile() };
  const events = host.run({ script, waits: true }, context())[Symbol.asyncIterator]();
  await events.next();
  await events.next();
  const leaving = events.return?.();
  await until(() => lost.length > 0, 10_000);
  expect(lost[0]?.message).toMatch(/its phase \(step\)/);
  await leaving;
});

it("changes that a run was given are given again, at the same event", async () => {
  const host = supervised();
  const jobs = createJobs(host.run);
  const script = { how: "exit", phase: "step", step: 7, file: newFile() };
  const job = jobs.submit({ script, steps: 9, ms: 40 }, { detached: true });
  const words = () =>
    job.log.entries.flatMap((entry) => ("event" in entry && entry.event.step ? [entry.event.words] : []));
  await until(() => words().length >= 3, 10_000);
  job.update({ word: "a" });
  await until(() => job.log.ended, 20_000);
  expect(words().length).toBe(9);
  expect(words()[2]).toEqual([]);
  // From some event on, and never again without it or with it twice.
  const from = words().findIndex((list) => list.length > 0);
  expect(from).toBeGreaterThan(2);
  for (const [index, list] of words().entries()) expect(list).toEqual(index < from ? [] : ["a"]);
});

it("a cancelled run is not computed again", async () => {
  const host = supervised();
  const stop = new AbortController();
  const events = host.run({ ms: 50, steps: 100 }, { ...context(), signal: stop.signal })[Symbol.asyncIterator]();
  await events.next();
  const next = errorOf(events.next());
  stop.abort();
  expect(await next).toMatchObject({ name: "AbortError" });
  expect(host.stats).toMatchObject({ active: 0, failed: 0, lost: 0 });
  const closing = errorOf(all(host.run({ ms: 50, steps: 100 }, context())));
  await sleep(100);
  await host.close();
  expect(faultOf(await closing)).toMatchObject({ code: "host-closed" });
});

describe("an error of the run itself", () => {
  it("is its own, and no reason to try again", async () => {
    const host = supervised({ worker: new URL("../testing/runs.mjs", import.meta.url), name: "fails" });
    expect(faultOf(await errorOf(all(host.run({ how: "own" }, context()))))).toMatchObject({ status: 409 });
    expect(host.stats).toMatchObject({ opened: 1, failed: 1 });
  });
});

describe("the watch over a phase", () => {
  const deadlines = { ...DEADLINES, "first-step": 200, step: 60, encode: 60 };
  const watching = () => {
    const late: string[] = [];
    const watch = new PhaseWatch(deadlines, new StepTimes(), (phase) => late.push(phase));
    return { late, watch };
  };

  it("ends while a run waits for others, and begins with its turn, whether its reader waits or not", async () => {
    const { late, watch } = watching();
    watch.enter("wait");
    watch.expect(true);
    await sleep(300);
    expect(late).toEqual([]);
    watch.expect(false);
    watch.enter("encode");
    await until(() => late.length > 0, 5_000);
    expect(late).toEqual(["encode"]);
    watch.end();
  });

  it("gives a step 20 times as long as the run's first one took", async () => {
    const { late, watch } = watching();
    watch.expect(true);
    watch.enter("first-step");
    await sleep(30);
    watch.enter("step");
    await sleep(300);
    expect(late).toEqual([]);
    await until(() => late.length > 0, 5_000);
    watch.end();
  });
});
