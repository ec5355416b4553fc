/**
 * A line before so many places, at which one's turn comes: jobs before a run, runs before the device.
 *
 * It is in rounds: each client has one entry in each, and a client that comes begins with the round after the one that runs
 * (start-time fair queueing). So somebody with one entry waits for one of each other client, not for all of them. No client
 * may fill the line: each may have as much as is left free for others. Entries of nobody in particular are served as they
 * come.
 */

import type { Priority } from "./priority.ts";

/** The facts about an entry that a line needs. */
export interface Waiting {
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client: string | undefined;
  /** Bytes of its input. */
  readonly inputBytes: number;
  /** Its work, where 1 is the usual; a client pays for it with rounds. Default: 1. */
  readonly cost?: number;
  /** Bytes that it takes while it has its turn. Default: none. */
  readonly workingBytes?: number;
  /** Default: `stream`. */
  readonly priority?: Priority;
  /** Its turn comes when no other's is, and no other's comes as long as it has its own. Default: false. */
  readonly isAlone?: boolean;
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
  /** Entries of realtime sessions that have their turn besides, so that none of them waits for long ones. Default: 0. */
  readonly reserved?: number;
  /** Entries of one client among them, so that another need not wait for one of them to end. Default: all. */
  readonly ofClient?: number;
  /** Bytes that those who have their turn take together; one alone may take more. Default: any number. */
  readonly maxWorkingBytes?: number;
  /** Milliseconds for which others that find room pass one that does not. Default: none do. */
  readonly patienceMs?: number;
  /** Called at each entry's turn; `end` ends it. */
  readonly begin: (entry: T) => void;
  /** Called for an entry that has to wait, and whenever it moves up: so many are ahead of it (0: next). */
  readonly moved?: (entry: T, position: number) => void;
}

const UNBOUNDED = Number.POSITIVE_INFINITY;
/** Rounds by which an entry comes earlier. It is a lead and no rank, so nobody waits for ever. */
const LEAD: Readonly<Record<Priority, number>> = { realtime: 2, stream: 0, detached: -2 };

interface Place<T> {
  readonly entry: T;
  readonly round: number;
  /** The round, less the lead of its priority: places are in this order. */
  readonly rank: number;
  /** The position that `moved` was called with last. */
  announced?: number;
  /** Since when there has been a place for it and no room. */
  blockedSince?: number;
}

export class Line<T extends Waiting> {
  readonly #options: LineOptions<T>;
  readonly #places: Place<T>[] = [];
  /** Those whose turn it is, and whether they have a reserved place. */
  readonly #running = new Map<T, { readonly isReserved: boolean }>();
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

  /** The cost of all that comes before `entry`, or would if it joined now; of those whose turn it is, half of it. */
  costBefore(entry: Waiting): number {
    const at = this.#places.findIndex((place) => place.entry === entry);
    const before = this.#places.slice(0, at < 0 ? this.#placeOf(rankOf(entry, this.#roundOf(entry))) : at);
    const waiting = before.reduce((sum, place) => sum + (place.entry.cost ?? 1), 0);
    return [...this.#running.keys()].reduce((sum, { cost = 1 }) => sum + cost / 2, waiting);
  }

  /** Its turn comes at once if there is a free place. */
  join(entry: T): void {
    const { client } = entry;
    const round = this.#roundOf(entry);
    const rank = rankOf(entry, round);
    if (client !== undefined) this.#lastRounds.set(client, round);
    this.#places.splice(this.#placeOf(rank), 0, { entry, round, rank });
    this.#advance();
  }

  /** The round that an entry has if it joins now. */
  #roundOf({ client, cost = 1 }: Waiting): number {
    if (client === undefined) return this.#round;
    return Math.max(this.#lastRounds.get(client) ?? 0, this.#round) + cost;
  }

  /** Behind all of this rank and those before. */
  #placeOf(rank: number): number {
    let at = this.#places.length;
    while (at > 0 && this.#places[at - 1]!.rank > rank) at--;
    return at;
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
    for (let next = this.#next(); next; next = this.#next()) {
      const { place, isReserved } = next;
      this.#places.splice(this.#places.indexOf(place), 1);
      // One that came before others of its round does not bring the next.
      this.#round = Math.max(this.#round, place.round);
      for (const [client, last] of this.#lastRounds) if (last <= this.#round) this.#lastRounds.delete(client);
      this.#running.set(place.entry, { isReserved });
      this.#options.begin(place.entry);
    }
    for (const [position, place] of this.#places.entries()) {
      if (place.announced === position) continue;
      place.announced = position;
      this.#options.moved?.(place.entry, position);
    }
  }

  /** The first whose turn can come, and its place among those that run. */
  #next(): { readonly place: Place<T>; readonly isReserved: boolean } | undefined {
    const { concurrency, reserved = 0, ofClient = UNBOUNDED, maxWorkingBytes = UNBOUNDED } = this.#options;
    const { patienceMs = 0 } = this.#options;
    const running = [...this.#running];
    if (running.some(([entry]) => entry.isAlone)) return undefined;
    const ordinary = running.filter(([, { isReserved }]) => !isReserved);
    const taken = running.length - ordinary.length;
    const room = maxWorkingBytes - running.reduce((sum, [{ workingBytes = 0 }]) => sum + workingBytes, 0);
    for (const place of this.#places) {
      const { client, isAlone, workingBytes = 0, priority } = place.entry;
      // Those behind it wait, or it would never be alone.
      if (isAlone && running.length > 0) return undefined;
      const isReserved = priority === "realtime" && taken < reserved;
      if (!isReserved && ordinary.length >= concurrency) {
        if (taken >= reserved) return undefined;
        continue;
      }
      const own = ordinary.filter(([entry]) => client !== undefined && entry.client === client).length;
      if (!isReserved && own >= ofClient) continue;
      if (running.length === 0 || workingBytes <= room) return { place, isReserved };
      place.blockedSince ??= performance.now();
      // In the end those behind it wait, or it would never have room.
      if (performance.now() - place.blockedSince >= patienceMs) return undefined;
    }
    return undefined;
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

function rankOf({ priority = "stream" }: Waiting, round: number): number {
  return round - LEAD[priority];
}

function bytesOfAll(entries: readonly Waiting[]): number {
  return entries.reduce((sum, { inputBytes }) => sum + inputBytes, 0);
}
