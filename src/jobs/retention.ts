/**
 * Jobs that have ended and are still held: for a time, and within a number and bytes for all of them. At the bound the
 * client that holds the most loses its oldest first.
 */

/** The part of an ended job that retention reads. */
export interface EndedJob {
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client: string | undefined;
  /** Bytes that it holds: its input and its log. */
  readonly bytes: number;
}

export interface RetentionBounds {
  /** Milliseconds for which an ended job's log is held. */
  readonly retentionMs: number;
  /** Bytes of ended jobs, their inputs and logs, at most; the oldest go first. */
  readonly retainedBytes: number;
  /** Ended jobs held, at most. */
  readonly retainedJobs: number;
}

/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

interface Share<T> {
  bytes: number;
  /** In the order in which they ended. */
  readonly jobs: Set<T>;
}

export class Retention<T extends EndedJob> {
  readonly #bounds: RetentionBounds;
  readonly #forget: (job: T) => void;
  readonly #shares = new Map<string | undefined, Share<T>>();
  readonly #places = new Map<T, { readonly bytes: number; readonly expiry: NodeJS.Timeout }>();
  #bytes = 0;

  /** @param forget called when a job's time is over or it has to make room; it calls `release` */
  constructor(bounds: RetentionBounds, forget: (job: T) => void) {
    this.#bounds = bounds;
    this.#forget = forget;
  }

  /** Holds a job that has ended. */
  retain(job: T): void {
    const expiry = setTimeout(() => this.#forget(job), Math.min(this.#bounds.retentionMs, LONGEST_TIMER)).unref();
    const { client, bytes } = job;
    const share = this.#shares.get(client) ?? { bytes: 0, jobs: new Set() };
    share.bytes += bytes;
    share.jobs.add(job);
    this.#shares.set(client, share);
    this.#places.set(job, { bytes, expiry });
    this.#bytes += bytes;
    this.#makeRoom();
  }

  /** Counts a job no more. Harmless for one that is not held. */
  release(job: T): void {
    const place = this.#places.get(job);
    if (place === undefined) return;
    clearTimeout(place.expiry);
    this.#places.delete(job);
    this.#bytes -= place.bytes;
    const share = this.#shares.get(job.client)!;
    share.jobs.delete(job);
    share.bytes -= place.bytes;
    if (share.jobs.size === 0) this.#shares.delete(job.client);
  }

  #makeRoom(): void {
    const { retainedJobs, retainedBytes } = this.#bounds;
    for (;;) {
      const count = this.#places.size;
      const areTooMany = count > retainedJobs;
      // The last one stays, however large it is: somebody waits for it.
      if (!areTooMany && (this.#bytes <= retainedBytes || count === 1)) return;
      const weight = ({ jobs, bytes }: Share<T>) => (areTooMany ? jobs.size : bytes);
      const [heaviest] = [...this.#shares.values()].sort((one, other) => weight(other) - weight(one));
      const [oldest] = heaviest?.jobs ?? [];
      if (oldest === undefined) return;
      this.#forget(oldest);
    }
  }
}
