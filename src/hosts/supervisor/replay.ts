/** A run's memory of itself, from which it goes on in another process: no event twice, none left out, the same changes. */
import type { RunContext } from "../../jobs/run.ts";
import { type Change, ChangeJournal } from "./change-journal.ts";

/** The beginning of an attempt. */
export interface Attempt {
  /** The state that it goes on from; undefined: it begins at the beginning. */
  readonly from: unknown;
  readonly updates: AsyncIterable<Change> | undefined;
}

export interface Replay<Event> {
  /** A process begins to compute the run, or to go on with it. */
  begin(): Attempt;
  /** An event has come, and is yet to be read. */
  received(event: unknown): void;
  /** The run has handed over a state, after so many events of this attempt. */
  checkpoint(state: unknown, events: number): void;
  /** The event for the reader; none if it has that already. */
  next(event: unknown): readonly Event[];
  /** Nobody reads the run any more. */
  close(): void;
}

/**
 * The replay of a run that gives the same events for the same input: the number of events says how far the reader is. Its
 * changes are given again, each not before the event that it came after.
 */
export class CountedReplay<Event> implements Replay<Event> {
  readonly #journal: ChangeJournal;
  /** The last state that the run can go on from, after so many events. */
  #checkpoint: { readonly state: unknown; readonly events: number } | undefined;
  /** Events before this attempt's first. */
  #before = 0;
  /** Events that have come in this attempt, those before its checkpoint included; and those that were read of it. */
  #received = 0;
  #taken = 0;
  /** Events that the reader has. */
  #delivered = 0;
  readonly #whenReceived = new Set<() => void>();

  constructor(context: RunContext) {
    this.#journal = new ChangeJournal(context.updates, () => this.#received);
  }

  begin(): Attempt {
    this.#before = this.#checkpoint?.events ?? 0;
    this.#received = this.#before;
    this.#taken = this.#before;
    this.#whenReceived.clear();
    const first = this.#journal.entries.findIndex(({ at }) => at! >= this.#before);
    const updates = this.#journal.from(first < 0 ? this.#journal.entries.length : first, (at) => this.#reached(at!));
    return { from: this.#checkpoint?.state, updates };
  }

  received(): void {
    this.#received++;
    for (const wake of this.#whenReceived) wake();
  }

  checkpoint(state: unknown, events: number): void {
    this.#checkpoint = { state, events: this.#before + events };
  }

  next(event: unknown): readonly Event[] {
    if (++this.#taken <= this.#delivered) return [];
    this.#delivered = this.#taken;
    return [event as Event];
  }

  close(): void {
    this.#journal.close();
  }

  async #reached(events: number): Promise<void> {
    while (this.#received < events) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#whenReceived.delete(wake);
          resolve();
        };
        this.#whenReceived.add(wake);
      });
    }
  }
}
