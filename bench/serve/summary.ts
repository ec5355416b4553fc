/** Turns of a load in figures. */
import type { RunTimes } from "./stream.ts";

/** Milliseconds. */
export interface Spread {
  readonly p50: number;
  readonly p99: number;
  readonly mean: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((one, other) => one - other);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), mean: sorted.reduce((sum, value) => sum + value, 0) / sorted.length };
}

/** The median of the turns' pictures a second, and the times of all their runs. */
export function summaryOf(turns: readonly { readonly runs: readonly RunTimes[]; readonly perSecond: number }[]) {
  const runs = turns.flatMap((turn) => turn.runs);
  return {
    perSecond: spreadOf(turns.map((turn) => turn.perSecond)).p50,
    result: spreadOf(runs.map((run) => run.result)),
    first: spreadOf(runs.flatMap(({ firstProgress }) => (firstProgress === undefined ? [] : [firstProgress]))),
  };
}
