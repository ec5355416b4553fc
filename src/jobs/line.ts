/**
 * The line of waiting jobs. It is in rounds: each client has one job in each, and a client that comes begins with the
 * round after the one that runs (start-time fair queueing). So somebody with one job waits for one job of each other
 * client, not for all of them. No client may fill the line: each may have as much as is left free for others.
 */

/** What a line needs to know of a job. */
export interface Waiting {
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client: string | undefined;
  /** Bytes of its input. */
  readonly inputBytes: number;
}

export interface LineLimits {
  /** Jobs that may wait; of one client, no more than are left free for others. */
  readonly maxQueued: number;
  /** Bytes of waiting jobs' inputs, at most, shared in the same way; a single input may be larger. */
  readonly maxQueuedBytes: number;
}

export class Line<T extends Waiting> {
  readonly #limits: LineLimits;
  readonly #places: { readonly job: T; readonly round: number }[] = [];
  /** The round of each client's last job in the line. */
  readonly #lastRounds = new Map<string | undefined, number>();
  /** The round of the job that left the line last to be run. */
  #round = 0;

  constructor(limits: LineLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#places.length;
  }

  /** Jobs ahead of it; -1 when it is not in the line. */
  position(job: T): number {
    return this.#places.findIndex((place) => place.job === job);
  }

  push(job: T): void {
    const { client } = job;
    const round = client === undefined ? this.#round : Math.max(this.#lastRounds.get(client) ?? 0, this.#round) + 1;
    if (client !== undefined) this.#lastRounds.set(client, round);
    let at = this.#places.length;
    while (at > 0 && this.#places[at - 1]!.round > round) at--;
    this.#places.splice(at, 0, { job, round });
  }

  /** The next to run. */
  shift(): T | undefined {
    const next = this.#places.shift();
    if (next === undefined) return undefined;
    this.#round = Math.max(this.#round, next.round);
    for (const [client, last] of this.#lastRounds) if (last <= this.#round) this.#lastRounds.delete(client);
    return next.job;
  }

  /** False when it is not in the line. */
  remove(job: T): boolean {
    const at = this.position(job);
    if (at >= 0) this.#places.splice(at, 1);
    return at >= 0;
  }

  /** In the order in which they will run. */
  *[Symbol.iterator](): Generator<T, void, undefined> {
    for (const { job } of this.#places) yield job;
  }

  /** Why a client may not add an input of so many bytes; undefined if it may. */
  refusal(client: string | undefined, inputBytes: number): string | undefined {
    const { maxQueued, maxQueuedBytes } = this.#limits;
    const waiting = [...this];
    const own = waiting.filter((job) => client !== undefined && job.client === client);
    const freeBytes = maxQueuedBytes - bytesOfAll(waiting);
    if (waiting.length >= maxQueued || (waiting.length > 0 && inputBytes > freeBytes)) {
      return `${waiting.length} jobs are waiting already; try again later`;
    }
    if (own.length === 0) return undefined;
    if (own.length <= maxQueued - waiting.length && bytesOfAll(own) + inputBytes <= freeBytes) return undefined;
    return `${own.length} of your jobs are waiting already, which is your share; try again later`;
  }
}

function bytesOfAll(jobs: readonly Waiting[]): number {
  return jobs.reduce((sum, { inputBytes }) => sum + inputBytes, 0);
}
