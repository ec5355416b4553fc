/** The schedulers that a request may name, for those who list them. */

import { levelsOf } from "../diffusion/schedulers/create-schedule.ts";
import { SAMPLERS, samplerNamed } from "../diffusion/schedulers/samplers.ts";
import { SIGMA_SCHEDULES } from "../diffusion/schedulers/sigma-schedules.ts";

export interface SchedulerList {
  /** Samplers by the names of guides, with other names that mean the same, and diffusers' class. */
  readonly schedulers: readonly {
    readonly name: string;
    readonly aliases: readonly string[];
    readonly class_name: string;
  }[];
  /** Values of `sigma_schedule`, which may also stand at the end of a name. */
  readonly sigma_schedules: readonly string[];
}

export function listSchedulers(): SchedulerList {
  const schedulers = SAMPLERS.map(({ name, aliases, className }) => ({ name, aliases, class_name: className }));
  return { schedulers, sigma_schedules: SIGMA_SCHEDULES };
}

/** True if the levels of a sampler can be spaced in other ways than its own, or if there is no such sampler. */
export function spacesLevels(sampler: string): boolean {
  const named = samplerNamed(sampler);
  return named === undefined || levelsOf(named.className) !== "fixed";
}

/** The spacing that one of the field's names means. */
export { spacingNamed } from "../diffusion/schedulers/samplers.ts";

/** `sgm_uniform`: `SGM Uniform`. */
export function sigmaScheduleLabel(sigmaSchedule: string): string {
  return sigmaSchedule
    .replace(/(^|_)([a-z])/g, (_, gap, letter) => (gap && " ") + letter.toUpperCase())
    .replace("Sgm", "SGM");
}
