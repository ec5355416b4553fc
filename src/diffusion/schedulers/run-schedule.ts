// The schedule of a run: the model's scheduler, or another that the request names, from pure noise or from a picture.

import { PipelineError, type PipelineRequest, type SchedulerChoice } from "../request.ts";
import { createSchedule, img2imgStart, isSchedulerClass, SCHEDULER_LIST, spacesTimesteps } from "./create-schedule.ts";
import { flowShift } from "./flow-match-euler.ts";
import type { Schedule } from "./schedule.ts";
import { SchedulerError } from "./scheduler-error.ts";

/** The part of a request that its schedule follows from. */
export type ScheduleRequest = Pick<
  PipelineRequest,
  "steps" | "width" | "height" | "scheduler" | "timestepSpacing" | "eta" | "image" | "strength"
>;

export interface RunScheduleOptions {
  /** Image-to-image with LCM's scheduler spaces all of its steps within the strength; else the first steps are left out. */
  readonly spacesStepsWithinStrength?: boolean;
}

/** Latents along each side of what a transformer takes for one token, in the published models of flow matching. */
const PATCH = 2;

/**
 * The schedules of a model with this scheduler.
 * @returns a function from a request, and pixels of a side for one latent, to its schedule; it throws `SchedulerError` for
 * options without a schedule
 */
export function createRunSchedule(own: Required<SchedulerChoice>, options: RunScheduleOptions = {}) {
  return (request: ScheduleRequest, downscale: number): Schedule => {
    const { className, config: chosen = own.config } = request.scheduler ?? own;
    const { steps, timestepSpacing, eta = 0, strength = 1 } = request;
    if (timestepSpacing !== undefined && isSchedulerClass(className) && !spacesTimesteps(className)) {
      throw new SchedulerError(className, "timestep_spacing", "cannot be chosen for this scheduler; leave it out");
    }
    const config = timestepSpacing === undefined ? chosen : { ...chosen, timestep_spacing: timestepSpacing };
    const tokens = Math.ceil(request.width / downscale / PATCH) * Math.ceil(request.height / downscale / PATCH);
    const shifts = className === "FlowMatchEulerDiscreteScheduler" && config.use_dynamic_shifting === true;
    const asked = { steps, eta, ...(shifts && { mu: flowShift(config, tokens) }) };
    if (!request.image) return createSchedule(className, config, asked);
    if (options.spacesStepsWithinStrength && className === "LCMScheduler") {
      return createSchedule(className, config, { ...asked, lcmStrength: strength });
    }
    const schedule = createSchedule(className, config, asked);
    return schedule.from(img2imgStart(schedule, strength));
  };
}

/** The fields of a request that options of a schedule come from. */
const REQUEST_FIELDS: Readonly<Record<string, string>> = {
  steps: "num_inference_steps",
  strength: "strength",
  eta: "eta",
};

/** The error of a request that has no schedule, naming its field at fault. */
export function toRequestFault(
  { className, field, reason }: SchedulerError,
  { scheduler, timestepSpacing }: ScheduleRequest,
): PipelineError {
  const own = REQUEST_FIELDS[field];
  if (own !== undefined) return new PipelineError(own, `${reason} (${className})`);
  if (field === "timestep_spacing" && timestepSpacing !== undefined) {
    return new PipelineError(field, `${reason} (${className})`);
  }
  if (field === "_class_name") {
    const reason = `the model's own, ${className}, is not a scheduler of this server; ask for one of ${SCHEDULER_LIST}`;
    return new PipelineError("scheduler", reason);
  }
  const whose = scheduler ? `${className} does not run with this model` : `the model's ${className} does not run`;
  return new PipelineError("scheduler", `${whose}: in its configuration, ${field} ${reason}`);
}
