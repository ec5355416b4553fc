// DDIM (Song et al. 2020, "Denoising Diffusion Implicit Models", equations 12 and 16). With eta 0 a deterministic walk;
// with eta 1 the variance of DDPM. The step length is the constant num_train_timesteps / steps whatever the spacing, so
// the level a row arrives at need not be the one the next row starts from; that is how the reference counts.

import { plus, scaled, stepRow, X0 } from "./mix.ts";
import { alphasCumprod, COMMON_BETAS, trainTimesteps } from "./noise-schedule.ts";
import { PREDICTION_TYPES, predictions, scalesOfAlphaBar } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import {
  alphaBarAt,
  clampRange,
  preservingNoise,
  refuseOptions,
  refuseThresholding,
  type Scheduler,
} from "./schedule-table.ts";
import { checkSteps, spacedTimesteps, timestepSpacing } from "./timesteps.ts";

/** DDIMScheduler. */
export const ddim: Scheduler = (config, options) => {
  refuseOptions(config, options, ["timesteps", "sigmas", "mu"]);
  refuseThresholding(config);
  const trainSteps = trainTimesteps(config);
  checkSteps(config, options.steps, trainSteps);
  const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
  const alphaBars = alphasCumprod(config, COMMON_BETAS);
  const finalAlphaBar = config.boolean("set_alpha_to_one", true) ? 1 : (alphaBars[0] as number);
  const clamp = clampRange(config, true);
  const eta = options.eta ?? 0;
  if (!(eta >= 0 && eta <= 1)) config.fail("eta", "must be between 0 and 1");
  const stride = Math.floor(trainSteps / options.steps);
  const timesteps = spacedTimesteps(
    timestepSpacing(config, "leading"),
    trainSteps,
    options.steps,
    config.integer("steps_offset", 0, [0, trainSteps]),
  );

  const row = (timestep: number): StepRow => {
    const alphaBar = alphaBarAt(config, alphaBars, timestep);
    const previous = timestep - stride;
    const previousAlphaBar = previous >= 0 ? (alphaBars[previous] as number) : finalAlphaBar;
    const { x0, epsilon } = predictions(prediction, scalesOfAlphaBar(alphaBar));
    const variance = ((1 - previousAlphaBar) / (1 - alphaBar)) * (1 - alphaBar / previousAlphaBar);
    const deviation = eta === 0 ? 0 : eta * Math.sqrt(variance);
    const direction = Math.sqrt(Math.max(0, 1 - previousAlphaBar - deviation ** 2));
    return stepRow(config.className, {
      timestep,
      x0,
      clamp,
      next: plus(scaled(Math.sqrt(previousAlphaBar), X0), scaled(direction, epsilon)),
      noise: deviation,
      drawsNoise: eta > 0,
    });
  };

  return {
    steps: options.steps,
    timesteps,
    initNoiseSigma: 1,
    historySlots: 0,
    rows: (start) => Array.from(timesteps.subarray(start), row),
    addNoise: (index) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[index] as number)),
  };
};
