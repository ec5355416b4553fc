/** Pulling a run at the pace of whoever takes its events. The contract of a run is in `src/engine/run.ts`. */
import { setImmediate } from "node:timers/promises";

import type { Run, RunContext } from "../src/engine/run.ts";

export type { AnyRun, Run, RunContext } from "../src/engine/run.ts";

/**
 * Pulls a run to its end, one event at a time, numbering them from 1. The next event is asked for when `take` has
 * settled, so a slow taker slows the run. When the signal aborts, the run is not resumed again and its `finally` runs.
 *
 * @throws whatever the run or `take` throws, and the signal's reason when it aborts
 */
export async function drive<Input, Event>(
  run: Run<Input, Event>,
  input: Input,
  context: RunContext,
  take: (event: Event, id: number) => void | Promise<void>,
): Promise<void> {
  context.signal.throwIfAborted();
  let id = 0;
  for await (const event of run(input, context)) {
    context.signal.throwIfAborted();
    await take(event, ++id);
    // A run that never waits for anything real would otherwise keep the event loop to itself, and with it every
    // other client and the news that this one has gone.
    await setImmediate();
    context.signal.throwIfAborted();
  }
  context.signal.throwIfAborted();
}
