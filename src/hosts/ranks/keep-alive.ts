/** Calls something when nothing else was called for a while. */
export class KeepAlive {
  readonly #seconds: number | undefined;
  readonly #call: () => Promise<void>;
  #timer: NodeJS.Timeout | undefined;

  /** @param seconds undefined: never */
  constructor(seconds: number | undefined, call: () => Promise<void>) {
    this.#seconds = seconds;
    this.#call = call;
  }

  /** Begins to count anew. */
  reset(): void {
    this.stop();
    if (this.#seconds === undefined) return;
    this.#timer = setTimeout(() => void this.#call(), this.#seconds * 1000).unref();
  }

  /** Counts no more until `reset`. */
  stop(): void {
    clearTimeout(this.#timer);
  }
}
