/**
 * `map`: many inputs through one function, so many at a time, their results as a stream: a transcription of chunks, a
 * thumbnail of each file. As a generator it goes straight into any transport.
 */
import { type MergeOptions, merge } from "./merge.ts";

/** `concurrency` counts calls, `ordered` means results in the order of their inputs. */
export type MapOptions = MergeOptions;

/**
 * Calls `fn` for each input and yields what it gives. Inputs are taken as they are needed, and not when results are not:
 * at most `concurrency` calls are under way or wait to be read. The first error ends it; `fn`'s signal is then aborted,
 * as it is when the consumer leaves.
 *
 * @throws whatever `inputs` or `fn` throw, RangeError for a concurrency below 1, and the signal's reason
 */
export async function* map<Input, Output>(
  inputs: Iterable<Input> | AsyncIterable<Input>,
  fn: (input: Input, index: number, signal: AbortSignal) => Output | Promise<Output>,
  options: MapOptions = {},
): AsyncGenerator<Output, void, undefined> {
  async function* call(input: Input, index: number, signal: AbortSignal) {
    yield await fn(input, index, signal);
  }
  for await (const { event } of merge(inputs, call, options)) yield event;
}
