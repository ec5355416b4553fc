/** The entries of a job's log: numbered from 1, bounded in bytes and number. `job-log.ts` says which go first. */
import { bytesOf, ENTRY_BYTES } from "./bytes-of.ts";

export type LogEntry<Event> = {
  /** From 1, without gaps at the time of appending. */
  readonly id: number;
  /** Entries of a slot replace each other; undefined: not droppable. */
  readonly slot: string | undefined;
  /** Its number among the entries of its slot, from 1; 0 without a slot. */
  readonly nth: number;
  /** The entry's share of the log's bound, in bytes. */
  readonly bytes: number;
} & ({ readonly event: Event } | { readonly error: unknown });

export interface EntryBounds {
  /** Bytes held, at most; a single entry may be larger. */
  readonly bytes: number;
  /** Entries held, at most. */
  readonly entries: number;
}

export class LogEntries<Event> {
  /** Those still held, oldest first. */
  list: LogEntry<Event>[] = [];
  lastId = 0;
  /** The newest entry without a slot that is no longer held; whoever is before it has missed something. */
  lostId = 0;
  bytes = 0;
  ended = false;
  /** The number of entries that each slot has had. */
  readonly counts = new Map<string, number>();
  /** The newest id of each slot. */
  readonly #newest = new Map<string, number>();
  /** Entries that never go. */
  readonly #lasting = new Set<LogEntry<Event>>();
  readonly #bounds: EntryBounds;

  constructor(bounds: EntryBounds) {
    this.#bounds = bounds;
  }

  append(event: Event, slot: string | undefined, keep: boolean): LogEntry<Event> {
    const nth = slot === undefined ? 0 : (this.counts.get(slot) ?? 0) + 1;
    const entry = { id: this.lastId + 1, slot, nth, bytes: bytesOf(event), event };
    if (keep) this.#lasting.add(entry);
    this.#push(entry);
    return entry;
  }

  appendError(error: unknown): void {
    this.#push({ id: this.lastId + 1, slot: undefined, nth: 0, bytes: ENTRY_BYTES, error });
  }

  /** Forgets everything; whoever reads has missed something. */
  clear(): void {
    this.list = [];
    this.#lasting.clear();
    this.bytes = 0;
    this.lostId = this.lastId + 1;
  }

  isSuperseded({ id, slot }: LogEntry<Event>): boolean {
    return slot !== undefined && (this.#newest.get(slot) ?? 0) > id;
  }

  /** The index of the first entry with an id greater than `id`. */
  indexAfter(id: number): number {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.list[middle]!.id > id) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #push(entry: LogEntry<Event>): void {
    this.lastId = entry.id;
    this.list.push(entry);
    this.bytes += entry.bytes;
    if (entry.slot !== undefined) {
      this.#newest.set(entry.slot, entry.id);
      this.counts.set(entry.slot, entry.nth);
    }
    const { bytes, entries } = this.#bounds;
    while (this.list.length > 1 && (this.bytes > bytes || this.list.length > entries) && this.#evictOne());
  }

  /** False when all that is left must stay. */
  #evictOne(): boolean {
    let at = this.list.findIndex((entry) => this.isSuperseded(entry));
    if (at < 0) at = this.list.findIndex((entry, index) => index < this.list.length - 1 && !this.#lasting.has(entry));
    const entry = this.list[at];
    if (entry === undefined) return false;
    this.list.splice(at, 1);
    this.bytes -= entry.bytes;
    if (entry.slot === undefined) this.lostId = Math.max(this.lostId, entry.id);
    return true;
  }
}
