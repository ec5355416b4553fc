/**
 * The one contract between what runs and how it reaches a client.
 *
 * A run is a function from an input to an async iterable of events: an async generator, a `ReadableStream`, anything
 * `for await` reads. The diffusion pipeline is one; a program's own (a transcription, a map over chunks) is served the
 * same way. A run is told to stop through its signal and ends by returning; it fails by throwing.
 */
import { setImmediate } from "node:timers/promises";

export interface RunContext {
  /** Aborts when nobody is there any more to read the events. */
  readonly signal: AbortSignal;
  /** The job's id, as the client sees it. */
  readonly requestId: string;
}

export type Run<Input, Event> = (input: Input, context: RunContext) => AsyncIterable<Event>;

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
