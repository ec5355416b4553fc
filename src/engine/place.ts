/** A run's place in a runtime, which has so many; first come first served. Those that wait are told their position. */
import { Line, type Waiting } from "../line/line.ts";

/**
 * Runs that go on at once. Eight share a replay; the others are of other sizes, of realtime sessions, or of a client that has
 * none.
 */
export const RUNS_AT_ONCE = 13;

export class Place implements Waiting {
  readonly client = undefined;
  readonly inputBytes = 0;
  readonly isAlone: boolean;
  readonly #line: Line<Place>;
  #listener = () => {};

  /** Joins the line. @param isAlone nothing else is to go on meanwhile */
  constructor(line: Line<Place>, isAlone = false) {
    this.isAlone = isAlone;
    this.#line = line;
    line.join(this);
  }

  /** The line of a runtime with so many places. */
  static line(concurrency: number): Line<Place> {
    const moved = (place: Place) => place.#listener();
    return new Line<Place>({ concurrency, begin: moved, moved });
  }

  /** Waiting runs ahead of this one (0: next), as in a `queued` event; undefined once it has its place. */
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

  /** Leaves the line, or gives the place back. */
  leave(): void {
    if (!this.#line.withdraw(this)) this.#line.end(this);
  }
}
