/**
 * Schedules replayed: the table against the reference's timesteps and noise levels, and each row applied to the reference's
 * latents (per step) or to its own (chained), on the CPU in float64 and by the kernel.
 */

import { cpuGenerator } from "../../../src/diffusion/noise.ts";
import { readConfig } from "../../../src/diffusion/schedulers/config-reader.ts";
import { createSchedule } from "../../../src/diffusion/schedulers/create-schedule.ts";
import { alphasCumprod, COMMON_BETAS } from "../../../src/diffusion/schedulers/noise-schedule.ts";
import {
  applyStepRow,
  MAX_HISTORY_SLOTS,
  type Schedule,
  type StepRow,
} from "../../../src/diffusion/schedulers/schedule.ts";
import { packRow } from "../../../src/diffusion/step.ts";
import { modelInput } from "../../../src/graph/ops/diffusion/model-input.ts";
import { ROW_QUADS } from "../../../src/graph/ops/diffusion/rows.ts";
import { schedulerStep } from "../../../src/graph/ops/diffusion/scheduler-step.ts";
import { compile, type Plan } from "../../../src/graph/plan.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { channelsFirst, channelsLast, slice, type Tensor } from "../tensors.ts";

/** An entry of `combos.json`. */
interface Combo {
  readonly id: string;
  readonly class: string;
  readonly config: Record<string, unknown>;
  readonly num_inference_steps?: number;
  readonly set_timesteps_args?: ScheduleArguments;
  readonly step_args?: { eta?: number };
  /** The same under other names. */
  readonly set_timesteps?: ScheduleArguments & { num_inference_steps?: number };
  readonly step_kwargs?: { eta?: number };
  readonly init_noise_sigma: number;
  /** Left out: start latents and noise are given as tensors. */
  readonly seed?: string;
  readonly draws?: number;
}

interface ScheduleArguments {
  mu?: number;
  sigmas?: string | number[];
  timesteps?: number[];
}

export const schedulersKind: Kind = {
  name: "schedulers",
  recognises: ({ files }) => files.includes("combos.json"),
  async run(run) {
    const text = await run.folder.readText("combos.json");
    // Python writes -Infinity, which JSON has not.
    const combos = JSON.parse(text.replace(/:\s*-Infinity\b/g, ': "-Infinity"')) as Combo[];
    await run.group("alphas_cumprod", async () => noiseSchedules(run, combos));
    const plans = new Map<string, Plan>();
    for (const combo of combos) await run.group(combo.id, () => replay(run, combo, plans));
    for (const plan of plans.values()) plan.destroy();
  },
};

/** ᾱ of the configurations' common noise schedule, as it is and rescaled to end in noise alone. */
function noiseSchedules(run: CaseRun, combos: readonly Combo[]): void {
  for (const [name, rescaled] of [
    ["alphas_cumprod", false],
    ["alphas_cumprod_zero_snr", true],
  ] as const) {
    if (!run.folder.expected.has(name)) continue;
    const combo = combos.find(({ config }) => config.beta_schedule !== undefined)!;
    const config = { ...combo.config, rescale_betas_zero_snr: rescaled };
    run.compare(name, alphasCumprod(readConfig(combo.class, config), COMMON_BETAS), run.tolerances.scheduler);
  }
}

function scheduleOf({ class: className, config, ...combo }: Combo): Schedule {
  const { mu, sigmas, timesteps } = combo.set_timesteps ?? combo.set_timesteps_args ?? {};
  const steps = combo.num_inference_steps ?? combo.set_timesteps?.num_inference_steps ?? 1;
  const levels = typeof sigmas === "string" ? namedSigmas(sigmas, steps) : sigmas;
  return createSchedule(className, config, {
    steps,
    mu,
    timesteps,
    sigmas: levels,
    eta: (combo.step_kwargs ?? combo.step_args)?.eta,
  });
}

/** numpy's linspace, by the words that the file has for it. */
function namedSigmas(words: string, steps: number): number[] {
  if (words !== "linspace(1, 1/n, n)") throw new Error(`sigmas: do not know what ${words} means`);
  return Array.from({ length: steps }, (_, i) => (steps === 1 ? 1 : 1 + (i * (1 / steps - 1)) / (steps - 1)));
}

async function replay(run: CaseRun, combo: Combo, plans: Map<string, Plan>): Promise<void> {
  const { tolerances } = run;
  const schedule = scheduleOf(combo);
  const name = (field: string) => `${combo.id}.${field}`;
  const given = (field: string) => run.optional(name(field));
  const options = (by?: string) => ({ group: combo.id, by });

  const timesteps = run.input(name("timesteps"));
  const whole = timesteps.values.every(Number.isInteger);
  run.compare(name("timesteps"), schedule.timesteps, whole ? tolerances.exact : tolerances.scheduler, options());
  const levels = given("sigmas");
  // DPM2 of the reference ends with the last level several times.
  const extra = levels && schedule.sigmas ? levels.values.length - schedule.sigmas.length : 0;
  const sigmas = [...(schedule.sigmas ?? []), ...new Array(Math.max(extra, 0)).fill(0)];
  if (levels) run.compare(name("sigmas"), sigmas, tolerances.scheduler, options());
  given("sigmas_interpol"); // the timesteps of the second calls follow from them
  run.equal(combo.id, "init_noise_sigma", [schedule.initNoiseSigma], [combo.init_noise_sigma], tolerances.scheduler);
  addNoise(run, combo, schedule);

  const samples = run.input(name("samples"));
  const start = slice(samples, 0);
  const noises = noiseOf(run, combo, schedule, start.values);
  const drawn = noises.filter((noise) => noise !== undefined);
  if (combo.draws !== undefined) run.equal(combo.id, "count of draws", [drawn.length], [combo.draws], tolerances.exact);
  if (given("noises"))
    run.compare(
      name("noises"),
      drawn.flatMap((noise) => [...noise]),
      tolerances.noise,
      options(),
    );

  const models = run.input(name("model_outputs"));
  const device = deviceStepper(run, await planOf(run, start.shape, plans));
  // The model's output is f16 where the plan stores f16; latents and coefficients are f32 always.
  const deviceTolerance = run.bench.activations === "f16" ? tolerances.network : tolerances.scheduler;
  for (const [by, step, tolerance] of [
    ["CPU", hostStepper(schedule), tolerances.scheduler],
    ["GPU", device, deviceTolerance],
  ] as const) {
    for (const chained of [false, true]) {
      const results = { samples: [...start.values], scaled: [] as number[], denoised: [] as number[] };
      let sample: ArrayLike<number> = start.values;
      for (const [index, row] of schedule.rows.entries()) {
        if (!chained) sample = slice(samples, index).values;
        const stepped = await step(
          row,
          { shape: start.shape, values: Float64Array.from(sample) },
          slice(models, index),
          noises[index],
        );
        results.samples.push(...Array.from(stepped.next));
        results.scaled.push(...Array.from(stepped.scaled));
        results.denoised.push(...Array.from(stepped.denoised));
        sample = stepped.next;
      }
      const path = options(`${by}, ${chained ? "chained" : "per step"}`);
      run.compare(name("samples"), results.samples, tolerance, path);
      // Only the latents of a chain: values derived from the last ones are small beside the first ones' rounding.
      if (chained) continue;
      if (given("scaled_inputs")) run.compare(name("scaled_inputs"), results.scaled, tolerance, path);
      if (given("pred_x0")) run.compare(name("pred_x0"), results.denoised, tolerance, path);
    }
  }
}

/** Latents noised to each row's level. */
function addNoise(run: CaseRun, { id }: Combo, schedule: Schedule): void {
  const original = run.optional(`${id}.add_noise.original`);
  if (!original) return;
  const noise = run.input(`${id}.add_noise.noise`).values;
  const noisy = [...schedule.timesteps].flatMap((timestep, row) => {
    // Called by timestep, the reference takes the second of two equal ones (PNDM).
    const same = schedule.timesteps.indexOf(timestep) === row && schedule.timesteps[row + 1] === timestep ? 1 : 0;
    const level = schedule.addNoise(row + same);
    return Array.from(original.values, (value, i) => value * level.original + noise[i]! * level.noise);
  });
  run.compare(`${id}.add_noise.noisy`, noisy, run.tolerances.scheduler, { group: id });
}

/** The noise of each row: drawn from the seed, whose start latents are compared as well, or as given. */
function noiseOf(
  run: CaseRun,
  { id, seed, draws }: Combo,
  schedule: Schedule,
  start: ArrayLike<number>,
): (Float32Array | undefined)[] {
  const size = start.length;
  if (seed !== undefined) {
    const generator = cpuGenerator(BigInt(seed));
    const first = generator.randn(size).map((value) => value * schedule.initNoiseSigma);
    run.equal(id, "start latents", first, start, run.tolerances.scheduler);
    return schedule.rows.map((row) => (row.drawsNoise ? generator.randn(size) : undefined));
  }
  const given = run.optional(`${id}.noise`);
  let next = 0;
  return schedule.rows.map((row) => {
    // Euler draws and adds none; the count of the case is of noise that is added.
    if (!row.drawsNoise || (draws === 0 && row.next.noise === 0)) return undefined;
    return Float32Array.from(slice(given as Tensor, next++).values);
  });
}

interface Stepped {
  readonly next: ArrayLike<number>;
  readonly scaled: ArrayLike<number>;
  readonly denoised: ArrayLike<number>;
}

type Stepper = (row: StepRow, sample: Tensor, model: Tensor, noise: Float32Array | undefined) => Promise<Stepped>;

/** History lives in the stepper, as the reference's scheduler has it: what was pushed comes from the latents it was given. */
function hostStepper(schedule: Schedule): Stepper {
  let history: Float64Array[] | undefined;
  return async (row, sample, model, noise) => {
    history ??= Array.from({ length: schedule.historySlots }, () =>
      new Float64Array(sample.values.length).fill(Number.NaN),
    );
    const stepped = applyStepRow(row, { sample: sample.values, model: model.values, history, noise });
    return { ...stepped, scaled: sample.values.map((value) => value * row.inputScale) };
  };
}

function deviceStepper({ bench }: CaseRun, plan: Plan): Stepper {
  return async (row, sample, model, noise) => {
    const [images] = sample.shape as [number];
    const shape = channelsLast(sample).shape;
    plan.write("latents", channelsLast(sample).values);
    plan.write("model", channelsLast({ shape: sample.shape, values: model.values }).values);
    if (noise) plan.write("noise", channelsLast({ shape: sample.shape, values: Float64Array.from(noise) }).values);
    // Guidance has no say where there is one branch.
    const packed = packRow(row, 1);
    const table = new Float32Array(packed.length * images);
    for (let image = 0; image < images; image++) table.set(packed, image * packed.length);
    plan.write("rows", table);
    plan.run();
    await bench.gpu.idle();
    const read = async (tensor: string) => channelsFirst(shape, await plan.read(tensor));
    return { next: await read("latents"), scaled: await read("scaled"), denoised: await read("denoised") };
  };
}

/** The two ends of a denoising step without a network between them. */
async function planOf({ bench }: CaseRun, shape: readonly number[], plans: Map<string, Plan>): Promise<Plan> {
  const known = plans.get(shape.join());
  if (known) return known;
  const [images, channels, height, width] = shape as [number, number, number, number];
  const g = new Recorder();
  const latents = g.state("latents", [images, height, width, channels]);
  const history = g.state("history", [images * MAX_HISTORY_SLOTS, height, width, channels]);
  const model = g.input("model", [images, height, width, channels]);
  const noise = g.input("noise", [images, height, width, channels], { element: "f32" });
  const rows = g.input("rows", [images * ROW_QUADS, 4], { element: "f32" });
  g.output("scaled", modelInput(g, latents, rows, 1, "model_input"));
  g.output("denoised", schedulerStep(g, { latents, model, noise, history, rows }, "scheduler"));
  const storage = bench.activations;
  const plan = await compile(bench.gpu, g, { label: "scheduler", storage, parameters: { storage, get: () => [] } });
  plans.set(shape.join(), plan);
  return plan;
}
