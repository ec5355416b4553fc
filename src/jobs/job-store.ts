/**
 * Jobs: runs that were admitted, from waiting in line to the end of their log's retention.
 *
 * A store wraps one run. `submit` admits an input or refuses it; what the run yields goes into the job's log
 * (`job-log.ts`), and whoever wants the events watches the job, as often and as late as the log allows. It
 * knows neither the run's subject nor the way of events to a client.
 *
 * A job stops early in three ways, each told to its run through the signal and to its watchers as the last entry at
 * once: it is cancelled (`AbortError`), it is past its deadline (`TimeoutError`), or its last watcher left and did not
 * come back within the grace period (`AbortError`), unless it was submitted detached. The place on the device is free
 * when the run itself has returned.
 *
 * Two names say whose a job is. Its *owner* says who may see it (`visible.ts`): ids and idempotency keys are an owner's
 * own, and what another has is as if it were not there. Its *client* says against whom it counts: clients take turns in
 * the line, none may fill it, and ended jobs of the client that holds the most are forgotten first.
 */
import { isDeepStrictEqual } from "node:util";
import { Line, type LineBounds, type Waiting } from "../line/line.ts";
import { Pace } from "../line/pace.ts";
import type { Account } from "./account.ts";
import { bytesOf } from "./bytes-of.ts";
import { Directory } from "./directory.ts";
import {
  type Job,
  type JobHost,
  type JobListener,
  type JobSettings,
  type JobState,
  priorityOf,
  StoredJob,
  type SubmitOptions,
} from "./job.ts";
import { JobError } from "./job-errors.ts";
import type { LogBounds } from "./job-log.ts";
import { Retention, type RetentionBounds } from "./retention.ts";
import type { AnyRun } from "./run.ts";
import type { Viewer } from "./visible.ts";

export interface Jobs<Input, Event> {
  /**
   * Admits an input: the job runs at once or waits in line.
   * @throws JobError `queue-full`, `draining`, `id-in-use`, `key-reused`
   */
  submit(input: Input, options?: SubmitOptions): Job<Input, Event>;
  /**
   * The job of this input that a client comes back to, by its id or else by its idempotency key, whatever has become of
   * it; undefined if it is not held. Unlike `submit` it never begins one.
   * @throws JobError `id-in-use`, `key-reused`
   */
  rejoin(input: Input, names: JobNames, viewer?: Viewer): Job<Input, Event> | undefined;
  /** The job that `viewer` knows by this id, if `visible` says that it may; its own before one without an owner. */
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

/** The names of a job that a client may know. */
export interface JobNames {
  readonly id?: string;
  readonly idempotencyKey?: string;
}

export interface JobsOptions<Event, Input = never>
  extends Partial<LineBounds>,
    Partial<RetentionBounds>,
    Partial<JobSettings> {
  /** Jobs that run at once. Default: any number. */
  readonly concurrency?: number;
  /** Jobs of realtime sessions that run besides, so that none of them waits for long ones. Default: 0. */
  readonly reserved?: number;
  /** Jobs of one client that run at once, besides those of its realtime sessions. Default: as many as there are places. */
  readonly ofClient?: number;
  /** The work that an input is, where 1 is the usual: a client's turns come the less often the more it is. Default: 1. */
  readonly costOf?: (input: Input) => number;
  /** Bytes that an input takes while it runs, its own and its result's among them. Default: its own. */
  readonly workingBytesOf?: (input: Input) => number;
  /** Bytes that jobs which run take together; one alone may take more. Default: any number. */
  readonly maxWorkingBytes?: number;
  /** The slot of a droppable event; see `job-log.ts`. Default: by `type`, `queued`, `preparing`, `progress` and `preview`. */
  readonly slotOf?: (event: Event) => string | undefined;
  /** The account of jobs that wait and of logs that are in memory. */
  readonly account?: Account;
  /** Told of what a listener has thrown. */
  readonly onError?: (error: unknown) => void;
  /**
   * Makes the event that tells a job that has to wait its place in the line, and again when it changes; `seconds` until its
   * turn, as far as the pace so far tells. Default: none.
   */
  readonly queuedEvent?: (position: number, seconds: number | undefined) => Event;
}

export const JOB_DEFAULTS = {
  concurrency: Number.POSITIVE_INFINITY,
  reserved: 0,
  ofClient: Number.POSITIVE_INFINITY,
  maxWorkingBytes: Number.POSITIVE_INFINITY,
  maxQueued: 128,
  maxQueuedBytes: 256 * 2 ** 20,
  deadlineMs: Number.POSITIVE_INFINITY,
  graceMs: 0,
  retentionMs: 60_000,
  retainedBytes: 256 * 2 ** 20,
  retainedJobs: 1024,
  log: {} as Partial<LogBounds>,
};

/** Seconds; what a refused client is told to wait, at least and at most. */
const RETRY_AFTER = { min: 1, max: 60 };
/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;
/** Milliseconds that a run has to return once it was handed back. */
const RETURN_MS = 2_000;
/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

const DROPPABLE: ReadonlySet<string> = new Set(["queued", "preparing", "progress", "preview"]);

/** Which events a newer one of their kind makes worthless. */
export function slotOf(event: unknown): string | undefined {
  const type = (event as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" && DROPPABLE.has(type) ? type : undefined;
}

export function createJobs<Input, Event>(
  run: AnyRun<Input, Event>,
  options: JobsOptions<Event, Input> = {},
): Jobs<Input, Event> {
  return new JobStore(run, options);
}

class JobStore<Input, Event> implements Jobs<Input, Event>, JobHost<Input, Event> {
  readonly #run: AnyRun<Input, Event>;
  readonly #options: JobsOptions<Event, Input>;
  readonly #limits: typeof JOB_DEFAULTS;
  readonly #slotOf: (event: Event) => string | undefined;
  /** Every job that is held. */
  readonly #jobs = new Set<StoredJob<Input, Event>>();
  readonly #directory = new Directory<StoredJob<Input, Event>>();
  readonly #line: Line<StoredJob<Input, Event>>;
  readonly #retention: Retention<StoredJob<Input, Event>>;
  readonly #listeners = new Set<JobListener<Input, Event>>();
  #isDraining = false;
  /** Called when nothing runs or waits. */
  #onIdle: (() => void) | undefined;
  readonly #pace = new Pace();

  constructor(run: AnyRun<Input, Event>, options: JobsOptions<Event, Input>) {
    this.#run = run;
    this.#options = options;
    this.#limits = { ...JOB_DEFAULTS, ...withoutUndefined(options) };
    this.#slotOf = options.slotOf ?? slotOf;
    const { queuedEvent } = options;
    this.#line = new Line({
      ...this.#limits,
      begin: (job) => void this.#start(job),
      moved:
        queuedEvent &&
        ((job, position) => job.log.append(queuedEvent(position, this.#secondsBefore(job)), { slot: "queued" })),
    });
    this.#retention = new Retention(this.#limits, (job) => this.#forget(job));
    options.account?.enter("waiting", () => this.#sum((job) => (job.endedAt === undefined ? job.inputBytes : 0)));
    options.account?.enter("logs", () => this.#sum((job) => (job.endedAt === undefined ? job.log.bytes : job.bytes)));
  }

  submit(input: Input, options: SubmitOptions = {}): Job<Input, Event> {
    const { id, owner, client, idempotencyKey, takesUp = false } = options;
    const earlier = idempotencyKey === undefined ? undefined : this.#directory.byKey(idempotencyKey, owner);
    // One that failed or was cancelled is no answer to somebody who asks again.
    if (earlier !== undefined && earlier.state !== "failed" && earlier.state !== "cancelled") {
      if (isSameInput(earlier.originalInput, input)) return earlier;
      throw keyReused();
    }
    const namesake = id === undefined ? undefined : this.#directory.own(id, owner);
    if (namesake !== undefined && namesake.endedAt === undefined) {
      if (isSameInput(namesake.originalInput, input)) return namesake;
      throw new JobError("id-in-use", "A job with this request_id exists; choose another");
    }
    const left = takesUp ? this.#leftUnread(input, owner, client) : undefined;
    if (left !== undefined) return left;
    if (this.#isDraining) throw stopping();
    this.#checkRoom(client, bytesOf(input));
    const cost = this.#options.costOf?.(input) ?? 1;
    this.#checkDeadline({ client, inputBytes: 0, cost, priority: priorityOf(options) }, options.deadlineMs);
    if (namesake !== undefined) this.#forget(namesake);
    const workingBytes = this.#options.workingBytesOf?.(input) ?? bytesOf(input);
    const job = new StoredJob(this, input, { cost, workingBytes }, options, this.#limits);
    this.#jobs.add(job);
    this.#directory.add(job);
    this.tell(job, "submitted");
    job.heedSignal();
    if (job.endedAt === undefined) this.#line.join(job);
    return job;
  }

  rejoin(input: Input, { id, idempotencyKey }: JobNames, viewer?: Viewer): Job<Input, Event> | undefined {
    const named = id === undefined ? undefined : this.#directory.visibleTo(id, viewer);
    const keyed = idempotencyKey === undefined ? undefined : this.#directory.byKey(idempotencyKey, viewer?.owner);
    const job = named ?? keyed;
    if (job === undefined || isSameInput(job.originalInput, input)) return job;
    if (named === undefined) throw keyReused();
    throw new JobError("id-in-use", "The job of this id was asked for with another input");
  }

  get(id: string, viewer?: Viewer): Job<Input, Event> | undefined {
    return this.#directory.visibleTo(id, viewer);
  }

  find(id: string, viewer?: Viewer): Job<Input, Event> {
    const job = this.#directory.visibleTo(id, viewer);
    if (job !== undefined) return job;
    if (this.#directory.wasSeen(id, viewer)) {
      throw new JobError("log-gone", "This job has ended and its log is no longer held");
    }
    throw new JobError("not-found", "There is no such job");
  }

  list(): Job<Input, Event>[] {
    return [...this.#jobs];
  }

  #leftUnread(input: Input, owner: string | undefined, client: string | undefined) {
    for (const job of this.#jobs) {
      if (!job.wasLeftUnread || job.owner !== owner || job.client !== client) continue;
      if (isSameInput(job.originalInput, input)) return job;
    }
    return undefined;
  }

  get bytes(): number {
    return this.#sum(({ bytes }) => bytes);
  }

  counts(): Record<JobState, number> {
    const counts = { queued: 0, running: 0, completed: 0, failed: 0, cancelled: 0 };
    for (const { state } of this.#jobs) counts[state]++;
    return counts;
  }

  observe(listener: JobListener<Input, Event>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async drain(graceMs = Number.POSITIVE_INFINITY): Promise<void> {
    this.#isDraining = true;
    if (this.#line.isIdle) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      const handBack = () => {
        for (const job of this.#jobs) job.cancel(stopping());
        timer = setTimeout(resolve, RETURN_MS);
      };
      timer = setTimeout(handBack, Math.min(graceMs, LONGEST_TIMER));
    });
    clearTimeout(timer);
  }

  positionOf(job: StoredJob<Input, Event>): number | undefined {
    return this.#line.position(job);
  }

  leaveLine(job: StoredJob<Input, Event>): void {
    this.#line.withdraw(job);
  }

  retain(job: StoredJob<Input, Event>): void {
    this.#retention.retain(job);
  }

  readonly tell: JobListener<Input, Event> = (...change) => {
    for (const listener of this.#listeners) {
      try {
        listener(...change);
      } catch (error) {
        // A listener must not stop a job, nor the process.
        this.#options.onError?.(error);
      }
    }
  };

  async #start(job: StoredJob<Input, Event>): Promise<void> {
    this.#pace.begin();
    await job.start(this.#run, this.#slotOf);
    this.#line.end(job);
    this.#pace.end(job.cost, this.#line.isIdle);
    if (this.#line.isIdle) this.#onIdle?.();
  }

  #checkRoom(client: string | undefined, inputBytes: number): void {
    const refusal = this.#line.refusal(client, inputBytes);
    if (refusal !== undefined) throw new JobError("queue-full", refusal, this.#retryAfter());
  }

  /** @throws JobError for a job whose turn would come after its deadline */
  #checkDeadline(job: Waiting, ownMs = Number.POSITIVE_INFINITY): void {
    const deadlineMs = Math.min(ownMs, this.#limits.deadlineMs);
    if (deadlineMs === Number.POSITIVE_INFINITY || !this.#pace.isKnown) return;
    const waitMs = this.#line.costBefore(job) * this.#pace.msPerCost;
    if (waitMs <= deadlineMs || this.#line.length === 0) return;
    const seconds = (ms: number) => Math.ceil(ms / 1000);
    const message = `its turn would come in about ${seconds(waitMs)} s, after its deadline of ${seconds(deadlineMs)} s`;
    const retryAfter = clamped(seconds(waitMs - deadlineMs));
    throw new JobError("queue-full", `The job cannot be done in time: ${message}; try again later`, retryAfter);
  }

  /** Seconds until the turn of one that waits; undefined if nothing has been measured yet. */
  #secondsBefore(job: StoredJob<Input, Event>): number | undefined {
    if (!this.#pace.isKnown) return undefined;
    return Math.ceil((this.#line.costBefore(job) * this.#pace.msPerCost) / 1000);
  }

  #retryAfter(): number {
    return clamped(Math.ceil(((this.#line.length + 1) * this.#pace.msPerCost) / 1000));
  }

  /** Forgets a job that has ended. */
  #forget(job: StoredJob<Input, Event>): void {
    this.#retention.release(job);
    this.#jobs.delete(job);
    this.#directory.remove(job);
    job.log.clear();
  }

  #sum(bytes: (job: StoredJob<Input, Event>) => number): number {
    let sum = 0;
    for (const job of this.#jobs) sum += bytes(job);
    return sum;
  }
}

const stopping = () => new JobError("draining", "The server is restarting; ask again", RESTART_SECONDS);

/** Seconds that a refused client is told to wait. */
const clamped = (seconds: number) => Math.min(Math.max(seconds, RETRY_AFTER.min), RETRY_AFTER.max);

const keyReused = () => new JobError("key-reused", "This idempotency key was used with another input");

/** Fields that name a request and do not change what it asks. */
const NAMES = new Set(["request_id", "input_id"]);

/** True if two inputs ask the same. */
function isSameInput(one: unknown, other: unknown): boolean {
  const question = (input: unknown) =>
    typeof input === "object" && input !== null && Object.getPrototypeOf(input) === Object.prototype
      ? Object.fromEntries(Object.entries(input).filter(([name, value]) => !NAMES.has(name) && value !== undefined))
      : input;
  return isDeepStrictEqual(question(one), question(other));
}

/** Options that were given as undefined are not given. */
function withoutUndefined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
