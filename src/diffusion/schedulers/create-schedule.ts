// The door to the schedulers: from what a diffusers folder says (`scheduler/scheduler_config.json`, whose `_class_name`
// is the class) and what a request asks (steps, strength, …) to a `Schedule`. Semantics are those of diffusers 0.30.3,
// to its float32 roundings where they decide integers; the tests replay tables it computed.

import { readConfig, type SchedulerConfig } from "./config-reader.ts";
import { ddim } from "./ddim.ts";
import { deis } from "./deis.ts";
import { dpmMultistep } from "./dpm-multistep.ts";
import { dpmSinglestep } from "./dpm-singlestep.ts";
import { edmDpmMultistep, edmEuler } from "./edm.ts";
import { euler, eulerAncestral } from "./euler.ts";
import { flowMatchEuler } from "./flow-match-euler.ts";
import { lcm } from "./lcm.ts";
import { pndm } from "./pndm.ts";
import type { Schedule } from "./schedule.ts";
import { type ScheduleOptions, type Scheduler, startAt } from "./schedule-table.ts";
import { SchedulerError } from "./scheduler-error.ts";
import { tcd } from "./tcd.ts";
import { dpm2, dpm2Ancestral, dpm2sAncestral, dpmSde, heun } from "./two-evaluations.ts";
import { unipc } from "./unipc.ts";

interface Kind {
  readonly table: Scheduler;
  /** True if it spaces its timesteps in the ways of `timestep_spacing`. */
  readonly spaces: boolean;
  /** The way to space its noise levels anew: by fields of its configuration, as a list, or none. */
  readonly levels: "fields" | "list" | "fixed";
}

/** Each class of diffusers that Daguerre has, and DPM++ 2S a, which diffusers has not. */
const SCHEDULERS = {
  DDIMScheduler: { table: ddim, spaces: true, levels: "fixed" },
  DEISMultistepScheduler: { table: deis, spaces: true, levels: "fields" },
  DPMSolver2SAncestralScheduler: { table: dpm2sAncestral, spaces: true, levels: "fields" },
  DPMSolverMultistepScheduler: { table: dpmMultistep, spaces: true, levels: "fields" },
  DPMSolverSDEScheduler: { table: dpmSde, spaces: true, levels: "fields" },
  DPMSolverSinglestepScheduler: { table: dpmSinglestep, spaces: false, levels: "fields" },
  EDMDPMSolverMultistepScheduler: { table: edmDpmMultistep, spaces: false, levels: "fixed" },
  EDMEulerScheduler: { table: edmEuler, spaces: false, levels: "fixed" },
  EulerAncestralDiscreteScheduler: { table: eulerAncestral, spaces: true, levels: "list" },
  EulerDiscreteScheduler: { table: euler, spaces: true, levels: "fields" },
  FlowMatchEulerDiscreteScheduler: { table: flowMatchEuler, spaces: false, levels: "fields" },
  HeunDiscreteScheduler: { table: heun, spaces: true, levels: "fields" },
  KDPM2AncestralDiscreteScheduler: { table: dpm2Ancestral, spaces: true, levels: "fields" },
  KDPM2DiscreteScheduler: { table: dpm2, spaces: true, levels: "fields" },
  LCMScheduler: { table: lcm, spaces: false, levels: "fixed" },
  PNDMScheduler: { table: pndm, spaces: true, levels: "fixed" },
  TCDScheduler: { table: tcd, spaces: false, levels: "fixed" },
  UniPCMultistepScheduler: { table: unipc, spaces: true, levels: "fields" },
} satisfies Record<string, Kind>;

/** A scheduler class of diffusers that Daguerre has. */
export type SchedulerClass = keyof typeof SCHEDULERS;

/** All of them, for messages and schemas. */
export const SCHEDULER_CLASSES = Object.keys(SCHEDULERS) as readonly SchedulerClass[];

/** True if the timesteps of a class follow its `timestep_spacing`. */
export function spacesTimesteps(className: string): boolean {
  return isSchedulerClass(className) && SCHEDULERS[className].spaces;
}

/** The way to space the noise levels of a class anew. */
export function levelsOf(className: SchedulerClass): Kind["levels"] {
  return SCHEDULERS[className].levels;
}

/** True if `className` is one of `SCHEDULER_CLASSES`. */
export function isSchedulerClass(className: string): className is SchedulerClass {
  return Object.hasOwn(SCHEDULERS, className);
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
 * row's level (`StableDiffusionImg2ImgPipeline.get_timesteps`; the rows of two evaluations go together).
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
  return (schedule.steps - kept) * schedule.evaluations;
}
