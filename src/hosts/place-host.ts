/** A host whose runs live in a place: one thread or one process at a time, which is replaced when it is lost. */
import type { Run, RunContext } from "../jobs/run.ts";
import { hostFault } from "./errors.ts";
import type { Host, HostKind, HostState, HostStats } from "./host.ts";
import { LinkedSignal } from "./linked-signal.ts";
import type { Opening } from "./messages.ts";
import type { Place, PlaceOptions } from "./place.ts";
import { PlaceRun, type PlaceRunOptions } from "./place-run.ts";
import { ProcessPlace } from "./process-place.ts";

export interface PlaceHostOptions extends PlaceRunOptions {
  readonly kind: HostKind;
  readonly opening: Opening;
  readonly open: (options: PlaceOptions) => Place;
  /** Called when a place has ended without being asked to; `wasReady` says if its module had been loaded. */
  readonly onLost?: (error: Error, wasReady: boolean, pid: number | undefined) => void;
  readonly onReport?: (report: unknown) => void;
  /** Called when a place that was given up has come back. */
  readonly onBack?: () => void;
}

/** How one run differs from others of its host. */
export type RunVariation = Partial<
  Pick<PlaceRunOptions, "calling" | "from" | "onCollect" | "onPhase" | "onCheckpoint" | "onEvent">
>;

export class PlaceHost<Input, Event> implements Host<Input, Event> {
  readonly #options: PlaceHostOptions;
  #place: Place | undefined;
  #isClosed = false;
  /** Ends every run under way. */
  readonly #closing = new AbortController();
  #active = 0;
  #ended = 0;
  #failed = 0;
  #opened = 0;
  #lost = 0;
  /** Called when the last run under way is over. */
  #onIdle: (() => void) | undefined;

  constructor(options: PlaceHostOptions) {
    this.#options = options;
  }

  get kind(): HostKind {
    return this.#options.kind;
  }

  get state(): HostState {
    if (this.#isClosed) return "closed";
    if (this.#place === undefined) return "idle";
    return this.#place.isAbandoned ? "hung" : "ready";
  }

  get stats(): HostStats {
    return {
      active: this.#active,
      ended: this.#ended,
      failed: this.#failed,
      opened: this.#opened,
      lost: this.#lost,
    };
  }

  get pid(): number | undefined {
    return pidOf(this.#place);
  }

  readonly run: Run<Input, Event> = (input, context) => this.runAs(input, context, {});

  /** A run with a way of calling, or with collectives. */
  async *runAs<Value = Event>(
    input: unknown,
    context: RunContext,
    variation: RunVariation,
  ): AsyncGenerator<Value, void, undefined> {
    context.signal.throwIfAborted();
    const place = this.#openPlace();
    const linked = new LinkedSignal([context.signal, this.#closing.signal]);
    const run = new PlaceRun<Value>(place, { ...context, signal: linked.signal }, { ...this.#options, ...variation });
    this.#active++;
    try {
      yield* run.events(input);
    } catch (error) {
      if (!context.signal.aborted) this.#failed++;
      throw error;
    } finally {
      linked.release();
      this.#ended++;
      if (--this.#active === 0) this.#onIdle?.();
    }
  }

  async start(): Promise<void> {
    await this.#openPlace().ready();
  }

  /** Ends the place that is open, with a reason that all of its runs fail with; the next run opens another. */
  giveUp(reason: Error): void {
    this.#place?.giveUp(reason);
  }

  async close(graceMs: number = this.#options.graceMs): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const closed = hostFault("host-closed", "The host of this run is closed");
    this.#closing.abort(closed);
    const place = this.#place;
    if (place === undefined) return;
    if (this.#active > 0) await this.#idleWithin(graceMs);
    this.#place = undefined;
    if (place.active > 0) place.giveUp(closed);
    place.leave();
  }

  /** @throws FaultError `host-closed`, or `host-hung` while a place that was given up has not come back */
  #openPlace(): Place {
    if (this.#isClosed) throw hostFault("host-closed", "The host is closed");
    if (this.#place?.isAbandoned) {
      throw hostFault("host-hung", "Runs that were cancelled have not come to their end; try again later");
    }
    if (this.#place !== undefined) return this.#place;
    this.#opened++;
    const place: Place = this.#options.open({
      ...this.#options.opening,
      onEnded: (error, wasReady) => {
        if (this.#place !== place) return;
        this.#place = undefined;
        this.#lost++;
        this.#options.onLost?.(error, wasReady, pidOf(place));
      },
      onReport: (report) => this.#options.onReport?.(report),
      onBack: () => this.#options.onBack?.(),
    });
    this.#place = place;
    return place;
  }

  #idleWithin(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const late = setTimeout(resolve, ms);
      this.#onIdle = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }
}

function pidOf(place: Place | undefined): number | undefined {
  return place instanceof ProcessPlace ? place.pid : undefined;
}
