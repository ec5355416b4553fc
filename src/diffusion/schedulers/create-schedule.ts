// The door to the schedulers: from what a diffusers folder says (`scheduler/scheduler_config.json`, whose `_class_name`
// is the class) and what a request asks (steps, strength, …) to a `Schedule`. Semantics are those of diffusers 0.30.3,
// to its float32 roundings where they decide integers; the tests replay tables it computed.

import { readConfig, type SchedulerConfig } from "./config-reader.ts";
import { ddim } from "./ddim.ts";
import { dpmMultistep } from "./dpm-multistep.ts";
import { euler, eulerAncestral } from "./euler.ts";
import { flowMatchEuler } from "./flow-match-euler.ts";
import { lcm } from "./lcm.ts";
import { pndm } from "./pndm.ts";
import type { Schedule } from "./schedule.ts";
import { type ScheduleOptions, type Scheduler, startAt } from "./schedule-table.ts";
import { SchedulerError } from "./scheduler-error.ts";

/**
 * Each class of diffusers that Daguerre has: its table, the short names by which the field knows it, and whether it spaces its
 * timesteps in the ways of `timestep_spacing`.
 */
const SCHEDULERS = {
  DDIMScheduler: { table: ddim, names: ["ddim"], spaces: true },
  DPMSolverMultistepScheduler: { table: dpmMultistep, names: ["dpm++_2m", "dpmpp_2m"], spaces: true },
  EulerAncestralDiscreteScheduler: { table: eulerAncestral, names: ["euler_a", "euler_ancestral"], spaces: true },
  EulerDiscreteScheduler: { table: euler, names: ["euler"], spaces: true },
  FlowMatchEulerDiscreteScheduler: { table: flowMatchEuler, names: ["flow_match_euler"], spaces: false },
  LCMScheduler: { table: lcm, names: ["lcm"], spaces: false },
  PNDMScheduler: { table: pndm, names: ["pndm", "plms"], spaces: true },
} satisfies Record<
  string,
  { readonly table: Scheduler; readonly names: readonly [string, ...string[]]; readonly spaces: boolean }
>;

/** A scheduler class of diffusers that Daguerre has. */
export type SchedulerClass = keyof typeof SCHEDULERS;

/** All of them, for messages and schemas. */
export const SCHEDULER_CLASSES = Object.keys(SCHEDULERS) as readonly SchedulerClass[];

/** All of them with their short names, for a person: `DDIMScheduler (ddim), …`. */
export const SCHEDULER_LIST = SCHEDULER_CLASSES.map((name) => `${name} (${SCHEDULERS[name].names[0]})`).join(", ");

/** True if the timesteps of a class follow its `timestep_spacing`. */
export function spacesTimesteps(className: string): boolean {
  return isSchedulerClass(className) && SCHEDULERS[className].spaces;
}

/** True if `className` is one of `SCHEDULER_CLASSES`. */
export function isSchedulerClass(className: string): className is SchedulerClass {
  return Object.hasOwn(SCHEDULERS, className);
}

/** The class of a name as requests have it, diffusers' or a short one; undefined if there is none. */
export function schedulerNamed(name: string): SchedulerClass | undefined {
  if (isSchedulerClass(name)) return name;
  const short = name.toLowerCase().replaceAll(" ", "_").replaceAll("-", "_");
  return SCHEDULER_CLASSES.find((className) => (SCHEDULERS[className].names as readonly string[]).includes(short));
}

/**
 * The table of a run from pure noise. For image-to-image pass it through `img2imgStart` and `from`.
 * @param className `_class_name` of the configuration, or another class to use it with
 * @param config parsed `scheduler_config.json`; missing fields take the class's defaults, unknown ones are ignored
 * @throws SchedulerError for an unknown class, an unsupported field, or options without a schedule.
 */
export function createSchedule(className: string, config: SchedulerConfig, options: ScheduleOptions): Schedule {
  if (!isSchedulerClass(className)) {
    throw new SchedulerError(className, "_class_name", `is not supported; supported: ${SCHEDULER_CLASSES.join(", ")}`);
  }
  return startAt(className, SCHEDULERS[className].table(readConfig(className, config), options), 0);
}

/**
 * The first row of an image-to-image run: of n steps, the last int(n · strength) are run, from latents noised to that
 * row's level (`StableDiffusionImg2ImgPipeline.get_timesteps`; every class here is of order 1).
 * Use as `const run = schedule.from(img2imgStart(schedule, strength))`.
 * @param strength how much of the start picture may change, above 0 to 1
 * @throws SchedulerError where `strength` is out of range or leaves no step to run.
 */
export function img2imgStart(schedule: Schedule, strength: number): number {
  if (!(strength > 0 && strength <= 1)) {
    throw new SchedulerError(schedule.className, "strength", "must be above 0 and at most 1");
  }
  const kept = Math.min(Math.trunc(schedule.steps * strength), schedule.steps);
  if (kept === 0) {
    throw new SchedulerError(
      schedule.className,
      "strength",
      `${strength} of ${schedule.steps} steps leaves none to run; raise strength or num_inference_steps`,
    );
  }
  return schedule.steps - kept;
}
