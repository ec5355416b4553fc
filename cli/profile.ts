/** `daguerre profile`: where a model's time goes on this GPU, per kernel and per layer, by the GPU's own clock. */

import { decoderSpec } from "../src/diffusion/latents.ts";
import { latentSize, stepShape } from "../src/diffusion/shape.ts";
import { stepSpec } from "../src/diffusion/step.ts";
import type { KernelTime, Plan } from "../src/graph/plan.ts";
import { type ModelOptions, type Subject, subjectOf, withModel } from "./model.ts";

export interface ProfileOptions extends ModelOptions {
  /** Rows of the table of layers. */
  readonly layers: number;
}

/** Replays before the one that is measured: software drivers compile a kernel when it first runs. */
const WARM_UP = 2;

/** The report in JSON. All times are in milliseconds. */
export interface ProfileReport extends Subject {
  readonly step: PlanReport & { readonly guidance: boolean };
  readonly decode: PlanReport;
}

/** One plan: all its kernels and layers, the longest first. */
interface PlanReport {
  readonly dispatches: number;
  readonly activation_bytes: number;
  readonly ms: number;
  readonly kernels: readonly Row[];
  readonly layers: readonly Row[];
}

interface Row {
  readonly name: string;
  readonly ms: number;
  /** Runs of it that were timed. */
  readonly count: number;
}

/** Prints tables of one denoising step (with guidance) and of one decoded picture. */
export function profile(options: ProfileOptions, write: (line: string) => void): Promise<ProfileReport> {
  return withModel(options, async (open) => {
    const {
      model: { family, memory },
      size,
    } = open;
    const { facts, step, picture } = family;
    const { base } = memory.weightSets;
    write(open.heading);

    const shape = stepShape(family, { ...size, guidanceScale: Math.max(2, facts.defaults.guidanceScale) });
    const guidance = shape.branches > 1;
    const denoiser = await measure(await memory.compile(stepSpec(step, shape), base));
    print(`one denoising step ${guidance ? "with guidance" : "without guidance"}`, denoiser, options.layers, write);

    const decoder = await measure(await memory.compile(decoderSpec(picture.full, latentSize(family, size)), base));
    print("one picture decoded", decoder, options.layers, write);
    return { ...subjectOf(open), step: { guidance, ...denoiser }, decode: decoder };
  });
}

/** Measures a plan and frees it. */
async function measure(plan: Plan): Promise<PlanReport> {
  for (let i = 0; i < WARM_UP; i++) await plan.profile();
  const times = await plan.profile();
  const { dispatches, arenaBytes } = plan;
  plan.destroy();
  return {
    dispatches,
    activation_bytes: arenaBytes,
    ms: times.reduce((sum, time) => sum + time.milliseconds, 0),
    kernels: summed(times, (time) => time.kernel),
    layers: summed(times, (time) => `${time.layer}  (${time.kernel})`),
  };
}

function summed(times: readonly KernelTime[], nameOf: (time: KernelTime) => string): Row[] {
  const rows = new Map<string, Row>();
  for (const time of times) {
    const name = nameOf(time);
    const { ms, count } = rows.get(name) ?? { ms: 0, count: 0 };
    rows.set(name, { name, ms: ms + time.milliseconds, count: count + 1 });
  }
  return [...rows.values()].sort((a, b) => b.ms - a.ms);
}

function print(heading: string, plan: PlanReport, layers: number, write: (line: string) => void): void {
  const line = ({ name, ms, count }: Row) =>
    `  ${ms.toFixed(3).padStart(10)} ms ${((100 * ms) / plan.ms).toFixed(1).padStart(5)} %  ${String(count).padStart(4)} ×  ${name}`;
  write(`\n${heading}: ${plan.dispatches} dispatches, ${megabytes(plan.activation_bytes)} of activations`);
  for (const [title, rows, most] of [
    ["per kernel", plan.kernels, Number.POSITIVE_INFINITY],
    ["per layer", plan.layers, layers],
  ] as const) {
    write(`\n${title}`);
    for (const row of rows.slice(0, most)) write(line(row));
    if (rows.length > most) write(`  … and ${rows.length - most} more`);
  }
  write(line({ name: "all", ms: plan.ms, count: plan.kernels.reduce((sum, row) => sum + row.count, 0) }));
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
