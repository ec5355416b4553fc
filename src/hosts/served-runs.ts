/**
 * The far side of a host: it serves the runs of one module in a thread or a process. It knows nothing of how messages
 * travel.
 *
 * A run makes an event only if it has been asked for one. Between two events the loop turns, so that a generator that
 * never waits hears of its end before its next step.
 */
import { errorFields } from "./error-fields.ts";
import type { HostContext } from "./host.ts";
import type { Collective, PlaceMessage, PlaceReply, Wants } from "./messages.ts";

/** The way back to the host. Resolves when the message no longer needs the memory of its value. */
export type Send = (message: PlaceReply) => void | Promise<void>;

/** The link of a rank to the others. */
export interface GroupLink {
  /** Takes part in a collective; resolves with the share of it that is this rank's. */
  collect(collective: Omit<Collective, "job">): Promise<unknown>;
}

/** An export that is served. Its result is what `calling` says. */
export type ServedFunction = (...args: unknown[]) => unknown;

type RunMessage = Extract<PlaceMessage, { type: "run" }>;
type AnyIterator = Iterator<unknown> | AsyncIterator<unknown>;
type Change = Readonly<Record<string, unknown>>;

export class ServedRuns {
  readonly #send: Send;
  readonly #runs = new Map<number, ServedRun>();
  readonly #loading: Promise<ServedFunction>;

  /** @param loading the export; if it rejects, so does every run */
  constructor(loading: Promise<ServedFunction>, send: Send) {
    this.#send = send;
    this.#loading = loading;
    loading.then(
      () => send({ type: "ready" }),
      (error) => send({ type: "unready", error: errorFields(error) }),
    );
  }

  /** Messages about runs that are over are nothing: they were sent before their end was heard of. */
  receive(message: Exclude<PlaceMessage, { type: "open" | "leave" }>): void {
    if (message.type === "run") {
      const run = new ServedRun(message, this.#send);
      this.#runs.set(message.job, run);
      void run.serve(this.#loading).finally(() => this.#runs.delete(message.job));
      return;
    }
    const run = this.#runs.get(message.job);
    if (run === undefined) return;
    switch (message.type) {
      case "pull":
        run.grant(message.credit, message.wants);
        return;
      case "stop":
        run.stop();
        return;
      case "abort":
        run.abort();
        return;
      case "update":
        run.update(message);
        return;
      case "collected":
        run.collected(message.step, message.value);
        return;
    }
  }
}

class ServedRun {
  readonly #message: RunMessage;
  readonly #send: Send;
  readonly #signal = new AbortController();
  /** Changes are waited for, one each. */
  readonly #readers: ((next: IteratorResult<Change, undefined>) => void)[] = [];
  /** Collectives that wait for other ranks, by their step. */
  readonly #collectives = new Map<number, (value: unknown) => void>();
  #wants: Wants;
  /** Events that may be made. */
  #credit: number;
  #iterator: AnyIterator | undefined;
  /** Wakes the run, which waits for credit. */
  #wake: (() => void) | undefined;
  #isStopped = false;
  /** Resolves once the run is stopped and its iterator has returned; rejects with the error of its cleaning up. */
  readonly #stopped: Promise<void>;
  #settleStopped!: (returned: unknown) => void;
  #isOver = false;

  constructor(message: RunMessage, send: Send) {
    this.#message = message;
    this.#send = send;
    this.#wants = message.wants;
    this.#credit = message.credit;
    this.#stopped = new Promise((resolve) => {
      this.#settleStopped = (returned) => resolve(Promise.resolve(returned).then(() => {}));
    });
  }

  async serve(loading: Promise<ServedFunction>): Promise<void> {
    const { job } = this.#message;
    try {
      const served = await loading;
      // An iterator may never come to the event that it was asked for, but it can be stopped all the same.
      if (!this.#isStopped) await Promise.race([this.#sendEvents(await this.#call(served)), this.#stopped]);
      this.#end();
      await this.#send({ type: "done", job });
    } catch (error) {
      this.#end();
      await this.#send({ type: "error", job, error: errorFields(error) });
    }
  }

  grant(credit: number, wants: Wants): void {
    this.#credit += credit;
    this.#wants = wants;
    this.#wake?.();
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.abort();
    this.#settleStopped(this.#iterator?.return?.());
    this.#wake?.();
  }

  abort(): void {
    this.#signal.abort(new DOMException("Cancelled", "AbortError"));
  }

  update(message: { readonly change?: unknown }): void {
    const isLast = !("change" in message);
    this.#readers.shift()?.(isLast ? END : { done: false, value: message.change as Change });
  }

  collected(step: number, value: unknown): void {
    this.#collectives.get(step)?.(value);
    this.#collectives.delete(step);
  }

  async #call(served: ServedFunction): Promise<AnyIterator> {
    const { input, calling } = this.#message;
    const context = this.#context();
    const args = calling === "spread" ? (input as readonly unknown[]) : [input];
    const result = await served(...args, context);
    const iterator = calling === "events" ? iteratorOf(result) : lastValue(result);
    this.#iterator = iterator;
    return iterator;
  }

  async #sendEvents(events: AnyIterator): Promise<void> {
    const { job } = this.#message;
    for (;;) {
      while (this.#credit === 0 && !this.#isStopped) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#isStopped) return this.#stopped;
      const next = await events.next();
      if (next.done) return;
      if (this.#isStopped) return this.#stopped;
      this.#credit--;
      await this.#send({ type: "event", job, event: next.value });
      await new Promise(setImmediate);
    }
  }

  #context(): HostContext & GroupLink {
    const { caller, job, from } = this.#message;
    return {
      ...caller,
      from,
      announce: (phase) => void this.#send({ type: "phase", job, phase }),
      checkpoint: (checkpoint) => this.#send({ type: "checkpoint", job, checkpoint }),
      signal: this.#signal.signal,
      updates: { [Symbol.asyncIterator]: () => this.#readUpdates() },
      wants: (slot) => this.#wants[slot] ?? true,
      collect: (collective) =>
        new Promise((resolve, reject) => {
          const { signal } = this.#signal;
          if (signal.aborted) return reject(signal.reason);
          const cancel = () => reject(signal.reason);
          signal.addEventListener("abort", cancel, { once: true });
          this.#collectives.set(collective.step, (value) => {
            signal.removeEventListener("abort", cancel);
            resolve(value);
          });
          void this.#send({ ...collective, type: "collect", job });
        }),
    };
  }

  #readUpdates(): AsyncIterator<Change, undefined> {
    const { job } = this.#message;
    void this.#send({ type: "updates-begin", job });
    return {
      next: () => {
        if (this.#isOver) return Promise.resolve(END);
        void this.#send({ type: "updates-next", job });
        return new Promise((resolve) => this.#readers.push(resolve));
      },
      return: async () => {
        if (!this.#isOver) void this.#send({ type: "updates-end", job });
        this.#endReaders();
        return END;
      },
    };
  }

  /** Readers that still wait for a change of this run learn that there is none. */
  #endReaders(): void {
    for (const reader of this.#readers.splice(0)) reader(END);
  }

  #end(): void {
    this.#isOver = true;
    this.#endReaders();
  }
}

const END: IteratorReturnResult<undefined> = { done: true, value: undefined };

function iteratorOf(events: unknown): AnyIterator {
  const iterable = events as Partial<AsyncIterable<unknown> & Iterable<unknown>> | undefined;
  const begin: (() => AnyIterator) | undefined = iterable?.[Symbol.asyncIterator] ?? iterable?.[Symbol.iterator];
  if (begin === undefined) throw new TypeError("a run gives something that `for await` reads");
  return begin.call(iterable);
}

/** One value: the one itself, or the last that a generator yields. Lists and texts are values. */
function lastValue(result: unknown): AnyIterator {
  const isGenerator = typeof (result as Partial<Iterator<unknown>> | undefined)?.next === "function";
  if (!isGenerator) return [result].values();
  const values = iteratorOf(result);
  let isDone = false;
  return {
    async next() {
      if (isDone) return END;
      isDone = true;
      let last: unknown;
      for (;;) {
        const { done, value } = await values.next();
        if (done) return { done: false, value: last };
        last = value;
        await new Promise(setImmediate);
      }
    },
    return: async () => (await values.return?.()) ?? END,
  };
}
