/** A reader of a job's log: a place in it, which moves at its own pace and holds no copy of anything. */
import type { LogEntries, LogEntry } from "./log-entries.ts";

/** An entry; "quiet" if none came in time; "ended" after the last; "lost" if the reader fell too far behind. */
export type LogRead<Event> = LogEntry<Event> | "quiet" | "ended" | "lost";

export interface LogReader<Event> {
  /** The id of the last entry read. */
  readonly position: number;
  /** The next entry, waiting `withinMs` at most. One call at a time. */
  next(withinMs: number): Promise<LogRead<Event>>;
  /** Looks again whether an entry that was held back may go. May be called without its object. */
  wake(): void;
  /** Gives up the place. Harmless when repeated. May be called without its object. */
  close(): void;
}

export interface ReaderOptions {
  /** The id of the last entry that is already known; 0: none. */
  readonly after?: number;
  /** True if this reader takes entries of a slot; it gets no others. Default: it takes all. */
  readonly wants?: (slot: string) => boolean;
  /**
   * Milliseconds until an entry of this slot may be handed out; 0: now; Infinity: not before `wake`. While it is held, a
   * newer entry of any kind takes its place.
   */
  readonly holdMs?: (slot: string) => number;
}

/** Whom a reader tells what it does. */
export interface ReaderListener<Event> {
  /** It was handed an entry. */
  read?(entry: LogEntry<Event>): void;
  /** So many entries of a slot that it wants were not given to it, because newer ones came, or because it left. */
  dropped?(slot: string, count: number): void;
  closed?(): void;
}

/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

export class Reader<Event> implements LogReader<Event> {
  position: number;
  /** Up to here everything is replayed. */
  readonly #backlog: number;
  /** The `nth` of the last entry handed out, by slot; what is gone from before `after` counts as seen. */
  readonly #seen: Map<string, number>;
  readonly #entries: LogEntries<Event>;
  readonly #options: ReaderOptions;
  readonly #listeners: readonly ReaderListener<Event>[];
  #isOpen = true;
  #wakeUp: (() => void) | undefined;

  constructor(entries: LogEntries<Event>, options: ReaderOptions, listeners: readonly ReaderListener<Event>[]) {
    const { after = 0 } = options;
    this.#entries = entries;
    this.#options = options;
    this.#listeners = listeners;
    this.position = after;
    this.#backlog = entries.lastId;
    this.#seen = new Map(entries.counts);
    for (let index = entries.indexAfter(after); index < entries.list.length; index++) {
      const { slot, nth } = entries.list[index]!;
      if (slot !== undefined) this.#seen.set(slot, Math.min(this.#seen.get(slot)!, nth - 1));
    }
  }

  wants(slot: string): boolean {
    return this.#options.wants?.(slot) ?? true;
  }

  async next(withinMs: number): Promise<LogRead<Event>> {
    const entries = this.#entries;
    const until = performance.now() + withinMs;
    for (;;) {
      if (this.position < entries.lostId) return "lost";
      const picked = this.#pick();
      if (typeof picked !== "number") {
        this.position = picked.id;
        if (picked.slot !== undefined) this.#drop(picked.slot, picked.nth);
        for (const listener of this.#listeners) listener.read?.(picked);
        return picked;
      }
      if (entries.ended || !this.#isOpen) return "ended";
      const left = until - performance.now();
      if (left <= 0) return "quiet";
      await this.#woken(Math.min(picked, left));
    }
  }

  readonly wake = (): void => this.#wakeUp?.();

  readonly close = (): void => {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const [slot, count] of this.#entries.counts) this.#drop(slot, count + 1);
    this.wake();
    for (const listener of this.#listeners) listener.closed?.();
  };

  /** Settles when the reader is woken, or after `ms`. */
  async #woken(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.min(Math.ceil(ms), LONGEST_TIMER));
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wakeUp = undefined;
  }

  /** The entry to hand out, or how many milliseconds to wait for one that is held back. */
  #pick(): LogEntry<Event> | number {
    const entries = this.#entries;
    for (let index = entries.indexAfter(this.position); index < entries.list.length; index++) {
      const entry = entries.list[index]!;
      if (entry.slot !== undefined) {
        if (entry.id > this.#backlog && entries.isSuperseded(entry)) continue;
        if (!this.wants(entry.slot)) continue;
        const hold = this.#options.holdMs?.(entry.slot) ?? 0;
        if (hold > 0) {
          if (entry.id === entries.lastId && !entries.ended) return hold;
          continue;
        }
      }
      return entry;
    }
    return Number.POSITIVE_INFINITY;
  }

  #drop(slot: string, nth: number): void {
    const count = nth - 1 - (this.#seen.get(slot) ?? 0);
    if (count > 0 && this.wants(slot)) for (const listener of this.#listeners) listener.dropped?.(slot, count);
    this.#seen.set(slot, nth);
  }
}
