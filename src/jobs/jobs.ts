/**
 * Jobs: runs that were admitted, from waiting in line to the end of their log's retention.
 *
 * A store wraps one run. `submit` admits an input or refuses it; what the run yields goes into the job's log
 * (`job-log.ts`), and whoever wants the events watches the job, as often and as late as the log allows. What the run is,
 * and how events reach a client, is not known here.
 *
 * A job stops early in three ways, each told to its run through the signal and to its watchers as the last entry at
 * once: it is cancelled (`AbortError`), it is past its deadline (`TimeoutError`), or its last watcher left and did not
 * come back within the grace period (`AbortError`), unless it was submitted detached. The place on the device is free
 * when the run itself has returned.
 *
 * Two names say whose a job is. Its *owner* says who may see it: ids and idempotency keys are an owner's own, and what
 * another has is as if it were not there. Its *client* says against whom it counts: clients take turns in the line, none
 * may fill it, and ended jobs of the client that holds the most are forgotten first.
 */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { Account } from "./account.ts";
import { JobError } from "./job-errors.ts";
import { bytesOf, createJobLog, type JobLog, type LogLimits, type LogReader, type ReaderOptions } from "./job-log.ts";
import type { AnyRun, Run } from "./run.ts";

export type JobState = "queued" | "running" | "completed" | "failed" | "cancelled";

export interface Job<Input, Event> {
  readonly id: string;
  /** Whose it is, as `submit` was told; undefined: nobody's in particular. */
  readonly owner: string | undefined;
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client: string | undefined;
  readonly input: Input;
  readonly state: JobState;
  /** Jobs ahead of it in the line; 0 once it runs. */
  readonly position: number;
  /** Milliseconds since the epoch; undefined until it has happened. */
  readonly submittedAt: number;
  readonly startedAt: number | undefined;
  readonly endedAt: number | undefined;
  /** What it failed with; undefined unless `failed` or `cancelled`. */
  readonly error: unknown;
  readonly detached: boolean;
  /** Everything it said, as long as it is held. */
  readonly log: JobLog<Event>;
  /** Settles at the end, whichever it is. Never rejects. */
  readonly ended: Promise<void>;
  /**
   * Follows the job from the beginning, or from after an event id. Close the reader when done: the last one to leave a
   * job that is not detached starts its grace period.
   * @throws JobError `log-gone`, `beyond-log`
   */
  watch(options?: Omit<ReaderOptions, "onDropped"> & { readonly graceMs?: number }): LogReader<Event>;
  /** Stops it before its next step; false when it has ended already. `reason` is what watchers are told. */
  cancel(reason?: unknown): boolean;
  /** Lays changes over the input from the run's next step on; false when it has ended. */
  update(change: Readonly<Record<string, unknown>>): boolean;
}

export interface SubmitOptions {
  /**
   * The job's id; left out: a fresh UUID, which nobody guesses. Where the owner has a job of this id that has not ended, the
   * same input gives that job; one that has ended gives its id up.
   */
  readonly id?: string;
  readonly owner?: string;
  readonly client?: string;
  /**
   * A second submission with the same key (and owner) gives the first one's job, as long as its log is held, unless that
   * failed or was cancelled.
   */
  readonly idempotencyKey?: string;
  /** Milliseconds from now until it is stopped with a `TimeoutError`; the store's own limit holds as well. */
  readonly deadlineMs?: number;
  /** It runs on when nobody watches. */
  readonly detached?: boolean;
  /** Milliseconds that the last watcher has to come back; overrides the store's. */
  readonly graceMs?: number;
  /** Aborting cancels the job, with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * What happens to a job, for metrics, logs and webhooks: `read` is told for each watcher that takes an event, `dropped`
 * for each that was not given some, because newer ones took their place or because it left.
 */
export type JobChange = "submitted" | "started" | "event" | "read" | "dropped" | "ended";
export type JobListener<Input, Event> = (
  job: Job<Input, Event>,
  change: JobChange,
  event?: Event,
  dropped?: { readonly slot: string; readonly count: number },
) => void;

/** Who asks for a job. */
export interface Viewer {
  readonly owner: string | undefined;
}

export interface Jobs<Input, Event> {
  /**
   * Admits an input: the job runs at once or waits in line.
   * @throws JobError `queue-full`, `draining`, `id-in-use`, `key-reused`
   */
  submit(input: Input, options?: SubmitOptions): Job<Input, Event>;
  /** The job that `viewer` knows by this id: its own, or one without an owner. Without a viewer: anybody's. */
  get(id: string, viewer?: Viewer): Job<Input, Event> | undefined;
  /** @throws JobError `not-found`, or `log-gone` for one that was there */
  find(id: string, viewer?: Viewer): Job<Input, Event>;
  /** Every job that is waiting, running, or still held after its end; oldest first. */
  list(): Job<Input, Event>[];
  /** Bytes held by all jobs: their inputs and their logs. */
  readonly bytes: number;
  /** Jobs in each state among those held. */
  counts(): Record<JobState, number>;
  /** Calls `listener` at each change, until the function it returns is called. */
  observe(listener: JobListener<Input, Event>): () => void;
  /**
   * Takes no more jobs and settles when none is left. After `graceMs` those left are handed back: they end with a
   * `JobError` `draining`, which tells their clients to ask again, and a run that does not stop is waited for no longer
   * than 2 s.
   */
  drain(graceMs?: number): Promise<void>;
}

export interface JobsOptions<Event> {
  /** Jobs that run at once. Default: any number. */
  readonly concurrency?: number;
  /** Jobs that may wait; of one client, no more than are left free for others. */
  readonly maxQueued?: number;
  /** Bytes of waiting jobs' inputs, at most, shared in the same way; a single input may be larger. */
  readonly maxQueuedBytes?: number;
  /** Milliseconds from submission until a job is stopped. Default: never. */
  readonly deadlineMs?: number;
  /** Milliseconds that the last watcher of a job has to come back before it is cancelled. */
  readonly graceMs?: number;
  /** Milliseconds for which an ended job's log is held. */
  readonly retentionMs?: number;
  /** Bytes of ended jobs, their inputs and logs, at most; the oldest go first. */
  readonly retainedBytes?: number;
  /** Ended jobs held, at most. */
  readonly retainedJobs?: number;
  readonly log?: Partial<LogLimits>;
  /** The slot of a droppable event; see `job-log.ts`. Default: by `type`, `queued`, `progress` and `preview`. */
  readonly slotOf?: (event: Event) => string | undefined;
  /** What waits and what is held is entered here. */
  readonly account?: Account;
  /** Told of what a listener has thrown. */
  readonly onError?: (error: unknown) => void;
  /** Makes the event that tells a job that has to wait its place in the line, and again when it changes. Default: none. */
  readonly queuedEvent?: (position: number) => Event;
}

export const JOB_DEFAULTS = {
  concurrency: Number.POSITIVE_INFINITY,
  maxQueued: 128,
  maxQueuedBytes: 256 * 2 ** 20,
  deadlineMs: Number.POSITIVE_INFINITY,
  graceMs: 0,
  retentionMs: 60_000,
  retainedBytes: 256 * 2 ** 20,
  retainedJobs: 1024,
};

/** Ids remembered after their logs are gone, so that a late visitor is told 410 and not 404. */
const REMEMBERED_IDS = 4096;
/** Seconds; what a refused client is told to wait, at least and at most. */
const RETRY_AFTER = { min: 1, max: 60 };
/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;
/** Milliseconds that a run has to return once it was handed back. */
const RETURN_MS = 2_000;
/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Which events a newer one of their kind makes worthless. */
export function slotOf(event: unknown): string | undefined {
  const type = (event as { type?: unknown } | null | undefined)?.type;
  return type === "progress" || type === "preview" || type === "queued" ? type : undefined;
}

/** The result stays in the log whatever its bound. */
function isResult(event: unknown): boolean {
  return (event as { type?: unknown } | null | undefined)?.type === "result";
}

/** A job as the store sees it. */
interface Held<Input, Event> {
  readonly job: Job<Input, Event>;
  readonly log: JobLog<Event>;
  readonly inputBytes: number;
  start(): Promise<void>;
  told: number | undefined;
  /** Its place in the line; see `Line`. */
  round: number;
  readonly idempotencyKey: string | undefined;
  expiry?: NodeJS.Timeout;
}

/** What one owner has. */
interface Space<Input, Event> {
  readonly jobs: Map<string, Held<Input, Event>>;
  readonly byKey: Map<string, Held<Input, Event>>;
  /** Ids of jobs whose logs are gone. */
  readonly past: Set<string>;
}

export function createJobs<Input, Event>(
  run: AnyRun<Input, Event>,
  options: JobsOptions<Event> = {},
): Jobs<Input, Event> {
  const limits = { ...JOB_DEFAULTS, ...withoutUndefined(options) };
  const slot = options.slotOf ?? slotOf;
  const { queuedEvent } = options;
  const held = new Set<Held<Input, Event>>();
  const spaces = new Map<string | undefined, Space<Input, Event>>();
  const line: Held<Input, Event>[] = [];
  /** The round that each client's last job in the line has, and the one of the job that was started last. */
  const rounds = new Map<string | undefined, number>();
  let round = 0;
  /** Jobs that have ended, by client, in the order in which they did. */
  const ended = new Map<string | undefined, { bytes: number; entries: Set<Held<Input, Event>> }>();
  /** Ids whose logs are gone, the oldest first. */
  const past: { readonly owner: string | undefined; readonly id: string }[] = [];
  const listeners = new Set<JobListener<Input, Event>>();
  let running = 0;
  let draining = false;
  let idle: (() => void) | undefined;
  /** A run's usual length in ms, as a moving average, to tell refused clients when to come back. */
  let usualMs = 1_000;

  const tell: JobListener<Input, Event> = (...change) => {
    for (const listener of listeners) {
      try {
        listener(...change);
      } catch (error) {
        // Whoever looks on must not stop a job, nor the process.
        options.onError?.(error);
      }
    }
  };

  options.account?.enter("waiting", () => {
    let sum = 0;
    for (const { job, inputBytes } of held) if (job.endedAt === undefined) sum += inputBytes;
    return sum;
  });
  options.account?.enter("logs", () => {
    let sum = 0;
    for (const { job, log, inputBytes } of held) sum += log.bytes + (job.endedAt === undefined ? 0 : inputBytes);
    return sum;
  });

  function spaceOf(owner: string | undefined): Space<Input, Event> {
    const space = spaces.get(owner) ?? { jobs: new Map(), byKey: new Map(), past: new Set() };
    spaces.set(owner, space);
    return space;
  }

  function tidy(owner: string | undefined): void {
    const { jobs, byKey, past } = spaceOf(owner);
    if (jobs.size + byKey.size + past.size === 0) spaces.delete(owner);
  }

  /**
   * The line is in rounds: each client has one job in each, and a client that comes begins with the round after the one
   * that runs (start-time fair queueing). So somebody with one job waits for one job of each other client, not for all.
   */
  function enqueue(entry: Held<Input, Event>): void {
    const { client } = entry.job;
    entry.round = client === undefined ? round : Math.max(rounds.get(client) ?? 0, round) + 1;
    if (client !== undefined) rounds.set(client, entry.round);
    let at = line.length;
    while (at > 0 && line[at - 1]!.round > entry.round) at--;
    line.splice(at, 0, entry);
  }

  function pump(): void {
    while (running < limits.concurrency) {
      const next = line.shift();
      if (next === undefined) break;
      round = Math.max(round, next.round);
      for (const [client, last] of rounds) if (last <= round) rounds.delete(client);
      running++;
      const begun = performance.now();
      void next.start().finally(() => {
        running--;
        usualMs += (performance.now() - begun - usualMs) / 4;
        pump();
      });
    }
    if (queuedEvent !== undefined) {
      for (const [position, waiting] of line.entries()) {
        if (waiting.told === position) continue;
        waiting.told = position;
        waiting.log.append(queuedEvent(position), { slot: "queued" });
      }
    }
    if (running === 0 && line.length === 0) idle?.();
  }

  function retryAfter(): number {
    const seconds = Math.ceil(((line.length + 1) * usualMs) / limits.concurrency / 1000);
    return Math.min(Math.max(seconds, RETRY_AFTER.min), RETRY_AFTER.max);
  }

  function checkRoom(client: string | undefined, inputBytes: number): void {
    if (running < limits.concurrency) return;
    const own = line.filter(({ job }) => client !== undefined && job.client === client);
    const bytes = (entries: readonly Held<Input, Event>[]) => entries.reduce((sum, one) => sum + one.inputBytes, 0);
    const freeBytes = limits.maxQueuedBytes - bytes(line);
    const full = line.length >= limits.maxQueued || (line.length > 0 && inputBytes > freeBytes);
    if (full)
      throw new JobError("queue-full", `${line.length} jobs are waiting already; try again later`, retryAfter());
    if (own.length === 0) return;
    if (own.length <= limits.maxQueued - line.length && bytes(own) + inputBytes <= freeBytes) return;
    const message = `${own.length} of your jobs are waiting already, which is your share; try again later`;
    throw new JobError("queue-full", message, retryAfter());
  }

  const stopping = () => new JobError("draining", "The server is restarting; ask again", RESTART_SECONDS);

  /** Forgets a job that has ended. */
  function forget(entry: Held<Input, Event>): void {
    clearTimeout(entry.expiry);
    const { id, owner, client } = entry.job;
    const others = ended.get(client);
    if (others?.entries.delete(entry)) {
      others.bytes -= entry.log.bytes + entry.inputBytes;
      if (others.entries.size === 0) ended.delete(client);
    }
    held.delete(entry);
    const space = spaceOf(owner);
    if (space.jobs.get(id) === entry) {
      space.jobs.delete(id);
      space.past.add(id);
      past.push({ owner, id });
      if (past.length > REMEMBERED_IDS) {
        const oldest = past.shift()!;
        spaceOf(oldest.owner).past.delete(oldest.id);
        tidy(oldest.owner);
      }
    }
    const { idempotencyKey: key } = entry;
    if (key !== undefined && space.byKey.get(key) === entry) space.byKey.delete(key);
    entry.log.clear();
    tidy(owner);
  }

  function retain(entry: Held<Input, Event>): void {
    entry.expiry = setTimeout(() => forget(entry), Math.min(limits.retentionMs, LONGEST_TIMER)).unref();
    const { client } = entry.job;
    const own = ended.get(client) ?? { bytes: 0, entries: new Set() };
    own.bytes += entry.log.bytes + entry.inputBytes;
    own.entries.add(entry);
    ended.set(client, own);
    for (;;) {
      let count = 0;
      let bytes = 0;
      for (const one of ended.values()) {
        count += one.entries.size;
        bytes += one.bytes;
      }
      const tooMany = count > limits.retainedJobs;
      if (!tooMany && bytes <= limits.retainedBytes) return;
      const weight = (one: { bytes: number; entries: ReadonlySet<unknown> }) =>
        tooMany ? one.entries.size : one.bytes;
      const [heaviest] = [...ended.values()].sort((one, other) => weight(other) - weight(one));
      const [oldest] = heaviest!.entries;
      // The last one stays, however large it is: somebody waits for it.
      if (oldest === undefined || (count === 1 && !tooMany)) return;
      forget(oldest);
    }
  }

  function admit(input: Input, inputBytes: number, given: SubmitOptions) {
    const { id = randomUUID(), owner, client, detached = false, signal } = given;
    const log = createJobLog<Event>(options.log);
    const stop = new AbortController();
    const submittedAt = Date.now();
    let graceMs = given.graceMs ?? limits.graceMs;
    let state: JobState = "queued";
    let startedAt: number | undefined;
    let endedAt: number | undefined;
    let failure: unknown;
    let update: Record<string, unknown> | undefined;
    let grace: NodeJS.Timeout | undefined;
    let watchers = 0;
    let settle = () => {};
    const settled = new Promise<void>((resolve) => {
      settle = resolve;
    });
    if (detached) log.runFree();

    function end(how: Exclude<JobState, "queued" | "running">, error?: { error: unknown }): void {
      if (endedAt !== undefined) return;
      state = how;
      endedAt = Date.now();
      failure = error?.error;
      clearTimeout(deadline);
      clearTimeout(grace);
      signal?.removeEventListener("abort", onSignal);
      log.end(error);
      retain(entry);
      tell(job, "ended");
      settle();
    }

    function stopWith(reason: unknown): boolean {
      if (endedAt !== undefined) return false;
      const at = line.indexOf(entry);
      if (at >= 0) line.splice(at, 1);
      const cancelled = (reason as Error | undefined)?.name === "AbortError";
      end(cancelled ? "cancelled" : "failed", { error: reason });
      stop.abort(reason);
      if (at >= 0) pump();
      return true;
    }

    const cancelled = () => new DOMException("Cancelled", "AbortError");
    const onSignal = () => stopWith(signal?.reason);
    signal?.addEventListener("abort", onSignal, { once: true });
    const deadlineMs = Math.min(given.deadlineMs ?? Number.POSITIVE_INFINITY, limits.deadlineMs);
    const deadline =
      deadlineMs <= LONGEST_TIMER
        ? setTimeout(() => stopWith(new DOMException("The deadline has passed", "TimeoutError")), deadlineMs).unref()
        : undefined;

    const job: Job<Input, Event> = {
      id,
      owner,
      client,
      input,
      detached,
      submittedAt,
      log,
      ended: settled,
      get state() {
        return state;
      },
      get position() {
        return Math.max(line.indexOf(entry), 0);
      },
      get startedAt() {
        return startedAt;
      },
      get endedAt() {
        return endedAt;
      },
      get error() {
        return failure;
      },
      watch({ graceMs: own, ...where } = {}) {
        const onDropped = (slot: string, count: number) => tell(job, "dropped", undefined, { slot, count });
        const reader = log.read({ ...where, onDropped });
        if (own !== undefined) graceMs = own;
        clearTimeout(grace);
        watchers++;
        let open = true;
        return {
          get position() {
            return reader.position;
          },
          async next(withinMs) {
            const read = await reader.next(withinMs);
            if (typeof read !== "string" && "event" in read) tell(job, "read", read.event);
            return read;
          },
          wake: reader.wake,
          close() {
            if (!open) return;
            open = false;
            reader.close();
            if (--watchers > 0 || detached || endedAt !== undefined) return;
            if (graceMs <= 0) stopWith(cancelled());
            else grace = setTimeout(() => stopWith(cancelled()), Math.min(graceMs, LONGEST_TIMER)).unref();
          },
        };
      },
      cancel: (reason = cancelled()) => stopWith(reason),
      update(change) {
        if (endedAt !== undefined) return false;
        update = { ...update, ...change };
        return true;
      },
    };

    const entry: Held<Input, Event> = {
      job,
      log,
      inputBytes,
      told: undefined,
      round: 0,
      idempotencyKey: given.idempotencyKey,
      async start() {
        state = "running";
        startedAt = Date.now();
        tell(job, "started");
        const takeUpdate = () => {
          const taken = update;
          update = undefined;
          return taken;
        };
        try {
          for await (const event of await run(input, { signal: stop.signal, requestId: id, takeUpdate })) {
            if (stop.signal.aborted) break;
            log.append(event, { slot: slot(event), keep: isResult(event) });
            tell(job, "event", event);
            // A run that never waits for anything real would otherwise keep the event loop to itself.
            await setImmediate();
            await log.room();
            if (stop.signal.aborted) break;
          }
          end("completed");
        } catch (error) {
          end("failed", { error });
        }
      },
    };
    return { entry, queue: () => signal?.aborted && onSignal() };
  }

  function seen(id: string, viewer: Viewer | undefined): Held<Input, Event> | undefined {
    if (viewer !== undefined) return spaces.get(viewer.owner)?.jobs.get(id) ?? spaces.get(undefined)?.jobs.get(id);
    for (const { jobs } of spaces.values()) if (jobs.has(id)) return jobs.get(id);
    return undefined;
  }

  return {
    submit(input, given = {}) {
      const { id, owner, client, idempotencyKey: key } = given;
      const { jobs, byKey } = spaceOf(owner);
      const twin = key === undefined ? undefined : byKey.get(key);
      // One that failed or was cancelled is no answer to somebody who asks again.
      if (twin !== undefined && twin.job.state !== "failed" && twin.job.state !== "cancelled") {
        if (isSameInput(twin.job.input, input)) return twin.job;
        throw new JobError("key-reused", "This idempotency key was used with another input");
      }
      const namesake = id === undefined ? undefined : jobs.get(id);
      if (namesake !== undefined && namesake.job.endedAt === undefined) {
        if (isSameInput(namesake.job.input, input)) return namesake.job;
        throw new JobError("id-in-use", "A job with this request_id exists; choose another");
      }
      tidy(owner);
      if (draining) throw stopping();
      const inputBytes = bytesOf(input);
      checkRoom(client, inputBytes);
      if (namesake !== undefined) forget(namesake);
      const { entry, queue } = admit(input, inputBytes, given);
      const { job } = entry;
      const space = spaceOf(owner);
      held.add(entry);
      space.jobs.set(job.id, entry);
      space.past.delete(job.id);
      if (key !== undefined) space.byKey.set(key, entry);
      tell(job, "submitted");
      enqueue(entry);
      queue();
      pump();
      return job;
    },
    get: (id, viewer) => seen(id, viewer)?.job,
    find(id, viewer) {
      const job = seen(id, viewer)?.job;
      if (job !== undefined) return job;
      const gone = viewer === undefined ? [...spaces.values()] : [spaces.get(viewer.owner), spaces.get(undefined)];
      if (gone.some((space) => space?.past.has(id)))
        throw new JobError("log-gone", "This job has ended and its log is no longer held");
      throw new JobError("not-found", "There is no such job");
    },
    list: () => [...held].map(({ job }) => job),
    get bytes() {
      let sum = 0;
      for (const { log, inputBytes } of held) sum += log.bytes + inputBytes;
      return sum;
    },
    counts() {
      const counts = { queued: 0, running: 0, completed: 0, failed: 0, cancelled: 0 };
      for (const { job } of held) counts[job.state]++;
      return counts;
    },
    observe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async drain(graceMs = Number.POSITIVE_INFINITY) {
      draining = true;
      if (running === 0 && line.length === 0) return;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        idle = resolve;
        const handBack = () => {
          for (const { job } of held) job.cancel(stopping());
          timer = setTimeout(resolve, RETURN_MS);
        };
        timer = setTimeout(handBack, Math.min(graceMs, LONGEST_TIMER));
      });
      clearTimeout(timer);
    },
  };
}

/**
 * A store as a run: each call submits a job and gives what it says, waiting in line included. For a consumer that knows
 * runs alone.
 */
export function throughJobs<Input, Event>(jobs: Jobs<Input, Event>, options: SubmitOptions = {}): Run<Input, Event> {
  return async function* (input, { signal }) {
    const job = jobs.submit(input, { ...options, signal });
    const reader = job.watch();
    try {
      for (;;) {
        const read = await reader.next(LONGEST_TIMER);
        if (read === "quiet") continue;
        if (read === "ended") return;
        if (read === "lost") throw new JobError("log-gone", "Events of this job are no longer held");
        if ("error" in read) throw read.error;
        yield read.event;
      }
    } finally {
      reader.close();
    }
  };
}

/** Fields that name a request and do not change what it asks. */
const NAMES = new Set(["request_id", "input_id"]);

/** Whether two inputs ask the same. */
function isSameInput(one: unknown, other: unknown): boolean {
  const asked = (input: unknown) =>
    typeof input === "object" && input !== null && Object.getPrototypeOf(input) === Object.prototype
      ? Object.fromEntries(Object.entries(input).filter(([name, value]) => !NAMES.has(name) && value !== undefined))
      : input;
  return isDeepStrictEqual(asked(one), asked(other));
}

/** Options that were given as undefined are not given. */
function withoutUndefined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
