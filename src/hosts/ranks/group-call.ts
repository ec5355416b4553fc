/**
 * One call of a group, seen from the runner: it brings the ranks' collectives together, and fails all of them as soon as
 * one cannot be completed.
 */
import { FaultError } from "../../faults/fault.ts";
import type { Collective } from "../messages.ts";

interface Arrival {
  readonly rank: number;
  readonly collective: Collective;
  readonly answer: (value: unknown) => void;
}

export class GroupCall {
  readonly #worldSize: number;
  readonly #stop = new AbortController();
  /** Ranks that wait, by the step of their collective. */
  readonly #steps = new Map<number, Arrival[]>();
  /** Ranks whose call is over. */
  readonly #ended = new Set<number>();

  constructor(worldSize: number) {
    this.#worldSize = worldSize;
  }

  /** Aborts when the call has failed, with the reason. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** The first failure is the call's; the others follow from it. */
  fail(error: unknown): void {
    this.#stop.abort(error);
    this.#steps.clear();
  }

  /** A rank has ended its call without an error. */
  rankEnded(rank: number): void {
    this.#ended.add(rank);
    const [waiting] = [...this.#steps.values()][0] ?? [];
    if (waiting !== undefined) this.#fail(`${placeOf(waiting)}, but rank ${rank} has ended its call`);
  }

  /** A rank has failed: the call fails, and the error says where the others wait. */
  rankFailed(rank: number, error: unknown): void {
    if (this.signal.aborted) return;
    const waiting = [...this.#steps.values()].flat().map(placeOf);
    const { code, status, message } = (error ?? {}) as { code?: unknown; status?: unknown; message?: unknown };
    if (typeof code !== "string" || typeof status !== "number" || !code.startsWith("host-")) {
      this.fail(error);
      return;
    }
    const where = waiting.length === 0 ? "" : `; ${waiting.join(", ")}`;
    this.fail(new FaultError({ code, status, message: `Rank ${rank}: ${message}${where}`, retryAfter: RETRY_SECONDS }));
  }

  /** A rank has come to a collective. */
  arrive(arrival: Arrival): void {
    if (this.signal.aborted) return;
    const { step } = arrival.collective;
    const arrivals = this.#steps.get(step) ?? [];
    const [first] = arrivals;
    if (first !== undefined && !isSame(first.collective, arrival.collective)) {
      this.#fail(`${placeOf(first)}, but ${placeOf(arrival)}`);
      return;
    }
    const [gone] = this.#ended;
    if (gone !== undefined) {
      this.#fail(`${placeOf(arrival)}, but rank ${gone} has ended its call`);
      return;
    }
    arrivals.push(arrival);
    this.#steps.set(step, arrivals);
    if (arrivals.length < this.#worldSize) return;
    this.#steps.delete(step);
    complete(arrivals);
  }

  #fail(message: string): void {
    this.fail(new FaultError({ code: "rank-mismatch", status: 500, message: `The ranks do not meet: ${message}` }));
  }
}

/** Seconds until a rank that was lost has often been replaced. */
const RETRY_SECONDS = 5;

function isSame(left: Collective, right: Collective): boolean {
  return left.operation === right.operation && left.root === right.root;
}

/** `rank 1 waits in gather (worker.js:12)` */
function placeOf({ rank, collective }: Arrival): string {
  const { operation, root, where } = collective;
  return `rank ${rank} waits in ${operation}${root === undefined ? "" : ` of rank ${root}`} (${where})`;
}

/** Hands every rank its share. */
function complete(arrivals: readonly Arrival[]): void {
  const byRank = [...arrivals].sort((left, right) => left.rank - right.rank);
  const values = byRank.map(({ collective }) => collective.value);
  for (const { rank, collective, answer } of byRank) answer(shareOf(rank, collective, values));
}

function shareOf(rank: number, { operation, root = 0 }: Collective, values: readonly unknown[]): unknown {
  switch (operation) {
    case "gather":
      return rank === root ? values : undefined;
    case "allGather":
    case "allReduce":
      return values;
    case "broadcast":
      return values[root];
    case "scatter":
      return (values[root] as readonly unknown[])[rank];
    default:
      return undefined;
  }
}
