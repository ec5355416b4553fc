/**
 * What waits to be sent to one client, bounded whatever that client does.
 *
 * An item may have a slot ("preview"); a newer item of the same slot replaces the one still waiting, so a slow client
 * skips pictures instead of falling behind. Items without a slot are never dropped: when too many wait, `put` makes the
 * producer wait. Items leave in the order in which they were put.
 */

/** Items without which the producer may run ahead of the client. */
const DEFAULT_LIMIT = 16;

export type Taken<T> = { readonly item: T } | "quiet" | "ended";

export interface Outbox<T> {
  /** Adds an item; settles when there is room for another, or nobody takes any more. */
  put(item: T, slot?: string): Promise<void>;
  /** The oldest item; "quiet" when none came within `withinMs`; "ended" when there will be none. One taker at a time. */
  take(withinMs: number): Promise<Taken<T>>;
  /** Nothing will be put any more. */
  end(): void;
  /** Nothing will be taken any more: forgets what waits and lets the producer go. */
  abandon(): void;
}

export function createOutbox<T>(limit: number = DEFAULT_LIMIT): Outbox<T> {
  const waiting: { item: T; slot: string | undefined }[] = [];
  let ended = false;
  let abandoned = false;
  let wakeTaker: (() => void) | undefined;
  let wakeProducer: (() => void) | undefined;

  return {
    async put(item, slot) {
      if (ended || abandoned) return;
      const older = slot === undefined ? -1 : waiting.findIndex((entry) => entry.slot === slot);
      if (older !== -1) waiting.splice(older, 1);
      waiting.push({ item, slot });
      wakeTaker?.();
      while (waiting.length >= limit && !abandoned) {
        await new Promise<void>((resolve) => {
          wakeProducer = resolve;
        });
      }
    },
    async take(withinMs) {
      if (waiting.length === 0 && !ended) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, withinMs);
          wakeTaker = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        wakeTaker = undefined;
      }
      const entry = waiting.shift();
      wakeProducer?.();
      if (entry !== undefined) return { item: entry.item };
      return ended ? "ended" : "quiet";
    },
    end() {
      ended = true;
      wakeTaker?.();
    },
    abandon() {
      abandoned = ended = true;
      waiting.length = 0;
      wakeTaker?.();
      wakeProducer?.();
    },
  };
}
