/** `daguerre tune`: times the variants of the heavy kernels on a model's own shapes, and remembers the winners. */

import { loadModel } from "../src/engine/load-model.ts";
import { builtInModel, precisionOn } from "../src/engine/runtime.ts";
import { tunableParts } from "../src/engine/tuning.ts";
import { readWinners, rememberWinners, tuningFile } from "../src/engine/tuning-cache.ts";
import { openGpu } from "../src/gpu/device.ts";
import type { AdapterChoice } from "../src/gpu/drivers/adapter.ts";
import { type TunedShape, tune } from "../src/graph/tuner.ts";

export interface TuneOptions {
  /** A diffusers folder; without it the built-in model. */
  readonly model?: string;
  readonly adapter?: AdapterChoice;
  readonly precision: "auto" | "f32" | "f16";
  /** Pixels; without it the model's own size. */
  readonly size?: { readonly width: number; readonly height: number };
  /** Times again what is remembered. */
  readonly again: boolean;
}

/** Prints a row for each shape as it is timed, and remembers them all at the end. */
export async function tuneModel(options: TuneOptions, write: (line: string) => void): Promise<void> {
  const gpu = await openGpu({ adapter: options.adapter });
  try {
    const precision = precisionOn(gpu, options.precision);
    const model = await loadModel(gpu, options.model ?? builtInModel(), { precision });
    const { width, height } = options.size ?? model.family.facts.defaults;
    const file = await tuningFile(gpu.facts);
    const remembered = options.again ? new Map() : await readWinners(file);
    write(`${model.family.facts.name} at ${width}x${height}, ${precision}, on ${gpu.facts.name}`);
    const shapes = await tune(gpu, tunableParts(model, { width, height }), {
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
  } finally {
    gpu.close();
  }
}

function row({ shape, layers, candidates, winner }: TunedShape): string {
  const times = candidates.map(({ variant, milliseconds }) => `${variant} ${milliseconds.toFixed(3)}`).join("  ");
  return `  ${shape.padEnd(64)} ${String(layers).padStart(3)} ×  ${times}  → ${winner}`;
}
