/** How fast work gets done, measured at the ends of its parts: of the jobs of a store, of the runs of a model. */

/** Share that the jobs before keep when one more has ended. */
const DECAY = 0.9;
/** Milliseconds for a job of usual cost, until one has ended. */
const UNKNOWN_MS = 1_000;

export class Pace {
  #ms = 0;
  #cost = 0;
  /** Since when there is work that no end has accounted for. */
  #since: number | undefined;

  /** Something runs from now on, if nothing did. */
  begin(): void {
    this.#since ??= performance.now();
  }

  /** A job of this cost has ended; others may still run. */
  end(cost: number, isIdle: boolean): void {
    const now = performance.now();
    this.#ms = this.#ms * DECAY + now - (this.#since ?? now);
    this.#cost = this.#cost * DECAY + cost;
    this.#since = isIdle ? undefined : now;
  }

  get isKnown(): boolean {
    return this.#cost > 0;
  }

  /** Milliseconds that all jobs together take for one of usual cost. */
  get msPerCost(): number {
    return this.isKnown ? this.#ms / this.#cost : UNKNOWN_MS;
  }
}
