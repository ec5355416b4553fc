// Ways to space a run's noise levels that a request may name, beside the spacings of timesteps. Three of them are fields of
// a configuration (Karras, exponential, beta); the others are lists of levels, as ComfyUI's and AUTOMATIC1111's programs
// compute them.

import { readConfig, type SchedulerConfig } from "./config-reader.ts";
import { RESPACINGS } from "./levels.ts";
import { alphasCumprod, COMMON_BETAS } from "./noise-schedule.ts";
import { interpolate, logSigmas, trainingSigmas } from "./sigmas.ts";
import { linspace } from "./timesteps.ts";

export const SIGMA_SCHEDULES = ["karras", "exponential", "beta", "sgm_uniform", "simple", "align_your_steps"] as const;
export type SigmaSchedule = (typeof SIGMA_SCHEDULES)[number];

/** Models whose levels of "Align Your Steps" are published. */
export type AlignedModel = "sd" | "sdxl";

/** Levels of ten steps (Sabour et al. 2024, "Align Your Steps", arXiv 2404.14507, and its project page). */
const ALIGNED: Readonly<Record<AlignedModel, readonly number[]>> = {
  sd: [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
  sdxl: [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.38, 0.234, 0.113, 0.029],
};

const FIELDS = { karras: "use_karras_sigmas", exponential: "use_exponential_sigmas", beta: "use_beta_sigmas" } as const;

/** Every field of a configuration that spaces levels, turned off. */
const NONE = {
  use_karras_sigmas: false,
  use_exponential_sigmas: false,
  use_beta_sigmas: false,
  use_lu_lambdas: false,
};

/** Fields of a configuration that ask for this spacing; undefined if it is a list of levels. */
export function sigmaScheduleFields(schedule: SigmaSchedule): SchedulerConfig | undefined {
  return schedule in FIELDS ? { ...NONE, [FIELDS[schedule as keyof typeof FIELDS]]: true } : undefined;
}

/** Fields of a configuration for levels that a request gives itself. */
export const NO_RESPACING: SchedulerConfig = NONE;

/** The levels of this spacing, descending from the noisiest to 0, `[steps + 1]`. */
export function sigmaScheduleLevels(
  schedule: SigmaSchedule,
  className: string,
  config: SchedulerConfig,
  { steps, aligned }: { readonly steps: number; readonly aligned: AlignedModel },
): number[] {
  const training = trainingSigmas(alphasCumprod(readConfig(className, config), COMMON_BETAS, 2 ** -24));
  const [least, most] = [training[0] as number, training.at(-1) as number];
  switch (schedule) {
    case "karras":
    case "exponential":
    case "beta":
      return [...RESPACINGS[FIELDS[schedule]](least, most, steps), 0];
    case "sgm_uniform": {
      // As trailing, but fractional, and read off in the logarithm.
      const timesteps = linspace(training.length - 1, 0, steps + 1).subarray(0, steps);
      return [...interpolate(timesteps, logSigmas(training)).map(Math.exp), 0];
    }
    case "simple": {
      const stride = training.length / steps;
      return [
        ...Array.from({ length: steps }, (_, i) => training[training.length - 1 - Math.floor(i * stride)] as number),
        0,
      ];
    }
    case "align_your_steps": {
      const levels = ALIGNED[aligned].map(Math.log);
      const places = linspace(0, levels.length - 1, steps + 1).subarray(0, steps);
      return [...interpolate(places, levels).map(Math.exp), 0];
    }
    default:
      return schedule satisfies never;
  }
}
