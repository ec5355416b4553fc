/** The promises of `host.ts`, kept by every kind of host: the same tests, over the same module. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { until } from "../../test/gradient-run.ts";
import { faultOf } from "../faults/fault.ts";
import { createJobs } from "../jobs/jobs.ts";
import type { RunContext } from "../jobs/run.ts";
import { createHost, type HostOptions } from "./create-host.ts";
import type { Host, HostKind } from "./host.ts";

// biome-ignore lint/suspicious/noExplicitAny: the module's runs take and give anything
type Any = any;

const worker = new URL("./testing/runs.mjs", import.meta.url);
const open: Host<Any, Any>[] = [];
afterEach(() => Promise.all(open.splice(0).map((host) => host.close(0))));

function hostOf(kind: HostKind, name: string, options: Partial<HostOptions> = {}): Host<Any, Any> {
  const host = createHost<Any, Any>({ worker, kind, name, ...options });
  open.push(host);
  return host;
}

const context = (more: Partial<RunContext> = {}): RunContext => ({
  signal: new AbortController().signal,
  requestId: "x",
  ...more,
});

async function all(events: AsyncIterable<Any>): Promise<Any[]> {
  const list: Any[] = [];
  for await (const event of events) list.push(event);
  return list;
}

const begin = (host: Host<Any, Any>, input: unknown, more?: Partial<RunContext>) =>
  host.run(input, context(more))[Symbol.asyncIterator]();

const errorOf = (work: Promise<unknown>): Promise<Any> => work.then(() => undefined).catch((error) => error);

describe.each<HostKind>(["here", "thread", "process"])("a host of kind %s", (kind) => {
  it("gives events in their order, whatever the export gives", async () => {
    const host = hostOf(kind, "counts");
    expect(host.state).toBe("idle");
    expect((await all(host.run({ n: 200 }, context()))).map(({ index }) => index)).toEqual([...Array(200).keys()]);
    expect(host.state).toBe("ready");
    for (const name of ["lists", "streams"]) {
      expect(await all(hostOf(kind, name).run({ n: 3 }, context()))).toEqual([0, 1, 2]);
    }
    expect((await all(hostOf(kind, "blocks").run({ n: 3, ms: 5 }, context()))).length).toBe(3);
  });

  it("hands over the input, the id, and binary data that are used again at once", async () => {
    const caller = { requestId: "job-7", client: "somebody", priority: "realtime" } as const;
    const input = {
      prompt: "ü",
      seed: 2n ** 60n,
      when: new Date(5),
      mask: new Uint8Array(10_000).fill(3),
      none: undefined,
    };
    expect(await all(hostOf(kind, "echoes").run(input, context(caller)))).toEqual([{ input, ...caller }]);
    const events: number[][] = [];
    for await (const { rgba, floats } of hostOf(kind, "pixels").run({ n: 4, bytes: 300_000 }, context())) {
      events.push([rgba[0], rgba.at(-1), ...floats]);
    }
    expect(events).toEqual([0, 1, 2, 3].map((index) => [index, index, index, Number.NaN, -0]));
  });

  it.each([
    ["request", { code: "invalid-request", status: 422, field: "steps", issues: [{ path: ["steps"] }] }],
    ["job", { code: "queue-full", status: 503, retryAfter: 7 }],
    ["own", { code: "http-409", status: 409, message: "too bright" }],
    ["late", { code: "timed-out", status: 504 }],
    ["secret", { code: "internal", status: 500, message: "Internal error" }],
    ["nothing", { code: "internal" }],
  ])("passes on an error as the fault that it is: %s", async (how, fault) => {
    const host = hostOf(kind, "fails");
    for (const after of [0, 2]) {
      const events = begin(host, { how, after });
      for (let index = 0; index < after; index++) expect(await events.next()).toMatchObject({ value: index });
      expect(faultOf(await errorOf(events.next()))).toMatchObject(fault);
    }
    expect(host.stats).toMatchObject({ active: 0, ended: 2, failed: 2, lost: 0 });
  });

  it.each(["words", "nowhere"])(
    "an export that is no function is an error of the start and of each run: %s",
    async (name) => {
      const host = hostOf(kind, name);
      expect(await errorOf(host.start())).toMatchObject({ name: "TypeError" });
      expect(await errorOf(all(host.run({}, context())))).toMatchObject({
        message: `${name} is not a function of the module`,
      });
    },
  );

  it("makes events only if they are asked for", async () => {
    const host = hostOf(kind, "remembers");
    const events = begin(host, { ms: 0 });
    await events.next();
    await sleep(150);
    await events.return!();
    const [{ made, ended }] = await all(host.run({ ask: true }, context()));
    expect(ended).toBe(true);
    // One was read; the next one may be under way, or already here.
    expect(made).toBeLessThanOrEqual(kind === "process" ? 3 : 2);
  });

  it.each(["leaves", "aborts"])("a reader that %s ends the run before its next event", async (how) => {
    const host = hostOf(kind, "remembers");
    const stop = new AbortController();
    const events = begin(host, { ms: 20 }, { signal: stop.signal });
    for (let index = 0; index < 3; index++) await events.next();
    if (how === "aborts") {
      const next = errorOf(events.next());
      stop.abort(new DOMException("x", "AbortError"));
      expect(await next).toMatchObject({ name: "AbortError" });
    }
    await events.return!();
    expect(host.stats).toMatchObject({ active: 0, failed: 0 });
    const [{ made, ended }] = await all(host.run({ ask: true }, context()));
    expect(ended).toBe(true);
    expect(made).toBeLessThanOrEqual(5);
    expect(await errorOf(all(host.run({}, context({ signal: AbortSignal.abort() }))))).toMatchObject({
      name: "AbortError",
    });
  });

  it("several runs share it", async () => {
    const host = hostOf(kind, "counts");
    const lists = await Promise.all([5, 9, 1, 30].map((n) => all(host.run({ n, ms: 1 }, context()))));
    expect(lists.map((list) => list.length)).toEqual([5, 9, 1, 30]);
    expect(host.stats).toMatchObject({ active: 0, ended: 4, failed: 0, opened: 1 });
  });

  it("hands changes to a run that reads them", async () => {
    const jobs = createJobs(hostOf(kind, "reads").run);
    const job = jobs.submit({}, { detached: true });
    const mayChange = (change: Record<string, unknown>) =>
      errorOf((async () => job.update(change))()).then((error) => !error);
    await until(() => mayChange({ prompt: "a" }), 20_000);
    await until(() => job.log.entries.some((entry) => "event" in entry && entry.event.prompt === "a"), 20_000);
    expect(await mayChange({ prompt: "b", last: true })).toBe(true);
    await until(() => job.log.ended, 20_000);
    const prompts = job.log.entries.flatMap((entry) => ("event" in entry ? (entry.event.prompt ?? []) : []));
    expect(prompts).toEqual(["a", "b"]);
  });

  it("says whether previews are wanted, as it was when the event was asked for", async () => {
    let isWanted = true;
    const answers: boolean[] = [];
    for await (const answer of hostOf(kind, "wants", { window: 1 }).run({ n: 6 }, context({ wants: () => isWanted }))) {
      answers.push(answer);
      isWanted = !isWanted;
    }
    expect(answers).toEqual([true, false, true, false, true, false]);
  });

  it("closes: runs under way fail with a fault, later ones are refused", async () => {
    const host = hostOf(kind, "remembers");
    const events = begin(host, {});
    await events.next();
    const end = errorOf(all({ [Symbol.asyncIterator]: () => events }));
    await host.close();
    expect(faultOf(await end)).toMatchObject({ code: "host-closed", status: 503 });
    expect(host.state).toBe("closed");
    expect(faultOf(await errorOf(all(host.run({}, context()))))).toMatchObject({ code: "host-closed" });
    await host.close();
  });

  it("does not grow over 1,000 runs, half of them cancelled", { timeout: 120_000 }, async () => {
    const host = hostOf(kind, "counts");
    const signals = new AbortController();
    const runs = async (count: number) => {
      for (let index = 0; index < count; index++) {
        const events = begin(host, { n: 3 }, { signal: signals.signal });
        await events.next();
        if (index % 2 === 0) await events.return!();
        else await all({ [Symbol.asyncIterator]: () => events });
      }
      await sleep(20);
      return process.memoryUsage().heapUsed;
    };
    await runs(300);
    const before = await runs(100);
    const after = await runs(1_000);
    expect(host.stats).toMatchObject({ active: 0, ended: 1_400, failed: 0 });
    // Garbage that was not collected yet; a kilobyte each would be a megabyte, and rise with every thousand.
    expect(after - before).toBeLessThan(25e6);
    expect(host.stats.opened).toBe(1);
  });
});

describe.each<HostKind>(["thread", "process"])("a place of kind %s", (kind) => {
  it("that is lost fails its runs within 0.1 s, and the next run has another", async () => {
    const host = hostOf(kind, "exits");
    const error = await errorOf(all(host.run({ code: 7 }, context())));
    expect(faultOf(error)).toMatchObject({ code: "host-lost", status: 503, retryAfter: 5 });
    expect(error.message).toMatch(/ended with code 7/);
    expect(faultOf(await errorOf(all(host.run({ code: 8 }, context()))))).toMatchObject({ code: "host-lost" });
    expect(host.stats).toMatchObject({ opened: 2, lost: 2, failed: 2 });
  });

  it("whose run does not end in time is given up", async () => {
    const host = hostOf(kind, "hangs", { graceMs: 50 });
    const stop = new AbortController();
    const events = begin(host, {}, { signal: stop.signal });
    await events.next();
    const next = errorOf(events.next());
    const began = performance.now();
    stop.abort(new DOMException("x", "AbortError"));
    expect(await next).toMatchObject({ name: "AbortError" });
    expect(performance.now() - began).toBeLessThan(5_000);
    // A new place serves.
    expect((await begin(host, {}).next()).value).toBe(0);
    expect(host.stats.opened).toBe(2);
  });

  it("fails a run whose event cannot be copied, and serves on", async () => {
    const host = hostOf(kind, "odd");
    expect(faultOf(await errorOf(all(host.run({}, context()))))).toMatchObject({ code: "internal" });
    expect(await errorOf(all(host.run({ f: () => {} }, context())))).toBeDefined();
    expect(host.stats).toMatchObject({ opened: 1, lost: 0, active: 0 });
  });
});

describe("a process", () => {
  it.each(["SIGKILL", "SIGSEGV", "SIGTERM"] as const)("ended by %s: its runs know within 0.1 s", async (name) => {
    const host = hostOf("process", "counts");
    const events = begin(host, { n: 1_000, ms: 5 });
    await events.next();
    const failure = errorOf(all({ [Symbol.asyncIterator]: () => events }));
    const ended = failure.then(() => performance.now());
    const began = performance.now();
    process.kill(host.pid!, name);
    expect(faultOf(await failure)).toMatchObject({ code: "host-lost", status: 503 });
    // 0.1 s on a machine with nothing else to do.
    expect((await ended) - began).toBeLessThan(1_000);
    expect((await failure).message).toContain(name);
    expect(await all(host.run({ n: 1 }, context()))).toEqual([{ index: 0 }]);
  });

  it("that is stopped is found by its silence, and one that computes without pause is not", async () => {
    const host = hostOf("process", "blocks", { heartbeatMs: 1_500 });
    expect((await all(host.run({ n: 1, ms: 2_200 }, context()))).length).toBe(1);
    const events = begin(host, { n: 2, ms: 60_000 });
    const { pid } = host;
    process.kill(pid!, "SIGSTOP");
    const began = performance.now();
    const error = await errorOf(events.next());
    expect(faultOf(error)).toMatchObject({ code: "host-hung", status: 503 });
    expect(performance.now() - began).toBeLessThan(4_000);
    await until(() => !isAlive(pid!), 5_000);
  });

  it("leaves nobody behind: it ends with its parent, even in the middle of a computation", async () => {
    const program = `
      const { createHost } = await import(process.argv[1]);
      const host = createHost({ worker: process.argv[2], name: "blocks" });
      const events = host.run({ n: 2, ms: 60_000 }, { signal: new AbortController().signal, requestId: "x" })[Symbol.asyncIterator]();
      const next = events.next();
      await host.start();
      console.log(host.pid);
      await next;`;
    const { PROCESS_MAIN } = await import("./mains.ts");
    const { execFile } = await import("node:child_process");
    const built = new URL("index.js", PROCESS_MAIN).href;
    const parent = execFile(process.execPath, ["--input-type=module", "-e", program, built, worker.href]);
    let said = "";
    parent.stdout!.on("data", (text) => {
      said += text;
    });
    await until(() => /^\d+\n/.test(said), 30_000);
    parent.kill("SIGKILL");
    await until(() => !isAlive(Number(said)), 5_000);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
