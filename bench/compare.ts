/** One section's comparison: everybody prepares the same work, outputs are checked against each other, then turns are taken. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StorageChoice, TensorFile, Work } from "./peers/peer.ts";
import type { RunningPeer } from "./peers/start-peer.ts";
import { type Lap, type Timing, type TurnOptions, takeTurns, timing } from "./turns.ts";

export interface Contender {
  /** As in the table: the peer's name, with Daguerre's storage where that is not f32. */
  readonly name: string;
  readonly peer: Pick<RunningPeer, "prepare" | "output" | "run" | "release">;
  readonly storage?: StorageChoice;
}

export interface Entry {
  readonly name: string;
  readonly note?: string;
  /** Largest difference from the reference, as a fraction of the reference's largest value. */
  readonly difference?: number;
  readonly timing?: Timing;
  /** Why it did not run, or what is wrong with its answer; a wrong peer is timed all the same, and marked. */
  readonly error?: string;
}

/** f32 sums in another order; f16 storage rounds each value to 1 in 2048. */
const TOLERANCE: Record<StorageChoice, number> = { f32: 2e-3, packed: 2e-3, half: 2e-2 };

/** A run that takes longer is not run again: the one whose answer was checked, compilation included, is its only turn. */
const LONG_RUN_MS = 60_000;

/**
 * Prepares, checks and times. The reference is onnxruntime's CPU provider, else the first that gives an answer. Daguerre is
 * not timed where it differs from it; a peer that does is, since how long its wrong answer takes is worth knowing, and marked.
 * A process holds one prepared work at a time, so contenders of one peer must have processes of their own.
 */
export async function compare(
  contenders: readonly Contender[],
  work: Work,
  directory: string,
  options: TurnOptions,
): Promise<Entry[]> {
  const entries = new Map<string, Entry>();
  const ready: Contender[] = [];
  const longLaps = new Map<string, Lap>();
  let reference: { name: string; values: Float32Array } | undefined;
  const referenceFirst = [...contenders].sort((a, b) => Number(b.name === "ort-cpu") - Number(a.name === "ort-cpu"));
  for (const contender of referenceFirst) {
    const { name, peer, storage = "f32" } = contender;
    try {
      const note = await peer.prepare({ ...work, storage });
      const { values, lap } = await peer.output(join(directory, `${name}.out`));
      if (lap.wall > LONG_RUN_MS) longLaps.set(name, lap);
      reference ??= { name, values };
      const difference = largestDifference(values, reference.values);
      const right = difference <= TOLERANCE[storage];
      const error = right
        ? undefined
        : `wrong: differs from ${reference.name} by ${difference.toExponential(1)} of its largest value`;
      entries.set(name, { name, note, ...(right ? { difference } : { error }) });
      if (right || !name.startsWith("daguerre")) ready.push(contender);
    } catch (error) {
      entries.set(name, { name, error: (error as Error).message });
    }
  }
  ready.sort((a, b) => contenders.indexOf(a) - contenders.indexOf(b));
  const runners = ready
    .filter(({ name }) => !longLaps.has(name))
    .map(({ name, peer }) => ({ name, run: (times: number) => peer.run(times) }));
  const timings = await takeTurns(runners, options);
  for (const [name, lap] of longLaps) timings.set(name, timing([lap]));
  for (const { name, peer } of ready) {
    const result = timings.get(name)!;
    const entry = entries.get(name)!;
    entries.set(
      name,
      result instanceof Error ? { ...entry, error: result.message || "failed" } : { ...entry, timing: result },
    );
    await peer.release().catch(() => {});
  }
  return contenders.map(({ name }) => entries.get(name)!);
}

function largestDifference(values: Float32Array, reference: Float32Array): number {
  if (values.length !== reference.length) return Number.NaN;
  let scale = 0;
  let worst = 0;
  for (let i = 0; i < reference.length; i++) {
    scale = Math.max(scale, Math.abs(reference[i]!));
    const difference = Math.abs(values[i]! - reference[i]!);
    if (!(difference <= worst)) worst = difference; // NaN is worst
  }
  return worst / scale;
}

/** A folder for tensors and models that is gone afterwards. */
export async function withScratch<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "daguerre-bench-"));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function writeTensor(
  directory: string,
  name: string,
  shape: readonly number[],
  values: Float32Array | Int32Array,
): TensorFile {
  const file = join(directory, `${name}.f32`);
  writeFileSync(file, values);
  return { file, shape };
}
