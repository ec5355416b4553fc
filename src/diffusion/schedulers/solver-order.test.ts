// Beyond the fixtures: every solver against the exact solution of a diffusion for which it is known. If the data are
// N(0, s²), the best prediction of x0 is linear, and the probability-flow ODE keeps x / sqrt(alpha²·s² + sigma²)
// constant. A solver of order p then errs by h^p: doubling the steps divides the error by 2^p. An SDE must keep the
// variance instead.

import { describe, expect, test } from "vitest";
import { cpuGenerator } from "../noise.ts";
import { createSchedule } from "./create-schedule.ts";
import { applyStepRow, type Schedule } from "./schedule.ts";

const DATA_VARIANCE = 0.5 ** 2;

const BETAS = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear", timestep_spacing: "linspace" };

type Prediction = "epsilon" | "v_prediction" | "sample";

/** The perfect model's output for variance-preserving latents `x` at scales alpha, sigma. */
function perfectModel(type: Prediction, x: number, alpha: number, sigma: number): number {
  const x0 = ((alpha * DATA_VARIANCE) / (alpha ** 2 * DATA_VARIANCE + sigma ** 2)) * x;
  const epsilon = (x - alpha * x0) / sigma;
  return type === "sample" ? x0 : type === "epsilon" ? epsilon : alpha * epsilon - sigma * x0;
}

/** Scales at each row, from how the schedule itself adds noise; those of exploding latents normalised. */
function scalesOf(schedule: Schedule, row: number): { alpha: number; sigma: number } {
  const { original, noise } = schedule.addNoise(row);
  const length = Math.hypot(original, noise);
  return { alpha: original / length, sigma: noise / length };
}

/** Runs from `start` (variance-preserving latents at row 0) to the end, or through the first `rows` rows. */
function run(
  schedule: Schedule,
  type: Prediction,
  start: ArrayLike<number>,
  rows = schedule.rows.length,
): Float64Array {
  const generator = cpuGenerator(1);
  const exploding = schedule.rows[0]!.inputScale !== 1;
  const history = Array.from({ length: schedule.historySlots }, () => new Float64Array(start.length).fill(Number.NaN));
  let sample = Float64Array.from(start, (x) => (exploding ? x / schedule.rows[0]!.inputScale : x));
  for (const [index, row] of schedule.rows.slice(0, rows).entries()) {
    const { alpha, sigma } = scalesOf(schedule, index);
    const model = sample.map((x) => perfectModel(type, x * row.inputScale, alpha, sigma));
    const noise = row.drawsNoise ? generator.randn(start.length) : undefined;
    sample = Float64Array.from(applyStepRow(row, { sample, model, history, noise }).next);
  }
  return sample;
}

/** Relative error of the end of a run from x = 1, which is known exactly. */
function errorOf(className: string, config: object, steps: number, type: Prediction): number {
  const schedule = createSchedule(className, { ...BETAS, prediction_type: type, ...config }, { steps });
  const { alpha, sigma } = scalesOf(schedule, 0);
  const startDeviation = Math.sqrt(alpha ** 2 * DATA_VARIANCE + sigma ** 2);
  const last = schedule.sigmas!.at(-1)!;
  const endAlpha = 1 / Math.sqrt(last ** 2 + 1);
  const exact = Math.sqrt(endAlpha ** 2 * (DATA_VARIANCE + last ** 2)) / startDeviation;
  return Math.abs(run(schedule, type, [1])[0]! / exact - 1);
}

const DPM = "DPMSolverMultistepScheduler";
/** Ends at the least trained level, where lambda is finite and every step may be of full order. */
const DPM_ENDS = { final_sigmas_type: "sigma_min", use_lu_lambdas: true };

/**
 * Sum of the relative errors each row makes when it starts from the exact latents with exact history: what is left of the
 * solver's own order when the low-order rows of its start are left out.
 */
function ownError(className: string, config: object, steps: number): number {
  const schedule = createSchedule(className, { ...BETAS, prediction_type: "epsilon", ...config }, { steps });
  const exploding = schedule.rows[0]!.inputScale !== 1;
  const exact = Array.from(schedule.sigmas!, (sigma) =>
    Math.sqrt((DATA_VARIANCE + sigma ** 2) / (exploding ? 1 : 1 + sigma ** 2)),
  );
  const history = Array.from({ length: schedule.historySlots }, () => new Float64Array(1));
  return schedule.rows.reduce((sum, row, index) => {
    const { alpha, sigma } = scalesOf(schedule, index);
    const model = [perfectModel("epsilon", exact[index]! * row.inputScale, alpha, sigma)];
    const { next } = applyStepRow(row, { sample: [exact[index]!], model, history });
    return index < 2 ? sum : sum + Math.abs(next[0]! / exact[index + 1]! - 1);
  }, 0);
}

describe("order of the error", () => {
  test.each([
    [
      "Euler, evenly in the logarithm",
      "EulerDiscreteScheduler",
      { use_exponential_sigmas: true, final_sigmas_type: "sigma_min" },
      1,
    ],
    ["DPM++ of order 1", DPM, { ...DPM_ENDS, solver_order: 1 }, 1],
    ["DPM++ 2M, midpoint", DPM, DPM_ENDS, 2],
    ["DPM++ 2M, heun", DPM, { ...DPM_ENDS, solver_type: "heun" }, 2],
    ["DPM of order 1", DPM, { ...DPM_ENDS, algorithm_type: "dpmsolver", solver_order: 1 }, 1],
    ["DPM of order 2, midpoint", DPM, { ...DPM_ENDS, algorithm_type: "dpmsolver" }, 2],
    ["DPM of order 2, heun", DPM, { ...DPM_ENDS, algorithm_type: "dpmsolver", solver_type: "heun" }, 2],
  ] as const)("%s", (_, className, config, order) => {
    const errors = ([80, 160, 320] as const).map((steps) => ownError(className, config, steps));
    const measured = Math.log2(errors[1]! / errors[2]!);
    expect(measured, `errors ${errors.join(", ")}`).toBeGreaterThan(order - 0.3);
    expect(measured, `errors ${errors.join(", ")}`).toBeLessThan(order + 0.3);
  });

  // "3M" is left out above: the reference's formula takes half the second derivative and is of order 2 (with it doubled,
  // the order measured here is 3). We follow it, so its rows are compared with the formula itself.
  test.each(["dpmsolver++", "dpmsolver"])("%s of order 3 is the reference's formula", (algorithm) => {
    const config = { ...BETAS, ...DPM_ENDS, algorithm_type: algorithm, solver_order: 3 };
    const schedule = createSchedule(DPM, config, { steps: 20 });
    const index = 7;
    const [sample, noises] = [0.7, [0.3, -0.4, 0.9]]; // this row's noise prediction, the one before, the one before that
    const at = (row: number) => {
      const sigma = schedule.sigmas![row]!;
      const alpha = 1 / Math.sqrt(sigma ** 2 + 1);
      return { alpha, sigma: sigma * alpha, lambda: -Math.log(sigma) };
    };
    const [s2, s1, s0, t] = [at(index - 2), at(index - 1), at(index), at(index + 1)];
    const plus = algorithm === "dpmsolver++";
    const predicted = (epsilon: number, s: typeof s0) => (plus ? (sample - s.sigma * epsilon) / s.alpha : epsilon);
    const [m0, m1, m2] = [predicted(noises[0]!, s0), predicted(noises[1]!, s1), predicted(noises[2]!, s2)];
    const h = t.lambda - s0.lambda;
    const [r0, r1] = [(s0.lambda - s1.lambda) / h, (s1.lambda - s2.lambda) / h];
    const [d10, d11] = [(m0 - m1) / r0, (m1 - m2) / r1];
    const d1 = d10 + (r0 / (r0 + r1)) * (d10 - d11);
    const d2 = (d10 - d11) / (r0 + r1);
    const wanted = plus
      ? (t.sigma / s0.sigma) * sample -
        t.alpha * (Math.exp(-h) - 1) * m0 +
        t.alpha * ((Math.exp(-h) - 1) / h + 1) * d1 -
        t.alpha * ((Math.exp(-h) - 1 + h) / h ** 2 - 0.5) * d2
      : (t.alpha / s0.alpha) * sample -
        t.sigma * (Math.exp(h) - 1) * m0 -
        t.sigma * ((Math.exp(h) - 1) / h - 1) * d1 -
        t.sigma * ((Math.exp(h) - 1 - h) / h ** 2 - 0.5) * d2;
    const history = Array.from({ length: 2 }, () => new Float64Array(1));
    for (const back of [2, 1, 0]) {
      const row = schedule.rows[index - back]!;
      const { next } = applyStepRow(row, { sample: [sample], model: [noises[back]!], history });
      if (back === 0) expect(next[0]).toBeCloseTo(wanted, 12);
    }
  });

  test("whole runs come near the exact solution", () => {
    expect(errorOf("EulerDiscreteScheduler", { use_exponential_sigmas: true }, 160, "epsilon")).toBeLessThan(5e-2);
    expect(errorOf(DPM, DPM_ENDS, 160, "epsilon")).toBeLessThan(5e-4);
  });

  test.each(["v_prediction", "sample"] as const)("the kind of prediction is no difference: %s", (type) => {
    for (const [className, config] of [
      ["EulerDiscreteScheduler", { use_exponential_sigmas: true }],
      [DPM, DPM_ENDS],
      [DPM, { ...DPM_ENDS, algorithm_type: "dpmsolver" }],
    ] as const) {
      const difference = errorOf(className, config, 40, type) - errorOf(className, config, 40, "epsilon");
      expect(Math.abs(difference), className).toBeLessThan(1e-6);
    }
  });
});

describe("stochastic solvers keep the data's variance", () => {
  test.each([
    ["DDIM with eta 1", "DDIMScheduler", { clip_sample: false, set_alpha_to_one: true }, { eta: 1 }],
    ["Euler ancestral", "EulerAncestralDiscreteScheduler", {}, {}],
    ["SDE-DPM++ of order 1", DPM, { algorithm_type: "sde-dpmsolver++", solver_order: 1 }, {}],
    ["SDE-DPM++, midpoint", DPM, { algorithm_type: "sde-dpmsolver++" }, {}],
    ["SDE-DPM++, heun", DPM, { algorithm_type: "sde-dpmsolver++", solver_type: "heun" }, {}],
    ["SDE-DPM, midpoint", DPM, { algorithm_type: "sde-dpmsolver", final_sigmas_type: "sigma_min" }, {}],
    [
      "SDE-DPM, heun",
      DPM,
      { algorithm_type: "sde-dpmsolver", final_sigmas_type: "sigma_min", solver_type: "heun" },
      {},
    ],
  ] as const)("%s", (_, className, config, options) => {
    const schedule = createSchedule(className, { ...BETAS, ...config }, { steps: 200, ...options });
    expect(schedule.rows.every((row) => row.drawsNoise)).toBe(true);
    const end = run(schedule, "epsilon", cpuGenerator(7).randn(1500));
    const variance = end.reduce((sum, x) => sum + x * x, 0) / end.length;
    expect(variance / DATA_VARIANCE).toBeGreaterThan(0.9);
    expect(variance / DATA_VARIANCE).toBeLessThan(1.1);
  });
});

describe("PNDM", () => {
  const pndm = (config: object, steps: number, start = 0) =>
    createSchedule("PNDMScheduler", { ...BETAS, timestep_spacing: "leading", ...config }, { steps }).from(start);

  /** Relative error after `rows` rows, at the level the next row starts from. */
  const pndmError = (schedule: Schedule, rows: number): number => {
    const [first, after] = [scalesOf(schedule, 0), scalesOf(schedule, rows)];
    const deviation = ({ alpha, sigma }: typeof first) => Math.sqrt(alpha ** 2 * DATA_VARIANCE + sigma ** 2);
    return Math.abs((run(schedule, "epsilon", [1], rows)[0]! * deviation(first)) / deviation(after) - 1);
  };

  test("Runge–Kutta starts: three intervals of four calls, then one call a step", () => {
    const schedule = pndm({ skip_prk_steps: false }, 10);
    expect([...schedule.timesteps]).toEqual([
      ...[900, 850, 850, 800, 800, 750, 750, 700, 700, 650, 650, 600],
      ...[600, 500, 400, 300, 200, 100, 0],
    ]);
  });

  /**
   * PNDM told as a state machine with the sample of the step's first call kept aside, as its authors do, for one number.
   * The table keeps no sample; that it gives the same latents is what is tested.
   */
  function pndmByHand(schedule: Schedule, skipPrk: boolean, stride: number, start: number): number[] {
    const alphaBar = (t: number): number => {
      const alphas = Array.from({ length: Math.max(t, 0) + 1 }, (_, i) => {
        const [low, high] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
        return 1 - (low + (i * (high - low)) / 999) ** 2;
      });
      return alphas.reduce((product, alpha) => product * alpha, 1);
    };
    const transfer = (x: number, from: number, to: number, e: number): number => {
      const [a, b] = [alphaBar(from), alphaBar(to)];
      return Math.sqrt(b / a) * x - ((b - a) * e) / (a * Math.sqrt(1 - b) + Math.sqrt(a * (1 - a) * b));
    };
    const past: number[] = [];
    let [x, base, sum] = [start, start, 0];
    return Array.from(schedule.timesteps, (t, call) => {
      const a = alphaBar(t);
      const e = perfectModel("epsilon", x, Math.sqrt(a), Math.sqrt(1 - a));
      if (!skipPrk && call < 12) {
        const inner = call % 4;
        if (inner === 0) {
          past.unshift(e);
          base = x;
          sum = 0;
        }
        sum += inner === 0 || inner === 3 ? e / 6 : e / 3;
        const from = schedule.timesteps[call - inner]!;
        x = transfer(base, from, t - (inner % 2 === 0 ? stride / 2 : 0), inner === 3 ? sum : e);
      } else if (skipPrk && call === 1) {
        x = transfer(base, t + stride, t, (e + past[0]!) / 2);
      } else {
        past.unshift(e);
        if (call === 0) base = x;
        const [e0, e1, e2, e3] = past as [number, number, number, number];
        const weighed = [
          () => e0,
          () => (3 * e0 - e1) / 2,
          () => (23 * e0 - 16 * e1 + 5 * e2) / 12,
          () => (55 * e0 - 59 * e1 + 37 * e2 - 9 * e3) / 24,
        ][Math.min(past.length, 4) - 1]!();
        x = transfer(x, t, t - stride, weighed);
      }
      return x;
    });
  }

  test.each([true, false])("the table gives what the state machine gives (skip_prk_steps %s)", (skipPrk) => {
    const schedule = pndm({ skip_prk_steps: skipPrk }, 20);
    const byHand = pndmByHand(schedule, skipPrk, 50, 1.3);
    byHand.forEach((value, row) => {
      expect(run(schedule, "epsilon", [1.3], row + 1)[0]! / value).toBeCloseTo(1, 5);
    });
  });

  test("whole runs of both come near it", () => {
    for (const skip of [true, false]) {
      const schedule = pndm({ skip_prk_steps: skip }, 100);
      expect(pndmError(schedule, schedule.rows.length - 1)).toBeLessThan(5e-3);
    }
  });

  test("a run that begins in the middle begins without history", () => {
    for (const skip of [true, false]) {
      const middle = pndm({ skip_prk_steps: skip }, 20, skip ? 9 : 13);
      expect(middle.rows[0]!.next.history.every((weight) => weight === 0)).toBe(true);
    }
  });
});

test("clamping bounds the prediction, and only it", () => {
  const config = { ...BETAS, clip_sample: true, clip_sample_range: 0.3 };
  for (const className of ["DDIMScheduler", "LCMScheduler"]) {
    const schedule = createSchedule(className, config, { steps: 4 });
    const row = schedule.rows.at(-1)!;
    const { denoised, next } = applyStepRow(row, { sample: [9, -9, 0.01], model: [0, 0, 0], history: [] });
    expect(Math.abs(denoised[0]!)).toBeLessThan(0.31);
    expect(denoised[1]).toBe(-denoised[0]!);
    expect(next[0]).toBeCloseTo(denoised[0]!, 1);
    const free = createSchedule(className, { ...config, clip_sample: false }, { steps: 4 }).rows.at(-1)!;
    const inside = applyStepRow(free, { sample: [0.01], model: [0], history: [] });
    expect(next[2]).toBeCloseTo(inside.next[0]!, 12);
  }
});
