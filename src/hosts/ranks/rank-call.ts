/** One call on one rank: its results on their way out, and its place among its collectives. */
import type { Collective } from "../messages.ts";
import type { GroupLink } from "../served-runs.ts";

/** A result before the last: a value, or the text of an event. */
export type RankResult = { readonly value: unknown } | { readonly text: string };

/** Results that may wait for a call that does not wait for them. */
const MOST_WAITING = 256;

interface WaitingResult {
  readonly result: RankResult;
  readonly taken: () => void;
  readonly refused: (error: unknown) => void;
}

export class RankCall {
  readonly isStreaming: boolean;
  readonly #link: GroupLink;
  readonly #signal: AbortSignal;
  readonly #waiting: WaitingResult[] = [];
  /** Collectives so far. */
  #step = 0;
  /** Wakes the reader of results. */
  #wake: (() => void) | undefined;

  constructor(link: GroupLink, signal: AbortSignal, isStreaming: boolean) {
    this.#link = link;
    this.#signal = signal;
    this.isStreaming = isStreaming;
  }

  collect(collective: Omit<Collective, "job" | "step">): Promise<unknown> {
    return this.#link.collect({ ...collective, step: this.#step++ });
  }

  add(result: RankResult): Promise<void> {
    if (this.#signal.aborted) return Promise.reject(this.#signal.reason);
    if (this.#waiting.length >= MOST_WAITING) {
      return Promise.reject(new RangeError("results are added faster than they are read: await addStreamingResult"));
    }
    return new Promise((taken, refused) => {
      this.#waiting.push({ result, taken, refused });
      this.#wake?.();
    });
  }

  /** Its results as they are read, and then the value that `work` gives. */
  async *results<T>(work: Promise<T>): AsyncGenerator<RankResult, T, undefined> {
    let isDone = false;
    const end = () => {
      isDone = true;
      this.#wake?.();
    };
    work.then(end, end);
    this.#signal.addEventListener("abort", end);
    try {
      for (;;) {
        const [next] = this.#waiting;
        if (next !== undefined) {
          yield next.result;
          this.#waiting.shift();
          next.taken();
        } else if (isDone) {
          this.#signal.throwIfAborted();
          return await work;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      this.#signal.removeEventListener("abort", end);
      const left = this.#signal.reason ?? new DOMException("The call is over", "AbortError");
      for (const { refused } of this.#waiting.splice(0)) refused(left);
      // The call goes on until it looks at its signal, and the run is not over before it is.
      await work.catch(() => {});
    }
  }
}
