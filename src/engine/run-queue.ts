/** One run at a time on the device, first come first served; those that wait are told their place. */

export interface Turn {
  /** Waiting runs ahead of this one (0: next), as in `QueuedEvent`; undefined once it is this one's turn. */
  readonly position: number | undefined;
  /** Resolves once the position is no longer `from`; rejects with the signal's reason when it is aborted. */
  moved(from: number, signal?: AbortSignal): Promise<void>;
  /** Leaves the queue, or ends the run. */
  leave(): void;
}

export interface RunQueue {
  join(): Turn;
}

export function createRunQueue(): RunQueue {
  /** The first has its turn. */
  const line: { listener?: () => void }[] = [];
  return {
    join() {
      const entry: { listener?: () => void } = {};
      const position = () => (line.indexOf(entry) > 0 ? line.indexOf(entry) - 1 : undefined);
      line.push(entry);
      return {
        get position() {
          return position();
        },
        moved(from, signal) {
          return new Promise((resolve, reject) => {
            const abort = () => reject(signal?.reason);
            if (signal?.aborted) return abort();
            if (position() !== from) return resolve(); // it moved while nobody was listening
            signal?.addEventListener("abort", abort, { once: true });
            entry.listener = () => {
              signal?.removeEventListener("abort", abort);
              resolve();
            };
          });
        },
        leave() {
          const at = line.indexOf(entry);
          if (at < 0) return;
          line.splice(at, 1);
          for (const later of line.slice(at)) later.listener?.();
        },
      };
    },
  };
}
