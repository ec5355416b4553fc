/** Many runs' events as one stream, so many runs at a time: the machinery of `map` and of a pool's `mapStream`. */

export interface MergeOptions {
  /** Runs under way at once. */
  readonly concurrency?: number;
  /** All events of a run before those of the next one (the default), or each as soon as it is there. */
  readonly ordered?: boolean;
  /** Aborting stops it before the next input; runs under way are told through their own argument. */
  readonly signal?: AbortSignal;
}

/** An event, and the number of the input that it came from. */
export interface Merged<Event> {
  readonly index: number;
  readonly event: Event;
}

type Begin<Input, Event> = (input: Input, index: number, signal: AbortSignal) => AsyncGenerator<Event, void, undefined>;

const CONCURRENCY = 4;

/** One run under way. */
interface Lane<Event> {
  readonly index: number;
  readonly events: AsyncGenerator<Event, void, undefined>;
  /** The next thing that it has to say, once it is there. */
  next?: IteratorResult<Event, void> | { readonly error: unknown };
}

/**
 * A run of `begin` for each input. Inputs are taken as they are needed, and not when events are not: at most `concurrency`
 * runs are under way or wait to be read, each one event ahead. The first error ends it; the runs' signal is then aborted,
 * as it is when the consumer leaves.
 *
 * @throws whatever `inputs` or the runs throw, RangeError for a concurrency below 1, and the signal's reason
 */
export function merge<Input, Event>(
  inputs: Iterable<Input> | AsyncIterable<Input>,
  begin: Begin<Input, Event>,
  options: MergeOptions = {},
): AsyncGenerator<Merged<Event>, void, undefined> {
  return new Merge(inputs, begin, options).events();
}

class Merge<Input, Event> {
  readonly #source: Iterator<Input> | AsyncIterator<Input>;
  readonly #begin: Begin<Input, Event>;
  readonly #concurrency: number;
  readonly #ordered: boolean;
  readonly #signal: AbortSignal | undefined;
  readonly #stop = new AbortController();
  /** In the order of their inputs. */
  readonly #lanes: Lane<Event>[] = [];
  #taken = 0;
  #isTaking = false;
  /** There are no more inputs. */
  #isDry = false;
  /** The error of the inputs. */
  #failure: { readonly error: unknown } | undefined;
  /** Wakes the reader, who waits for something to happen. */
  #wake: (() => void) | undefined;

  constructor(
    inputs: Iterable<Input> | AsyncIterable<Input>,
    begin: Begin<Input, Event>,
    { concurrency = CONCURRENCY, ordered = true, signal }: MergeOptions,
  ) {
    if (!(concurrency >= 1)) throw new RangeError(`concurrency must be at least 1, not ${concurrency}`);
    this.#source = Symbol.asyncIterator in inputs ? inputs[Symbol.asyncIterator]() : inputs[Symbol.iterator]();
    this.#begin = begin;
    this.#concurrency = concurrency;
    this.#ordered = ordered;
    this.#signal = signal;
  }

  async *events(): AsyncGenerator<Merged<Event>, void, undefined> {
    this.#signal?.addEventListener("abort", this.#onAbort);
    try {
      for (;;) {
        this.#signal?.throwIfAborted();
        if (this.#failure !== undefined) throw this.#failure.error;
        void this.#takeInput();
        const lane = this.#readyLane();
        if (lane !== undefined) {
          yield* this.#read(lane);
        } else if (this.#isDry && this.#lanes.length === 0) {
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      this.#signal?.removeEventListener("abort", this.#onAbort);
      this.#stop.abort(this.#signal?.reason ?? new DOMException("Nobody takes the results any more", "AbortError"));
      // Not awaited: a run that does not look at its signal would hold the reader.
      for (const { events } of this.#lanes) events.return().catch(() => {});
      if (!this.#isDry) await this.#source.return?.();
    }
  }

  /** Runs are told that it is over before the reader is. */
  readonly #onAbort = () => {
    this.#stop.abort(this.#signal?.reason);
    this.#wake?.();
  };

  #readyLane(): Lane<Event> | undefined {
    const candidates = this.#ordered ? this.#lanes.slice(0, 1) : this.#lanes;
    return candidates.find(({ next }) => next !== undefined);
  }

  *#read(lane: Lane<Event>): Generator<Merged<Event>, void, undefined> {
    const next = lane.next!;
    lane.next = undefined;
    if ("error" in next) throw next.error;
    if (next.done) {
      this.#lanes.splice(this.#lanes.indexOf(lane), 1);
      return;
    }
    yield { index: lane.index, event: next.value };
    void this.#advance(lane);
  }

  async #takeInput(): Promise<void> {
    if (this.#isTaking || this.#isDry || this.#lanes.length >= this.#concurrency) return;
    this.#isTaking = true;
    try {
      const { done, value } = await this.#source.next();
      if (done) this.#isDry = true;
      else if (!this.#stop.signal.aborted) this.#beginLane(value);
    } catch (error) {
      this.#isDry = true;
      this.#failure = { error };
    } finally {
      this.#isTaking = false;
      this.#wake?.();
    }
  }

  #beginLane(input: Input): void {
    const index = this.#taken++;
    const lane: Lane<Event> = { index, events: this.#begin(input, index, this.#stop.signal) };
    this.#lanes.push(lane);
    void this.#advance(lane);
  }

  /** Asks a run for its next event. */
  async #advance(lane: Lane<Event>): Promise<void> {
    try {
      lane.next = await lane.events.next();
    } catch (error) {
      lane.next = { error };
    }
    this.#wake?.();
  }
}
