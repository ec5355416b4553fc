/** A run's place in a runtime, which has so many; first come first served. Those that wait are told their position. */
import { Line, type LineOptions, type Waiting } from "../line/line.ts";

/**
 * Runs that go on at once. Eight share a replay; the others are of other sizes, of realtime sessions, or of a client that has
 * none.
 */
export const RUNS_AT_ONCE = 13;

/** The facts about a run that its place needs. */
export interface PlaceFacts extends Pick<Waiting, "isAlone"> {
  /** Bytes of device memory that it takes, as they are known at the moment. Default: none. */
  readonly workingBytes?: () => number;
  /** Milliseconds that it will take, about. */
  readonly cost?: number;
  /** Against whom it counts if places are fewer for each: its model. */
  readonly client?: string | undefined;
}

export class Place implements Waiting {
  readonly client: string | undefined;
  readonly inputBytes = 0;
  readonly isAlone: boolean;
  readonly cost: number;
  readonly #workingBytes: () => number;
  readonly #line: Line<Place>;
  #listener = () => {};

  /** Joins the line. */
  constructor(line: Line<Place>, { client, isAlone = false, cost = 1, workingBytes = () => 0 }: PlaceFacts = {}) {
    this.client = client;
    this.isAlone = isAlone;
    this.cost = cost;
    this.#workingBytes = workingBytes;
    this.#line = line;
    line.join(this);
  }

  /** The line of a runtime with so many places. */
  static line(options: Omit<LineOptions<Place>, "begin" | "moved">): Line<Place> {
    const moved = (place: Place) => place.#listener();
    return new Line<Place>({ ...options, begin: moved, moved });
  }

  get workingBytes(): number {
    return this.#workingBytes();
  }

  /** Milliseconds until its turn, about, as far as the costs of those before it tell. */
  get waitMs(): number {
    return this.#line.costBefore(this);
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
