// Euler's method in the variance-exploding convention (Karras et al. 2022, algorithm 2 with no churn):
// dx/dsigma = (x − x0(x, sigma)) / sigma. The latents carry noise of standard deviation sigma, so they start at
// initNoiseSigma and the model is given them divided by sqrt(sigma² + 1).
// `eulerAncestral` steps below the target level and adds fresh noise back up to it.

import type { Bounds, ConfigReader } from "./config-reader.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { alphasCumprod, COMMON_BETAS, linspaceFloat32, trainTimesteps } from "./noise-schedule.ts";
import { explodingX0, PREDICTION_TYPES, type PredictionType } from "./prediction.ts";
import { refuseOptions, type ScheduleOptions, type Scheduler, type ScheduleTable } from "./schedule-table.ts";
import { exponentialSigmas, interpolate, karrasSigmas, logSigmas, sigmaToTimestep, trainingSigmas } from "./sigmas.ts";
import {
  checkSteps,
  leadingTimesteps,
  linspace,
  type TimestepSpacing,
  timestepSpacing,
  trailingTimesteps,
} from "./timesteps.ts";

const f32 = Math.fround;

/** Video models go up to 700, with data of deviation 1. */
const SIGMA: Bounds = [0, 100_000];

/** EulerDiscreteScheduler. */
export const euler: Scheduler = (config, options) => {
  refuseOptions(config, options, ["mu"]);
  refuseBetaSigmas(config);
  const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
  const spacing = timestepSpacing(config, "linspace");
  const { timesteps, sigmas } = eulerLevels(config, options, spacing);
  const modelTimesteps =
    config.oneOf("timestep_type", "discrete", ["discrete", "continuous"]) === "continuous" &&
    prediction === "v_prediction"
      ? timesteps.map((_, i) => f32(0.25 * f32(Math.log(sigmas[i] as number))))
      : timesteps;
  return explodingTable(config, prediction, spacing, modelTimesteps, sigmas, (_sigma, next) => ({
    target: next,
    noise: 0,
  }));
};

/** EulerAncestralDiscreteScheduler. */
export const eulerAncestral: Scheduler = (config, options) => {
  refuseOptions(config, options, ["timesteps", "sigmas", "mu"]);
  const prediction = config.oneOf<PredictionType>("prediction_type", "epsilon", ["epsilon", "v_prediction"]);
  const spacing = timestepSpacing(config, "linspace");
  const timesteps = eulerTimesteps(config, options, spacing);
  const training = trainingSigmas(alphasCumprod(config, COMMON_BETAS, 2 ** -24));
  const sigmas = float32(...interpolate(timesteps, training), 0);
  return explodingTable(config, prediction, spacing, timesteps, sigmas, (sigma, next) => {
    const variance = (next ** 2 * (sigma ** 2 - next ** 2)) / sigma ** 2;
    return { target: Math.sqrt(next ** 2 - variance), noise: Math.sqrt(variance) };
  });
};

/** The level an Euler step walks to, and the noise it then adds. */
type Walk = (sigma: number, next: number) => { readonly target: number; readonly noise: number };

function explodingTable(
  config: ConfigReader,
  prediction: PredictionType,
  spacing: TimestepSpacing,
  timesteps: Float64Array,
  sigmas: Float64Array,
  walk: Walk,
): ScheduleTable {
  const most = sigmas.reduce((a, b) => Math.max(a, b));
  return {
    steps: timesteps.length,
    timesteps,
    sigmas,
    // Leading timesteps begin below the noisiest level, so the start also holds the variance of a clean picture.
    initNoiseSigma: spacing === "leading" ? Math.sqrt(most ** 2 + 1) : most,
    historySlots: 0,
    rows: (start) =>
      Array.from(timesteps.subarray(start), (timestep, index) => {
        const sigma = sigmas[start + index] as number;
        const { target, noise } = walk(sigma, sigmas[start + index + 1] as number);
        const x0 = explodingX0(prediction, sigma);
        const toTarget = (target - sigma) / sigma;
        return stepRow(config.className, {
          timestep,
          inputScale: 1 / Math.sqrt(sigma ** 2 + 1),
          x0,
          next: plus(scaled(1 + toTarget, SAMPLE), scaled(-toTarget, X0)),
          noise,
          drawsNoise: true, // the plain sampler draws for a churn of 0 and discards it; seeds agree only if we do too
        });
      }),
    addNoise: (row) => ({ original: 1, noise: sigmas[row] as number }),
  };
}

function eulerLevels(
  config: ConfigReader,
  options: ScheduleOptions,
  spacing: TimestepSpacing,
): { timesteps: Float64Array; sigmas: Float64Array } {
  const alphaBars = alphasCumprod(config, COMMON_BETAS, 2 ** -24);
  const training = trainingSigmas(alphaBars);
  const logs = logSigmas(training);
  const karras = config.boolean("use_karras_sigmas", false);
  const exponential = config.boolean("use_exponential_sigmas", false);
  if (karras && exponential) config.fail("use_exponential_sigmas", "cannot be combined with use_karras_sigmas");

  if (options.sigmas !== undefined) {
    const levels = float32(...options.sigmas);
    if (options.timesteps !== undefined) config.fail("sigmas", "cannot be combined with timesteps");
    if (levels.length < 2 || !levels.subarray(0, -1).every((sigma) => sigma > 0 && Number.isFinite(sigma))) {
      config.fail("sigmas", "must be two or more numbers, positive but for the last");
    }
    return { timesteps: float32(...levels.subarray(0, -1).map((s) => sigmaToTimestep(s, logs))), sigmas: levels };
  }
  if (options.timesteps !== undefined && (karras || exponential)) {
    config.fail("timesteps", "cannot be chosen together with use_karras_sigmas or use_exponential_sigmas");
  }

  let timesteps = eulerTimesteps(config, options, spacing);
  let levels: Float64Array;
  switch (config.oneOf("interpolation_type", "linear", ["linear", "log_linear"])) {
    case "linear":
      levels = interpolate(timesteps, training);
      break;
    case "log_linear": // one level more than steps: the last step ends at the least trained level, not at 0
      levels = Float64Array.from(
        linspaceFloat32(logs.at(-1) as number, logs[0] as number, timesteps.length + 1).map(Math.exp),
      );
      break;
  }
  if (karras || exponential) {
    const least = config.optionalNumber("sigma_min", SIGMA) ?? (levels.at(-1) as number);
    const most = config.optionalNumber("sigma_max", SIGMA) ?? (levels[0] as number);
    levels = (karras ? karrasSigmas : exponentialSigmas)(least, most, timesteps.length);
    timesteps = float32(...levels.map((sigma) => sigmaToTimestep(sigma, logs)));
  }
  const last =
    config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]) === "zero" ? 0 : (training[0] as number);
  return { timesteps, sigmas: float32(...levels, last) };
}

/** The Euler classes' timesteps: float32, and fractional under linspace. */
function eulerTimesteps(config: ConfigReader, options: ScheduleOptions, spacing: TimestepSpacing): Float64Array {
  const trainSteps = trainTimesteps(config);
  if (options.timesteps !== undefined) {
    if (options.timesteps.length === 0 || !options.timesteps.every((t) => t >= 0 && t < trainSteps)) {
      config.fail("timesteps", `must be numbers from 0 to below num_train_timesteps (${trainSteps})`);
    }
    return float32(...options.timesteps);
  }
  checkSteps(config, options.steps, trainSteps);
  switch (spacing) {
    case "linspace":
      return float32(...linspace(0, trainSteps - 1, options.steps).reverse());
    case "leading": {
      const offset = config.integer("steps_offset", 0, [0, trainSteps]);
      return leadingTimesteps(Math.floor(trainSteps / options.steps), options.steps, offset);
    }
    case "trailing":
      return trailingTimesteps(trainSteps, trainSteps, options.steps);
    default:
      return spacing satisfies never;
  }
}

function refuseBetaSigmas(config: ConfigReader): void {
  config.refuseUnless("use_beta_sigmas", [false], "is not supported; use_karras_sigmas and use_exponential_sigmas are");
}

function float32(...values: readonly number[]): Float64Array {
  return Float64Array.from(values, f32);
}
