/**
 * What one job has said so far, for any number of readers.
 *
 * Entries are numbered from 1 as they are appended. A reader is no more than a place in the log: it moves at its own
 * pace and holds no copy of anything, so a slow one costs nothing. Vocabulary: an entry with a *slot* ("preview") is
 * *droppable*; it is *superseded* once a newer entry of the same slot is there.
 *
 * Who may miss what:
 * - What stood in the log when a reader began is replayed to it in full. After that a superseded entry is skipped, so
 *   that a reader that is behind sees the newest picture and not every one.
 * - The log is bounded in bytes and entries. At the bound superseded entries go first, oldest first. Then, oldest first,
 *   whatever else is not kept for good; a reader that still needed such an entry is *lost*, and so is one that wants to
 *   begin before it. The last entry and those marked `keep` (the result) never go.
 * - A producer that asks for `room` is held back by the *fastest* reader, never by the slowest: one client that stops
 *   reading costs the others nothing and is itself lost when the log has moved on.
 */
import { JobError } from "./job-errors.ts";

export type LogEntry<Event> = {
  /** From 1, without gaps at the time of appending. */
  readonly id: number;
  /** Entries of a slot replace each other; undefined: not droppable. */
  readonly slot: string | undefined;
  /** Its number among the entries of its slot, from 1; 0 without a slot. */
  readonly nth: number;
  /** What it counts for, in bytes. */
  readonly bytes: number;
} & ({ readonly event: Event } | { readonly error: unknown });

/** What a reader gets: an entry; "quiet" when none came in time; "ended" after the last; "lost" when it fell too far behind. */
export type LogRead<Event> = LogEntry<Event> | "quiet" | "ended" | "lost";

export interface LogReader<Event> {
  /** The id of the last entry read. */
  readonly position: number;
  /** The next entry, waiting `withinMs` at most. One call at a time. */
  next(withinMs: number): Promise<LogRead<Event>>;
  /** Looks again whether an entry that was held back may go. */
  wake(): void;
  /** Gives up the place. Harmless when repeated. */
  close(): void;
}

export interface ReaderOptions {
  /** The id of the last entry that is already known; 0: none. */
  readonly after?: number;
  /**
   * Milliseconds until an entry of this slot may be handed out; 0: now; Infinity: not before `wake`. While it is held, a
   * newer entry of any kind takes its place.
   */
  readonly holdMs?: (slot: string) => number;
  /** Told how many entries of a slot this reader was not given because newer ones came, or because it left. */
  readonly onDropped?: (slot: string, count: number) => void;
}

export interface JobLog<Event> {
  readonly lastId: number;
  /** Bytes held. */
  readonly bytes: number;
  readonly ended: boolean;
  readonly readers: number;
  /** The entries still held, oldest first. */
  readonly entries: readonly LogEntry<Event>[];
  append(event: Event, options?: { slot?: string; keep?: boolean }): LogEntry<Event>;
  /** Ends the log; with an error, which becomes the last entry, if one is given. */
  end(failure?: { readonly error: unknown }): void;
  /** Whether the entry after `after` can still be had; says why not as the error that `read` would throw. */
  gone(after: number): JobError | undefined;
  /** @throws JobError `log-gone` or `beyond-log` */
  read(options?: ReaderOptions): LogReader<Event>;
  /** Settles when the producer may append more: when the fastest reader is near enough. */
  room(): Promise<void>;
  /** From now on `room` never waits: nobody is owed the entries. */
  runFree(): void;
  /** Forgets everything; readers are lost. */
  clear(): void;
}

export interface LogLimits {
  /** Bytes held, at most; a single entry may be larger. */
  readonly bytes: number;
  /** Entries held, at most. */
  readonly entries: number;
  /** Entries without a slot by which the producer may be ahead of the fastest reader. */
  readonly ahead: number;
}

export const LOG_LIMITS: LogLimits = { bytes: 32 * 2 ** 20, entries: 4096, ahead: 16 };

/** Each may write an event to its socket before the loop comes round again: some 20 µs a reader. */
const WOKEN_AT_ONCE = 50;

export function createJobLog<Event>(limits: Partial<LogLimits> = {}): JobLog<Event> {
  const { bytes: maxBytes, entries: maxEntries, ahead: maxAhead } = { ...LOG_LIMITS, ...limits };
  let entries: LogEntry<Event>[] = [];
  const kept = new Set<LogEntry<Event>>();
  /** The newest id of each slot, and how many entries it has had. */
  const newest = new Map<string, number>();
  const counts = new Map<string, number>();
  const readers = new Set<{ position: number; wake: () => void }>();
  let lastId = 0;
  /** The newest entry without a slot that is no longer held; whoever is before it has missed something. */
  let lostId = 0;
  let bytes = 0;
  let ended = false;
  let free = false;
  /** How far the fastest reader came before there were none. */
  let reached = 0;
  let makeRoom: (() => void) | undefined;

  const superseded = (entry: LogEntry<Event>) => entry.slot !== undefined && (newest.get(entry.slot) ?? 0) > entry.id;

  function push(entry: LogEntry<Event>): void {
    lastId = entry.id;
    entries.push(entry);
    bytes += entry.bytes;
    if (entry.slot !== undefined) {
      newest.set(entry.slot, entry.id);
      counts.set(entry.slot, entry.nth);
    }
    while (entries.length > 1 && (bytes > maxBytes || entries.length > maxEntries) && evictOne());
    wakeReaders();
  }

  /** Readers are woken a few at a time, so that a thousand of them do not keep the event loop to themselves. */
  function wakeReaders(): void {
    const all = [...readers];
    const wakeFrom = (from: number) => {
      for (const reader of all.slice(from, from + WOKEN_AT_ONCE)) reader.wake();
      if (from + WOKEN_AT_ONCE < all.length) setImmediate(wakeFrom, from + WOKEN_AT_ONCE);
    };
    wakeFrom(0);
  }

  /** False when all that is left must stay. */
  function evictOne(): boolean {
    let at = entries.findIndex(superseded);
    if (at < 0) at = entries.findIndex((entry, index) => index < entries.length - 1 && !kept.has(entry));
    const entry = entries[at];
    if (entry === undefined) return false;
    entries.splice(at, 1);
    bytes -= entry.bytes;
    if (entry.slot === undefined) lostId = Math.max(lostId, entry.id);
    return true;
  }

  /** The index of the first entry with an id greater than `id`. */
  function indexAfter(id: number): number {
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (entries[middle]!.id > id) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  function crowded(): boolean {
    if (free || ended) return false;
    let fastest = readers.size === 0 ? reached : 0;
    for (const { position } of readers) fastest = Math.max(fastest, position);
    let count = 0;
    let size = 0;
    for (let index = entries.length - 1; index >= 0 && entries[index]!.id > fastest; index--) {
      const entry = entries[index]!;
      if (entry.slot !== undefined) continue;
      size += entry.bytes;
      if (++count >= maxAhead || size > maxBytes / 2) return true;
    }
    return false;
  }

  function gone(after: number): JobError | undefined {
    if (after < lostId) return new JobError("log-gone", "Events after this one are no longer held");
    if (after > lastId) return new JobError("beyond-log", `The job has ${lastId} events so far, none after ${after}`);
    return undefined;
  }

  function read({ after = 0, holdMs, onDropped }: ReaderOptions = {}): LogReader<Event> {
    const fault = gone(after);
    if (fault !== undefined) throw fault;
    /** Up to here everything is replayed. */
    const backlog = lastId;
    let wakeUp: (() => void) | undefined;
    const self = { position: after, wake: () => wakeUp?.() };
    readers.add(self);
    /** The `nth` of the last entry handed out, by slot; what is gone from before `after` counts as seen. */
    const seen = new Map(counts);
    for (let index = indexAfter(after); index < entries.length; index++) {
      const { slot, nth } = entries[index]!;
      if (slot !== undefined) seen.set(slot, Math.min(seen.get(slot)!, nth - 1));
    }
    const drop = (slot: string, nth: number) => {
      const count = nth - 1 - (seen.get(slot) ?? 0);
      if (count > 0) onDropped?.(slot, count);
      seen.set(slot, nth);
    };

    /** The entry to hand out, or how long to wait for one that is held back. */
    function pick(): LogEntry<Event> | number {
      for (let index = indexAfter(self.position); index < entries.length; index++) {
        const entry = entries[index]!;
        if (entry.slot !== undefined) {
          if (entry.id > backlog && superseded(entry)) continue;
          const hold = holdMs?.(entry.slot) ?? 0;
          if (hold > 0) {
            if (entry.id === lastId && !ended) return hold;
            continue;
          }
        }
        return entry;
      }
      return Number.POSITIVE_INFINITY;
    }

    return {
      get position() {
        return self.position;
      },
      async next(withinMs) {
        const until = performance.now() + withinMs;
        for (;;) {
          if (self.position < lostId) return "lost";
          const picked = pick();
          if (typeof picked !== "number") {
            self.position = picked.id;
            if (picked.slot !== undefined) drop(picked.slot, picked.nth);
            makeRoom?.();
            return picked;
          }
          if (ended || !readers.has(self)) return "ended";
          const left = until - performance.now();
          if (left <= 0) return "quiet";
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, Math.min(Math.ceil(Math.min(picked, left)), 2 ** 31 - 1));
            wakeUp = () => {
              clearTimeout(timer);
              resolve();
            };
          });
          wakeUp = undefined;
        }
      },
      wake: self.wake,
      close() {
        if (!readers.delete(self)) return;
        for (const [slot, count] of counts) drop(slot, count + 1);
        if (readers.size === 0) reached = Math.max(reached, self.position);
        self.wake();
        makeRoom?.();
      },
    };
  }

  return {
    get lastId() {
      return lastId;
    },
    get bytes() {
      return bytes;
    },
    get ended() {
      return ended;
    },
    get readers() {
      return readers.size;
    },
    get entries() {
      return entries;
    },
    append(event, { slot, keep = false } = {}) {
      const nth = slot === undefined ? 0 : (counts.get(slot) ?? 0) + 1;
      const entry = { id: lastId + 1, slot, nth, bytes: bytesOf(event), event };
      if (keep) kept.add(entry);
      push(entry);
      return entry;
    },
    end(failure) {
      if (ended) return;
      if (failure !== undefined)
        push({ id: lastId + 1, slot: undefined, nth: 0, bytes: ENTRY_BYTES, error: failure.error });
      ended = true;
      makeRoom?.();
      wakeReaders();
    },
    gone,
    read,
    async room() {
      while (crowded()) {
        await new Promise<void>((resolve) => {
          makeRoom = resolve;
        });
      }
    },
    runFree() {
      free = true;
      makeRoom?.();
    },
    clear() {
      entries = [];
      kept.clear();
      bytes = 0;
      lostId = lastId + 1;
      wakeReaders();
    },
  };
}

/** What an entry and its event's own fields take besides their contents; an estimate. */
const ENTRY_BYTES = 256;
/** Levels of an event that are counted; a message of a client has no more. */
const COUNTED_DEPTH = 32;

/** Bytes that an event keeps in memory: its binary data and strings, and an estimate for the rest. */
export function bytesOf(event: unknown): number {
  return ENTRY_BYTES + sizeOf(event, COUNTED_DEPTH);
}

/** Bytes of an object, and of a field of it, besides what it holds: V8's, rounded up. */
const OBJECT_BYTES = 64;
const FIELD_BYTES = 24;

function sizeOf(value: unknown, depth: number): number {
  if (typeof value === "string") return value.length * 2;
  if (typeof value !== "object" || value === null) return 8;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength;
  if (depth === 0) return ENTRY_BYTES;
  let sum = OBJECT_BYTES;
  for (const [name, field] of Object.entries(value)) sum += FIELD_BYTES + name.length + sizeOf(field, depth - 1);
  return sum;
}
