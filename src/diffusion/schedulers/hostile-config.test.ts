import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { startTurnMeter } from "../../../test/turn-meter.ts";
import { createSchedule, img2imgStart, SCHEDULER_CLASSES, spacesTimesteps } from "./create-schedule.ts";
import { flowShift } from "./flow-match-euler.ts";
import { SchedulerError } from "./scheduler-error.ts";

/** Their levels come from betas. */
const WITH_BETAS = SCHEDULER_CLASSES.filter((name) => !name.startsWith("FlowMatch") && !name.startsWith("EDM"));
const OF_EDM = SCHEDULER_CLASSES.filter((name) => name.startsWith("EDM"));
const WITH_ORDER = SCHEDULER_CLASSES.filter((name) => /(Multi|Single)step/.test(name));

/** Every field that holds numbers, and the classes that read it. */
const NUMBERS: Record<string, readonly string[]> = {
  num_train_timesteps: SCHEDULER_CLASSES.filter((name) => !name.startsWith("EDM")),
  beta_start: WITH_BETAS,
  beta_end: WITH_BETAS,
  trained_betas: WITH_BETAS,
  steps_offset: WITH_BETAS.filter(spacesTimesteps),
  clip_sample_range: ["DDIMScheduler", "LCMScheduler", "TCDScheduler"],
  timestep_scaling: ["LCMScheduler"],
  original_inference_steps: ["LCMScheduler", "TCDScheduler"],
  sigma_min: ["EulerDiscreteScheduler", ...OF_EDM],
  sigma_max: ["EulerDiscreteScheduler", ...OF_EDM],
  sigma_data: OF_EDM,
  rho: OF_EDM,
  flow_shift: ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler"],
  disable_corrector: ["UniPCMultistepScheduler"],
  solver_order: WITH_ORDER,
  lambda_min_clipped: ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"],
  shift: ["FlowMatchEulerDiscreteScheduler"],
};
/** With these set, a class reads the field. */
const SETTINGS = { timestep_spacing: "leading", use_karras_sigmas: true, clip_sample: true };
const SETTINGS_OF: Record<string, object> = {
  TCDScheduler: { clip_sample: true },
  LCMScheduler: { clip_sample: true },
  FlowMatchEulerDiscreteScheduler: {},
};

describe.each(Object.entries(NUMBERS))("%s", (field, classes) => {
  test.each(classes)("of %s is refused beyond its bounds", (className) => {
    for (const value of [2e8, 9e15, 1e308, -1e308, Number.NaN, Number.POSITIVE_INFINITY, "1000", [[1]], { a: 1 }]) {
      const settings = field === "flow_shift" ? { use_flow_sigmas: true } : (SETTINGS_OF[className] ?? SETTINGS);
      const config = { ...settings, [field]: value };
      expect(() => createSchedule(className, config, { steps: 4 }), String(value)).toThrow(SchedulerError);
      expect(() => createSchedule(className, config, { steps: 4 })).toThrow(`${className}: ${field} must be`);
    }
  });
});

test.each(["base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift"])("%s is bounded", (field) => {
  for (const value of [9e15, 1e308, -1e308, Number.NaN, "1"]) {
    expect(() => flowShift({ [field]: value }, 4096)).toThrow(SchedulerError);
  }
  expect(() => flowShift({ base_image_seq_len: 4096 }, 4096)).toThrow(/max_image_seq_len must be above/);
});

test("what a file says is cut short in a message", () => {
  const attempt = () => createSchedule("DDIMScheduler", { beta_schedule: "x".repeat(1_000_000) }, { steps: 4 });
  expect(attempt).toThrow(/^.{0,300}$/);
});

test("the longest schedule that is allowed is made within a turn", { timeout: 60_000 }, () => {
  for (const className of SCHEDULER_CLASSES) {
    const config = {
      num_train_timesteps: 10_000,
      beta_end: 0.002,
      use_karras_sigmas: !className.startsWith("FlowMatch"),
      original_inference_steps: /^(LCM|TCD)/.test(className) ? 10_000 : undefined,
    };
    createSchedule(className, config, { steps: 200 });
    const meter = startTurnMeter();
    createSchedule(className, config, { steps: 200 });
    expect(meter.stop().longestMs, className).toBeLessThan(50);
  }
});

test("betas that end without noise cannot be rescaled", () => {
  const config = { prediction_type: "sample", rescale_betas_zero_snr: true, beta_end: 0 };
  expect(() => createSchedule("LCMScheduler", config, { steps: 2 })).toThrow(/^LCMScheduler: rescale_betas_zero_snr /);
});

test("any configuration gives a table of finite numbers, or an error that names class and field", () => {
  const number = fc.oneof(
    fc.double(),
    fc.integer({ min: -5, max: 2000 }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.constantFrom(0, -1, 1, 1e-320, 1e308, 2 ** 31, 2 ** 53),
  );
  const value = fc.oneof(
    { weight: 8, arbitrary: number },
    fc.constantFrom(null, true, "-Infinity", "", {}, []),
    fc.array(number, { maxLength: 5 }),
  );
  const config = fc
    .tuple(
      fc.dictionary(fc.constantFrom(...Object.keys(NUMBERS)), value, { maxKeys: 3 }),
      fc.record(
        {
          beta_schedule: fc.constantFrom("linear", "scaled_linear", "squaredcos_cap_v2"),
          timestep_spacing: fc.constantFrom("linspace", "leading", "trailing"),
          prediction_type: fc.constantFrom("epsilon", "v_prediction", "sample"),
          use_karras_sigmas: fc.boolean(),
          use_exponential_sigmas: fc.boolean(),
          use_beta_sigmas: fc.boolean(),
          use_flow_sigmas: fc.boolean(),
          predict_x0: fc.boolean(),
          lower_order_final: fc.boolean(),
          solver_type: fc.constantFrom("midpoint", "heun", "bh1", "bh2", "logrho"),
          rescale_betas_zero_snr: fc.boolean(),
          set_alpha_to_one: fc.boolean(),
          clip_sample: fc.boolean(),
          skip_prk_steps: fc.boolean(),
          algorithm_type: fc.constantFrom("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"),
          final_sigmas_type: fc.constantFrom("zero", "sigma_min"),
          interpolation_type: fc.constantFrom("linear", "log_linear"),
          euler_at_final: fc.boolean(),
        },
        { requiredKeys: [] },
      ),
    )
    .map(([numbers, words]): Record<string, unknown> => ({ ...words, ...numbers }));
  const request = fc.record({ steps: fc.integer({ min: 1, max: 60 }), strength: fc.double({ min: 0, max: 1 }) });
  fc.assert(
    fc.property(fc.constantFrom(...SCHEDULER_CLASSES), config, request, (className, config, { steps, strength }) => {
      try {
        const schedule = createSchedule(className, config, { steps });
        const run = schedule.from(img2imgStart(schedule, strength));
        for (const { rows, timesteps, addNoise } of [schedule, run]) {
          expect(rows.length).toBeGreaterThan(0);
          expect(timesteps.every(Number.isFinite)).toBe(true);
          expect(Number.isFinite(Math.fround(addNoise(0).noise))).toBe(true);
          expect(Number.isFinite(Math.fround(addNoise(0).original))).toBe(true);
        }
        expect(Number.isFinite(Math.fround(schedule.initNoiseSigma))).toBe(true);
      } catch (error) {
        if (!(error instanceof SchedulerError)) throw error;
        expect(error.message).toContain(`${className}: ${error.field}`);
      }
    }),
    { numRuns: 1200 },
  );
});
