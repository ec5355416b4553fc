/**
 * One rank of a group, as its author writes it: a subclass, in a module of its own, with `setup` and `call`. The names are
 * those of fal's `DistributedWorker` and of torch's collectives.
 *
 *     export default class extends DistributedWorker {
 *       async setup({ model }) { this.runtime = await createRuntime({ model, adapter: this.device }); }
 *       async call({ prompt }) {
 *         const parts = await this.gather(await this.preview(prompt));
 *         if (this.rank === 0) await this.addStreamingResult({ parts });
 *         return { done: true };
 *       }
 *     }
 *
 * Several calls may be under way at once. A collective belongs to the call that it is made in, so the calls do not disturb
 * each other; it fails with the call.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { PictureFormat } from "../../image/encode.ts";
import type { RankFacts } from "../messages.ts";
import { encodePictures } from "./pictures.ts";
import type { RankCall } from "./rank-call.ts";
import { type Reducible, type Reduction, reduce } from "./reduce.ts";

/** Facts about a call besides its payload. */
export interface CallContext {
  /** Aborts when the reader has left, a deadline is over, or another rank has failed. */
  readonly signal: AbortSignal;
  readonly requestId: string;
  /** The caller wants results as they come (`stream`), not only the last (`invoke`). */
  readonly streaming: boolean;
}

export interface StreamingResultOptions {
  /** The result is made a ready `data: …\n\n` block here, and not in the process that answers. */
  readonly asTextEvent?: boolean;
  /** Pictures (`{width, height, rgba}`) in it become `{url, width, height, content_type}` in this format; `raw` leaves them. */
  readonly imageFormat?: PictureFormat | "raw";
}

/** The call that code runs in, however deep. */
export const currentCall = new AsyncLocalStorage<RankCall>();

export abstract class DistributedWorker<Payload = unknown, Result = unknown, Setup = unknown> {
  /** 0 to `worldSize - 1`. Rank 0 is the one whose results are read. */
  readonly rank: number;
  /** Ranks of the group. */
  readonly worldSize: number;
  /** The runner's entry for this rank in `devices`, such as an adapter's choice for `createRuntime`. */
  readonly device: unknown;

  constructor({ rank, worldSize, device }: RankFacts) {
    this.rank = rank;
    this.worldSize = worldSize;
    this.device = device;
  }

  /** Called once, before the first call, with the fields of `runner.start`. */
  setup(_setup: Setup): void | Promise<void> {}

  /** Called once, when the runner stops. */
  teardown(): void | Promise<void> {}

  /** Computes one request on every rank at once; the caller gets the result of rank 0. */
  abstract call(payload: Payload, context: CallContext): Result | Promise<Result>;

  /**
   * Sends a result before the last. Resolves when the reader has taken it, so a slow reader slows the ranks. Only rank 0 is
   * read; on others it does nothing.
   * @throws the call's error once the call is over or cancelled
   */
  async addStreamingResult(result: unknown, options: StreamingResultOptions = {}): Promise<void> {
    const { asTextEvent = false, imageFormat = "jpeg" } = options;
    const call = this.#call("addStreamingResult");
    if (this.rank !== 0 || !call.isStreaming) return;
    const value = imageFormat === "raw" ? result : await encodePictures(result, imageFormat);
    await call.add(asTextEvent ? { text: `data: ${JSON.stringify(value)}\n\n` } : { value });
  }

  /** Prints a line that says which rank it is from. */
  rankPrint(message: string): void {
    console.log(`[rank ${this.rank}] ${message}`);
  }

  /** Resolves when every rank has come to it. */
  async barrier(): Promise<void> {
    await this.#collect("barrier", this.barrier);
  }

  /** Every rank's value, by rank, on the rank `to`; undefined on the others. */
  async gather<T>(value: T, to = 0): Promise<T[] | undefined> {
    return (await this.#collect("gather", this.gather, value, to)) as T[] | undefined;
  }

  /** Every rank's value, by rank, on every rank. */
  async allGather<T>(value: T): Promise<T[]> {
    return (await this.#collect("allGather", this.allGather, value)) as T[];
  }

  /** The value of the rank `from`, on every rank. The others' is not looked at. */
  async broadcast<T>(value: T | undefined, from = 0): Promise<T> {
    return (await this.#collect("broadcast", this.broadcast, this.rank === from ? value : undefined, from)) as T;
  }

  /**
   * To each rank its item of the list that the rank `from` has.
   * @throws RangeError if the list has not one item for each rank
   */
  async scatter<T>(values: readonly T[] | undefined, from = 0): Promise<T> {
    if (this.rank === from && values?.length !== this.worldSize) {
      throw new RangeError(`scatter takes a list of ${this.worldSize} items, one for each rank`);
    }
    return (await this.#collect("scatter", this.scatter, this.rank === from ? values : undefined, from)) as T;
  }

  /**
   * The sum, the mean or the largest of all ranks' numbers, item by item, on every rank. All ranks add in the order of the
   * ranks, so all have the same bits.
   * @throws RangeError if the lengths differ
   */
  async allReduce<T extends Reducible>(value: T, reduction: Reduction = "sum"): Promise<T> {
    return reduce((await this.#collect("allReduce", this.allReduce, value)) as T[], reduction);
  }

  #collect(operation: string, caller: (...args: never[]) => unknown, value?: unknown, root?: number): Promise<unknown> {
    const call = this.#call(operation);
    if (root !== undefined && !(Number.isInteger(root) && root >= 0 && root < this.worldSize)) {
      throw new RangeError(`there is no rank ${root} among ${this.worldSize}`);
    }
    return call.collect({ operation, root, where: lineOf(caller), value });
  }

  #call(method: string): RankCall {
    const call = currentCall.getStore();
    if (call === undefined)
      throw new Error(`${method} belongs to a call; it can be used in \`call\`, not in \`setup\``);
    return call;
  }
}

/** The line that called a function of the stack: `worker.js:12`. */
function lineOf(caller: (...args: never[]) => unknown): string {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 1;
  const trace: { stack?: string } = {};
  Error.captureStackTrace(trace, caller);
  Error.stackTraceLimit = stackTraceLimit;
  return /([^/\\()\s]+:\d+):\d+\)?$/.exec(trace.stack ?? "")?.[1] ?? "an unknown line";
}
