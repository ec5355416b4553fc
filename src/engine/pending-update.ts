/** Changes to a request that come while its run is busy: read as they come, taken between two steps. */

export class PendingUpdate<Change extends object> {
  #pending: Change | undefined;
  #iterator: AsyncIterator<Change> | undefined;

  /** Begins to read at once: from now on whoever sends a change is told that it will be taken. */
  constructor(updates: AsyncIterable<Change> | undefined) {
    this.#iterator = updates?.[Symbol.asyncIterator]();
    void this.#read();
  }

  /** The changes since the last call, laid over each other; undefined if there are none. */
  take(): Change | undefined {
    const update = this.#pending;
    this.#pending = undefined;
    return update;
  }

  /** Reads no more. Call it when the run ends. */
  stop(): void {
    const iterator = this.#iterator;
    this.#iterator = undefined;
    // Not awaited: a generator that waits for its next change returns only after that change.
    iterator?.return?.().catch(() => {});
  }

  /** Never rejects: a run goes on as it was asked when its updates break off. */
  async #read(): Promise<void> {
    try {
      for (;;) {
        const next = await this.#iterator?.next();
        if (next === undefined || next.done === true) return;
        this.#pending = { ...this.#pending, ...next.value };
      }
    } catch {
      this.#iterator = undefined;
    }
  }
}
