// Karras et al. 2022 ("Elucidating the Design Space of Diffusion-Based Generative Models", table 1), for models that were
// trained that way (Playground 2.5, Cosmos): latents x0 + sigma·noise, the model given c_in·x and c_noise = log(sigma)/4,
// and x0 = c_skip·x + c_out·model. Levels come from two bounds, not from betas. Euler's method, and DPM-Solver++.

import type { Bounds, ConfigReader } from "./config-reader.ts";
import { dpmSettings, dpmTable } from "./dpm-multistep.ts";
import { float32 } from "./levels.ts";
import { MODEL, plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import type { Mix } from "./schedule.ts";
import { refuseOptions, refuseThresholding, type ScheduleOptions, type Scheduler } from "./schedule-table.ts";
import { exponentialSigmas, karrasSigmas } from "./sigmas.ts";
import type { SolverFrame } from "./solver-frame.ts";
import { checkSteps } from "./timesteps.ts";

const SIGMA: Bounds = [1e-6, 100_000];
const SIGMA_DATA: Bounds = [1e-3, 1000];
const RHO: Bounds = [0.1, 100];
const MOST_STEPS = 10_000;

/** EDMEulerScheduler. */
export const edmEuler: Scheduler = (config, options) => {
  refuseOptions(config, options, ["timesteps", "mu"]);
  const frame = edmFrame(config, options, "zero");
  const { timesteps, sigmas } = frame;
  return {
    steps: timesteps.length,
    timesteps,
    sigmas,
    initNoiseSigma: frame.initNoiseSigma,
    historySlots: 0,
    rows: (start) =>
      Array.from({ length: timesteps.length - start }, (_, index) => {
        const row = start + index;
        const ratio = (sigmas[row + 1] as number) / (sigmas[row] as number);
        return stepRow(config.className, {
          timestep: timesteps[row] as number,
          inputScale: frame.inputScale?.(row),
          x0: frame.predictions(row).x0,
          next: plus(scaled(ratio, SAMPLE), scaled(1 - ratio, X0)),
        });
      }),
    addNoise: frame.addNoise,
  };
};

/** EDMDPMSolverMultistepScheduler. */
export const edmDpmMultistep: Scheduler = (config, options) => {
  refuseOptions(config, options, ["timesteps", "mu"]);
  refuseThresholding(config);
  const settings = dpmSettings(config);
  return dpmTable(config, settings, edmFrame(config, options, settings.end));
};

function edmFrame(config: ConfigReader, options: ScheduleOptions, end: "zero" | "sigma_min"): SolverFrame {
  const data = config.number("sigma_data", 0.5, SIGMA_DATA);
  const least = config.number("sigma_min", 0.002, SIGMA);
  const most = config.number("sigma_max", 80, SIGMA);
  if (most <= least) config.fail("sigma_max", `must be above sigma_min (${least})`);
  const prediction = config.oneOf("prediction_type", "epsilon", ["epsilon", "v_prediction"]);
  let sigmas: Float64Array;
  if (options.sigmas !== undefined) {
    sigmas = float32(...options.sigmas);
    if (sigmas.length < 2 || !sigmas.every((sigma, i) => sigma >= 0 && (i === 0 || sigma < (sigmas[i - 1] as number))))
      config.fail("sigmas", "must be two or more noise levels, each below the one before, and the last 0 or above");
  } else {
    checkSteps(config, options.steps, MOST_STEPS);
    const rho = config.number("rho", 7, RHO);
    const spaced =
      config.oneOf("sigma_schedule", "karras", ["karras", "exponential"]) === "karras"
        ? karrasSigmas(least, most, options.steps, rho)
        : exponentialSigmas(least, most, options.steps);
    sigmas = float32(...spaced, end === "zero" ? 0 : (spaced.at(-1) as number));
  }
  const at = (row: number) => sigmas[row] as number;
  const deviation = (row: number) => Math.sqrt(at(row) ** 2 + data ** 2);
  const x0 = (row: number): Mix => {
    const out = (prediction === "epsilon" ? 1 : -1) * ((at(row) * data) / deviation(row));
    return plus(scaled(data ** 2 / deviation(row) ** 2, SAMPLE), scaled(out, MODEL));
  };
  return {
    timesteps: sigmas.subarray(0, -1).map((sigma) => Math.fround(0.25 * Math.log(sigma))),
    sigmas,
    initNoiseSigma: Math.sqrt(most ** 2 + 1),
    scales: (row) => ({ alpha: 1, sigma: at(row) }),
    predictions: (row) => ({ x0: x0(row), epsilon: scaled(1 / at(row), plus(SAMPLE, scaled(-1, x0(row)))) }),
    addNoise: (row) => ({ original: 1, noise: at(row) }),
    inputScale: (row) => 1 / deviation(row),
  };
}
