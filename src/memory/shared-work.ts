/** Work that several wait for: it is done once, and stopped if none of them waits for it any more. */
export class SharedWork<T> {
  readonly #stop = new AbortController();
  readonly #result: Promise<T>;
  /** Resolves at its end: true if it came to a result. */
  readonly ended: Promise<boolean>;
  #waiting = 0;

  /** @param work is told to stop by the signal */
  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.#result = work(this.#stop.signal);
    // It is thrown to those who wait.
    this.ended = this.#result.then(
      () => true,
      () => false,
    );
  }

  /** Nobody may join any more: it was told to stop. */
  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Settles with the work's end. Rejects with the signal's reason if it is aborted before; the last to leave sees the work end. */
  join(signal?: AbortSignal): Promise<T> {
    this.#waiting++;
    return new Promise((resolve, reject) => {
      const leave = () => {
        signal?.removeEventListener("abort", stop);
        this.#waiting--;
      };
      const stop = () => {
        if (this.#waiting === 1) return this.#stop.abort(signal!.reason);
        leave();
        reject(signal!.reason);
      };
      signal?.addEventListener("abort", stop, { once: true });
      this.#result.finally(leave).then(resolve, reject);
      if (signal?.aborted) stop();
    });
  }
}
