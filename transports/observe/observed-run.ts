/**
 * A run that is watched: how long each event took to come, and how it ended. Metrics and traces are made of this.
 *
 * Time is counted from the request for an event to its arrival, so that a slow client, which asks late, does not make the
 * model look slow.
 */
import type { Run, RunContext } from "../../src/jobs/run.ts";

export type Outcome = "completed" | "cancelled" | "failed";

/** Hears of one job, in this order. None of its methods may throw. */
export interface JobObserver<Event> {
  /** @param began when it was asked for, `ms` how long it took */
  event?(event: Event, began: number, ms: number): void;
  ended?(outcome: Outcome, error: unknown): void;
}

/** Both times are of `performance.now()`. */
export type Observe<Input, Event> = (input: Input, context: RunContext) => JobObserver<Event>;

export function observedRun<Input, Event>(
  run: Run<Input, Event>,
  observers: readonly Observe<unknown, unknown>[],
): Run<Input, Event> {
  return (input, context) => {
    const jobObservers = observers.map((observe) => observe(input, context));
    return watched(run(input, context), jobObservers, context.signal);
  };
}

async function* watched<Event>(
  events: AsyncIterable<Event>,
  jobObservers: readonly JobObserver<unknown>[],
  signal: AbortSignal,
): AsyncGenerator<Event, void, undefined> {
  const iterator = events[Symbol.asyncIterator]();
  // A consumer that leaves calls `return`, which lands in `finally` with this still set.
  let outcome: Outcome = "cancelled";
  let reason: unknown;
  let done = false;
  try {
    for (;;) {
      const began = performance.now();
      const next = await iterator.next();
      if (next.done) {
        done = true;
        outcome = signal.aborted ? "cancelled" : "completed";
        return;
      }
      const ms = performance.now() - began;
      for (const observer of jobObservers) observer.event?.(next.value, began, ms);
      yield next.value;
    }
  } catch (error) {
    done = true;
    outcome = signal.aborted ? "cancelled" : "failed";
    reason = error;
    throw error;
  } finally {
    if (!done) await iterator.return?.();
    for (const observer of jobObservers) observer.ended?.(outcome, reason);
  }
}
