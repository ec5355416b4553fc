/**
 * The one contract between a run and the readers of its events.
 *
 * A run is a function from an input to events: an async generator, a generator, an array, a `ReadableStream`, anything
 * that `for await` reads. The diffusion pipeline is one; a program's own (a transcription, a map over chunks) is served
 * the same way. A run is told to stop through its signal and ends by returning; it fails by throwing.
 */
import type { Priority } from "../line/priority.ts";

export interface RunContext {
  /** Aborts when the run is cancelled, is past its deadline, or nobody is there any more to read its events. */
  readonly signal: AbortSignal;
  /** The job's id, as the client sees it. */
  readonly requestId: string;
  /** Against whom it counts; undefined: nobody in particular. */
  readonly client?: string;
  readonly priority?: Priority;
  /**
   * Changes to the input while the run goes on, in order; those that were not taken yet are laid over each other. A run
   * takes changes only while it reads them: it has to begin before its first event, and until then a change is refused
   * (409). A run that never reads them leaves them alone. Undefined: nobody can send any.
   */
  readonly updates?: AsyncIterable<Readonly<Record<string, unknown>>>;
  /**
   * True if anybody would look at an event of this slot now; a run need not make one that is not wanted. Undefined:
   * always.
   */
  readonly wants?: (slot: "preview") => boolean;
}

export type Run<Input, Event> = (input: Input, context: RunContext) => AsyncIterable<Event>;

/** Everything that serves as a run: its events may also come at once (a generator, an array), or be promised. */
export type AnyRun<Input, Event> = (
  input: Input,
  context: RunContext,
) => AsyncIterable<Event> | Iterable<Event> | Promise<AsyncIterable<Event> | Iterable<Event>>;
