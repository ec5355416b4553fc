/** A call that is due later. */
export interface Later {
  cancel(): void;
}

/** Calls `work` in `ms` milliseconds, unless the process ends before: it does not wait for this. */
export function later(ms: number, work: () => void): Later {
  const timer: unknown = setTimeout(work, ms);
  // Node's timer is an object, a browser's a number.
  (timer as { unref?: () => void }).unref?.();
  return { cancel: () => clearTimeout(timer as ReturnType<typeof setTimeout>) };
}
