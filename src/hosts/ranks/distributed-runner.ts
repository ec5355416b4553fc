/**
 * A group of ranks that compute each request together, one place each: several GPUs of a machine, several cores. The names,
 * and the seconds, are those of fal's `DistributedRunner`.
 *
 *     const runner = new DistributedRunner(new URL("./worker.js", import.meta.url), { worldSize: 2 });
 *     await runner.start({ model });
 *     app.post("/stream", sse(runner.stream));
 *     const result = await runner.invoke({ prompt });
 *
 * Different on purpose: the worker is a module, since a class does not cross; errors throw; a result that is added waits for
 * the reader; a reader that leaves cancels all ranks; several calls run at once; a rank that dies, fails, or comes to
 * another collective than the rest fails the call at once, and a dead one is replaced.
 */
import { randomUUID } from "node:crypto";
import { FaultError } from "../../faults/fault.ts";
import type { RunContext } from "../../jobs/run.ts";
import { type HostOptions, placeOptions } from "../create-host.ts";
import { hostFault } from "../errors.ts";
import { LinkedSignal } from "../linked-signal.ts";
import { PlaceHost } from "../place-host.ts";
import { GroupCall } from "./group-call.ts";
import { KeepAlive } from "./keep-alive.ts";
import type { RankEvent, RankInput } from "./rank-function.ts";
import { resultOf, textEvent } from "./text-event.ts";

export interface DistributedRunnerOptions extends Omit<HostOptions, "worker" | "kind" | "window"> {
  /** How many ranks. */
  readonly worldSize?: number;
  /** Where ranks live. A rank that uses a GPU belongs in a process: a thread of it cannot be ended. */
  readonly ranks?: "threads" | "processes";
  /** `device` of each rank; a shorter list begins anew. */
  readonly devices?: readonly unknown[];
  /** The payload of a call that is made when there was none for `keepAliveInterval` seconds, to keep a GPU awake. */
  readonly keepAlivePayload?: unknown;
  readonly keepAliveInterval?: number;
  /** Called with the error of a call that keeps the group awake. */
  readonly onError?: (error: unknown) => void;
}

export interface CallOptions extends Partial<RunContext> {
  /** Seconds that the call may take. */
  readonly timeout?: number;
}

export interface StreamOptions extends CallOptions {
  /** Seconds that may pass between two results, or before the first, while the reader waits. */
  readonly streamingTimeout?: number;
  /** Results come as the bytes of ready `data: …\n\n` blocks. */
  readonly asTextEvents?: boolean;
}

/** Seconds; the original's. */
const START_TIMEOUT = 1800;
const STOP_TIMEOUT = 10;
/** Results on their way to a slow reader; a rank waits with the next. */
const WINDOW = 1;

type Rank = PlaceHost<RankInput, RankEvent>;

export class DistributedRunner<Payload = unknown, Streamed = unknown, Result = unknown> {
  readonly worldSize: number;
  readonly #worker: string | URL;
  readonly #options: DistributedRunnerOptions;
  readonly #calls = new Set<GroupCall>();
  readonly #keepAlive: KeepAlive;
  #ranks: readonly Rank[] = [];
  /** Ranks were started and not stopped. */
  #isStarted = false;

  /** @param worker the module of a `DistributedWorker`, as for `createHost` */
  constructor(worker: string | URL, options: DistributedRunnerOptions = {}) {
    const { worldSize = 1, keepAliveInterval, keepAlivePayload = {}, onError } = options;
    if (!(Number.isInteger(worldSize) && worldSize > 0)) throw new RangeError("worldSize is a whole number from 1");
    this.worldSize = worldSize;
    this.#worker = worker;
    this.#options = options;
    this.#keepAlive = new KeepAlive(keepAliveInterval, () =>
      this.invoke(keepAlivePayload as Payload).then(() => {}, onError),
    );
  }

  /**
   * Opens the ranks and sets them up, each with the same fields.
   * @param options.timeout seconds
   * @throws the error of a `setup`, FaultError `timed-out`; the ranks are closed then
   */
  async start(setup: unknown = {}, { timeout = START_TIMEOUT }: { readonly timeout?: number } = {}): Promise<void> {
    if (this.#isStarted) throw new Error("the ranks run already");
    this.#isStarted = true;
    this.#ranks = Array.from({ length: this.worldSize }, (_, rank) => this.#openRank(rank, setup));
    const late = deadline(timeout, "The ranks are not set up");
    try {
      await Promise.race([Promise.all(this.#ranks.map((rank) => rank.start())), late.passed]);
    } catch (error) {
      await this.terminate();
      throw error;
    } finally {
      late.clear();
    }
    this.#keepAlive.reset();
  }

  /** True if every rank is there. */
  isAlive(): boolean {
    return this.#isStarted && this.#ranks.every(({ state }) => state === "ready");
  }

  /** The processes of the ranks, by rank; undefined where there is none. */
  get pids(): readonly (number | undefined)[] {
    return this.#ranks.map(({ pid }) => pid);
  }

  /**
   * One request on every rank; gives the result of rank 0.
   * @throws the first error of a rank, FaultError `timed-out`, `rank-mismatch`, `host-lost`, `host-hung`
   */
  async invoke(payload: Payload, options: CallOptions = {}): Promise<Result> {
    let result: unknown;
    for await (const event of this.#call(payload, options, false)) if ("returned" in event) result = event.returned;
    return result as Result;
  }

  /**
   * One request on every rank; yields what rank 0 adds, and then what its call returns. A `Run`, so that any transport takes
   * it as it is.
   * @throws as `invoke`
   */
  readonly stream = (
    payload: Payload,
    options: StreamOptions = {},
  ): AsyncGenerator<Streamed | Result, void, undefined> => this.#stream(payload, options);

  /**
   * Cancels the calls under way, lets every rank tear down, and ends them.
   * @param options.timeout seconds that this may take; ranks that take longer are killed
   */
  async stop({ timeout = STOP_TIMEOUT }: { readonly timeout?: number } = {}): Promise<void> {
    if (!this.#isStarted) throw new Error("the ranks do not run");
    this.#endCalls();
    const late = deadline(timeout, "The ranks are not torn down");
    const context = { signal: new AbortController().signal, requestId: "teardown" };
    const teardowns = this.#ranks
      .filter(({ state }) => state === "ready")
      .map(async (rank) => {
        for await (const _ of rank.run({ type: "teardown" }, context));
      });
    try {
      await Promise.race([Promise.all(teardowns), late.passed]);
    } finally {
      late.clear();
      await this.terminate();
    }
  }

  /** Ends the ranks at once, without their teardown. */
  async terminate(): Promise<void> {
    this.#isStarted = false;
    this.#keepAlive.stop();
    this.#endCalls();
    const ranks = this.#ranks;
    this.#ranks = [];
    await Promise.all(ranks.map((rank) => rank.close(0)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.terminate();
  }

  #openRank(rank: number, setup: unknown): Rank {
    const { ranks = "processes", devices = [], ...options } = this.#options;
    const kind = ranks === "threads" ? "thread" : "process";
    const device = devices[rank % devices.length];
    const group = { rank, worldSize: this.worldSize, device, setup };
    const host: Rank = new PlaceHost({
      ...placeOptions({ ...options, worker: this.#worker, kind, window: WINDOW }, group),
      // The next call finds it set up again. If that fails, it tries once more, and says why it cannot be.
      onLost: (_, wasReady) => {
        if (this.#isStarted && wasReady) host.start().catch((error) => host.giveUp(error));
      },
    });
    return host;
  }

  #endCalls(): void {
    for (const call of this.#calls) call.fail(hostFault("host-closed", "The group of this call is stopped"));
  }

  async *#stream(payload: Payload, options: StreamOptions): AsyncGenerator<Streamed | Result, void, undefined> {
    const asText = options.asTextEvents ?? false;
    for await (const event of this.#call(payload, options, true)) {
      const value = "returned" in event ? event.returned : undefined;
      // A call that returns nothing has said all that it has to say.
      if ("returned" in event && value === undefined) continue;
      yield (asText ? textEvent(event) : resultOf(event)) as Streamed | Result;
    }
  }

  async *#call(
    payload: Payload,
    { timeout, streamingTimeout, signal, requestId = randomUUID(), ...context }: StreamOptions,
    streaming: boolean,
  ): AsyncGenerator<RankEvent, void, undefined> {
    if (!this.#isStarted) throw hostFault("host-closed", "The ranks are not started");
    this.#keepAlive.stop();
    const call = new GroupCall(this.worldSize);
    this.#calls.add(call);
    const linked = new LinkedSignal(signal === undefined ? [call.signal] : [signal, call.signal]);
    const whole = timer(timeout, () => call.fail(timedOut(`The call has taken longer than ${timeout} s`)));
    const input = { type: "call", payload, streaming } as const;
    const runs = this.#ranks.map((host, rank) => {
      const run: RunContext = { ...context, signal: linked.signal, requestId };
      return host.runAs<RankEvent>(input, run, {
        onCollect: (collective, answer) => call.arrive({ rank, collective, answer }),
      });
    });
    const others = runs.slice(1).map((run, index) => follow(run, index + 1, call));
    try {
      for (;;) {
        const quiet = timer(streamingTimeout, () => call.fail(timedOut(`No result for ${streamingTimeout} s`)));
        const next = await runs[0]!.next().finally(() => clearTimeout(quiet));
        if (next.done) break;
        yield next.value;
      }
      call.rankEnded(0);
      await Promise.all(others);
      linked.signal.throwIfAborted();
    } catch (error) {
      if (!linked.signal.aborted) call.rankFailed(0, error);
      throw linked.signal.reason;
    } finally {
      clearTimeout(whole);
      // The reader may have left; then this is the first that the other ranks hear of it.
      call.fail(new DOMException("Nobody reads the results any more", "AbortError"));
      await Promise.all([runs[0]!.return(), ...others]);
      linked.release();
      this.#calls.delete(call);
      if (this.#calls.size === 0) this.#keepAlive.reset();
    }
  }
}

/** Reads a rank that has nothing to say. */
async function follow(run: AsyncGenerator<RankEvent>, rank: number, call: GroupCall): Promise<void> {
  try {
    for await (const _ of run);
    call.rankEnded(rank);
  } catch (error) {
    call.rankFailed(rank, error);
  }
}

const timedOut = (message: string) => new FaultError({ code: "timed-out", status: 504, message });

function timer(seconds: number | undefined, then: () => void): NodeJS.Timeout | undefined {
  return seconds === undefined ? undefined : setTimeout(then, seconds * 1000);
}

function deadline(seconds: number, message: string) {
  let late: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_, reject) => {
    late = timer(seconds, () => reject(timedOut(`${message} within ${seconds} s`)));
  });
  return { passed, clear: () => clearTimeout(late) };
}
