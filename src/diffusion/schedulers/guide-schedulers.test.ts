// Trajectories of diffusers 0.32.2 for the classes and ways to space levels that guides name: one element of the latents
// after each call, with the model 0.1·x + 0.05·sin(t) in the reference's float32 and the noise that the reference was given.

import { describe, expect, test } from "vitest";
import { readFixtureJson } from "../../../test/fixtures/read-fixture.ts";
import { betaShare } from "./beta-quantile.ts";
import { createSchedule, img2imgStart } from "./create-schedule.ts";
import { SAMPLERS, samplerNamed } from "./samplers.ts";
import { applyStepRow, MAX_HISTORY_SLOTS, type Schedule } from "./schedule.ts";
import type { ScheduleOptions } from "./schedule-table.ts";
import { SIGMA_SCHEDULES, sigmaScheduleLevels } from "./sigma-schedules.ts";

interface Case {
  readonly id: string;
  readonly class: string;
  readonly config: Record<string, unknown>;
  readonly asked: Partial<ScheduleOptions>;
  readonly init: number;
  readonly timesteps: readonly number[];
  readonly samples: readonly number[];
  readonly noise?: readonly number[];
}

const STABLE_DIFFUSION = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
};
const cases = readFixtureJson<Case[]>("schedulers-2/cases.json");

/** The latents after each row from `first`, with the model of the fixture. */
function trajectory(schedule: Schedule, first: number, noise: readonly number[]): number[] {
  const history = Array.from({ length: schedule.historySlots }, () => new Float64Array(1).fill(Number.NaN));
  const samples = [first];
  let drawn = 0;
  for (const row of schedule.rows) {
    const sample = [samples.at(-1)!];
    const input = Math.fround(sample[0]! * row.inputScale);
    const model = [Math.fround(0.1 * input + 0.05 * Math.sin(row.timestep))];
    const draws = row.next.noise !== 0 ? [noise[drawn++]!] : undefined;
    samples.push(applyStepRow(row, { sample, model, history, noise: draws }).next[0]!);
  }
  return samples;
}

test.each(cases)("$id", ({ class: className, config, asked, init, timesteps, samples, noise = [] }) => {
  const own = /^(EDM|FlowMatch)/.test(className) ? {} : STABLE_DIFFUSION;
  const schedule = createSchedule(className, { ...own, ...config }, { steps: 1, ...asked });
  expect(schedule.initNoiseSigma / init).toBeCloseTo(1, 5);
  expect(schedule.historySlots).toBeLessThanOrEqual(MAX_HISTORY_SLOTS);
  expect(schedule.timesteps).toHaveLength(timesteps.length);
  for (const [row, timestep] of timesteps.entries()) {
    expect(Math.abs(schedule.timesteps[row]! - timestep)).toBeLessThan(Number.isInteger(timestep) ? 1e-9 : 1e-3);
  }
  const drawn = noise.length > 0 && schedule.rows.at(-1)!.next.noise === 0 ? noise.slice(0, -1) : noise;
  const followed = trajectory(schedule, samples[0]!, noise.length > drawn.length ? noise : drawn);
  const largest = Math.max(...samples.map(Math.abs));
  for (const [step, sample] of samples.entries()) {
    expect(Math.abs(followed[step]! - sample) / largest, `after call ${step}`).toBeLessThan(1e-5);
  }
});

describe("two evaluations a step", () => {
  test("a run from a picture begins with a step's first call", () => {
    for (const className of ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "DPMSolverSDEScheduler"]) {
      const schedule = createSchedule(className, STABLE_DIFFUSION, { steps: 10 });
      expect(schedule.rows).toHaveLength(19);
      const start = img2imgStart(schedule, 0.4);
      expect(start).toBe(12);
      const run = schedule.from(start);
      expect(run.rows).toHaveLength(7);
      expect(run.rows[0]!.next.history).toEqual([0]);
      expect(() => schedule.from(3)).toThrow(RangeError);
    }
  });

  test("each finds the answer of many Euler steps in few", () => {
    const steps = 60;
    const euler = createSchedule(
      "EulerDiscreteScheduler",
      { ...STABLE_DIFFUSION, use_karras_sigmas: true },
      { steps: 1000 },
    );
    const exact = followed(euler);
    for (const name of ["Heun", "DPM2", "DPM++ 2M", "DPM++ 2S", "UniPC", "UniPC bh2", "DEIS"]) {
      const { className, config } = samplerNamed(name)!;
      const schedule = createSchedule(
        className,
        { ...STABLE_DIFFUSION, ...config, use_karras_sigmas: true },
        { steps },
      );
      expect(Math.abs(followed(schedule) / exact - 1), name).toBeLessThan(0.002);
    }
  });

  /** The last x0 of a run with a model that no solver integrates exactly: 1 + tanh(x)/2. */
  function followed(schedule: Schedule): number {
    const history = Array.from({ length: schedule.historySlots }, () => new Float64Array(1));
    let sample = 0.7 * schedule.initNoiseSigma;
    let last = 0;
    for (const row of schedule.rows) {
      const { sample: s, model: m } = row.x0;
      const x0 = 1 + 0.5 * Math.tanh(sample * row.inputScale);
      const model = (x0 - s * sample) / m;
      sample = applyStepRow(row, { sample: [sample], model: [model], history, noise: [0] }).next[0]!;
      last = x0;
    }
    return last;
  }
});

describe("names", () => {
  test.each([
    ["DPM++ 2M Karras", "DPMSolverMultistepScheduler", "dpmsolver++", "karras"],
    ["DPM++ 2M SDE Heun Exponential", "DPMSolverMultistepScheduler", "sde-dpmsolver++", "exponential"],
    ["dpmpp_2m_sde_gpu", "DPMSolverMultistepScheduler", "sde-dpmsolver++", undefined],
    ["dpm++ sde karras", "DPMSolverSDEScheduler", undefined, "karras"],
    ["Euler a", "EulerAncestralDiscreteScheduler", undefined, undefined],
    ["euler-ancestral", "EulerAncestralDiscreteScheduler", undefined, undefined],
    ["Euler SGM Uniform", "EulerDiscreteScheduler", undefined, "sgm_uniform"],
    ["DPM2 a Karras", "KDPM2AncestralDiscreteScheduler", undefined, "karras"],
    ["uni_pc_bh2", "UniPCMultistepScheduler", undefined, undefined],
    ["DPM++ 2M AYS", "DPMSolverMultistepScheduler", "dpmsolver++", "align_your_steps"],
    ["DPM++ 2M Automatic", "DPMSolverMultistepScheduler", "dpmsolver++", undefined],
    ["HeunDiscreteScheduler", "HeunDiscreteScheduler", undefined, undefined],
  ])("%s", (name, className, algorithm, sigmaSchedule) => {
    const sampler = samplerNamed(name)!;
    expect(sampler.className).toBe(className);
    expect(sampler.config?.algorithm_type).toBe(algorithm);
    expect(sampler.sigmaSchedule).toBe(sigmaSchedule);
  });

  test("none means two samplers, and each makes a schedule", () => {
    const all = SAMPLERS.flatMap(({ name, aliases, className, config }) =>
      [name, ...aliases].map((alias) => ({ alias, className, config })),
    );
    for (const { alias, className, config } of all) {
      expect(samplerNamed(alias), alias).toMatchObject({ className, ...(config && { config }) });
    }
    for (const { name, className, config } of SAMPLERS) {
      expect(
        createSchedule(className, { ...STABLE_DIFFUSION, ...config, skip_prk_steps: true }, { steps: 8 }).rows.length,
        name,
      ).toBeGreaterThan(0);
    }
    for (const name of ["karras", "", "DPM++", "euler b", "toString", "__proto__"])
      expect(samplerNamed(name)).toBeUndefined();
  });
});

describe("levels", () => {
  test.each(SIGMA_SCHEDULES)("%s: descending to 0, at any number of steps", (schedule) => {
    for (const steps of [1, 2, 7, 10, 33, 200]) {
      const levels = sigmaScheduleLevels(schedule, "EulerDiscreteScheduler", STABLE_DIFFUSION, {
        steps,
        aligned: "sd",
      });
      expect(levels).toHaveLength(steps + 1);
      expect(levels.at(-1)).toBe(0);
      expect(levels.every((level, i) => i === 0 || level < levels[i - 1]!)).toBe(true);
      expect(levels[0]).toBeCloseTo(14.615, 3);
      expect(createSchedule("HeunDiscreteScheduler", STABLE_DIFFUSION, { steps, sigmas: levels }).steps).toBe(steps);
    }
  });

  test("the published ones of Align Your Steps, and ComfyUI's of sgm_uniform", () => {
    const of = (schedule: "align_your_steps" | "sgm_uniform", steps: number, aligned: "sd" | "sdxl" = "sdxl") =>
      sigmaScheduleLevels(schedule, "EulerDiscreteScheduler", STABLE_DIFFUSION, { steps, aligned });
    const close = (levels: number[], wanted: readonly number[]) => {
      expect(levels).toHaveLength(wanted.length);
      for (const [i, level] of levels.entries()) expect(level).toBeCloseTo(wanted[i]!, 4);
    };
    close(of("align_your_steps", 10), cases.find(({ id }) => id === "euler.ays_sdxl.sigmas")!.asked.sigmas!);
    close(of("sgm_uniform", 6), cases.find(({ id }) => id === "euler.sgm_uniform")!.asked.sigmas!);
  });

  test("the beta distribution's share against its integral", () => {
    // A substitution takes the poles at both ends away: x = sin²(u), with the integrand 2·(sin u·cos u)^(2a − 1).
    const integral = (to: number) => {
      const n = 200_000;
      let sum = 0;
      for (let i = 0; i < n; i++) {
        const u = ((i + 0.5) * to) / n;
        sum += 2 * (Math.sin(u) * Math.cos(u)) ** 0.2;
      }
      return (sum * to) / n;
    };
    const whole = integral(Math.PI / 2);
    for (const x of [0.001, 0.1, 0.4, 0.5, 0.9, 0.999]) {
      expect(betaShare(x, 0.6, 0.6)).toBeCloseTo(integral(Math.asin(Math.sqrt(x))) / whole, 5);
    }
  });
});
