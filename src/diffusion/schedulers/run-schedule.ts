// The schedule of a run: the model's scheduler, or another that the request names, from pure noise or from a picture.

import type { PipelineRequest, SchedulerChoice } from "../request.ts";
import { createSchedule, img2imgStart } from "./create-schedule.ts";
import { flowShift } from "./flow-match-euler.ts";
import type { Schedule } from "./schedule.ts";

/** The part of a request that its schedule follows from. */
export type ScheduleRequest = Pick<
  PipelineRequest,
  "steps" | "width" | "height" | "scheduler" | "eta" | "image" | "strength"
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
    const { className, config = own.config } = request.scheduler ?? own;
    const { steps, eta = 0, strength = 1 } = request;
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
