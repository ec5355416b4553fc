import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { JobLog, type LogRead } from "./job-log.ts";
import { createJobs, type Job, type Jobs, throughJobs, visible } from "./jobs.ts";
import type { RunContext } from "./run.ts";

interface Input {
  readonly n?: number;
  readonly ms?: number;
  readonly prompt?: string;
}
type Event = { type: string; n?: number; position?: number };

async function* count({ n = 3, ms = 5 }: Input, { signal }: RunContext): AsyncGenerator<Event> {
  for (let i = 1; i <= n; i++) {
    await sleep(ms, undefined, { signal });
    yield { type: "item", n: i };
  }
  yield { type: "result" };
}

/** A run that takes so long. */
async function* lasting({ ms = 0 }: Input, { signal }: RunContext): AsyncGenerator<Event> {
  await sleep(ms, undefined, { signal });
  yield { type: "result" };
}

const queuedEvent = (position: number): Event => ({ type: "queued", position });

/** Everything a reader is given, to its end, as text. */
async function all(reader: { next(ms: number): Promise<LogRead<Event>> }): Promise<string[]> {
  const out: string[] = [];
  for (;;) {
    const read = await reader.next(5_000);
    if (typeof read === "string") return [...out, read];
    const told = "error" in read ? (read.error as Error).name : `${read.event.type}${read.event.n ?? ""}`;
    out.push(`${read.id} ${told}`);
  }
}

const state = (jobs: Jobs<Input, Event>, id: string) => jobs.find(id).state;

describe("admission", () => {
  it("runs so many at once, tells the others their place, and refuses when enough wait", async () => {
    const jobs = createJobs(count, { concurrency: 1, maxQueued: 2, queuedEvent });
    const [a, b, c] = ["a", "b", "c"].map((id) => jobs.submit({}, { id, detached: true }));
    expect([a!.state, b!.state, c!.state]).toEqual(["running", "queued", "queued"]);
    expect(c!.position).toBe(1);
    expect(() => jobs.submit({})).toThrow(
      expect.objectContaining({ code: "queue-full", status: 503, retryAfter: expect.any(Number) }),
    );
    await Promise.all([a!.ended, b!.ended, c!.ended]);
    const places = c!.log.entries.flatMap((entry) => ("event" in entry ? (entry.event.position ?? []) : []));
    expect(places).toEqual([1, 0]);
    expect(jobs.counts()).toMatchObject({ completed: 3, running: 0, queued: 0 });
    expect(b!.startedAt).toBeGreaterThanOrEqual(a!.endedAt!);
  });

  it("tells those that wait how long it will be, once it knows its pace", async () => {
    const seconds: (number | undefined)[] = [];
    const jobs = createJobs(lasting, {
      concurrency: 1,
      costOf: ({ ms = 0 }) => ms / 100,
      queuedEvent: (position, wait) => {
        seconds.push(wait);
        return queuedEvent(position);
      },
    });
    const [first, second] = [
      jobs.submit({ ms: 100 }, { detached: true }),
      jobs.submit({ ms: 100 }, { detached: true }),
    ];
    expect(seconds).toEqual([undefined]);
    await Promise.all([first.ended, second.ended]);
    await sleep(1);
    const more = [3000, 100, 100].map((ms) => jobs.submit({ ms }, { detached: true }));
    // Half of the long one, and for the last the short one too.
    const [next, last] = seconds.slice(1);
    expect(next).toBeGreaterThanOrEqual(2);
    expect(next).toBeLessThan(10);
    expect(last).toBeGreaterThanOrEqual(next!);
    for (const job of more) job.cancel();
  });

  it("refuses at once a job whose turn would come after its deadline", async () => {
    const jobs = createJobs(lasting, { concurrency: 1, costOf: ({ ms = 0 }) => ms / 100 });
    await jobs.submit({ ms: 100 }, { detached: true }).ended;
    await sleep(1);
    const running = jobs.submit({ ms: 20_000 }, { detached: true });
    const waiting = jobs.submit({ ms: 20_000 }, { detached: true, deadlineMs: 60_000 });
    const message = expect.stringMatching(/after its deadline of 5 s/);
    expect(() => jobs.submit({ ms: 100 }, { deadlineMs: 5_000 })).toThrow(
      expect.objectContaining({ code: "queue-full", status: 503, message, retryAfter: expect.any(Number) }),
    );
    expect(jobs.submit({ ms: 100 }, { deadlineMs: 60_000 }).state).toBe("queued");
    for (const job of [running, waiting]) job.cancel();
  });

  it("tells a run for whom it is and how urgent; some places are for realtime jobs alone", async () => {
    const contexts: [string | undefined, string | undefined][] = [];
    const jobs = createJobs(
      async function* (_: Input, { client, priority, signal }: RunContext): AsyncGenerator<Event> {
        contexts.push([client, priority]);
        yield { type: "item" };
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
      { concurrency: 1, reserved: 1 },
    );
    const all = [
      jobs.submit({}, { client: "a" }),
      jobs.submit({}, { client: "b", detached: true }),
      jobs.submit({}, { client: "c", priority: "realtime" }),
      jobs.submit({}, { client: "d", priority: "realtime" }),
    ];
    expect(all.map(({ state }) => state)).toEqual(["running", "queued", "running", "queued"]);
    all[0]!.cancel();
    await all[0]!.ended;
    await sleep(10);
    expect(contexts).toEqual([
      ["a", "stream"],
      ["c", "realtime"],
      ["d", "realtime"],
    ]);
    for (const job of all) job.cancel();
  });

  it("refuses inputs that are too large together, however few they are", async () => {
    const jobs = createJobs(count, { concurrency: 1, maxQueuedBytes: 100_000 });
    const large = { prompt: "x".repeat(40_000) };
    jobs.submit(large, { detached: true });
    const alone = jobs.submit(large, { detached: true });
    expect(() => jobs.submit(large)).toThrow(expect.objectContaining({ code: "queue-full", status: 503 }));
    jobs.submit({}, { detached: true });
    await alone.ended;
    expect(jobs.bytes).toBeGreaterThan(160_000);
  });

  it("takes no more while it drains, and lets what it has finish", async () => {
    const jobs = createJobs(count, { concurrency: 1 });
    const [running, waiting] = [jobs.submit({}, { detached: true }), jobs.submit({}, { detached: true })];
    const drained = jobs.drain();
    expect(() => jobs.submit({})).toThrow(expect.objectContaining({ code: "draining", status: 503, retryAfter: 5 }));
    await drained;
    expect([running.state, waiting.state]).toEqual(["completed", "completed"]);
  });

  it("hands back what is left when the time to drain is over, and does not wait for a run that hangs", async () => {
    const jobs = createJobs<Input, Event>(
      async function* () {
        await new Promise(() => {});
      },
      { concurrency: 1 },
    );
    const [hanging, waiting] = [jobs.submit({}, { detached: true }), jobs.submit({}, { detached: true })];
    await jobs.drain(50);
    for (const job of [hanging, waiting]) {
      expect(job.state).toBe("failed");
      expect(job.error).toMatchObject({ code: "draining", status: 503, retryAfter: 5 });
    }
  });

  it("starts anew when the job of an idempotency key has failed or was cancelled", async () => {
    const jobs = createJobs(count);
    const key = { idempotencyKey: "k", detached: true };
    const first = jobs.submit({}, key);
    first.cancel();
    const second = jobs.submit({}, key);
    expect(second).not.toBe(first);
    await second.ended;
    expect(jobs.submit({}, key)).toBe(second);
  });

  it("joins the job of the same idempotency key, refuses another input under it", async () => {
    const jobs = createJobs(count);
    const key = { idempotencyKey: "k", detached: true };
    const first = jobs.submit({ prompt: "x", n: 2 }, { ...key, owner: "me" });
    expect(jobs.submit({ n: 2, prompt: "x" }, { ...key, owner: "me" })).toBe(first);
    expect(() => jobs.submit({ prompt: "y" }, { ...key, owner: "me" })).toThrow(
      expect.objectContaining({ code: "key-reused", status: 422 }),
    );
    expect(jobs.submit({ prompt: "y" }, { ...key, owner: "you" })).not.toBe(first);
    await first.ended;
    expect(await all(jobs.submit({ prompt: "x", n: 2 }, { ...key, owner: "me" }).watch())).toEqual([
      "1 item1",
      "2 item2",
      "3 result",
      "ended",
    ]);
  });

  it("joins the job of the same id while it has not ended, and refuses another input under it", async () => {
    const jobs = createJobs(count);
    const job = jobs.submit({ n: 1 }, { id: "a", owner: "me", detached: true });
    expect(jobs.submit({ n: 1 }, { id: "a", owner: "me" })).toBe(job);
    expect(() => jobs.submit({ n: 2 }, { id: "a", owner: "me" })).toThrow(
      expect.objectContaining({ code: "id-in-use" }),
    );
    await job.ended;
    expect(jobs.submit({ n: 1 }, { id: "a", owner: "me", detached: true })).not.toBe(job);
  });
});

describe("a job that was left unread", () => {
  it("is taken up by its client's next submission of the same input, and by no other", async () => {
    const jobs = createJobs(count, { concurrency: 1, graceMs: 200 });
    const blocker = jobs.submit({ n: 1_000 }, { detached: true });
    const mine = { owner: "me", client: "c", takesUp: true };
    const left = jobs.submit({ n: 1 }, mine);
    // Nobody has left it yet.
    expect(jobs.submit({ n: 1 }, { ...mine, detached: true })).not.toBe(left);
    left.watch().close();
    for (const other of [{ owner: "you" }, { client: "d" }, { takesUp: false }]) {
      expect(jobs.submit({ n: 1 }, { ...mine, ...other, detached: true })).not.toBe(left);
    }
    expect(jobs.submit({ n: 2 }, { ...mine, detached: true })).not.toBe(left);
    expect(jobs.submit({ n: 1 }, mine)).toBe(left);
    const reader = left.watch();
    expect(jobs.submit({ n: 1 }, { ...mine, detached: true })).not.toBe(left);
    blocker.cancel();
    await reader.next(2_000);
    reader.close();
    // Something of it was read: its client knows its id.
    expect(jobs.submit({ n: 1 }, { ...mine, detached: true })).not.toBe(left);
    for (const job of jobs.list()) job.cancel();
  });
});

describe("owners", () => {
  it("have ids and idempotency keys of their own, and know nothing of each other's", async () => {
    const jobs = createJobs(count, { retentionMs: 40 });
    const mine = jobs.submit({ n: 1 }, { id: "a", owner: "me", idempotencyKey: "b c", detached: true });
    const yours = jobs.submit({ n: 2 }, { id: "a", owner: "you", idempotencyKey: "b c", detached: true });
    const other = jobs.submit({ n: 1 }, { id: "a b", owner: "me b", idempotencyKey: "c", detached: true });
    expect(new Set([mine, yours, other]).size).toBe(3);
    expect(jobs.find("a", { owner: "me" })).toBe(mine);
    expect(jobs.find("a", { owner: "you" })).toBe(yours);
    expect(() => jobs.find("a", { owner: undefined })).toThrow(expect.objectContaining({ code: "not-found" }));
    await Promise.all([mine.ended, yours.ended, other.ended]);
    await sleep(100);
    // The owner is told that there was one; for everybody else there never was.
    expect(() => jobs.find("a", { owner: "me" })).toThrow(expect.objectContaining({ code: "log-gone" }));
    expect(() => jobs.find("a", { owner: "they" })).toThrow(expect.objectContaining({ code: "not-found" }));
    expect(() => jobs.find("a b", { owner: "me" })).toThrow(expect.objectContaining({ code: "not-found" }));
    const nobodys = jobs.submit({}, { id: "n", detached: true });
    expect(jobs.find("n", { owner: "me" })).toBe(nobodys);
    expect(jobs.find("n")).toBe(nobodys);
  });
});

describe("clients", () => {
  const submitted = (jobs: Jobs<Input, Event>, client: string, many: number, input: Input = {}) =>
    Array.from({ length: many }, () => {
      try {
        return jobs.submit(input, { client, detached: true });
      } catch {
        return undefined;
      }
    });

  it("take turns, whoever came first with how many", async () => {
    const jobs = createJobs(count, { concurrency: 1, queuedEvent });
    const order: string[] = [];
    jobs.observe((job, change) => {
      if (change === "started") order.push(job.client ?? "");
    });
    const as = submitted(jobs, "a", 6, { n: 1, ms: 2 });
    const bs = submitted(jobs, "b", 2, { n: 1, ms: 2 });
    const [c] = submitted(jobs, "c", 1, { n: 1, ms: 2 });
    // One of a runs; one of a, one of b are before it.
    expect(c?.position).toBe(2);
    await Promise.all([...as, ...bs, c].map((job) => job?.ended));
    expect(order.join("")).toBe("aabcabaaa");
    expect(await all(c!.watch())).toContain("2 queued");
  });

  it("never fill the line: as much as one has is left free for others", () => {
    const jobs = createJobs(count, { concurrency: 1, maxQueued: 20 });
    const taken = (client: string, many: number) => submitted(jobs, client, many, { n: 100 }).filter(Boolean).length;
    // One of them runs.
    expect(taken("a", 50)).toBe(12);
    expect(taken("b", 50)).toBe(5);
    expect(taken("c", 50)).toBe(3);
    expect(taken("d", 50)).toBe(1);
    for (const job of jobs.list()) job.cancel();
  });

  it("share the bytes of what waits in the same way", () => {
    const jobs = createJobs<{ data: Uint8Array }, Event>(
      async function* (_, { signal }) {
        await sleep(5_000, undefined, { signal }).catch(() => {});
      },
      { concurrency: 1, maxQueued: 1000, maxQueuedBytes: 100_000 },
    );
    const take = (client: string, bytes: number) => {
      try {
        return jobs.submit({ data: new Uint8Array(bytes) }, { client, detached: true });
      } catch {
        return undefined;
      }
    };
    take("a", 1);
    const waiting = Array.from({ length: 20 }, () => take("a", 9_000)).filter(Boolean);
    expect(waiting.length).toBe(5);
    expect(take("b", 40_000)).toBeDefined();
    expect(take("b", 4_000)).toBeUndefined();
    for (const job of jobs.list()) job.cancel();
  });

  it("lose their own ended jobs first when too many are held", async () => {
    const jobs = createJobs(count, { retainedJobs: 6 });
    const [rare] = submitted(jobs, "b", 1, { n: 1, ms: 1 });
    await rare?.ended;
    for (const job of submitted(jobs, "a", 12, { n: 1, ms: 1 })) await job?.ended;
    expect(jobs.get(rare!.id)).toBe(rare);
    expect(jobs.list().length).toBe(6);
  });
});

it("whatever a listener throws, jobs go on", async () => {
  const errors: unknown[] = [];
  const jobs = createJobs(count, { onError: (error) => errors.push(error) });
  jobs.observe(() => {
    throw new Error("listener");
  });
  const job = jobs.submit({}, { detached: true });
  await job.ended;
  expect(job.state).toBe("completed");
  expect(errors.length).toBeGreaterThan(3);
});

describe("the end of a job", () => {
  it("comes before its next step when it is cancelled, waiting or running", async () => {
    const jobs = createJobs(count, { concurrency: 1 });
    const running = jobs.submit({ n: 1000 }, { detached: true });
    const waiting = jobs.submit({}, { detached: true });
    expect(waiting.cancel()).toBe(true);
    await sleep(20);
    const said = running.log.lastId;
    expect(running.cancel()).toBe(true);
    expect([running.state, waiting.state, running.cancel()]).toEqual(["cancelled", "cancelled", false]);
    await sleep(30);
    expect(running.log.lastId).toBe(said + 1);
    expect((await all(running.watch())).at(-2)).toContain("AbortError");
  });

  it("comes at its deadline, even of a run that never looks at its signal", async () => {
    let free = () => {};
    const jobs = createJobs(
      async function* (): AsyncGenerator<Event> {
        await new Promise<void>((resolve) => {
          free = resolve;
        });
      },
      { concurrency: 1 },
    );
    const job = jobs.submit({}, { deadlineMs: 30, detached: true });
    await job.ended;
    expect([job.state, (job.error as Error).name]).toEqual(["failed", "TimeoutError"]);
    // The device is not free before the run has returned.
    const next = jobs.submit({}, { detached: true });
    await sleep(20);
    expect(next.state).toBe("queued");
    free();
    await sleep(10);
    expect(next.state).toBe("running");
    free();
  });

  it("comes when the last watcher leaves, after the grace in which one may come back", async () => {
    const jobs = createJobs(count, { graceMs: 60 });
    const job = jobs.submit({ n: 1000 }, { id: "a" });
    const [one, two] = [job.watch(), job.watch()];
    one.close();
    await sleep(90);
    expect(job.state).toBe("running");
    two.close();
    await sleep(20);
    const back = job.watch();
    await sleep(90);
    expect(job.state).toBe("running");
    back.close();
    await job.ended;
    expect(job.state).toBe("cancelled");
  });

  it("is followed by its log until retention has passed, then by 410, and 404 for what never was", async () => {
    const jobs = createJobs(count, { retentionMs: 40 });
    const job = jobs.submit({}, { id: "a", detached: true });
    await job.ended;
    expect(state(jobs, "a")).toBe("completed");
    await sleep(70);
    expect(() => jobs.find("a")).toThrow(expect.objectContaining({ status: 410 }));
    expect(() => jobs.find("b")).toThrow(expect.objectContaining({ status: 404 }));
    expect(jobs.bytes).toBe(0);
  });

  it("holds no more bytes of ended jobs than allowed, the newest longest", async () => {
    const jobs = createJobs<number, { type: string; bytes: Uint8Array }>(
      async function* () {
        yield { type: "result", bytes: new Uint8Array(1_000_000) };
      },
      { retainedBytes: 3_500_000 },
    );
    for (let n = 0; n < 6; n++) await jobs.submit(n, { id: `${n}`, detached: true }).ended;
    expect(jobs.list().map(({ id }) => id)).toEqual(["3", "4", "5"]);
    expect(jobs.bytes).toBeLessThan(3_500_000);
  });
});

describe("changes", () => {
  /** A run that yields the changes it is given until one says that it is the last. */
  async function* changing(_: Input, { updates }: RunContext): AsyncGenerator<Event & Input> {
    for await (const change of updates!) {
      yield { type: "item", ...change };
      if (change.n === 0) break;
    }
    await sleep(30);
    yield { type: "result" };
  }
  const said = (job: Job<Input, Event & Input>) =>
    job.log.entries.flatMap((entry) => ("event" in entry && entry.event.type === "item" ? [entry.event] : []));

  it("reach a run that reads them, laid over each other until it does; it takes no more when it has stopped", async () => {
    const jobs = createJobs(changing);
    const job = jobs.submit({}, { detached: true });
    await sleep(1);
    expect(job.update({ prompt: "a", n: 1 })).toBe(true);
    job.update({ prompt: "b" });
    await sleep(10);
    job.update({ n: 0 });
    await sleep(10);
    expect(said(job)).toEqual([
      { type: "item", prompt: "b", n: 1 },
      { type: "item", n: 0 },
    ]);
    expect(job.state).toBe("running");
    expect(() => job.update({ n: 2 })).toThrow(expect.objectContaining({ code: "not-updatable", status: 409 }));
    await job.ended;
    expect(job.update({ n: 2 })).toBe(false);
  });

  it("are refused by a run that does not read them", async () => {
    const job = createJobs(count).submit({}, { detached: true });
    await sleep(1);
    expect(() => job.update({ n: 5 })).toThrow(expect.objectContaining({ code: "not-updatable", status: 409 }));
    await job.ended;
    expect(job.log.lastId).toBe(4);
  });

  it("are laid over the input of a job that waits, whatever its run", async () => {
    const jobs = createJobs(count, { concurrency: 1 });
    const first = jobs.submit({ n: 2 }, { detached: true });
    const input = { n: 5, prompt: "x" };
    const options = { idempotencyKey: "k", detached: true };
    const waiting = jobs.submit(input, options);
    expect(waiting.update({ prompt: "y".repeat(1000) })).toBe(true);
    expect(waiting.update({ n: 1 })).toBe(true);
    expect(jobs.bytes).toBeGreaterThan(2000);
    expect([waiting.input, input]).toEqual([
      { n: 1, prompt: "y".repeat(1000) },
      { n: 5, prompt: "x" },
    ]);
    // The first input still names the job.
    expect(jobs.submit({ n: 5, prompt: "x" }, options)).toBe(waiting);
    await Promise.all([first.ended, waiting.ended]);
    expect(await all(waiting.watch())).toEqual(["1 item1", "2 result", "ended"]);
  });

  it("are refused where the input has no fields", () => {
    const jobs = createJobs<number, Event>(async function* () {}, { concurrency: 1 });
    jobs.submit(1, { detached: true });
    const waiting = jobs.submit(2, { detached: true });
    expect(() => waiting.update({ n: 1 })).toThrow(expect.objectContaining({ code: "not-updatable" }));
    expect(waiting.input).toBe(2);
  });
});

describe("previews", () => {
  /** A job, and whether its run was told that a preview is wanted. */
  function asked(detached: boolean) {
    let wants = () => true;
    const jobs = createJobs<Input, Event>(async function* (_, context) {
      wants = () => context.wants!("preview");
      await sleep(5_000, undefined, { signal: context.signal }).catch(() => {});
    });
    const job = jobs.submit({}, { detached, graceMs: 5_000 });
    return { job, wants: () => wants() };
  }

  it("of a detached job are wanted while somebody reads who takes them", async () => {
    const { job, wants } = asked(true);
    await sleep(1);
    expect(wants()).toBe(false);
    const without = job.watch({ wants: (slot) => slot !== "preview" });
    expect(wants()).toBe(false);
    const reader = job.watch();
    expect(wants()).toBe(true);
    reader.close();
    expect(wants()).toBe(false);
    without.close();
    job.cancel();
  });

  it("are wanted too while a client that took them is expected back", async () => {
    const { job, wants } = asked(false);
    await sleep(1);
    expect(wants()).toBe(true);
    job.watch({ wants: (slot) => slot !== "preview" }).close();
    expect(wants()).toBe(false);
    job.watch().close();
    expect(wants()).toBe(true);
    job.cancel();
  });

  it("are not handed to a reader that wants none, nor counted as lost to it", async () => {
    const log = new JobLog<Event>();
    const dropped: number[] = [];
    const reader = log.read(
      { wants: (slot) => slot !== "preview" },
      { dropped: (_slot: string, count: number) => dropped.push(count) },
    );
    for (let n = 1; n <= 3; n++) log.append({ type: "preview", n }, { slot: "preview" });
    log.append({ type: "result" });
    log.end();
    expect(await all(reader)).toEqual(["4 result", "ended"]);
    reader.close();
    expect(dropped).toEqual([]);
  });
});

describe("visible", () => {
  it.each([
    [undefined, undefined, true],
    [undefined, { owner: undefined }, true],
    [undefined, { owner: "me" }, true],
    ["me", undefined, true],
    ["me", { owner: "me" }, true],
    ["me", { owner: "you" }, false],
    ["me", { owner: undefined }, false],
    ["", { owner: undefined }, false],
  ])("a job of %o to %o: %s", (owner, viewer, answer) => {
    expect(visible({ owner }, viewer)).toBe(answer);
    const jobs = createJobs(count);
    const job = jobs.submit({ n: 1 }, { id: "a", owner, detached: true });
    expect(jobs.get("a", viewer) === job).toBe(answer);
  });
});

it.each([
  [
    "a generator",
    () =>
      (function* () {
        yield* [1, 2];
      })(),
  ],
  ["an array", () => [1, 2]],
  ["a promise of one", async () => [1, 2]],
  [
    "a ReadableStream",
    () =>
      new ReadableStream({
        start(c) {
          c.enqueue(1);
          c.enqueue(2);
          c.close();
        },
      }),
  ],
])("runs %s", async (_, make) => {
  const out: number[] = [];
  const run = throughJobs(createJobs<null, number>(make as () => Iterable<number>));
  for await (const event of run(null, { signal: new AbortController().signal, requestId: "x" })) out.push(event);
  expect(out).toEqual([1, 2]);
});

describe("the log", () => {
  const preview = (n: number) => ({ type: "preview", n, bytes: new Uint8Array(1000) });

  it("replays what was there in full, and skips superseded entries after that", async () => {
    const log = new JobLog<Event>();
    for (let n = 1; n <= 3; n++) log.append(preview(n), { slot: "preview" });
    const late = log.read();
    const early = log.read({ after: 3 });
    for (let n = 4; n <= 6; n++) log.append(preview(n), { slot: "preview" });
    log.append({ type: "result" }, { keep: true });
    log.end();
    expect(await all(late)).toEqual(["1 preview1", "2 preview2", "3 preview3", "6 preview6", "7 result", "ended"]);
    expect(await all(early)).toEqual(["6 preview6", "7 result", "ended"]);
  });

  it("is bounded: superseded previews go first, the result never", () => {
    const log = new JobLog<Event>({ bytes: 10_000 });
    log.append({ type: "result" }, { keep: true });
    for (let n = 1; n <= 1000; n++) {
      log.append(preview(n), { slot: "preview" });
      expect(log.bytes).toBeLessThanOrEqual(10_000);
    }
    expect(log.entries[0]).toMatchObject({ id: 1 });
    expect(log.entries.at(-1)).toMatchObject({ id: 1001 });
    // Nothing was lost that is not droppable, so any place is good to begin from.
    expect(log.gone(1)).toBeUndefined();
  });

  it("loses a reader that is behind what had to go, and refuses one that would begin there", async () => {
    const log = new JobLog<Event>({ bytes: 10_000 });
    log.runFree();
    const slow = log.read();
    const fast = log.read();
    for (let n = 1; n <= 100; n++) {
      log.append({ ...preview(n), type: "item" });
      await fast.next(0);
    }
    expect(await slow.next(0)).toBe("lost");
    expect(log.gone(5)).toMatchObject({ status: 410 });
    expect(log.gone(101)).toMatchObject({ status: 400 });
    expect(log.gone(99)).toBeUndefined();
    expect(log.bytes).toBeLessThanOrEqual(10_000);
  });

  it("tells each reader how many entries of a slot it was not given", async () => {
    const log = new JobLog<Event>({ bytes: 10_000 });
    const dropped = { early: 0, late: 0, left: 0 };
    const count = (who: keyof typeof dropped) => ({
      dropped: (slot: string, count: number) => {
        expect(slot).toBe("preview");
        dropped[who] += count;
      },
    });
    const early = log.read({}, count("early"));
    const left = log.read({}, count("left"));
    for (let n = 1; n <= 5; n++) log.append(preview(n), { slot: "preview" });
    await early.next(0);
    await left.next(0);
    left.close();
    // Beyond the bound: what nobody has seen goes before anybody is asked.
    for (let n = 6; n <= 40; n++) log.append(preview(n), { slot: "preview" });
    const late = log.read({ after: 35 }, count("late"));
    log.append({ type: "result" }, { keep: true });
    log.end();
    await all(early);
    await all(late);
    early.close();
    late.close();
    // The first was given 5 and 40, the last what the log still held, the one that left nothing after 5.
    expect(dropped).toEqual({ early: 38, late: 0, left: 4 });
  });

  it("holds the producer back by its fastest reader", async () => {
    const log = new JobLog<Event>({ ahead: 4 });
    log.read();
    const fast = log.read();
    for (let n = 1; n <= 4; n++) log.append({ type: "item", n });
    let room = false;
    const waits = log.room().then(() => {
      room = true;
    });
    await sleep(5);
    expect(room).toBe(false);
    await fast.next(0);
    await waits;
  });
});
