/** The events of a run that waits for weights or kernels: the newest news, a few times a second. */

import type { Preparation, PreparationWatch } from "../memory/preparation.ts";
import { sleep } from "../platform/sleep.ts";

export interface PreparingEvent extends Preparation {
  readonly type: "preparing";
}

/** Milliseconds of waiting before the first event, and between two: a shorter wait is nobody's news. */
const EVERY_MS = 100;

export class Preparing {
  /** For those who do the work. Aborted if the run's own signal is, or if nobody takes its events any more. */
  readonly watch: PreparationWatch;
  readonly #ending = new AbortController();
  #newest: Preparation | undefined;
  #wake = () => {};

  constructor(signal?: AbortSignal) {
    const ending = this.#ending.signal;
    this.watch = {
      signal: signal ? AbortSignal.any([signal, ending]) : ending,
      onProgress: (progress) => {
        this.#newest = progress;
        this.#wake();
      },
    };
  }

  /** Waits for `work`, and yields what is told of it meanwhile. Ends only when it has ended. */
  async *during<T>(work: Promise<T>): AsyncGenerator<PreparingEvent, T, undefined> {
    let isOver = false;
    const over = () => {
      isOver = true;
      this.#wake();
    };
    const settled = work.then(over, over);
    let due = performance.now() + EVERY_MS;
    try {
      while (!isOver) {
        if (this.#newest === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          continue;
        }
        const early = due - performance.now();
        if (early > 0) await Promise.race([settled, sleep(early)]);
        if (isOver) break;
        const newest = this.#newest;
        this.#newest = undefined;
        due = performance.now() + EVERY_MS;
        yield { type: "preparing", ...newest };
      }
      return await work;
    } finally {
      if (!isOver) this.#ending.abort(new DOMException("The run was ended", "AbortError"));
      await settled;
      this.#newest = undefined;
    }
  }
}
