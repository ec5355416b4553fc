// Options of a request beyond the plain spacings, and refusals: each error names the class and the field.

import { describe, expect, test } from "vitest";
import type { SchedulerConfig } from "./config-reader.ts";
import { createSchedule, img2imgStart, isSchedulerClass, SCHEDULER_CLASSES } from "./create-schedule.ts";
import { flowShift } from "./flow-match-euler.ts";
import { createRunSchedule, levelAfter } from "./run-schedule.ts";
import type { ScheduleOptions } from "./schedule-table.ts";
import { SchedulerError } from "./scheduler-error.ts";

const STABLE_DIFFUSION = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  steps_offset: 1,
  timestep_spacing: "leading",
  clip_sample: false,
};

const schedule = (className: string, options: ScheduleOptions, config: SchedulerConfig = STABLE_DIFFUSION) =>
  createSchedule(className, config, options);

describe("a part of the noise levels", () => {
  const parts = (className: string, request: object) =>
    createRunSchedule({ className, config: STABLE_DIFFUSION })({ steps: 6, width: 64, height: 64, ...request }, 8);

  // As the reference's base and refiner share them: 6 steps, parted at 0.6.
  test.each([
    ["EulerDiscreteScheduler", 3],
    ["DDIMScheduler", 3],
    ["HeunDiscreteScheduler", 2], // whole steps: the third ends below
  ])("%s", (className, steps) => {
    const whole = parts(className, {});
    const [base, refiner] = [parts(className, { denoisingEnd: 0.6 }), parts(className, { denoisingStart: 0.6 })];
    const { evaluations } = whole;
    expect(base.rows.every(({ timestep }) => timestep >= 400)).toBe(true);
    expect(base.rows).toHaveLength(steps * evaluations);
    expect([...base.rows, ...refiner.rows]).toEqual(whole.rows);
    expect([...base.timesteps, ...refiner.timesteps]).toEqual([...whole.timesteps]);
    expect(levelAfter(base, base.rows.length - 1)).toEqual(whole.addNoise(base.rows.length));
    expect(levelAfter(base, 0)).toEqual(whole.addNoise(1));
    expect(levelAfter(refiner, refiner.rows.length - 1)).toEqual({ original: 1, noise: 0 });
  });

  test("from a picture it begins where the strength says, unless it has a start", () => {
    const image = { width: 64, height: 64, rgba: new Uint8Array() };
    const of = (request: object) => [...parts("EulerDiscreteScheduler", { image, ...request }).timesteps];
    const whole = [...parts("EulerDiscreteScheduler", {}).timesteps];
    expect(of({ strength: 0.7, denoisingEnd: 0.8 })).toEqual(whole.slice(2, 4));
    expect(of({ strength: 0.7, denoisingStart: 0.1 })).toEqual(whole);
  });

  test.each([
    [{ denoisingEnd: 0.001 }, "denoising_end"],
    [{ denoisingStart: 0.9999 }, "denoising_start"],
    [{ denoisingStart: 0.6, denoisingEnd: 0.5 }, "denoising_start"],
  ])("%j leaves no step", (request, field) => {
    const run = () => parts("EulerDiscreteScheduler", request);
    expect(run).toThrow(SchedulerError);
    expect(run).toThrow(new RegExp(`${field} leaves no step to run`));
  });
});

describe("image to image", () => {
  // From StableDiffusionImg2ImgPipeline runs of the reference (strength 0.6).
  test.each([
    ["DDIMScheduler", 5, 2, [401, 201, 1]],
    ["EulerDiscreteScheduler", 4, 2, [251, 1]],
    ["LCMScheduler", 4, 2, [499, 259]],
  ])("%s, %d steps", (className, steps, start, timesteps) => {
    const whole = schedule(className, { steps });
    expect(img2imgStart(whole, 0.6)).toBe(start);
    const run = whole.from(start);
    expect([...run.timesteps]).toEqual(timesteps);
    expect(run.rows.map((row) => row.timestep)).toEqual(timesteps);
    expect(run.addNoise(0)).toEqual(whole.addNoise(start));
    expect(run.from(1).addNoise(0)).toEqual(whole.addNoise(start + 1));
  });

  test("strength 1 runs every row, PNDM's extra one included", () => {
    const whole = schedule("PNDMScheduler", { steps: 10 }, { ...STABLE_DIFFUSION, skip_prk_steps: true });
    expect(whole.rows).toHaveLength(11);
    expect(img2imgStart(whole, 1)).toBe(0);
    expect(whole.from(img2imgStart(whole, 0.5)).rows).toHaveLength(6);
  });

  test("a multistep run that starts in the middle starts with order 1, and ends as the whole one does", () => {
    const whole = schedule("DPMSolverMultistepScheduler", { steps: 10 });
    const run = whole.from(4);
    const usesHistory = (rows: typeof run.rows) => rows.map((row) => row.next.history.some((weight) => weight !== 0));
    expect(usesHistory(whole.rows)).toEqual([false, ...new Array(8).fill(true), false]);
    expect(usesHistory(run.rows)).toEqual([false, ...new Array(4).fill(true), false]);
    expect(run.sigmas).toEqual(whole.sigmas!.slice(4));
  });

  test("LCM may instead choose among the part of its schedule that strength leaves", () => {
    expect([...schedule("LCMScheduler", { steps: 4, lcmStrength: 0.6 }).timesteps]).toEqual([599, 459, 299, 159]);
    expect([...schedule("LCMScheduler", { steps: 0, timesteps: [999, 759, 499, 259] }).timesteps]).toEqual([
      999, 759, 499, 259,
    ]);
  });

  test.each([0, -1, 1.5, Number.NaN])("strength %d is refused", (strength) => {
    expect(() => img2imgStart(schedule("DDIMScheduler", { steps: 5 }), strength)).toThrow(SchedulerError);
  });

  test("a strength that leaves no step is refused", () => {
    expect(() => img2imgStart(schedule("DDIMScheduler", { steps: 5 }), 0.1)).toThrow(/strength 0.1 of 5 steps/);
  });
});

describe("chosen levels", () => {
  test("Euler at given timesteps is Euler at those of a spacing", () => {
    const spaced = schedule("EulerDiscreteScheduler", { steps: 7 });
    const given = schedule("EulerDiscreteScheduler", { steps: 0, timesteps: [...spaced.timesteps] });
    expect(given.rows).toEqual(spaced.rows);
  });

  test("Euler at given sigmas finds their timesteps", () => {
    const spaced = schedule("EulerDiscreteScheduler", { steps: 7 });
    const given = schedule("EulerDiscreteScheduler", { steps: 0, sigmas: [...spaced.sigmas!] });
    given.timesteps.forEach((timestep, row) => {
      expect(timestep).toBeCloseTo(spaced.timesteps[row]!, 2);
    });
    expect(given.sigmas).toEqual(spaced.sigmas);
  });

  test("DPM++ at given timesteps", () => {
    const spaced = schedule("DPMSolverMultistepScheduler", { steps: 7 });
    const given = schedule("DPMSolverMultistepScheduler", { steps: 0, timesteps: [...spaced.timesteps] });
    expect(given.rows).toEqual(spaced.rows);
  });

  test("log_linear levels have one more than there are steps and end above 0", () => {
    const levels = schedule(
      "EulerDiscreteScheduler",
      { steps: 5 },
      { ...STABLE_DIFFUSION, interpolation_type: "log_linear" },
    ).sigmas!;
    expect(levels).toHaveLength(7);
    const ratios = [...levels].slice(1, 6).map((level, i) => level / levels[i]!);
    for (const ratio of ratios) expect(ratio).toBeCloseTo(ratios[0]!, 5);
    expect(levels[0]).toBeCloseTo(14.6146, 4);
    expect(levels[5]).toBeCloseTo(0.0292, 4);
    expect(levels[6]).toBe(0);
  });

  test("trailing spacings never reach below timestep 0", () => {
    for (const steps of [61, 103, 122]) {
      const { timesteps } = schedule("DDIMScheduler", { steps }, { ...STABLE_DIFFUSION, timestep_spacing: "trailing" });
      expect(timesteps).toHaveLength(steps);
      expect(timesteps.at(-1)).toBeGreaterThanOrEqual(0);
    }
  });

  test("the cosine and the given beta schedules", () => {
    const cosine = schedule("DDIMScheduler", { steps: 4 }, { beta_schedule: "squaredcos_cap_v2" });
    // ᾱ at t is cos²((t + 1)/1000 …) over that at 0 until the cap at the very end.
    const alphaBar = (t: number) => Math.cos(((((t + 1) / 1000 + 0.008) / 1.008) * Math.PI) / 2) ** 2;
    const atZero = Math.cos(((0.008 / 1.008) * Math.PI) / 2) ** 2;
    cosine.timesteps.forEach((timestep, row) => {
      expect(cosine.addNoise(row).original ** 2).toBeCloseTo(alphaBar(timestep) / atZero, 5);
    });
    const trained = schedule(
      "DDIMScheduler",
      { steps: 2 },
      { num_train_timesteps: 4, trained_betas: [0.1, 0.2, 0.3, 0.4] },
    );
    expect(trained.addNoise(0).original ** 2).toBeCloseTo(0.9 * 0.8 * 0.7, 6);
  });

  test("the shift of flow matching grows linearly with the picture", () => {
    expect(flowShift({}, 256)).toBeCloseTo(0.5);
    expect(flowShift({}, 4096)).toBeCloseTo(1.15);
    expect(flowShift({ base_shift: 0.4, max_shift: 0.4 }, 1000)).toBeCloseTo(0.4);
  });
});

describe("refusals name class and field", () => {
  test.each<[string, string, SchedulerConfig, Partial<ScheduleOptions>]>([
    ["ScoreSdeVeScheduler", "_class_name", {}, {}],
    ["UniPCMultistepScheduler", "solver_p", { solver_p: {} }, {}],
    ["UniPCMultistepScheduler", "final_sigmas_type", { lower_order_final: false }, {}],
    ["DPMSolverSinglestepScheduler", "steps", { solver_order: 3 }, {}],
    ["HeunDiscreteScheduler", "sigmas", {}, { sigmas: [2, 3, 0] }],
    ["EDMEulerScheduler", "sigma_max", { sigma_max: 0.001 }, {}],
    ["toString", "_class_name", {}, {}],
    ["DDIMScheduler", "thresholding", { thresholding: true }, {}],
    ["LCMScheduler", "thresholding", { thresholding: true }, {}],
    ["DPMSolverMultistepScheduler", "thresholding", { thresholding: true }, {}],
    ["DDIMScheduler", "beta_schedule", { beta_schedule: "sigmoid" }, {}],
    ["DDIMScheduler", "beta_start", { beta_start: "0.1" }, {}],
    ["DDIMScheduler", "trained_betas", { trained_betas: [0.1] }, {}],
    ["DDIMScheduler", "num_train_timesteps", { num_train_timesteps: 0 }, {}],
    ["DDIMScheduler", "clip_sample", { clip_sample: 1 }, {}],
    ["DDIMScheduler", "timestep_spacing", { timestep_spacing: "random" }, {}],
    ["DDIMScheduler", "prediction_type", { prediction_type: "flow_prediction" }, {}],
    ["DDIMScheduler", "prediction_type", { rescale_betas_zero_snr: true, timestep_spacing: "trailing" }, {}],
    ["DDIMScheduler", "steps", {}, { steps: 0 }],
    ["DDIMScheduler", "steps", {}, { steps: 2.5 }],
    ["DDIMScheduler", "steps", {}, { steps: 1001 }],
    ["DDIMScheduler", "steps", { steps_offset: 1 }, { steps: 1000 }],
    ["DDIMScheduler", "eta", {}, { eta: 2 }],
    ["DDIMScheduler", "timesteps", {}, { timesteps: [1] }],
    ["EulerDiscreteScheduler", "use_beta_sigmas", { use_beta_sigmas: true, use_karras_sigmas: true }, {}],
    ["EulerDiscreteScheduler", "use_exponential_sigmas", { use_exponential_sigmas: true, use_karras_sigmas: true }, {}],
    ["EulerDiscreteScheduler", "timesteps", { use_karras_sigmas: true }, { timesteps: [1] }],
    ["EulerDiscreteScheduler", "sigmas", {}, { sigmas: [0] }],
    ["EulerDiscreteScheduler", "interpolation_type", { interpolation_type: "cubic" }, {}],
    ["EulerAncestralDiscreteScheduler", "prediction_type", { prediction_type: "sample" }, {}],
    ["LCMScheduler", "steps", {}, { steps: 51 }],
    ["LCMScheduler", "original_inference_steps", { original_inference_steps: 2000 }, {}],
    ["LCMScheduler", "timesteps", {}, { timesteps: [10, 20] }],
    ["DPMSolverMultistepScheduler", "solver_order", { solver_order: 4 }, {}],
    [
      "DPMSolverMultistepScheduler",
      "solver_order",
      { solver_order: 3, algorithm_type: "sde-dpmsolver", final_sigmas_type: "sigma_min" },
      {},
    ],
    ["DPMSolverMultistepScheduler", "final_sigmas_type", { algorithm_type: "dpmsolver" }, {}],
    ["DPMSolverMultistepScheduler", "variance_type", { variance_type: "learned" }, {}],
    ["DPMSolverMultistepScheduler", "algorithm_type", { algorithm_type: "unipc" }, {}],
    ["PNDMScheduler", "prediction_type", { prediction_type: "sample" }, {}],
    ["PNDMScheduler", "steps", { skip_prk_steps: false }, { steps: 3 }],
    ["FlowMatchEulerDiscreteScheduler", "mu", { use_dynamic_shifting: true }, {}],
    ["FlowMatchEulerDiscreteScheduler", "invert_sigmas", { invert_sigmas: true }, {}],
    ["FlowMatchEulerDiscreteScheduler", "sigmas", {}, { sigmas: [2] }],
  ])("%s: %s", (className, field, config, options) => {
    const attempt = () => createSchedule(className, config, { steps: 4, ...options });
    expect(attempt).toThrow(SchedulerError);
    try {
      attempt();
    } catch (error) {
      expect(error).toMatchObject({ className, field });
      expect((error as Error).message).toContain(field);
    }
  });

  test("fields of other classes, and null ones, are ignored", () => {
    const config = { ...STABLE_DIFFUSION, skip_prk_steps: true, set_alpha_to_one: false, trained_betas: null, _x: {} };
    expect(schedule("EulerDiscreteScheduler", { steps: 3 }, config).rows).toEqual(
      schedule("EulerDiscreteScheduler", { steps: 3 }).rows,
    );
  });

  test("the classes there are", () => {
    expect(SCHEDULER_CLASSES).toHaveLength(18);
    expect(SCHEDULER_CLASSES.every(isSchedulerClass)).toBe(true);
    expect(isSchedulerClass("hasOwnProperty")).toBe(false);
  });
});
