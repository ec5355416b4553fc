/**
 * The events of one job so far, for any number of readers.
 *
 * Entries are numbered from 1 as they are appended. A reader is no more than a place in the log: it moves at its own
 * pace and holds no copy of anything, so a slow one costs nothing. Vocabulary: an entry with a *slot* ("preview") is
 * *droppable*; it is *superseded* once a newer entry of the same slot is there.
 *
 * Readers may miss events by these rules:
 * - Entries that stood in the log when a reader began are replayed to it in full. After that a superseded entry is
 *   skipped, so that a reader that is behind sees the newest picture and not every one.
 * - The log is bounded in bytes and entries. At the bound superseded entries go first, oldest first. Then, oldest first,
 *   whatever else is not kept for good; a reader that still needed such an entry is *lost*, and so is one that wants to
 *   begin before it. The last entry and those marked `keep` (the result) never go.
 * - A producer that asks for `room` is held back by the *fastest* reader, never by the slowest: one client that stops
 *   reading costs the others nothing and is itself lost when the log has moved on.
 */
import { JobError } from "./job-errors.ts";
import { type EntryBounds, LogEntries, type LogEntry } from "./log-entries.ts";
import { type LogReader, Reader, type ReaderListener, type ReaderOptions } from "./log-reader.ts";

export type { LogEntry } from "./log-entries.ts";
export type { LogRead, LogReader, ReaderOptions } from "./log-reader.ts";

export interface LogBounds extends EntryBounds {
  /** Entries without a slot by which the producer may be ahead of the fastest reader. */
  readonly ahead: number;
}

export const LOG_BOUNDS: LogBounds = { bytes: 32 * 2 ** 20, entries: 4096, ahead: 16 };

/** Each may write an event to its socket before the loop comes round again: some 20 µs a reader. */
const WOKEN_AT_ONCE = 50;

export class JobLog<Event> {
  readonly #bounds: LogBounds;
  readonly #entries: LogEntries<Event>;
  readonly #readers = new Set<Reader<Event>>();
  /** Nobody is owed the entries: the producer never waits. */
  #isFree = false;
  /** The id of the last entry that the fastest reader had before there were none. */
  #furthest = 0;
  #makeRoom: (() => void) | undefined;

  constructor(bounds: Partial<LogBounds> = {}) {
    this.#bounds = { ...LOG_BOUNDS, ...bounds };
    this.#entries = new LogEntries(this.#bounds);
  }

  get lastId(): number {
    return this.#entries.lastId;
  }

  /** Bytes held. */
  get bytes(): number {
    return this.#entries.bytes;
  }

  get ended(): boolean {
    return this.#entries.ended;
  }

  /** Readers that are open. */
  get readers(): number {
    return this.#readers.size;
  }

  /** The entries still held, oldest first. */
  get entries(): readonly LogEntry<Event>[] {
    return this.#entries.list;
  }

  append(event: Event, { slot, keep = false }: { slot?: string; keep?: boolean } = {}): LogEntry<Event> {
    const entry = this.#entries.append(event, slot, keep);
    this.#wakeReaders();
    return entry;
  }

  /** Ends the log; with an error, which becomes the last entry, if one is given. */
  end(failure?: { readonly error: unknown }): void {
    if (this.ended) return;
    if (failure !== undefined) this.#entries.appendError(failure.error);
    this.#entries.ended = true;
    this.#makeRoom?.();
    this.#wakeReaders();
  }

  /** The error that `read` would throw if the entry after `after` is gone; undefined if it can still be read. */
  gone(after: number): JobError | undefined {
    const { lostId, lastId } = this.#entries;
    if (after < lostId) return new JobError("log-gone", "Events after this one are no longer held");
    if (after > lastId) return new JobError("beyond-log", `The job has ${lastId} events so far, none after ${after}`);
    return undefined;
  }

  /** @throws JobError `log-gone` or `beyond-log` */
  read(options: ReaderOptions = {}, listener: ReaderListener<Event> = {}): LogReader<Event> {
    const fault = this.gone(options.after ?? 0);
    if (fault !== undefined) throw fault;
    const own = { read: () => this.#makeRoom?.(), closed: () => this.#left(reader) };
    const reader: Reader<Event> = new Reader(this.#entries, options, [own, listener]);
    this.#readers.add(reader);
    return reader;
  }

  /** True if a reader that is open takes entries of a slot. */
  wants(slot: string): boolean {
    for (const reader of this.#readers) if (reader.wants(slot)) return true;
    return false;
  }

  /** Settles when the producer may append more: when the fastest reader is near enough. */
  async room(): Promise<void> {
    while (this.#isCrowded()) {
      await new Promise<void>((resolve) => {
        this.#makeRoom = resolve;
      });
    }
  }

  /** From now on `room` never waits: nobody is owed the entries. */
  runFree(): void {
    this.#isFree = true;
    this.#makeRoom?.();
  }

  /** Forgets everything; readers are lost. */
  clear(): void {
    this.#entries.clear();
    this.#wakeReaders();
  }

  #left(reader: Reader<Event>): void {
    this.#readers.delete(reader);
    if (this.#readers.size === 0) this.#furthest = Math.max(this.#furthest, reader.position);
    this.#makeRoom?.();
  }

  /** Readers are woken a few at a time, so that a thousand of them do not keep the event loop to themselves. */
  #wakeReaders(): void {
    const all = [...this.#readers];
    const wakeFrom = (from: number) => {
      for (const reader of all.slice(from, from + WOKEN_AT_ONCE)) reader.wake();
      if (from + WOKEN_AT_ONCE < all.length) setImmediate(wakeFrom, from + WOKEN_AT_ONCE);
    };
    wakeFrom(0);
  }

  #isCrowded(): boolean {
    if (this.#isFree || this.ended) return false;
    let fastest = this.#readers.size === 0 ? this.#furthest : 0;
    for (const { position } of this.#readers) fastest = Math.max(fastest, position);
    const { entries } = this;
    let count = 0;
    let size = 0;
    for (let index = entries.length - 1; index >= 0 && entries[index]!.id > fastest; index--) {
      const entry = entries[index]!;
      if (entry.slot !== undefined) continue;
      size += entry.bytes;
      if (++count >= this.#bounds.ahead || size > this.#bounds.bytes / 2) return true;
    }
    return false;
  }
}
