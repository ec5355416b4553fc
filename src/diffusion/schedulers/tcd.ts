// Trajectory consistency distillation (Zheng et al. 2024, "Trajectory Consistency Distillation", algorithm 4), as Hyper-SD
// uses it: each step jumps to a level s below the next one, (1 − eta) of its timestep, and adds noise up to it. With eta 0
// it jumps to the next level itself.

import { distilledTimesteps } from "./lcm.ts";
import { plus, scaled, stepRow, X0 } from "./mix.ts";
import { alphasCumprod } from "./noise-schedule.ts";
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

/** TCDScheduler. */
export const tcd: Scheduler = (config, options) => {
  refuseOptions(config, options, ["sigmas", "mu"]);
  refuseThresholding(config);
  const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
  const alphaBars = alphasCumprod(config, { start: 0.00085, end: 0.012, schedule: "scaled_linear" });
  const clamp = clampRange(config, false);
  const eta = options.eta ?? 0;
  if (!(eta >= 0 && eta <= 1)) config.fail("eta", "must be between 0 and 1");
  const timesteps = distilledTimesteps(config, options);

  const row = (index: number): StepRow => {
    const timestep = timesteps[index] as number;
    const isLast = index === timesteps.length - 1;
    const next = isLast ? 0 : (timesteps[index + 1] as number);
    const target = Math.floor((1 - eta) * next);
    const nextAlphaBar = alphaBarAt(config, alphaBars, next);
    const level = scalesOfAlphaBar(alphaBarAt(config, alphaBars, target));
    const { x0, epsilon } = predictions(prediction, scalesOfAlphaBar(alphaBarAt(config, alphaBars, timestep)));
    const jump = plus(scaled(level.alpha, X0), scaled(level.sigma, epsilon));
    const drawsNoise = eta > 0 && !isLast;
    const kept = drawsNoise ? nextAlphaBar / level.alpha ** 2 : 1;
    return stepRow(config.className, {
      timestep,
      x0,
      clamp,
      next: scaled(Math.sqrt(kept), jump),
      noise: Math.sqrt(Math.max(0, 1 - kept)),
      drawsNoise,
    });
  };

  return {
    steps: timesteps.length,
    timesteps,
    initNoiseSigma: 1,
    historySlots: 0,
    rows: (start) => Array.from({ length: timesteps.length - start }, (_, index) => row(start + index)),
    addNoise: (index) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[index] as number)),
  };
};
