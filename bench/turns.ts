/**
 * Runners taken in turns, A B C A B C, so that what else the machine does hits all of them alike; what is compared is the
 * medians of one such run.
 */

/** Milliseconds by the clock, and of CPU time of all threads. */
export interface Lap {
  readonly wall: number;
  readonly cpu: number;
}

export interface Timing {
  /** Milliseconds of a run. */
  readonly median: number;
  /** The quartiles, as a fraction of the median around it: (q3 − q1) / median. */
  readonly spread: number;
  /** Median of the CPU time of a run, in ms: on a software GPU the work done, whoever else uses the machine. */
  readonly cpu: number;
  readonly samples: readonly number[];
}

export interface Runner {
  readonly name: string;
  /** So many runs one after the other. */
  run(times: number): Promise<Lap>;
}

export interface TurnOptions {
  readonly rounds: number;
  /** The least time that a turn of each runner should last, in ms: quick ones run several times in theirs. */
  readonly turnMilliseconds: number;
  /** Ends the rounds early, after `MIN_ROUNDS` or, where a round takes longer than this, after one, in ms. */
  readonly budgetMilliseconds: number;
  /** Most runs of a turn. */
  readonly maxTimes?: number;
}

const MIN_ROUNDS = 3;
const MAX_TIMES = 200;

/** A runner that fails is left out from then on; its error is in its place. */
export async function takeTurns(
  runners: readonly Runner[],
  options: TurnOptions,
): Promise<Map<string, Timing | Error>> {
  const laps = new Map<string, Lap[]>(runners.map(({ name }) => [name, []]));
  const failed = new Map<string, Error>();
  const times = new Map<string, number>();
  const run = async (runner: Runner, count: number) => {
    try {
      const { wall, cpu } = await runner.run(count);
      return { wall: wall / count, cpu: cpu / count };
    } catch (error) {
      failed.set(runner.name, error as Error);
      return undefined;
    }
  };
  const begun = performance.now();
  for (const runner of runners) {
    const once = await run(runner, 1);
    if (!once) continue;
    // A run as long as a turn is a turn; a shorter one tells how many make one.
    if (once.wall >= options.turnMilliseconds) laps.get(runner.name)!.push(once);
    const { turnMilliseconds, maxTimes = MAX_TIMES } = options;
    const fitting = ({ wall }: Lap) => Math.min(maxTimes, Math.max(1, Math.round(turnMilliseconds / wall)));
    // Most of a single short run is the waiting for it.
    const many = fitting(once) > 4 ? await run(runner, fitting(once)) : once;
    if (many) times.set(runner.name, fitting(many));
  }
  const firstRound = performance.now() - begun;
  for (let round = 1; round <= options.rounds; round++) {
    const late = performance.now() - begun > options.budgetMilliseconds;
    if (late && (round > MIN_ROUNDS || firstRound > options.budgetMilliseconds)) break;
    for (const runner of runners) {
      if (failed.has(runner.name)) continue;
      const lap = await run(runner, times.get(runner.name)!);
      if (lap) laps.get(runner.name)!.push(lap);
    }
  }
  // Where the first round was over the budget, those that are quick have had no turn yet.
  for (const runner of runners) {
    if (failed.has(runner.name) || laps.get(runner.name)!.length > 0) continue;
    const lap = await run(runner, times.get(runner.name)!);
    if (lap) laps.get(runner.name)!.push(lap);
  }
  return new Map(runners.map(({ name }) => [name, failed.get(name) ?? timing(laps.get(name)!)]));
}

export function timing(laps: readonly Lap[]): Timing {
  const ascending = (values: number[]) => values.sort((a, b) => a - b);
  const samples = laps.map(({ wall }) => wall);
  const sorted = ascending([...samples]);
  const median = quantile(sorted, 0.5);
  const spread = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / median;
  return { median, spread, cpu: quantile(ascending(laps.map(({ cpu }) => cpu)), 0.5), samples };
}

/** `q` of the sorted values, linearly between neighbours. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = q * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}
