/**
 * Runners taken in turns, A B C A B C, so that what else the machine does hits all of them alike; what is compared is the
 * medians of one such run.
 */

export interface Timing {
  /** Milliseconds of a run. */
  readonly median: number;
  /** The quartiles, as a fraction of the median around it: (q3 − q1) / median. */
  readonly spread: number;
  readonly samples: readonly number[];
}

export interface Runner {
  readonly name: string;
  /** Milliseconds of so many runs one after the other. */
  run(times: number): Promise<number>;
}

export interface TurnOptions {
  readonly rounds: number;
  /** What a turn of each runner should last at least, in ms: quick ones run several times in theirs. */
  readonly turnMilliseconds: number;
  /** Ends the rounds early (with at least three), in ms. */
  readonly budgetMilliseconds: number;
}

/** A runner that fails is left out from then on; its error is in its place. */
export async function takeTurns(
  runners: readonly Runner[],
  options: TurnOptions,
): Promise<Map<string, Timing | Error>> {
  const samples = new Map<string, number[]>();
  const failed = new Map<string, Error>();
  const times = new Map<string, number>();
  const run = async (runner: Runner, count: number) => {
    try {
      return (await runner.run(count)) / count;
    } catch (error) {
      failed.set(runner.name, error as Error);
      return undefined;
    }
  };
  for (const runner of runners) {
    const once = await run(runner, 1);
    if (once !== undefined)
      times.set(runner.name, Math.min(200, Math.max(1, Math.round(options.turnMilliseconds / once))));
  }
  const begun = performance.now();
  for (let round = 0; round < options.rounds; round++) {
    if (round >= 3 && performance.now() - begun > options.budgetMilliseconds) break;
    for (const runner of runners) {
      if (failed.has(runner.name)) continue;
      const milliseconds = await run(runner, times.get(runner.name)!);
      if (milliseconds !== undefined) samples.set(runner.name, [...(samples.get(runner.name) ?? []), milliseconds]);
    }
  }
  return new Map(runners.map(({ name }) => [name, failed.get(name) ?? timing(samples.get(name) ?? [])]));
}

export function timing(samples: readonly number[]): Timing {
  const sorted = [...samples].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  return { median, spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / median, samples };
}

/** `q` of the sorted values, linearly between neighbours. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = q * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}
