/**
 * A signal that aborts when one of others does, and lets go of them. (`AbortSignal.any` of Node 20 leaves a trace of every
 * signal it makes in a source that lives on, such as that of a host.)
 */
export class LinkedSignal {
  readonly #controller = new AbortController();
  readonly #sources: readonly AbortSignal[];

  constructor(sources: readonly AbortSignal[]) {
    this.#sources = sources;
    for (const source of sources) source.addEventListener("abort", this.#onAbort, { once: true });
    this.#onAbort();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  release(): void {
    for (const source of this.#sources) source.removeEventListener("abort", this.#onAbort);
  }

  readonly #onAbort = () => {
    const source = this.#sources.find(({ aborted }) => aborted);
    if (source !== undefined) this.#controller.abort(source.reason);
  };
}
