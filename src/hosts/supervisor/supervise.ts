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
 * ended it. Those that were there go on together once; those that see a second process end are computed one at a time from
 * then on, so that the one which ends three processes fails alone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { FaultError } from "../../faults/fault.ts";
import type { Run, RunContext } from "../../jobs/run.ts";
import { type HostOptions, placeOptions } from "../create-host.ts";
import { hostFault } from "../errors.ts";
import type { Host, HostState, HostStats } from "../host.ts";
import type { Phase } from "../messages.ts";
import { PlaceHost } from "../place-host.ts";
import { DEADLINES, type Deadlines, PhaseWatch, StepTimes } from "./phase-watch.ts";
import { CountedReplay, type Replay } from "./replay.ts";

export interface SupervisorOptions<Event = unknown> extends Omit<HostOptions, "kind"> {
  /** Processes that are ready to take over: a pause of a second, for the memory of one more. */
  readonly spares?: 0 | 1;
  /** An input that a spare computes to its end before it counts as ready: its kernels are compiled then. */
  readonly rehearsal?: unknown;
  /** Milliseconds that each phase may take; a function is asked when a phase may be watched anew. */
  readonly deadlines?: Partial<Deadlines> | (() => Partial<Deadlines>);
  /** How a run goes on in another process; left out: by the number of its events. */
  readonly replay?: (context: RunContext) => Replay<Event>;
  /** Called whenever a process is lost. */
  readonly onLost?: (error: Error, pid: number | undefined) => void;
}

export interface SupervisedHost<Input, Event> extends Host<Input, Event> {
  /** Why no run can compute now; undefined if it can. */
  readonly unready: string | undefined;
  /** Processes that are ready to take over. */
  readonly spares: number;
}

/** A run that ends three processes fails. */
const MOST_DEATHS = 3;
/** A run that has seen so many processes end is computed alone. */
const SUSPICIOUS_DEATHS = 2;
/** Times that a run may be late while others of its process get on: the device may be theirs. */
const MOST_PATIENCE = 10;
/** Processes that may be lost one after another before they are ready. */
const MOST_STARTS = 3;
/** The part of a deadline in which a sign of others counts; its own last sign came just before. */
const ALMOST = 0.9;
/** Milliseconds between attempts to start one. */
const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 30_000;

export function supervise<Input, Event>(options: SupervisorOptions<Event>): SupervisedHost<Input, Event> {
  return new Supervisor(options);
}

class Supervisor<Input, Event> implements SupervisedHost<Input, Event> {
  readonly kind = "process";
  readonly #options: SupervisorOptions<Event>;
  readonly #steps = new StepTimes();
  /** Losses, each with whether runs may be to blame: the process was ready. */
  readonly #losses = new WeakMap<Error, boolean>();
  /** When each host's process last gave a sign of getting on, by `performance.now()`. */
  readonly #signs = new WeakMap<PlaceHost<Input, Event>, number>();
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

  constructor(options: SupervisorOptions<Event>) {
    this.#options = options;
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

  get #deadlines(): Deadlines {
    const { deadlines } = this.#options;
    return { ...DEADLINES, ...(typeof deadlines === "function" ? deadlines() : deadlines) };
  }

  #open(): PlaceHost<Input, Event> {
    const host: PlaceHost<Input, Event> = new PlaceHost({
      ...placeOptions({ ...this.#options, kind: "process" }),
      onReport: (report) => {
        this.#signs.set(host, performance.now());
        this.#options.onReport?.(report);
      },
      onLost: (error, wasReady, pid) => {
        this.#losses.set(error, wasReady);
        this.#loaded.delete(host);
        this.#options.onLost?.(error, pid);
        if (this.#isClosed || !wasReady) return;
        if (host === this.#host) this.#takeOver();
        else this.#prepareSpare();
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
    void this.#comeBack();
  }

  /** Starts the host until that succeeds, with longer and longer pauses: nobody may send a run to a server that is not ready. */
  async #comeBack(): Promise<void> {
    while (!this.#isClosed && !this.#loaded.has(this.#host)) {
      await this.#ready().catch(() => this.#pause());
    }
  }

  async #pause(): Promise<void> {
    await sleep(this.#pauseMs, undefined, { ref: false });
    this.#pauseMs = Math.min(2 * this.#pauseMs, LAST_PAUSE_MS);
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
        await this.#pause();
      }
    }
  }

  /** Starts a process. Each of its reports begins the deadline of its loading anew. */
  async #load(host: PlaceHost<Input, Event>, rehearsal?: unknown): Promise<void> {
    const ms = this.#deadlines.load;
    this.#signs.set(host, performance.now());
    const watch = setInterval(() => {
      if (performance.now() - this.#signs.get(host)! > ms) host.giveUp(lateFault("load", ms));
    }, ms / 4);
    try {
      await host.start();
      const context = { signal: new AbortController().signal, requestId: "rehearsal" };
      if (rehearsal !== undefined) for await (const _ of host.runAs(rehearsal, context, {}));
      this.#loaded.add(host);
    } finally {
      clearInterval(watch);
    }
  }

  /** A spare starts once the other is ready, so that its kernels are already in the driver's cache. */
  #prepareSpare(): void {
    if ((this.#options.spares ?? 0) === 0 || this.#isClosed) return;
    this.#spare ??= this.#open();
    // A spare that cannot be started is none; the next loss tries again.
    this.#load(this.#spare, this.#options.rehearsal).catch(() => {});
  }

  async *#run(input: Input, context: RunContext): AsyncGenerator<Event, void, undefined> {
    const replay = this.#options.replay?.(context) ?? new CountedReplay<Event>(context);
    /** Processes that ended while they computed this run. */
    let deaths = 0;
    this.#active++;
    try {
      for (;;) {
        context.signal.throwIfAborted();
        const release = deaths >= SUSPICIOUS_DEATHS ? await this.#turnAlone() : undefined;
        try {
          await this.#ready();
          yield* this.#attempt(input, context, replay);
          return;
        } catch (error) {
          this.#judge(error as Error, context, ++deaths);
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

  async *#attempt(input: Input, context: RunContext, replay: Replay<Event>): AsyncGenerator<Event, void, undefined> {
    const host = this.#host;
    const watch = this.#watch(host);
    const { from, updates } = replay.begin();
    const onPhase = (phase: Phase) => {
      this.#signs.set(host, performance.now());
      watch.enter(phase);
    };
    const onEvent = (event: unknown) => {
      this.#signs.set(host, performance.now());
      replay.received(event);
    };
    const onCheckpoint = (state: unknown, events: number) => replay.checkpoint(state, events);
    const run = host.runAs(input, { ...context, updates }, { from, onPhase, onEvent, onCheckpoint });
    try {
      for (;;) {
        watch.expect(true);
        const next = await run.next();
        watch.expect(false);
        if (next.done) return;
        yield* replay.next(next.value);
      }
    } finally {
      // Its end is waited for as well: a step that hangs holds the device, whoever has asked for it.
      watch.expect(true);
      await run.return();
      watch.end();
    }
  }

  /** The watch over a run: if it is late while others of its process get on, it is given more time. */
  #watch(host: PlaceHost<Input, Event>): PhaseWatch {
    let patience = MOST_PATIENCE;
    const onLate = (phase: Phase, ms: number) => {
      const silence = performance.now() - (this.#signs.get(host) ?? 0);
      if (silence < ms * ALMOST && patience-- > 0) watch.expect(true);
      else host.giveUp(lateFault(phase, ms));
    };
    const watch = new PhaseWatch(this.#deadlines, this.#steps, onLate);
    return watch;
  }

  /** @throws the error, unless another process may do better */
  #judge(error: Error, context: RunContext, deaths: number): void {
    const mayBeItsOwn = this.#losses.get(error);
    if (context.signal.aborted || mayBeItsOwn === undefined || this.#isClosed) throw error;
    // A process that is never ready has had its attempts.
    if (!mayBeItsOwn) throw error;
    if (deaths < MOST_DEATHS) return;
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
