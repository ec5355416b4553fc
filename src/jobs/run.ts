/**
 * The one contract between what runs and whoever wants its events.
 *
 * A run is a function from an input to events: an async generator, a generator, an array, a `ReadableStream`, anything
 * that `for await` reads. The diffusion pipeline is one; a program's own (a transcription, a map over chunks) is served
 * the same way. A run is told to stop through its signal and ends by returning; it fails by throwing.
 */

export interface RunContext {
  /** Aborts when the run is cancelled, is past its deadline, or nobody is there any more to read its events. */
  readonly signal: AbortSignal;
  /** The job's id, as the client sees it. */
  readonly requestId: string;
  /**
   * What was changed since this was last called, the changes laid over each other; undefined where nothing was.
   * A run that can take changes while it runs calls it before each step; others leave it alone.
   */
  readonly takeUpdate?: () => Readonly<Record<string, unknown>> | undefined;
}

export type Run<Input, Event> = (input: Input, context: RunContext) => AsyncIterable<Event>;

/** All that is taken for a run: what it gives may also come at once (a generator, an array), or be promised. */
export type AnyRun<Input, Event> = (
  input: Input,
  context: RunContext,
) => AsyncIterable<Event> | Iterable<Event> | Promise<AsyncIterable<Event> | Iterable<Event>>;
