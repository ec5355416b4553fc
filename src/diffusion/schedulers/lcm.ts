// Latent Consistency Models (Luo et al. 2023): each step jumps to a prediction of the clean latents and, but for the last,
// noises it again to the next level. Timesteps are a selection from the schedule the model was distilled with
// (`original_inference_steps` evenly spaced ones); `timestep_spacing` and `steps_offset` have no effect, as in the
// reference. The boundary condition c_skip, c_out is Song et al. 2023 ("Consistency Models"), sigma_data = 0.5.

import type { Bounds, ConfigReader } from "./config-reader.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { alphasCumprod, trainTimesteps } from "./noise-schedule.ts";
import { PREDICTION_TYPES, predictions, scalesOfAlphaBar } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import {
  alphaBarAt,
  clampRange,
  preservingNoise,
  refuseOptions,
  refuseThresholding,
  type ScheduleOptions,
  type Scheduler,
} from "./schedule-table.ts";
import { integerUpTo, linspace } from "./timesteps.ts";

const SIGMA_DATA = 0.5;
/** Public configurations have 10; it is multiplied by a timestep and squared. */
const TIMESTEP_SCALING: Bounds = [0, 10_000];

/** LCMScheduler. */
export const lcm: Scheduler = (config, options) => {
  refuseOptions(config, options, ["sigmas", "mu"]);
  refuseThresholding(config);
  const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
  const alphaBars = alphasCumprod(config, { start: 0.00085, end: 0.012, schedule: "scaled_linear" });
  const clamp = clampRange(config, false);
  const timestepScaling = config.number("timestep_scaling", 10, TIMESTEP_SCALING);
  const timesteps = distilledTimesteps(config, options);
  // The row that adds no noise is found by this count, which custom timesteps cut short by a strength do not reach.
  const steps = options.timesteps?.length ?? options.steps;

  const row = (index: number): StepRow => {
    const timestep = timesteps[index] as number;
    const nextTimestep = timesteps[index + 1] ?? timestep;
    const { x0 } = predictions(prediction, scalesOfAlphaBar(alphaBarAt(config, alphaBars, timestep)));
    const scaledTimestep = timestep * timestepScaling;
    const skip = SIGMA_DATA ** 2 / (scaledTimestep ** 2 + SIGMA_DATA ** 2);
    const out = scaledTimestep / Math.sqrt(scaledTimestep ** 2 + SIGMA_DATA ** 2);
    const denoised = plus(scaled(out, X0), scaled(skip, SAMPLE));
    if (index === steps - 1) return stepRow(config.className, { timestep, x0, clamp, next: denoised, denoised });
    const level = preservingNoise(alphaBarAt(config, alphaBars, nextTimestep));
    return stepRow(config.className, {
      timestep,
      x0,
      clamp,
      next: scaled(level.original, denoised),
      noise: level.noise,
      drawsNoise: true,
      denoised,
    });
  };

  return {
    steps,
    timesteps,
    initNoiseSigma: 1,
    historySlots: 0,
    rows: (start) => Array.from(timesteps.subarray(start), (_, index) => row(start + index)),
    addNoise: (index) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[index] as number)),
  };
};

/** Timesteps among those of the schedule that a model was distilled with. */
export function distilledTimesteps(config: ConfigReader, options: ScheduleOptions): Float64Array {
  const trainSteps = trainTimesteps(config);
  const originalSteps =
    options.originalInferenceSteps ?? config.integer("original_inference_steps", 50, [1, trainSteps]);
  if (!Number.isInteger(originalSteps) || originalSteps < 1 || originalSteps > trainSteps) {
    config.fail("original_inference_steps", `must be an integer from 1 to num_train_timesteps (${trainSteps})`);
  }
  const strength = options.lcmStrength ?? 1;
  if (!(strength >= 0 && strength <= 1)) config.fail("strength", "must be between 0 and 1");

  if (options.timesteps !== undefined) {
    const chosen = options.timesteps;
    const descending = chosen.every((t, i) => Number.isInteger(t) && t >= 0 && t < (chosen[i - 1] ?? trainSteps));
    if (chosen.length === 0 || !descending) {
      config.fail("timesteps", `must be descending integers below num_train_timesteps (${trainSteps})`);
    }
    return Float64Array.from(
      chosen.slice(chosen.length - Math.min(Math.trunc(chosen.length * strength), chosen.length)),
    );
  }

  const stride = Math.floor(trainSteps / originalSteps);
  const distilled = Float64Array.from({ length: Math.trunc(originalSteps * strength) }, (_, i) => (i + 1) * stride - 1);
  if (distilled.length === 0) {
    const reason = `${strength} leaves none of the ${originalSteps} steps that the model was distilled with; raise it`;
    config.fail("strength", reason);
  }
  if (!Number.isInteger(options.steps) || options.steps < 1 || options.steps > distilled.length) {
    const left = strength < 1 ? `, as many as a strength of ${strength} leaves` : "";
    const reason = `must be ${integerUpTo(distilled.length)}: the model was distilled with ${originalSteps} steps${left}`;
    config.fail("steps", reason);
  }
  distilled.reverse();
  return linspace(0, distilled.length, options.steps, false).map((index) => distilled[Math.floor(index)] as number);
}
