/**
 * One account of the memory that clients make the server hold.
 *
 * Everything in memory for a client (a body that arrives, a session's fields, an unread answer) is a *hold*: bytes of
 * a *kind*, on the account of one client. Each kind has a bound for all clients together, and one of two things happens
 * at it:
 *
 * - A hold that can be *ended* (it has an `end`) gives way. The client that holds the most loses first, and of its holds
 *   the slowest: the one that has stood still longest or, where all move, the one with the lowest rate. So whoever sends or
 *   reads at a usual pace is not touched by somebody else who does not.
 * - A hold that cannot be ended is refused. A client may have as much as is left free for others after it, so that somebody
 *   who asks for little always finds room; one who holds nothing yet may take all that is free.
 *
 * Bytes that are held elsewhere under a bound of their own (the logs of jobs) are entered as a source, so that all of it is read in
 * one place. A client is any text that tells clients apart.
 */

export const HOLD_KINDS = ["bodies", "answers", "sessions", "waiting", "logs", "encoded"] as const;
export type HoldKind = (typeof HOLD_KINDS)[number];

/** Bytes, at most, of each kind for all clients together. */
export type MemoryBounds = Readonly<Record<HoldKind, number>>;

export const MEMORY_BOUNDS: MemoryBounds = {
  bodies: 256 * 2 ** 20,
  answers: 256 * 2 ** 20,
  sessions: 128 * 2 ** 20,
  waiting: 256 * 2 ** 20,
  logs: 288 * 2 ** 20,
  encoded: 64 * 2 ** 20,
};

/** Milliseconds without progress after which a hold stands still. */
const STILL_MS = 1_000;

export interface Hold {
  readonly bytes: number;
  /** True if it was ended to make room; nothing more is counted on it then. */
  readonly ended: boolean;
  /**
   * Sets its bytes. False: there is no room; a hold that can be ended has been, another is as it was. Nothing is
   * counted any more on one that has been ended or released, so that bytes that come late are not held for ever.
   */
  resize(bytes: number): boolean;
  /** It moves, though its bytes are the same. */
  touch(): void;
  /** Gives the bytes back, for good. Harmless when repeated. */
  release(): void;
}

export interface Account {
  readonly bounds: MemoryBounds;
  /** Begins a hold of no bytes. @param end called once, when it has to give way */
  open(kind: HoldKind, client: string, end?: () => void): Hold;
  /** Bytes of a kind, of all clients or of one. */
  bytes(kind: HoldKind, client?: string): number;
  /** Enters bytes that are held, and bounded, elsewhere. */
  enter(kind: HoldKind, bytes: () => number): void;
}

class Entry implements Hold {
  bytes = 0;
  ended = false;
  #released = false;
  readonly since = performance.now();
  moved = this.since;
  readonly kind: Kind;
  readonly client: string;
  readonly end: (() => void) | undefined;

  constructor(kind: Kind, client: string, end: (() => void) | undefined) {
    this.kind = kind;
    this.client = client;
    this.end = end;
  }

  resize(bytes: number): boolean {
    if (this.ended || this.#released) return false;
    this.moved = performance.now();
    if (bytes <= this.bytes || this.kind.admits(this, bytes - this.bytes)) {
      this.kind.set(this, bytes);
      return true;
    }
    if (this.end === undefined) return false;
    this.kind.set(this, bytes);
    this.kind.makeRoom();
    return !this.ended;
  }

  touch(): void {
    this.moved = performance.now();
  }

  release(): void {
    this.#released = true;
    this.kind.set(this, 0);
  }

  /** Bytes a second since it began; below 0, the more the longer it has stood still. */
  pace(now: number): number {
    const still = now - this.moved;
    return still > STILL_MS ? -still : this.bytes / Math.max(now - this.since, 1);
  }
}

/** The holds of one kind. */
class Kind {
  total = 0;
  readonly bound: number;
  readonly clients = new Map<string, { bytes: number; holds: Set<Entry> }>();
  readonly sources: (() => number)[] = [];

  constructor(bound: number) {
    this.bound = bound;
  }

  set(hold: Entry, bytes: number): void {
    const more = bytes - hold.bytes;
    if (more === 0) return;
    hold.bytes = bytes;
    this.total += more;
    const client = this.clients.get(hold.client) ?? { bytes: 0, holds: new Set() };
    client.bytes += more;
    if (bytes > 0) client.holds.add(hold);
    else client.holds.delete(hold);
    if (client.holds.size > 0) this.clients.set(hold.client, client);
    else this.clients.delete(hold.client);
  }

  admits(hold: Entry, more: number): boolean {
    const free = this.bound - this.total - more;
    if (free < 0) return false;
    const own = this.clients.get(hold.client)?.bytes ?? 0;
    return hold.end !== undefined || own === 0 || own + more <= free;
  }

  /** Ends holds until the bound holds again. */
  makeRoom(): void {
    const now = performance.now();
    while (this.total > this.bound) {
      let heaviest: { bytes: number; holds: Set<Entry> } | undefined;
      for (const client of this.clients.values()) {
        if (heaviest === undefined || client.bytes > heaviest.bytes) heaviest = client;
      }
      let slowest: Entry | undefined;
      for (const hold of heaviest?.holds ?? []) {
        if (hold.end !== undefined && (slowest === undefined || hold.pace(now) < slowest.pace(now))) slowest = hold;
      }
      if (slowest === undefined) return;
      this.set(slowest, 0);
      slowest.ended = true;
      slowest.end?.();
    }
  }
}

/** @param bounds what is left out is as in `MEMORY_BOUNDS` */
export function createAccount(bounds: Partial<MemoryBounds> = {}): Account {
  const whole: MemoryBounds = { ...MEMORY_BOUNDS, ...bounds };
  const kinds = Object.fromEntries(HOLD_KINDS.map((kind) => [kind, new Kind(whole[kind])])) as Record<HoldKind, Kind>;
  return {
    bounds: whole,
    open: (kind, client, end) => new Entry(kinds[kind], client, end),
    bytes(kind, client) {
      const { total, clients, sources } = kinds[kind];
      if (client !== undefined) return clients.get(client)?.bytes ?? 0;
      return sources.reduce((sum, bytes) => sum + bytes(), total);
    },
    enter(kind, bytes) {
      kinds[kind].sources.push(bytes);
    },
  };
}

/** The account of transports that are given none: one for the whole process. */
export const PROCESS_ACCOUNT = createAccount();
