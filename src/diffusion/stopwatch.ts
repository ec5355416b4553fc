/** Milliseconds that a run spends in each of its phases. */
export class Stopwatch {
  readonly #begun = performance.now();
  readonly #times = { prompt: 0, start: 0, denoise: 0, preview: 0, decode: 0 };
  #last = this.#begun;

  /** Counts the time since the last lap for `phase`. */
  lap(phase: "prompt" | "start" | "denoise" | "preview" | "decode"): void {
    const now = performance.now();
    this.#times[phase] += now - this.#last;
    this.#last = now;
  }

  times() {
    return { ...this.#times, total: performance.now() - this.#begun };
  }
}
