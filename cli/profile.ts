/** `daguerre profile`: where a model's time goes on this GPU, per kernel and per layer, by the GPU's own clock. */

import { decoderSpec } from "../src/diffusion/latents.ts";
import { latentSize, stepShape } from "../src/diffusion/shape.ts";
import { stepSpec } from "../src/diffusion/step.ts";
import { loadModel } from "../src/engine/load-model.ts";
import { builtInModel, precisionOn } from "../src/engine/runtime.ts";
import { useTuning } from "../src/engine/tuning-cache.ts";
import { openGpu } from "../src/gpu/device.ts";
import type { AdapterChoice } from "../src/gpu/drivers/adapter.ts";
import type { KernelTime, Plan } from "../src/graph/plan.ts";

export interface ProfileOptions {
  /** A diffusers folder; without it the built-in model. */
  readonly model?: string;
  readonly adapter?: AdapterChoice;
  readonly precision: "auto" | "f32" | "f16";
  /** Pixels; without it the model's own size. */
  readonly size?: { readonly width: number; readonly height: number };
  /** Rows of the table of layers. */
  readonly layers: number;
}

/** Replays before the one that is measured: software drivers compile a kernel when it first runs. */
const WARM_UP = 2;

/** Prints tables of one denoising step (with guidance) and of one decoded picture. */
export async function profile(options: ProfileOptions, write: (line: string) => void): Promise<void> {
  const gpu = await openGpu({ adapter: options.adapter });
  try {
    await useTuning(gpu);
    const precision = precisionOn(gpu, options.precision);
    const { family, memory } = await loadModel(gpu, options.model ?? builtInModel(), { precision });
    const { facts, step, picture } = family;
    const { width, height } = options.size ?? facts.defaults;
    const { base } = memory.weightSets;
    write(`${facts.name} at ${width}x${height}, ${precision}, on ${gpu.facts.name}`);

    const shape = stepShape(family, { width, height, guidanceScale: Math.max(2, facts.defaults.guidanceScale) });
    const denoiser = await memory.compile(stepSpec(step, shape), base);
    const guidance = shape.branches > 1 ? "with guidance" : "without guidance";
    write(
      `\none denoising step ${guidance}: ${denoiser.dispatches} dispatches, ${megabytes(denoiser.arenaBytes)} of activations`,
    );
    report(await measure(denoiser), options.layers, write);
    denoiser.destroy();

    const decoder = await memory.compile(decoderSpec(picture.full, latentSize(family, { width, height })), base);
    write(`\none picture decoded: ${decoder.dispatches} dispatches, ${megabytes(decoder.arenaBytes)} of activations`);
    report(await measure(decoder), options.layers, write);
  } finally {
    gpu.close();
  }
}

async function measure(plan: Plan): Promise<KernelTime[]> {
  for (let i = 0; i < WARM_UP; i++) await plan.profile();
  return plan.profile();
}

function report(times: readonly KernelTime[], layers: number, write: (line: string) => void): void {
  const total = times.reduce((sum, time) => sum + time.milliseconds, 0);
  const line = (name: string, ms: number, count: number) =>
    `  ${ms.toFixed(3).padStart(10)} ms ${((100 * ms) / total).toFixed(1).padStart(5)} %  ${String(count).padStart(4)} ×  ${name}`;
  for (const [heading, nameOf, rows] of [
    ["per kernel", (time: KernelTime) => time.kernel, Number.POSITIVE_INFINITY],
    ["per layer", (time: KernelTime) => `${time.layer}  (${time.kernel})`, layers],
  ] as const) {
    const sums = new Map<string, { ms: number; count: number }>();
    for (const time of times) {
      const sum = sums.get(nameOf(time)) ?? { ms: 0, count: 0 };
      sums.set(nameOf(time), { ms: sum.ms + time.milliseconds, count: sum.count + 1 });
    }
    write(`\n${heading}`);
    const sorted = [...sums].sort(([, a], [, b]) => b.ms - a.ms);
    for (const [name, { ms, count }] of sorted.slice(0, rows)) write(line(name, ms, count));
    if (sorted.length > rows) write(`  … and ${sorted.length - rows} more`);
  }
  write(line("all", total, times.length));
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
