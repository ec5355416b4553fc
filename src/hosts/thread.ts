/**
 * A run in a worker thread: `sse(worker(new URL("./render.js", import.meta.url)))`. For what computes without pause: a
 * synchronous generator that would keep this thread, and with it every other client, from its turn.
 *
 * The module's default export (or the one named) is the run; a generator, an async one, or anything iterable will do. One
 * thread serves one run at a time, and threads are kept for the next. The run is asked for its next event when the one
 * before has been taken, so a slow client slows the thread and nothing piles up. The run has the context that it would
 * have here: its signal, changes to its input, and whether previews are wanted (as it was when the event was asked for).
 *
 * Cancelling ends an iterator at its next event. A thread that comes to none within `graceMs` is terminated, or abandoned
 * if it has loaded native code such as a GPU's (`thread-pool.ts` says why). A GPU whose work must be stoppable belongs in
 * a process of its own.
 *
 * An error that the run throws arrives as the same fault, so it is answered with the same status.
 */
import { isAbsolute } from "node:path";
import { pathToFileURL } from "node:url";
import { FaultError, faultOf, INTERNAL } from "../faults/fault.ts";
import type { Run, RunContext } from "../jobs/run.ts";
import type { ErrorFields, UpdatesRequest, Wants } from "./messages.ts";
import { type Thread, ThreadPool } from "./thread-pool.ts";

export interface WorkerOptions {
  /** The export that is the run. */
  readonly name?: string;
  /** Threads kept for later runs. */
  readonly idle?: number;
  /** Milliseconds that a cancelled run has to come to its next event. */
  readonly graceMs?: number;
  /** Threads with native code that may be overdue at once; then runs are refused with 503 until one comes back. */
  readonly maxAbandoned?: number;
}

const IDLE = 2;
const GRACE_MS = 1_000;
const MAX_ABANDONED = 4;

/**
 * @param module a URL (`new URL("./render.js", import.meta.url)` lies beside the caller), a package's name, or a path; a
 * relative one (`./render.js`) is relative to the working folder
 */
export function worker<Input, Event>(module: string | URL, options: WorkerOptions = {}): Run<Input, Event> {
  const { name = "default", idle = IDLE, graceMs = GRACE_MS, maxAbandoned = MAX_ABANDONED } = options;
  const specifier = isPath(module) ? pathToFileURL(module).href : String(module);
  const pool = new ThreadPool({ module: specifier, name, maxIdle: idle, maxAbandoned });

  return async function* (input, context) {
    context.signal.throwIfAborted();
    yield* new ThreadRun<Input, Event>(pool, context, graceMs).events(input);
  };
}

/** One run in a thread of a pool. */
class ThreadRun<Input, Event> {
  readonly #pool: ThreadPool;
  readonly #thread: Thread;
  readonly #context: RunContext;
  readonly #graceMs: number;
  /** Runs once the thread has been asked to end the run. */
  #grace: NodeJS.Timeout | undefined;
  /** The thread has ended the run, and can serve another. */
  #isOver = false;
  #changes: AsyncIterator<Readonly<Record<string, unknown>>> | undefined;

  constructor(pool: ThreadPool, context: RunContext, graceMs: number) {
    this.#pool = pool;
    this.#context = context;
    this.#graceMs = graceMs;
    this.#thread = pool.take();
    this.#thread.onUpdates = (request) => this.#onUpdates(request);
  }

  async *events(input: Input): AsyncGenerator<Event, void, undefined> {
    const { signal, requestId } = this.#context;
    const thread = this.#thread;
    signal.addEventListener("abort", this.#onAbort, { once: true });
    try {
      let reply = await thread.ask({ type: "start", input, requestId, wants: this.#wanted() });
      for (;;) {
        this.#isOver = reply.type !== "event";
        signal.throwIfAborted();
        if (reply.type === "error") throw errorOf(reply.error);
        if (reply.type === "done") return;
        yield reply.event as Event;
        reply = await thread.ask({ type: "pull", wants: this.#wanted() });
      }
    } catch (error) {
      // A thread that was given up says so; the reason matters more.
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener("abort", this.#onAbort);
      await this.#leave();
    }
  }

  /** Ends the run if it goes on still, and gives the thread back. */
  async #leave(): Promise<void> {
    if (!this.#isOver && !this.#thread.isAbandoned) {
      this.#giveUpInTime();
      this.#isOver = await this.#thread.ask({ type: "stop" }).then(
        () => true,
        () => false,
      );
    }
    clearTimeout(this.#grace);
    this.#thread.onUpdates = undefined;
    this.#stopReading();
    if (this.#isOver) this.#pool.giveBack(this.#thread);
  }

  readonly #onAbort = () => {
    this.#thread.post({ type: "abort" });
    this.#giveUpInTime();
  };

  #giveUpInTime(): void {
    this.#grace ??= setTimeout(() => this.#pool.giveUp(this.#thread), this.#graceMs);
  }

  #wanted(): Wants {
    return { preview: this.#context.wants?.("preview") ?? true };
  }

  #onUpdates({ type }: UpdatesRequest): void {
    switch (type) {
      case "updates-begin":
        this.#changes ??= this.#context.updates?.[Symbol.asyncIterator]();
        return;
      case "updates-next":
        void this.#passChange();
        return;
      case "updates-end":
        this.#stopReading();
        return;
    }
  }

  async #passChange(): Promise<void> {
    const changes = this.#changes;
    // A run goes on as it was asked when its updates break off.
    const next = await changes?.next().catch(() => undefined);
    if (changes !== this.#changes) return;
    this.#thread.post(next === undefined || next.done ? { type: "update" } : { type: "update", change: next.value });
  }

  #stopReading(): void {
    const changes = this.#changes;
    this.#changes = undefined;
    // Not awaited: a generator that waits for its next change returns only after that change.
    changes?.return?.().catch(() => {});
  }
}

function isPath(module: string | URL): module is string {
  return typeof module === "string" && (isAbsolute(module) || /^\.\.?[/\\]/.test(module));
}

/** The fault of another thread; or an error that only logs show, which says what it was there. */
function errorOf(fields: ErrorFields): Error {
  const fault = faultOf(fields);
  const { name, message, stack } = fields;
  if (fault.code === INTERNAL) return Object.assign(new Error(message), { name, stack });
  return new FaultError(fault, { cause: stack });
}
