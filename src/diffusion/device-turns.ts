/**
 * Turns on the device. A batch that has steps to take, words to encode, a picture to decode: each waits for a turn of its
 * own, and has the device until it ends it. Turns go to the customer that has used the least time of the device
 * (start-time fair queueing), whatever it wants there: one with a single step waits for the turn that is under way, not for
 * all steps of the others.
 */

import type { Priority } from "../line/priority.ts";

/** Milliseconds of the device by which a customer's turn comes earlier. It is a lead and no rank, so nobody waits for ever. */
const LEAD_MS: Readonly<Record<Priority, number>> = { realtime: 500, stream: 0, detached: -500 };
/** Accounts of clients that have no turn, at most; those that nothing is due to are forgotten then. */
const MAX_ACCOUNTS = 1_000;

/** Milliseconds of the device that a client has used, beginning with those of the others when it came. */
interface Account {
  used: number;
}

/** A request that uses the device, on its client's account. */
export class Customer {
  readonly account: Account;
  readonly #lead: number;

  constructor(account: Account, priority: Priority) {
    this.account = account;
    this.#lead = LEAD_MS[priority];
  }

  /** The one with the least comes first. */
  get rank(): number {
    return this.account.used - this.#lead;
  }
}

/** Something that wants a turn. */
export interface Candidate {
  /** Those who wait for it. */
  readonly customers: readonly Customer[];
  /** Milliseconds of the device that it has had: the less come first among those of one client. */
  used: number;
}

export interface Turn {
  /** Gives the device back; those who were served pay for the time in equal parts. */
  end(served: readonly Customer[]): void;
}

/** Has work done in a turn on the device. */
export type InTurn = <T>(work: () => Promise<T>) => Promise<T>;

interface Waiting {
  readonly candidate: Candidate;
  readonly begin: (turn: Turn) => void;
  readonly since: number;
}

export class DeviceTurns {
  readonly #accounts = new Map<string, Account>();
  readonly #waiting = new Set<Waiting>();
  /** Turns that were taken, and the milliseconds for which they were waited for. */
  count = 0;
  waitMilliseconds = 0;
  #isTaken = false;
  /** The time that the last customer to have a turn had used, and the last candidate: who is new begins with it. */
  #now = 0;
  #candidateNow = 0;

  /** @param client whose account pays; undefined: one of its own */
  customer(client: string | undefined, priority: Priority = "stream"): Customer {
    return new Customer(client === undefined ? { used: this.#now } : this.#accountOf(client), priority);
  }

  /**
   * To be called when a customer begins to wait. One that was away comes back with no more credit than the longest lead: that
   * much it may be behind one which has come before it by its priority.
   */
  arrive({ account }: Customer): void {
    account.used = Math.max(account.used, this.#now - LEAD_MS.realtime);
  }

  /** Resolves once it is the candidate's turn. */
  wait(candidate: Candidate): Promise<Turn> {
    candidate.used = Math.max(candidate.used, this.#candidateNow);
    return new Promise((begin) => {
      this.#waiting.add({ candidate, begin, since: performance.now() });
      this.#advance();
    });
  }

  /** Has `work` done in a turn. @throws whatever `work` throws */
  async during<T>(customer: Customer, work: () => Promise<T>): Promise<T> {
    const customers = [customer];
    this.arrive(customer);
    const turn = await this.wait({ customers, used: 0 });
    try {
      return await work();
    } finally {
      turn.end(customers);
    }
  }

  #advance(): void {
    if (this.#isTaken) return;
    let next: { readonly waiting: Waiting; readonly rank: number } | undefined;
    for (const waiting of this.#waiting) {
      const rank = rankOf(waiting.candidate);
      const isBefore = next === undefined || rank < next.rank;
      if (isBefore || (rank === next!.rank && waiting.candidate.used < next!.waiting.candidate.used)) {
        next = { waiting, rank };
      }
    }
    if (next === undefined) return;
    const { candidate, begin, since } = next.waiting;
    this.#waiting.delete(next.waiting);
    this.#isTaken = true;
    let least = Number.POSITIVE_INFINITY;
    this.#candidateNow = Math.max(this.#candidateNow, candidate.used);
    for (const { account } of candidate.customers) least = Math.min(least, account.used);
    if (Number.isFinite(least)) this.#now = Math.max(this.#now, least);
    const begun = performance.now();
    this.count++;
    this.waitMilliseconds += begun - since;
    let isOver = false;
    begin({
      end: (served) => {
        if (isOver) return;
        isOver = true;
        const spent = performance.now() - begun;
        candidate.used += spent;
        for (const { account } of served) account.used += spent / served.length;
        this.#isTaken = false;
        this.#advance();
      },
    });
  }

  #accountOf(client: string): Account {
    const known = this.#accounts.get(client);
    if (known) return known;
    if (this.#accounts.size >= MAX_ACCOUNTS) {
      for (const [name, { used }] of this.#accounts) if (used <= this.#now) this.#accounts.delete(name);
    }
    const account = { used: this.#now };
    this.#accounts.set(client, account);
    return account;
  }
}

function rankOf({ customers }: Candidate): number {
  return Math.min(...customers.map(({ rank }) => rank));
}
