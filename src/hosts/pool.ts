/**
 * `createPool`: several threads or processes of one module, each of which serves one run at a time. For functions and
 * generators that compute without pause, and for many inputs at once. The names are those of Modal's functions:
 *
 *     const pool = createPool({ worker: new URL("./resize.js", import.meta.url), size: 4 });
 *     app.post("/stream", sse(pool.run));                        // .remote_gen
 *     for await (const result of pool.map(files)) …              // .map
 *
 * If a worker dies, another takes its place, and its input is computed again: events that were delivered before are
 * counted and left away, so a run must give the same events for the same input, or have `retries: 0`.
 */
import { availableParallelism } from "node:os";
import { FaultError } from "../faults/fault.ts";
import { type MapOptions, map } from "../jobs/map.ts";
import { type Merged, merge } from "../jobs/merge.ts";
import type { Run, RunContext } from "../jobs/run.ts";
import { sleep } from "../platform/sleep.ts";
import { type HostOptions, placeOptions } from "./create-host.ts";
import { hostFault } from "./errors.ts";
import type { HostKind, HostStats } from "./host.ts";
import type { Calling } from "./messages.ts";
import { PlaceHost } from "./place-host.ts";

export interface PoolOptions extends HostOptions {
  /** Workers; by default as many as there are cores. */
  readonly size?: number;
  /** A process by default: it may crash, and can be ended in the middle of a computation. */
  readonly kind?: Exclude<HostKind, "here">;
  /** How often an input is computed again after its worker has died. */
  readonly retries?: number;
}

export interface PoolMapOptions extends Omit<MapOptions, "concurrency"> {
  /** Modal's name of `ordered`. */
  readonly orderOutputs?: boolean;
  /** An error takes the place of its result, and the others go on. */
  readonly returnExceptions?: boolean;
}

export interface PoolStats extends HostStats {
  /** Runs that wait for a worker. */
  readonly waiting: number;
}

type Inputs<Input> = Iterable<Input> | AsyncIterable<Input>;

export interface Pool<Input, Event> {
  readonly size: number;
  readonly stats: PoolStats;
  /** The processes of its workers that are open. */
  readonly pids: readonly number[];
  /** A generator in a worker. A `Run`, so every transport takes it. */
  readonly run: Run<Input, Event>;
  /** `run` without a context. */
  remoteGen(input: Input, context?: Partial<RunContext>): AsyncGenerator<Event, void, undefined>;
  /** One call: what the function returns, or the last value of a generator. */
  remote<Output = Event>(input: Input, context?: Partial<RunContext>): Promise<Output>;
  /** `remote` for each input, as a stream of results. */
  map<Output = Event>(inputs: Inputs<Input>, options?: PoolMapOptions): AsyncGenerator<Output, void, undefined>;
  /** `map` with the items of each input as arguments. */
  starmap<Output = Event>(
    inputs: Inputs<readonly unknown[]>,
    options?: PoolMapOptions,
  ): AsyncGenerator<Output, void, undefined>;
  /** `remoteGen` for each input: all of its events, each with the number of its input. */
  mapStream(inputs: Inputs<Input>, options?: PoolMapOptions): AsyncGenerator<Merged<Event>, void, undefined>;
  /** Opens all workers. @throws the error of the module */
  start(): Promise<void>;
  /** As a host's. */
  close(graceMs?: number): Promise<void>;
}

/** Three deaths are the input's fault. */
const RETRIES = 2;
/** For workers that die before they have loaded their module, which is no input's fault. */
const MOST_ATTEMPTS = 10;
/** Milliseconds between attempts to replace a worker. */
const FIRST_PAUSE_MS = 50;
const LAST_PAUSE_MS = 1_600;
/** Inputs that wait beside each that is computed, so that a worker never waits for the reader of an earlier result. */
const AHEAD = 2;

export function createPool<Input, Event>(options: PoolOptions): Pool<Input, Event> {
  return new WorkerPool(options);
}

interface Waiting<Member> {
  readonly begin: (member: Member) => void;
  readonly refuse: (error: unknown) => void;
}

class WorkerPool<Input, Event> implements Pool<Input, Event> {
  readonly size: number;
  readonly #kind: Exclude<HostKind, "here">;
  readonly #retries: number;
  readonly #members: readonly PlaceHost<Input, Event>[];
  readonly #free: PlaceHost<Input, Event>[];
  readonly #line: Waiting<PlaceHost<Input, Event>>[] = [];
  /** Errors by which places were lost, each with whether a run may be to blame: its module had been loaded. */
  readonly #losses = new WeakMap<Error, boolean>();
  #isClosed = false;

  constructor(options: PoolOptions) {
    const { size = availableParallelism(), kind = "process", retries = RETRIES } = options;
    if (!(Number.isInteger(size) && size > 0)) throw new RangeError(`size is a whole number from 1, not ${size}`);
    this.size = size;
    this.#kind = kind;
    this.#retries = retries;
    this.#members = Array.from({ length: size }, () => this.#openMember({ ...options, kind }));
    this.#free = [...this.#members];
  }

  get stats(): PoolStats {
    const sum = (of: (stats: HostStats) => number) =>
      this.#members.reduce((total, member) => total + of(member.stats), 0);
    return {
      active: sum(({ active }) => active),
      ended: sum(({ ended }) => ended),
      failed: sum(({ failed }) => failed),
      opened: sum(({ opened }) => opened),
      lost: sum(({ lost }) => lost),
      waiting: this.#line.length,
    };
  }

  get pids(): readonly number[] {
    return this.#members.flatMap(({ pid }) => pid ?? []);
  }

  readonly run: Run<Input, Event> = (input, context) => this.#events(input, context, "events");

  remoteGen(input: Input, context: Partial<RunContext> = {}): AsyncGenerator<Event, void, undefined> {
    return this.#events(input, wholeContext(context), "events");
  }

  remote<Output = Event>(input: Input, context: Partial<RunContext> = {}): Promise<Output> {
    return this.#value(input, "value", context);
  }

  map<Output = Event>(inputs: Inputs<Input>, options: PoolMapOptions = {}): AsyncGenerator<Output, void, undefined> {
    return this.#map(inputs, "value", options);
  }

  starmap<Output = Event>(
    inputs: Inputs<readonly unknown[]>,
    options: PoolMapOptions = {},
  ): AsyncGenerator<Output, void, undefined> {
    return this.#map(inputs, "spread", options);
  }

  mapStream(inputs: Inputs<Input>, options: PoolMapOptions = {}): AsyncGenerator<Merged<Event>, void, undefined> {
    const run = (input: Input, _: number, signal: AbortSignal) =>
      this.#events<Event>(input, wholeContext({ signal }), "events");
    const begin = options.returnExceptions ? withErrors(run) : run;
    return merge(inputs, begin, { ...this.#mapOptions(options), concurrency: this.size });
  }

  async start(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.start()));
  }

  async close(graceMs?: number): Promise<void> {
    this.#isClosed = true;
    const closed = hostFault("host-closed", "The pool of this run is closed");
    for (const { refuse } of this.#line.splice(0)) refuse(closed);
    await Promise.all(this.#members.map((member) => member.close(graceMs)));
  }

  #openMember(options: HostOptions & { readonly kind: "thread" | "process" }): PlaceHost<Input, Event> {
    const member: PlaceHost<Input, Event> = new PlaceHost({
      ...placeOptions(options),
      onLost: (error, wasReady) => {
        this.#losses.set(error, wasReady);
      },
      onBack: () => this.#giveBack(member),
    });
    return member;
  }

  #map<Output>(
    inputs: Inputs<unknown>,
    calling: Calling,
    options: PoolMapOptions,
  ): AsyncGenerator<Output, void, undefined> {
    const call = async (input: unknown, _: number, signal: AbortSignal) => {
      try {
        return await this.#value<Output>(input, calling, { signal });
      } catch (error) {
        if (!options.returnExceptions || signal.aborted) throw error;
        return error as Output;
      }
    };
    return map(inputs, call, { ...this.#mapOptions(options), concurrency: AHEAD * this.size });
  }

  #mapOptions({ ordered, orderOutputs, signal }: PoolMapOptions): MapOptions {
    return { ordered: ordered ?? orderOutputs ?? true, signal };
  }

  async #value<Output>(input: unknown, calling: Calling, context: Partial<RunContext>): Promise<Output> {
    let value: Output | undefined;
    for await (const event of this.#events<Output>(input, wholeContext(context), calling)) value = event;
    return value as Output;
  }

  async *#events<Value = Event>(
    input: unknown,
    context: RunContext,
    calling: Calling,
  ): AsyncGenerator<Value, void, undefined> {
    let delivered = 0;
    let deaths = 0;
    for (let attempt = 1; ; attempt++) {
      const member = await this.#take(context.signal);
      let seen = 0;
      try {
        for await (const event of member.runAs<Value>(input, context, { calling })) {
          if (++seen <= delivered) continue;
          delivered++;
          yield event;
        }
        return;
      } catch (error) {
        const isItsOwn = this.#losses.get(error as Error);
        if (context.signal.aborted || isItsOwn === undefined) throw error;
        if (isItsOwn) deaths++;
        if (deaths > this.#retries) throw poisonous(error as FaultError, deaths, this.#kind);
        if (attempt >= MOST_ATTEMPTS) throw error;
      } finally {
        this.#giveBack(member);
      }
    }
  }

  /** A worker for one run. */
  #take(signal: AbortSignal): Promise<PlaceHost<Input, Event>> {
    signal.throwIfAborted();
    if (this.#isClosed) throw hostFault("host-closed", "The pool is closed");
    const free = this.#free.pop();
    if (free !== undefined) return Promise.resolve(free);
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#line.splice(this.#line.indexOf(waiting), 1);
        reject(signal.reason);
      };
      const settle = () => signal.removeEventListener("abort", leave);
      const waiting: Waiting<PlaceHost<Input, Event>> = {
        begin: (member) => {
          settle();
          resolve(member);
        },
        refuse: (error) => {
          settle();
          reject(error);
        },
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#line.push(waiting);
    });
  }

  /** A worker whose run is over. One that hangs is given back when it has come back, a lost one when it is replaced. */
  #giveBack(member: PlaceHost<Input, Event>): void {
    if (this.#isClosed || member.state === "hung") return;
    if (member.state === "idle") void this.#replace(member).then(() => this.#serveNext(member));
    else this.#serveNext(member);
  }

  /** Opens a lost worker anew. If that fails, its next run tries again, and says why it cannot be. */
  async #replace(member: PlaceHost<Input, Event>): Promise<void> {
    for (let pauseMs = FIRST_PAUSE_MS; pauseMs <= LAST_PAUSE_MS && !this.#isClosed; pauseMs *= 2) {
      try {
        await member.start();
        return;
      } catch {
        await sleep(pauseMs);
      }
    }
  }

  #serveNext(member: PlaceHost<Input, Event>): void {
    if (this.#isClosed) return;
    const next = this.#line.shift();
    if (next === undefined) this.#free.push(member);
    else next.begin(member);
  }
}

function wholeContext({ signal = NEVER, requestId = "", ...more }: Partial<RunContext>): RunContext {
  return { ...more, signal, requestId };
}

/** A signal that never aborts; nobody may keep a listener on it. */
const NEVER = new AbortController().signal;

/** The error of a run as its last event. */
function withErrors<Input, Event>(
  run: (input: Input, index: number, signal: AbortSignal) => AsyncGenerator<Event, void, undefined>,
): typeof run {
  return async function* (input, index, signal) {
    try {
      yield* run(input, index, signal);
    } catch (error) {
      signal.throwIfAborted();
      yield error as Event;
    }
  };
}

function poisonous(error: FaultError, deaths: number, kind: string): FaultError {
  const { code, status, message } = error;
  if (deaths === 1) return error;
  const several = `${deaths} ${kind === "process" ? "processes" : "threads"} were lost while they computed this input`;
  return new FaultError({ code, status, message: `${several}. ${message}` }, { cause: error });
}
