/**
 * SIGINT and SIGTERM, each acted on once.
 *
 * A terminal sends Ctrl-C to all processes of a command, and a service manager sends SIGTERM so; `kill` sends to one. A
 * child of `supervisor.ts` that acts on signals therefore listens to its parent's messages alone.
 */
import { constants } from "node:os";
import process from "node:process";
import { isSupervised } from "./supervised.ts";

/** The exit code after SIGINT, as shells count: 128 + 2. */
export const INTERRUPTED = 130;
export const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** From the parent to the child. */
export interface FromParent {
  readonly signal: (typeof SIGNALS)[number];
}
/** From the child to the parent. */
export interface FromChild {
  /** True if a message is enough: the signal itself does nothing. */
  readonly actsOnSignals: boolean;
}

const acts = new Set<() => void>();
const run = () => {
  for (const act of [...acts]) act();
};
/** With a parent the signal comes again, as a message. */
const takeSignal = () => {
  if (!isSupervised()) run();
};

/**
 * Calls `act` at every SIGINT and SIGTERM, until the function that it returns is called. Without any `act` they end the
 * process.
 */
export function onInterrupt(act: () => void): () => void {
  if (acts.size === 0) {
    for (const signal of SIGNALS) process.on(signal, takeSignal);
    tellParent(true);
  }
  acts.add(act);
  return () => {
    if (!acts.delete(act) || acts.size > 0) return;
    for (const signal of SIGNALS) process.off(signal, takeSignal);
    tellParent(false);
  };
}

function tellParent(actsOnSignals: boolean): void {
  if (isSupervised() && process.connected) process.send?.({ actsOnSignals } satisfies FromChild);
}

if (isSupervised()) {
  process.on("message", ({ signal }: FromParent) => {
    if (acts.size === 0) process.exit(128 + constants.signals[signal]);
    run();
  });
  process.channel?.unref();
}
