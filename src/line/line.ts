/**
 * A line before so many places, at which one's turn comes: jobs before a run, runs before the device.
 *
 * It is in rounds: each client has one entry in each, and a client that comes begins with the round after the one that runs
 * (start-time fair queueing). So somebody with one entry waits for one of each other client, not for all of them. No client
 * may fill the line: each may have as much as is left free for others. Entries of nobody in particular are served as they
 * come.
 */

/** The facts about an entry that a line needs. */
export interface Waiting {
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client: string | undefined;
  /** Bytes of its input. */
  readonly inputBytes: number;
}

export interface LineBounds {
  /** Entries that may wait; of one client, no more than are left free for others. */
  readonly maxQueued: number;
  /** Bytes of waiting inputs, at most, shared in the same way; a single input may be larger. */
  readonly maxQueuedBytes: number;
}

export interface LineOptions<T> extends Partial<LineBounds> {
  /** Entries that have their turn at the same time. */
  readonly concurrency: number;
  /** Called at each entry's turn; `end` ends it. */
  readonly begin: (entry: T) => void;
  /** Called for an entry that has to wait, and whenever it moves up: so many are ahead of it (0: next). */
  readonly moved?: (entry: T, position: number) => void;
}

const UNBOUNDED = Number.POSITIVE_INFINITY;

interface Place<T> {
  readonly entry: T;
  readonly round: number;
  /** The position that `moved` was called with last. */
  announced?: number;
}

export class Line<T extends Waiting> {
  readonly #options: LineOptions<T>;
  readonly #places: Place<T>[] = [];
  /** Those whose turn it is. */
  readonly #running = new Set<T>();
  /** The round of each client's last entry in the line. */
  readonly #lastRounds = new Map<string | undefined, number>();
  /** The round of the entry whose turn came last. */
  #round = 0;

  constructor(options: LineOptions<T>) {
    this.#options = options;
  }

  /** Entries that wait. */
  get length(): number {
    return this.#places.length;
  }

  /** True if nothing waits or has its turn. */
  get isIdle(): boolean {
    return this.#places.length + this.#running.size === 0;
  }

  /** Entries ahead of it (0: next); undefined if it does not wait. */
  position(entry: T): number | undefined {
    const at = this.#places.findIndex((place) => place.entry === entry);
    return at < 0 ? undefined : at;
  }

  /** Its turn comes at once if there is a free place. */
  join(entry: T): void {
    const { client } = entry;
    const round = client === undefined ? this.#round : Math.max(this.#lastRounds.get(client) ?? 0, this.#round) + 1;
    if (client !== undefined) this.#lastRounds.set(client, round);
    let at = this.#places.length;
    while (at > 0 && this.#places[at - 1]!.round > round) at--;
    this.#places.splice(at, 0, { entry, round });
    this.#advance();
  }

  /** Takes out one that waits; false if it does not. */
  withdraw(entry: T): boolean {
    const at = this.position(entry);
    if (at === undefined) return false;
    this.#places.splice(at, 1);
    this.#advance();
    return true;
  }

  /** Ends its turn: the next one's comes. */
  end(entry: T): void {
    if (this.#running.delete(entry)) this.#advance();
  }

  #advance(): void {
    while (this.#running.size < this.#options.concurrency) {
      const next = this.#places.shift();
      if (next === undefined) break;
      this.#round = Math.max(this.#round, next.round);
      for (const [client, last] of this.#lastRounds) if (last <= this.#round) this.#lastRounds.delete(client);
      this.#running.add(next.entry);
      this.#options.begin(next.entry);
    }
    for (const [position, place] of this.#places.entries()) {
      if (place.announced === position) continue;
      place.announced = position;
      this.#options.moved?.(place.entry, position);
    }
  }

  /** Why a client may not add an input of so many bytes; undefined if it may. */
  refusal(client: string | undefined, inputBytes: number): string | undefined {
    const { concurrency, maxQueued = UNBOUNDED, maxQueuedBytes = UNBOUNDED } = this.#options;
    if (this.#running.size < concurrency) return undefined;
    const waiting = this.#places.map(({ entry }) => entry);
    const own = waiting.filter((entry) => client !== undefined && entry.client === client);
    const freeBytes = maxQueuedBytes - bytesOfAll(waiting);
    if (waiting.length >= maxQueued || (waiting.length > 0 && inputBytes > freeBytes)) {
      return `${waiting.length} jobs are waiting already; try again later`;
    }
    if (own.length === 0) return undefined;
    if (own.length <= maxQueued - waiting.length && bytesOfAll(own) + inputBytes <= freeBytes) return undefined;
    return `${own.length} of your jobs are waiting already, which is your share; try again later`;
  }
}

function bytesOfAll(entries: readonly Waiting[]): number {
  return entries.reduce((sum, { inputBytes }) => sum + inputBytes, 0);
}
