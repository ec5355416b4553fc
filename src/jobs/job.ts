/** One job's life, from its submission to its end. */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { Priority } from "../line/priority.ts";
import { bytesOf } from "./bytes-of.ts";
import { JobError } from "./job-errors.ts";
import { JobLog, type LogBounds, type LogReader, type ReaderOptions } from "./job-log.ts";
import type { AnyRun } from "./run.ts";
import { type Change, changedInput, Updates } from "./updates.ts";

export type JobState = "queued" | "running" | "completed" | "failed" | "cancelled";

export interface Job<Input, Event> {
  readonly id: string;
  /** Its owner, as `submit` got it; undefined: it has none. */
  readonly owner: string | undefined;
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client: string | undefined;
  /** The input of its run: as it was submitted, with the changes made while it waited. */
  readonly input: Input;
  readonly state: JobState;
  /** Jobs ahead of it in the line (0: next); 0 once it runs. */
  readonly position: number;
  /** Milliseconds since the epoch; undefined until it has happened. */
  readonly submittedAt: number;
  readonly startedAt: number | undefined;
  readonly endedAt: number | undefined;
  /** Its error; undefined unless `failed` or `cancelled`. */
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
  watch(options?: WatchOptions): LogReader<Event>;
  /** Stops it before its next step; false when it has ended already. `reason` is what watchers are told. */
  cancel(reason?: unknown): boolean;
  /**
   * Changes the input. A job that waits starts with the changed input; one that runs goes on with it from its next step.
   * False when it has ended.
   * @throws JobError `not-updatable` where the run does not read changes, or the input has no fields
   */
  update(change: Change): boolean;
}

export interface WatchOptions extends ReaderOptions {
  /** Milliseconds that the last watcher has to come back; overrides the job's. */
  readonly graceMs?: number;
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
  /**
   * A job of the same owner, client and input that its watchers have left before they read anything is taken up again: its
   * client has asked a second time, since it could not know the job's id.
   */
  readonly takesUp?: boolean;
  /** It runs on when nobody watches. */
  readonly detached?: boolean;
  /** Default: `detached` if it is that, else `stream`. */
  readonly priority?: Priority;
  /** Milliseconds that the last watcher has to come back; overrides the store's. */
  readonly graceMs?: number;
  /** Aborting cancels the job, with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * Moments in a job's life, for metrics, logs and webhooks: `read` is told for each watcher that takes an event, `dropped`
 * for each that was not given some, because newer ones took their place or because it left.
 */
export type JobChange = "submitted" | "started" | "event" | "read" | "dropped" | "ended";
export type JobListener<Input, Event> = (
  job: Job<Input, Event>,
  change: JobChange,
  event?: Event,
  dropped?: { readonly slot: string; readonly count: number },
) => void;

/** The work that a job is: where 1 is the usual, and in bytes while it runs. */
export interface JobWork {
  readonly cost: number;
  readonly workingBytes: number;
}

/** A job's store, as its jobs see it. */
export interface JobHost<Input, Event> {
  /** Jobs ahead of it in the line; undefined if it does not wait. */
  positionOf(job: StoredJob<Input, Event>): number | undefined;
  /** Takes it out of the line, if it waits. */
  leaveLine(job: StoredJob<Input, Event>): void;
  /** It has ended: its log is held from now on. */
  retain(job: StoredJob<Input, Event>): void;
  readonly tell: JobListener<Input, Event>;
}

/** The settings of every job of a store. */
export interface JobSettings {
  /** Milliseconds from submission until a job is stopped. */
  readonly deadlineMs: number;
  /** Milliseconds that the last watcher of a job has to come back before it is cancelled. */
  readonly graceMs: number;
  readonly log: Partial<LogBounds>;
}

/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** A job as its store keeps it. */
export class StoredJob<Input, Event> implements Job<Input, Event> {
  readonly id: string;
  readonly owner: string | undefined;
  readonly client: string | undefined;
  readonly idempotencyKey: string | undefined;
  readonly detached: boolean;
  readonly priority: Priority;
  /** Its work, where 1 is the usual. */
  readonly cost: number;
  readonly workingBytes: number;
  readonly submittedAt = Date.now();
  readonly log: JobLog<Event>;
  readonly ended: Promise<void>;
  /** The input as it was submitted: a second submission is compared with it. */
  readonly originalInput: Input;
  input: Input;
  /** Bytes of the input. */
  inputBytes: number;
  state: JobState = "queued";
  startedAt: number | undefined;
  endedAt: number | undefined;
  error: unknown;
  readonly #host: JobHost<Input, Event>;
  readonly #stop = new AbortController();
  readonly #updates = new Updates();
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: NodeJS.Timeout | undefined;
  #graceMs: number;
  #grace: NodeJS.Timeout | undefined;
  #watchers = 0;
  /** Somebody has read an entry of it. */
  #wasRead = false;
  /** The slots that the last watcher wanted: it may come back. */
  #lastWants: (slot: string) => boolean = () => true;
  #settle = () => {};

  constructor(host: JobHost<Input, Event>, input: Input, work: JobWork, options: SubmitOptions, settings: JobSettings) {
    this.#host = host;
    this.originalInput = input;
    this.input = input;
    this.inputBytes = bytesOf(input);
    this.id = options.id ?? randomUUID();
    this.owner = options.owner;
    this.client = options.client;
    this.idempotencyKey = options.idempotencyKey;
    this.detached = options.detached ?? false;
    this.priority = priorityOf(options);
    this.cost = work.cost;
    this.workingBytes = work.workingBytes;
    this.#graceMs = options.graceMs ?? settings.graceMs;
    this.log = new JobLog(settings.log);
    if (this.detached) this.log.runFree();
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onSignal, { once: true });
    const deadlineMs = Math.min(options.deadlineMs ?? Number.POSITIVE_INFINITY, settings.deadlineMs);
    if (deadlineMs <= LONGEST_TIMER) this.#deadline = setTimeout(this.#onDeadline, deadlineMs).unref();
  }

  get position(): number {
    return this.#host.positionOf(this) ?? 0;
  }

  /** Bytes that it holds: its input and its log. */
  get bytes(): number {
    return this.inputBytes + this.log.bytes;
  }

  /** True if its watchers have left without having read anything, and are waited for. */
  get wasLeftUnread(): boolean {
    return this.#grace !== undefined && this.#watchers === 0 && !this.#wasRead && this.endedAt === undefined;
  }

  watch({ graceMs, ...where }: WatchOptions = {}): LogReader<Event> {
    const reader = this.log.read(where, {
      read: (entry) => {
        this.#wasRead = true;
        if ("event" in entry) this.#host.tell(this, "read", entry.event);
      },
      dropped: (slot, count) => this.#host.tell(this, "dropped", undefined, { slot, count }),
      closed: () => this.#watcherLeft(where.wants),
    });
    if (graceMs !== undefined) this.#graceMs = graceMs;
    clearTimeout(this.#grace);
    this.#watchers++;
    return reader;
  }

  cancel(reason: unknown = cancellation()): boolean {
    if (this.endedAt !== undefined) return false;
    this.#host.leaveLine(this);
    const wasCancelled = (reason as Error | undefined)?.name === "AbortError";
    this.#end(wasCancelled ? "cancelled" : "failed", { error: reason });
    this.#stop.abort(reason);
    return true;
  }

  update(change: Change): boolean {
    if (this.endedAt !== undefined) return false;
    if (this.state === "queued") {
      this.input = changedInput(this.input, change);
      this.inputBytes = bytesOf(this.input);
      return true;
    }
    if (!this.#updates.areRead) throw new JobError("not-updatable", "This job runs already and takes no changes");
    this.#updates.push(change);
    return true;
  }

  /** Runs it to its end. Never rejects. */
  async start(run: AnyRun<Input, Event>, slotOf: (event: Event) => string | undefined): Promise<void> {
    this.state = "running";
    this.startedAt = Date.now();
    this.#host.tell(this, "started");
    const { signal } = this.#stop;
    const context = {
      signal,
      requestId: this.id,
      client: this.client,
      priority: this.priority,
      updates: this.#updates,
      wants: (slot: string) => this.#wants(slot),
    };
    try {
      for await (const event of await run(this.input, context)) {
        if (signal.aborted) break;
        this.log.append(event, { slot: slotOf(event), keep: isResult(event) });
        this.#host.tell(this, "event", event);
        // A run that never waits for anything real would otherwise keep the event loop to itself.
        await setImmediate();
        await this.log.room();
        if (signal.aborted) break;
      }
      this.#end("completed");
    } catch (error) {
      this.#end("failed", { error });
    }
  }

  /** Cancels it if its signal was aborted before it was submitted. */
  heedSignal(): void {
    if (this.#signal?.aborted) this.#onSignal();
  }

  /**
   * True if anybody takes events of a slot. While a client is expected back (its stream broke, and the grace period
   * runs) it counts as there: the log is replayed to it. Nobody is expected at a detached job.
   */
  #wants(slot: string): boolean {
    if (this.log.wants(slot)) return true;
    return !this.detached && this.#watchers === 0 && this.#lastWants(slot);
  }

  #watcherLeft(wants: ((slot: string) => boolean) | undefined): void {
    this.#lastWants = wants ?? (() => true);
    if (--this.#watchers > 0 || this.detached || this.endedAt !== undefined) return;
    if (this.#graceMs <= 0) this.cancel();
    else this.#grace = setTimeout(() => this.cancel(), Math.min(this.#graceMs, LONGEST_TIMER)).unref();
  }

  #end(how: Exclude<JobState, "queued" | "running">, failure?: { readonly error: unknown }): void {
    if (this.endedAt !== undefined) return;
    this.state = how;
    this.endedAt = Date.now();
    this.error = failure?.error;
    clearTimeout(this.#deadline);
    clearTimeout(this.#grace);
    this.#signal?.removeEventListener("abort", this.#onSignal);
    this.#updates.close();
    this.log.end(failure);
    this.#host.retain(this);
    this.#host.tell(this, "ended");
    this.#settle();
  }

  readonly #onSignal = () => {
    this.cancel(this.#signal?.reason);
  };

  readonly #onDeadline = () => {
    this.cancel(new DOMException("The deadline has passed", "TimeoutError"));
  };
}

export function priorityOf({ priority, detached }: SubmitOptions): Priority {
  return priority ?? (detached ? "detached" : "stream");
}

const cancellation = () => new DOMException("Cancelled", "AbortError");

/** The result stays in the log whatever its bound. */
function isResult(event: unknown): boolean {
  return (event as { type?: unknown } | null | undefined)?.type === "result";
}
