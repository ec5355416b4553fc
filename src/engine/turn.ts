/** A run's turn on the device: one at a time, first come first served. Those that wait are told their position. */
import { Line, type Waiting } from "../line/line.ts";

export class Turn implements Waiting {
  readonly client = undefined;
  readonly inputBytes = 0;
  readonly #line: Line<Turn>;
  #listener = () => {};

  /** Takes its place in the line. */
  constructor(line: Line<Turn>) {
    this.#line = line;
    line.join(this);
  }

  /** The line of one device. */
  static line(): Line<Turn> {
    const moved = (turn: Turn) => turn.#listener();
    return new Line<Turn>({ concurrency: 1, begin: moved, moved });
  }

  /** Waiting runs ahead of this one (0: next), as in a `queued` event; undefined once it is this one's turn. */
  get position(): number | undefined {
    return this.#line.position(this);
  }

  /** Resolves once the position is no longer `from`; rejects with the signal's reason if it is aborted. */
  moved(from: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => reject(signal?.reason);
      if (signal?.aborted) return abort();
      if (this.position !== from) return resolve(); // it moved while nobody was listening
      signal?.addEventListener("abort", abort, { once: true });
      this.#listener = () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
    });
  }

  /** Leaves the line, or ends the turn. */
  leave(): void {
    if (!this.#line.withdraw(this)) this.#line.end(this);
  }
}
