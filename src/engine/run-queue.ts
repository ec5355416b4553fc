/** One run at a time on the device, first come first served; those that wait are told their place. */

export interface Turn {
  /** Runs ahead of this one; 0 when it is this one's turn. */
  readonly position: number;
  /** Resolves when the position changes, rejects with the signal's reason when it is aborted. */
  moved(signal?: AbortSignal): Promise<void>;
  /** Leaves the queue, or ends the run. */
  leave(): void;
}

export interface RunQueue {
  join(): Turn;
}

export function createRunQueue(): RunQueue {
  const line: { listener?: () => void }[] = [];
  return {
    join() {
      const entry: { listener?: () => void } = {};
      line.push(entry);
      return {
        get position() {
          return Math.max(line.indexOf(entry), 0);
        },
        moved(signal) {
          return new Promise((resolve, reject) => {
            const abort = () => reject(signal?.reason);
            if (signal?.aborted) return abort();
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
