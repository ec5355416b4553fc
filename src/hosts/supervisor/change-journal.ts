/** The changes that a run was given, in order, so that another process gets the same. */

export type Change = Readonly<Record<string, unknown>>;

export interface JournalEntry {
  readonly change: Change;
  /** The place in the run at which it was given; undefined if that is not known yet. */
  at: number | undefined;
}

export class ChangeJournal {
  readonly entries: JournalEntry[] = [];
  readonly #updates: AsyncIterable<Change> | undefined;
  readonly #placeNow: () => number | undefined;
  #live: AsyncIterator<Change> | undefined;
  /** The change that is waited for now, whichever attempt asked for it. */
  #pending: Promise<Change | undefined> | undefined;

  /** @param placeNow the place of a change that comes now */
  constructor(updates: AsyncIterable<Change> | undefined, placeNow: () => number | undefined) {
    this.#updates = updates;
    this.#placeNow = placeNow;
  }

  /** The changes after the first so many, each once its place is `reached`; undefined if there never are any. */
  from(first: number, reached?: (at: number | undefined) => Promise<void>): AsyncIterable<Change> | undefined {
    if (this.#updates === undefined) return undefined;
    return { [Symbol.asyncIterator]: () => this.#changes(first, reached) };
  }

  /** Begins to read: changes are expected from now on. */
  open(): void {
    this.#live ??= this.#updates?.[Symbol.asyncIterator]();
  }

  /** Nobody reads changes any more. */
  close(): void {
    this.#live?.return?.().catch(() => {});
  }

  #changes(first: number, reached?: (at: number | undefined) => Promise<void>): AsyncIterator<Change, undefined> {
    let next = first;
    return {
      next: async () => {
        const at = next++;
        while (at >= this.entries.length) if ((await this.#takeChange()) === undefined) return END;
        const entry = this.entries[at]!;
        await reached?.(entry.at);
        return { done: false, value: entry.change };
      },
      // The live ones stay open for the next attempt.
      return: async () => END,
    };
  }

  #takeChange(): Promise<Change | undefined> {
    this.open();
    this.#pending ??= this.#live!.next().then(({ done, value }) => {
      this.#pending = undefined;
      if (done) return undefined;
      this.entries.push({ change: value, at: this.#placeNow() });
      return value;
    });
    return this.#pending;
  }
}

const END: IteratorReturnResult<undefined> = { done: true, value: undefined };
