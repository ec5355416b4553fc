// Euler's method in the variance-exploding convention (Karras et al. 2022, algorithm 2 with no churn):
// dx/dsigma = (x − x0(x, sigma)) / sigma. The latents carry noise of standard deviation sigma, so they start at
// initNoiseSigma and the model is given them divided by sqrt(sigma² + 1).
// `eulerAncestral` steps below the target level and adds fresh noise back up to it.

import type { ConfigReader } from "./config-reader.ts";
import { eulerLevels, type Levels } from "./levels.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { explodingX0, PREDICTION_TYPES, type PredictionType } from "./prediction.ts";
import { refuseOptions, type Scheduler, type ScheduleTable } from "./schedule-table.ts";
import { type TimestepSpacing, timestepSpacing } from "./timesteps.ts";

const f32 = Math.fround;

/** EulerDiscreteScheduler. */
export const euler: Scheduler = (config, options) => {
  refuseOptions(config, options, ["mu"]);
  const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
  const spacing = timestepSpacing(config, "linspace");
  const { timesteps, sigmas } = eulerLevels(config, options, spacing, { reads: "all" });
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
  refuseOptions(config, options, ["mu"]);
  const prediction = config.oneOf<PredictionType>("prediction_type", "epsilon", ["epsilon", "v_prediction"]);
  const spacing = timestepSpacing(config, "linspace");
  const { timesteps, sigmas } = eulerLevels(config, options, spacing, { reads: "spacing" });
  return explodingTable(config, prediction, spacing, timesteps, sigmas, (sigma, next) => {
    const { down, up } = ancestral(sigma, next);
    return { target: down, noise: up };
  });
};

/** The level that a step from `sigma` to `next` walks down to, and the noise that then brings it up to `next` again. */
export function ancestral(sigma: number, next: number): { readonly down: number; readonly up: number } {
  const variance = (next ** 2 * (sigma ** 2 - next ** 2)) / sigma ** 2;
  return { down: Math.sqrt(next ** 2 - variance), up: Math.sqrt(variance) };
}

/** Deviation of the latents that a run in the variance-exploding convention starts from. */
export function explodingStart({ sigmas }: Levels, spacing: TimestepSpacing): number {
  const most = sigmas.reduce((a, b) => Math.max(a, b));
  // Leading timesteps begin below the noisiest level, so the start also holds the variance of a clean picture.
  return spacing === "leading" ? Math.sqrt(most ** 2 + 1) : most;
}

/** The factor of the model's input in the variance-exploding convention. */
export function explodingInput(sigma: number): number {
  return 1 / Math.sqrt(sigma ** 2 + 1);
}

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
  return {
    steps: timesteps.length,
    timesteps,
    sigmas,
    initNoiseSigma: explodingStart({ timesteps, sigmas }, spacing),
    historySlots: 0,
    rows: (start) =>
      Array.from(timesteps.subarray(start), (timestep, index) => {
        const sigma = sigmas[start + index] as number;
        const { target, noise } = walk(sigma, sigmas[start + index + 1] as number);
        const x0 = explodingX0(prediction, sigma);
        const toTarget = (target - sigma) / sigma;
        return stepRow(config.className, {
          timestep,
          inputScale: explodingInput(sigma),
          x0,
          next: plus(scaled(1 + toTarget, SAMPLE), scaled(-toTarget, X0)),
          noise,
          drawsNoise: true, // the plain sampler draws for a churn of 0 and discards it; seeds agree only if we do too
        });
      }),
    addNoise: (row) => ({ original: 1, noise: sigmas[row] as number }),
  };
}
