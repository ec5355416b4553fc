/**
 * `supervise`: a process that runs survive. However it ends (a crash, a signal, a stop, a phase that takes too long), it is
 * replaced, and its runs go on: from their last checkpoint, or from their beginning with the events that were delivered
 * left away. The reader sees a pause.
 *
 *                  ready                    exit, silence, a late phase
 *     starting ───────────▶ ready ────────────────────────────────────────▶ starting (or the spare)
 *        │ three times lost, or an error of the module
 *        ▼
 *     its runs fail; the next one begins anew
 *
 * So a run has to give the same events for the same input: seeds are drawn before, not in it. Any run of a process may have
 * ended it; those that were there are computed one at a time from then on, so that the one which ends three processes fails
 * alone.
 */
import { FaultError } from "../../faults/fault.ts";
import type { Run, RunContext } from "../../jobs/run.ts";
import { sleep } from "../../platform/sleep.ts";
import { type HostOptions, placeOptions } from "../create-host.ts";
import { hostFault } from "../errors.ts";
import type { Host, HostState, HostStats } from "../host.ts";
import { PlaceHost } from "../place-host.ts";
import { DEADLINES, type Deadlines, PhaseWatch, StepTimes } from "./phase-watch.ts";
import { Replay } from "./replay.ts";

export interface SupervisorOptions extends Omit<HostOptions, "kind"> {
  /** Processes that are ready to take over: a pause of a second, for the memory of one more. */
  readonly spares?: 0 | 1;
  /** Milliseconds that each phase may take. */
  readonly deadlines?: Partial<Deadlines>;
  /** Called whenever a process is lost. */
  readonly onLost?: (error: Error) => void;
}

export interface SupervisedHost<Input, Event> extends Host<Input, Event> {
  /** Why no run can compute now; undefined if it can. */
  readonly unready: string | undefined;
  /** Processes that are ready to take over. */
  readonly spares: number;
}

/** A run that ends three processes fails. */
const MOST_DEATHS = 3;
/** Processes that may be lost one after another before they are ready. */
const MOST_STARTS = 3;
/** Milliseconds between attempts to start one. */
const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 30_000;

export function supervise<Input, Event>(options: SupervisorOptions): SupervisedHost<Input, Event> {
  return new Supervisor(options);
}

class Supervisor<Input, Event> implements SupervisedHost<Input, Event> {
  readonly kind = "process";
  readonly #options: SupervisorOptions;
  readonly #deadlines: Deadlines;
  readonly #steps = new StepTimes();
  /** Losses, each with whether runs may be to blame: the process was ready. */
  readonly #losses = new WeakMap<Error, boolean>();
  /** Hosts whose process has loaded the module and was not lost since. */
  readonly #loaded = new WeakSet<PlaceHost<Input, Event>>();
  #host: PlaceHost<Input, Event>;
  #spare: PlaceHost<Input, Event> | undefined;
  /** Settles when the host is ready; undefined if nothing is being started. */
  #starting: Promise<void> | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  /** The run that is computed alone, and those that wait for its end. */
  #alone: Promise<void> = Promise.resolve();
  #active = 0;
  #ended = 0;
  #failed = 0;
  #isClosed = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#deadlines = { ...DEADLINES, ...options.deadlines };
    this.#host = this.#open();
  }

  get state(): HostState {
    return this.#isClosed ? "closed" : this.#host.state;
  }

  get unready(): string | undefined {
    if (this.#isClosed) return "the host is closed";
    return this.#loaded.has(this.#host) ? undefined : "the process is starting";
  }

  get spares(): number {
    return this.#spare !== undefined && this.#loaded.has(this.#spare) ? 1 : 0;
  }

  get stats(): HostStats {
    const hosts = [this.#host, this.#spare].flatMap((host) => host?.stats ?? []);
    const opened = hosts.reduce((sum, stats) => sum + stats.opened, 0);
    const lost = hosts.reduce((sum, stats) => sum + stats.lost, 0);
    return { active: this.#active, ended: this.#ended, failed: this.#failed, opened, lost };
  }

  get pid(): number | undefined {
    return this.#host.pid;
  }

  readonly run: Run<Input, Event> = (input, context) => this.#run(input, context);

  async start(): Promise<void> {
    await this.#ready();
  }

  async close(graceMs?: number): Promise<void> {
    this.#isClosed = true;
    await Promise.all([this.#host.close(graceMs), this.#spare?.close(0)]);
  }

  #open(): PlaceHost<Input, Event> {
    const host: PlaceHost<Input, Event> = new PlaceHost({
      ...placeOptions({ ...this.#options, kind: "process" }),
      onLost: (error, wasReady) => {
        this.#losses.set(error, wasReady);
        this.#loaded.delete(host);
        this.#options.onLost?.(error);
        if (host === this.#host && wasReady && !this.#isClosed) this.#takeOver();
      },
    });
    return host;
  }

  /** Puts the spare in the lost one's place, or starts that anew. */
  #takeOver(): void {
    if (this.#spare !== undefined && this.spares > 0) {
      [this.#host, this.#spare] = [this.#spare, this.#host];
      this.#prepareSpare();
      return;
    }
    this.#ready().catch(() => {}); // the next run says why
  }

  /** @throws the module's error, or the loss of the last of `MOST_STARTS` processes */
  async #ready(): Promise<void> {
    if (this.#loaded.has(this.#host)) return;
    this.#starting ??= this.#startHost().finally(() => {
      this.#starting = undefined;
    });
    await this.#starting;
  }

  async #startHost(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#load(this.#host);
        this.#pauseMs = FIRST_PAUSE_MS;
        this.#prepareSpare();
        return;
      } catch (error) {
        const isLoss = this.#losses.has(error as Error);
        // The next run loads the module in a new process: a device may have memory again.
        if (!isLoss) this.#host.giveUp(error as Error);
        if (this.#isClosed || !isLoss || attempt >= MOST_STARTS) throw error;
        await sleep(this.#pauseMs);
        this.#pauseMs = Math.min(2 * this.#pauseMs, LAST_PAUSE_MS);
      }
    }
  }

  /** Starts a process within the deadline of its loading. */
  async #load(host: PlaceHost<Input, Event>): Promise<void> {
    const ms = this.#deadlines.load;
    const late = setTimeout(() => host.giveUp(lateFault("load", ms)), ms);
    try {
      await host.start();
      this.#loaded.add(host);
    } finally {
      clearTimeout(late);
    }
  }

  /** A spare starts once the other is ready, so that its kernels are already in the driver's cache. */
  #prepareSpare(): void {
    if ((this.#options.spares ?? 0) === 0 || this.#isClosed) return;
    this.#spare ??= this.#open();
    // A spare that cannot be started is none; the next loss tries again.
    this.#load(this.#spare).catch(() => {});
  }

  async *#run(input: Input, context: RunContext): AsyncGenerator<Event, void, undefined> {
    const replay = new Replay(context);
    this.#active++;
    try {
      for (;;) {
        context.signal.throwIfAborted();
        const release = replay.deaths > 0 ? await this.#turnAlone() : undefined;
        try {
          await this.#ready();
          yield* this.#attempt(input, context, replay);
          return;
        } catch (error) {
          this.#judge(error as Error, context, replay);
        } finally {
          release?.();
        }
      }
    } catch (error) {
      if (!context.signal.aborted) this.#failed++;
      throw error;
    } finally {
      replay.close();
      this.#active--;
      this.#ended++;
    }
  }

  async *#attempt(input: Input, context: RunContext, replay: Replay): AsyncGenerator<Event, void, undefined> {
    const host = this.#host;
    const watch = new PhaseWatch(this.#deadlines, this.#steps, (phase, ms) => host.giveUp(lateFault(phase, ms)));
    replay.begin();
    const before = replay.checkpoint?.events ?? 0;
    const run = host.runAs<Event>(
      input,
      { ...context, updates: replay.updates },
      {
        from: replay.checkpoint?.state,
        onPhase: (phase) => watch.enter(phase),
        onEvent: () => replay.received(),
        onCheckpoint: (state, events) => {
          replay.checkpoint = { state, events: before + events };
        },
      },
    );
    try {
      for (let count = before + 1; ; count++) {
        watch.expect(true);
        const next = await run.next();
        watch.expect(false);
        if (next.done) return;
        if (count <= replay.delivered) continue;
        replay.delivered = count;
        yield next.value;
      }
    } finally {
      watch.expect(false);
      await run.return();
    }
  }

  /** @throws the error, unless another process may do better */
  #judge(error: Error, context: RunContext, replay: Replay): void {
    const mayBeItsOwn = this.#losses.get(error);
    if (context.signal.aborted || mayBeItsOwn === undefined || this.#isClosed) throw error;
    // A process that is never ready has had its attempts.
    if (!mayBeItsOwn) throw error;
    if (++replay.deaths < MOST_DEATHS) return;
    const message = `${MOST_DEATHS} processes were lost while they computed this. ${error.message}`;
    throw new FaultError({ code: "host-lost", status: 503, message }, { cause: error });
  }

  /** Resolves when no other suspect is computed, with the function that lets the next one. */
  async #turnAlone(): Promise<() => void> {
    const before = this.#alone;
    let release!: () => void;
    this.#alone = new Promise((resolve) => {
      release = resolve;
    });
    await before;
    return release;
  }
}

function lateFault(phase: string, ms: number): FaultError {
  return hostFault(
    "host-hung",
    `The process that computed this has not come to the end of its phase (${phase}) for ${ms / 1000} s`,
  );
}
