/** A run's memory of itself, from which it goes on in another process: no event twice, none left out, the same changes. */
import type { RunContext } from "../../jobs/run.ts";

type Change = Readonly<Record<string, unknown>>;

interface JournalEntry {
  readonly change: Change;
  /** Events that had come when the run was given it. */
  readonly at: number;
}

export class Replay {
  /** Events that the reader has. */
  delivered = 0;
  /** Processes that ended while they computed this run. */
  deaths = 0;
  /** The last state that the run can go on from, after so many events. */
  checkpoint: { readonly state: unknown; readonly events: number } | undefined;
  readonly #context: RunContext;
  readonly #journal: JournalEntry[] = [];
  #live: AsyncIterator<Change> | undefined;
  /** The change that is waited for now, whichever attempt asked for it. */
  #pending: Promise<Change | undefined> | undefined;
  /** Events that have come in this attempt, those before its checkpoint included. */
  #received = 0;
  readonly #whenReceived = new Set<() => void>();

  constructor(context: RunContext) {
    this.#context = context;
  }

  /** A new attempt begins, at the last checkpoint. */
  begin(): void {
    this.#received = this.checkpoint?.events ?? 0;
    this.#whenReceived.clear();
  }

  received(): void {
    this.#received++;
    for (const wake of this.#whenReceived) wake();
  }

  /**
   * The changes for one attempt: first those that an earlier one was given after the checkpoint, each not before the event
   * that it came after then.
   */
  get updates(): RunContext["updates"] {
    const { updates } = this.#context;
    if (updates === undefined) return undefined;
    return { [Symbol.asyncIterator]: () => this.#changes() };
  }

  /** Nobody reads changes any more. */
  close(): void {
    this.#live?.return?.().catch(() => {});
  }

  #changes(): AsyncIterator<Change, undefined> {
    const from = this.checkpoint?.events ?? 0;
    let next = this.#journal.findIndex(({ at }) => at >= from);
    if (next < 0) next = this.#journal.length;
    return {
      next: async () => {
        const at = next++;
        while (at >= this.#journal.length) if ((await this.#takeChange()) === undefined) return END;
        const entry = this.#journal[at]!;
        await this.#reached(entry.at);
        return { done: false, value: entry.change };
      },
      // The live ones stay open for the next attempt.
      return: async () => END,
    };
  }

  #takeChange(): Promise<Change | undefined> {
    this.#live ??= this.#context.updates![Symbol.asyncIterator]();
    this.#pending ??= this.#live.next().then(({ done, value }) => {
      this.#pending = undefined;
      if (done) return undefined;
      this.#journal.push({ change: value, at: this.#received });
      return value;
    });
    return this.#pending;
  }

  async #reached(events: number): Promise<void> {
    while (this.#received < events) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#whenReceived.delete(wake);
          resolve();
        };
        this.#whenReceived.add(wake);
      });
    }
  }
}

const END: IteratorReturnResult<undefined> = { done: true, value: undefined };
