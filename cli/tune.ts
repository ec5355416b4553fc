/** `daguerre tune`: times the variants of the heavy kernels on a model's own shapes, and remembers the winners. */

import { tunableParts } from "../src/engine/tuning.ts";
import { readWinners, rememberWinners, tuningFile } from "../src/engine/tuning-cache.ts";
import { type TunedShape, tune } from "../src/graph/tuner.ts";
import { type ModelOptions, withModel } from "./model.ts";

export interface TuneOptions extends ModelOptions {
  /** Times again what is remembered. */
  readonly again: boolean;
}

/** Prints a row for each shape as it is timed, and remembers them all at the end. */
export function tuneModel(options: TuneOptions, write: (line: string) => void): Promise<void> {
  return withModel({ ...options, tuning: false }, async ({ gpu, model, size, heading }) => {
    const file = await tuningFile(gpu.facts);
    const remembered = options.again ? new Map() : await readWinners(file);
    write(heading);
    const shapes = await tune(gpu, tunableParts(model, size), {
      known: new Set(remembered.keys()),
      onShape(shape, done, total) {
        if (done === 1) write(`${total} shapes that more than one kernel can do; a run of each, ms:`);
        write(row(shape));
      },
    });
    if (shapes.length === 0) {
      const known = remembered.size > 0;
      write(
        known ? "every shape is remembered; --again times them again" : "no shape that more than one kernel can do",
      );
      return;
    }
    await rememberWinners(file, gpu.facts, new Map(shapes.map(({ shape, winner }) => [shape, winner])));
    const changed = shapes.filter(({ candidates, winner }) => winner !== candidates[0]!.variant).length;
    write(`${changed} of ${shapes.length} take another kernel than by rule; remembered in ${file}`);
  });
}

function row({ shape, layers, candidates, winner }: TunedShape): string {
  const times = candidates.map(({ variant, milliseconds }) => `${variant} ${milliseconds.toFixed(3)}`).join("  ");
  return `  ${shape.padEnd(64)} ${String(layers).padStart(3)} ×  ${times}  → ${winner}`;
}
