/** Schedulers by the names that requests use: diffusers' classes, and the short forms of the field. */

import { isSchedulerClass, type SchedulerClass } from "../diffusion/schedulers/create-schedule.ts";

const SHORT: Readonly<Record<string, SchedulerClass>> = {
  ddim: "DDIMScheduler",
  euler: "EulerDiscreteScheduler",
  euler_a: "EulerAncestralDiscreteScheduler",
  euler_ancestral: "EulerAncestralDiscreteScheduler",
  lcm: "LCMScheduler",
  "dpm++_2m": "DPMSolverMultistepScheduler",
  dpmpp_2m: "DPMSolverMultistepScheduler",
  pndm: "PNDMScheduler",
  plms: "PNDMScheduler",
  flow_match_euler: "FlowMatchEulerDiscreteScheduler",
};

/** The class of a name, or null where there is none. */
export function schedulerClass(name: string): SchedulerClass | null {
  if (isSchedulerClass(name)) return name;
  return SHORT[name.toLowerCase().replaceAll(" ", "_").replaceAll("-", "_")] ?? null;
}
