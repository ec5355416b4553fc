/** One run in a place, seen from here. */
import type { RunContext } from "../jobs/run.ts";
import { errorOf, hostFault } from "./errors.ts";
import type { Calling, Collective, Phase, RunReply, RunRequest, Wants } from "./messages.ts";
import type { Place, PlaceListener } from "./place.ts";

export interface PlaceRunOptions {
  /** Events that may be made before they are asked for, and one. */
  readonly window: number;
  /** Milliseconds that the run has to come to its end once it is told to. */
  readonly graceMs: number;
  readonly calling?: Calling;
  /** The checkpoint that the run goes on from. */
  readonly from?: unknown;
  readonly onPhase?: (phase: Phase) => void;
  /** Hears a state of the run after so many events. */
  readonly onCheckpoint?: (state: unknown, events: number) => void;
  /** Hears of each event as it comes, before it is read. */
  readonly onEvent?: (event: unknown) => void;
  /** Hears the collectives of a rank. */
  readonly onCollect?: (collective: Collective, answer: (value: unknown) => void) => void;
}

export class PlaceRun<Event> implements PlaceListener {
  readonly #place: Place;
  readonly #context: RunContext;
  readonly #options: PlaceRunOptions;
  /** Answers that nobody has taken yet, `window` and one at most. */
  readonly #replies: RunReply[] = [];
  #job = 0;
  /** Events that have come. */
  #received = 0;
  /** Wakes the reader, who waits for an answer. */
  #wake: (() => void) | undefined;
  #loss: Error | undefined;
  /** Runs once the run has been asked to end. */
  #grace: NodeJS.Timeout | undefined;
  /** The run has said its last word. */
  #isOver = false;
  #changes: AsyncIterator<Readonly<Record<string, unknown>>> | undefined;

  constructor(place: Place, context: RunContext, options: PlaceRunOptions) {
    this.#place = place;
    this.#context = context;
    this.#options = options;
  }

  async *events(input: unknown): AsyncGenerator<Event, void, undefined> {
    const { signal, requestId, client, priority } = this.#context;
    const { window: credit, calling = "events", from } = this.#options;
    signal.throwIfAborted();
    this.#job = this.#place.begin(
      { input, caller: { requestId, client, priority }, calling, wants: this.#wants(), credit, from },
      this,
    );
    signal.addEventListener("abort", this.#onAbort, { once: true });
    try {
      for (;;) {
        const reply = await this.#next();
        signal.throwIfAborted();
        if (reply.type === "error") throw errorOf(reply.error);
        if (reply.type === "done") return;
        yield reply.event as Event;
        this.#place.post({ type: "pull", job: this.#job, credit: 1, wants: this.#wants() });
      }
    } catch (error) {
      // A place that was given up says so; the reason matters more.
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener("abort", this.#onAbort);
      await this.#leave();
    }
  }

  onReply(reply: RunReply): void {
    this.#isOver = reply.type !== "event";
    if (reply.type === "event") {
      this.#received++;
      this.#options.onEvent?.(reply.event);
    }
    this.#replies.push(reply);
    this.#wake?.();
  }

  onLost(error: Error): void {
    this.#loss = error;
    this.#wake?.();
  }

  onRequest(request: RunRequest): void {
    switch (request.type) {
      case "collect":
        this.#options.onCollect?.(request, (value) => {
          this.#place.post({ type: "collected", job: this.#job, step: request.step, value });
        });
        return;
      case "phase":
        this.#options.onPhase?.(request.phase);
        return;
      case "checkpoint":
        this.#options.onCheckpoint?.(request.checkpoint, this.#received);
        return;
      case "updates-begin":
        this.#changes ??= this.#context.updates?.[Symbol.asyncIterator]();
        return;
      case "updates-next":
        void this.#passChange();
        return;
      case "updates-end":
        this.#stopReading();
        return;
    }
  }

  /** The next answer; those that came before the place was lost are still answers. */
  async #next(): Promise<RunReply> {
    this.#place.beginWait();
    try {
      for (;;) {
        const reply = this.#replies.shift();
        if (reply !== undefined) return reply;
        if (this.#loss !== undefined) throw this.#loss;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#place.endWait();
    }
  }

  /** Ends the run if it goes on still. */
  async #leave(): Promise<void> {
    if (!this.#isOver && this.#loss === undefined) {
      this.#giveUpInTime();
      this.#place.post({ type: "stop", job: this.#job });
      while (!this.#isOver && this.#loss === undefined) {
        this.#replies.length = 0;
        await this.#next().catch(() => {});
      }
    }
    clearTimeout(this.#grace);
    this.#stopReading();
  }

  readonly #onAbort = () => {
    this.#place.post({ type: "abort", job: this.#job });
    this.#giveUpInTime();
  };

  #giveUpInTime(): void {
    this.#grace ??= setTimeout(() => {
      this.#place.giveUp(hostFault("host-hung", "A run that shares its place with this one does not come to its end"));
    }, this.#options.graceMs);
  }

  #wants(): Wants {
    return { preview: this.#context.wants?.("preview") ?? true };
  }

  async #passChange(): Promise<void> {
    const changes = this.#changes;
    // A run goes on as it was asked when its updates break off.
    const next = await changes?.next().catch(() => undefined);
    if (changes !== this.#changes) return;
    const update = { type: "update", job: this.#job } as const;
    this.#place.post(next === undefined || next.done ? update : { ...update, change: next.value });
  }

  #stopReading(): void {
    const changes = this.#changes;
    this.#changes = undefined;
    // Not awaited: a generator that waits for its next change returns only after that change.
    changes?.return?.().catch(() => {});
  }
}
