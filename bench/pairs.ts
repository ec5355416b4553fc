/** Two checkouts measured in pairs, in turns: what one costs more than the other, whatever else the machine does. */

export interface Pair {
  readonly here: number;
  readonly other: number;
}

/** Measures pairs; which of the two comes first changes from pair to pair. */
export async function measurePairs(
  count: number,
  here: () => Promise<number>,
  other: () => Promise<number>,
): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let n = 0; n < count; n++) {
    const first = n % 2 === 0 ? await here() : undefined;
    const second = await other();
    pairs.push({ here: first ?? (await here()), other: second });
  }
  return pairs;
}

/** A line: both medians in ms, the median of the differences with its 95% interval, and that as a share of the other. */
export function pairsLine(name: string, pairs: readonly Pair[]): string {
  const differences = pairs.map(({ here, other }) => here - other).sort((a, b) => a - b);
  // Ranks of a binomial's middle 95%: https://en.wikipedia.org/wiki/Median#Variance, by its normal approximation.
  const half = 0.98 * Math.sqrt(pairs.length);
  const rank = (offset: number) =>
    differences[Math.min(Math.max(Math.round(pairs.length / 2 + offset), 0), pairs.length - 1)]!;
  const [mine, theirs] = [median(pairs.map(({ here }) => here)), median(pairs.map(({ other }) => other))];
  const more = [rank(-half), rank(half)];
  const ms = (value: number) => value.toFixed(3);
  const share = (value: number) => `${((value / theirs) * 100).toFixed(1)}%`;
  return (
    `${name}: ${ms(mine)} ms here, ${ms(theirs)} ms there; ${ms(median(differences))} ms more ` +
    `(${more.map(ms).join(" to ")}), ${share(median(differences))} (${more.map(share).join(" to ")})`
  );
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
