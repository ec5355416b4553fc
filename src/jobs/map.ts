/**
 * `map`: many inputs through one function, so many at a time, their results as a stream: a transcription of chunks, a
 * thumbnail of each file. As a generator it goes straight into any transport.
 */

export interface MapOptions {
  /** Calls under way at once. */
  readonly concurrency?: number;
  /** Results in the order of their inputs (the default), or each as soon as it is there. */
  readonly ordered?: boolean;
  /** Aborting stops it before the next input; calls under way are told through their own argument. */
  readonly signal?: AbortSignal;
}

const CONCURRENCY = 4;

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
  { concurrency = CONCURRENCY, ordered = true, signal }: MapOptions = {},
): AsyncGenerator<Output, void, undefined> {
  if (!(concurrency >= 1)) throw new RangeError(`concurrency must be at least 1, not ${concurrency}`);
  const stop = new AbortController();
  const ending = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const source = Symbol.asyncIterator in inputs ? inputs[Symbol.asyncIterator]() : inputs[Symbol.iterator]();
  type Call = Promise<{ call: Call; value: Output }>;
  const calls = new Set<Call>();
  let dry = false;
  let index = 0;

  function begin(input: Input): void {
    const at = index++;
    const call: Call = Promise.resolve()
      .then(() => fn(input, at, ending))
      .then((value) => ({ call, value }));
    // A call that fails while an earlier one is waited for is reported when its turn comes.
    call.catch(() => {});
    calls.add(call);
  }

  const aborted = new Promise<never>((_, reject) => {
    ending.addEventListener("abort", () => reject(ending.reason), { once: true });
  });
  aborted.catch(() => {});
  try {
    ending.throwIfAborted();
    for (;;) {
      while (!dry && calls.size < concurrency) {
        const next = await Promise.race([source.next(), aborted]);
        if (next.done) dry = true;
        else begin(next.value);
      }
      if (calls.size === 0) return;
      const [oldest] = calls;
      const { call, value } = await Promise.race([aborted, ...(ordered ? [oldest!] : calls)]);
      calls.delete(call);
      yield value;
    }
  } finally {
    stop.abort(new DOMException("Nobody takes the results any more", "AbortError"));
    if (!dry) await source.return?.();
  }
}
