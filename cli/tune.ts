/** `daguerre tune`: times the variants of the heavy kernels on a model's own shapes, and remembers the winners. */

import { tunableParts } from "../src/engine/tuning.ts";
import { readWinners, rememberWinners, tuningFile } from "../src/engine/tuning-cache.ts";
import { type TunedShape, tune } from "../src/graph/tuner.ts";
import { type ModelOptions, type Subject, subjectOf, withModel } from "./model.ts";

export interface TuneOptions extends ModelOptions {
  /** Times again what is remembered. */
  readonly again: boolean;
}

/** The report in JSON. All times are in milliseconds. */
export interface TuneReport extends Subject {
  readonly shapes: readonly {
    readonly shape: string;
    /** Layers of the model that have this shape. */
    readonly layers: number;
    /** The first is the one that the rule takes. */
    readonly candidates: readonly { readonly kernel: string; readonly ms: number }[];
    readonly winner: string;
  }[];
  /** All timed layers, each once: with the kernels of the rule, and with the winners. */
  readonly rule_ms: number;
  readonly tuned_ms: number;
  /** Where the winners are remembered. */
  readonly file: string;
}

/** Prints a row for each shape as it is timed, says what that gained, and remembers the winners. */
export function tuneModel(options: TuneOptions, write: (line: string) => void): Promise<TuneReport> {
  return withModel({ ...options, tuning: false }, async (open) => {
    const { gpu, model, size, heading } = open;
    const file = await tuningFile(gpu.facts);
    const remembered = options.again ? new Map() : await readWinners(file);
    write(heading);
    const shapes = await tune(gpu, tunableParts(model, size), {
      tunedShapes: new Set(remembered.keys()),
      onShape(shape, done, total) {
        if (done === 1) write(`${total} shapes that more than one kernel can do; a run of each, ms:`);
        write(row(shape, `${String(done).padStart(String(total).length)}/${total}`));
      },
    });
    if (shapes.length > 0) {
      await rememberWinners(file, gpu.facts, new Map(shapes.map(({ shape, winner }) => [shape, winner])));
    }
    const report = reportOf(subjectOf(open), shapes, file);
    write(shapes.length === 0 ? nothing(remembered.size > 0) : gain(report));
    return report;
  });
}

function reportOf(subject: Subject, shapes: readonly TunedShape[], file: string): TuneReport {
  const sum = (pick: (shape: TunedShape) => number) =>
    shapes.reduce((total, shape) => total + shape.layers * pick(shape), 0);
  return {
    ...subject,
    shapes: shapes.map(({ shape, layers, candidates, winner }) => ({
      shape,
      layers,
      candidates: candidates.map(({ variant, milliseconds }) => ({ kernel: variant, ms: milliseconds })),
      winner,
    })),
    rule_ms: sum(({ candidates }) => candidates[0]!.milliseconds),
    tuned_ms: sum(({ candidates, winner }) => candidates.find(({ variant }) => variant === winner)!.milliseconds),
    file,
  };
}

function nothing(isRemembered: boolean): string {
  return isRemembered
    ? "every shape is remembered; --again times them again"
    : "no shape that more than one kernel can do";
}

function gain({ shapes, rule_ms, tuned_ms, file }: TuneReport): string {
  const changed = shapes.filter(({ candidates, winner }) => winner !== candidates[0]!.kernel).length;
  const percent = Math.round(100 * (1 - tuned_ms / rule_ms));
  const gained =
    changed === 0
      ? "nothing is gained: the rule takes the fastest of each"
      : `these layers take ${tuned_ms.toFixed(1)} ms instead of ${rule_ms.toFixed(1)}, ${percent}% less`;
  return `${changed} of ${shapes.length} take another kernel than by rule; ${gained}; remembered in ${file}`;
}

function row({ shape, layers, candidates, winner }: TunedShape, count: string): string {
  const times = candidates.map(({ variant, milliseconds }) => `${variant} ${milliseconds.toFixed(3)}`).join("  ");
  return `  ${count}  ${shape.padEnd(64)} ${String(layers).padStart(3)} ×  ${times}  → ${winner}`;
}
