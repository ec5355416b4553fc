// The schedule of a run: the model's scheduler, or another that the request names, from pure noise or from a picture.

import type { FamilyModel } from "../model.ts";
import { PipelineError, type PipelineRequest, type SchedulerChoice } from "../request.ts";
import type { SchedulerConfig } from "./config-reader.ts";
import { createSchedule, img2imgStart, isSchedulerClass, levelsOf, spacesTimesteps } from "./create-schedule.ts";
import { flowShift } from "./flow-match-euler.ts";
import { SAMPLERS } from "./samplers.ts";
import type { NoiseLevel, Schedule } from "./schedule.ts";
import type { ScheduleOptions } from "./schedule-table.ts";
import { SchedulerError } from "./scheduler-error.ts";
import { type AlignedModel, NO_RESPACING, sigmaScheduleFields, sigmaScheduleLevels } from "./sigma-schedules.ts";

/** The part of a request that its schedule follows from. */
export type ScheduleRequest = Pick<
  PipelineRequest,
  | "steps"
  | "width"
  | "height"
  | "scheduler"
  | "timestepSpacing"
  | "sigmaSchedule"
  | "sigmas"
  | "timesteps"
  | "eta"
  | "image"
  | "strength"
  | "denoisingStart"
  | "denoisingEnd"
>;

export interface RunScheduleOptions {
  /** Image-to-image with LCM's scheduler spaces all of its steps within the strength; else the first steps are left out. */
  readonly spacesStepsWithinStrength?: boolean;
  /** The model whose levels "align_your_steps" takes; left out: Stable Diffusion. */
  readonly aligned?: AlignedModel;
}

/** The model's own scheduler. */
type OwnScheduler = Required<Pick<SchedulerChoice, "className" | "config">>;

/** Latents along each side of what a transformer takes for one token, in the published models of flow matching. */
const PATCH = 2;

/**
 * The schedules of a model with this scheduler.
 * @returns a function from a request, and pixels of a side for one latent, to its schedule; it throws `SchedulerError` for
 * options without a schedule
 */
export function createRunSchedule(own: OwnScheduler, options: RunScheduleOptions = {}) {
  return (request: ScheduleRequest, downscale: number): Schedule => {
    const choice: SchedulerChoice = request.scheduler ?? own;
    const { className, config: base = own.config, changes } = choice;
    const chosen = { ...base, ...changes };
    const { steps, timestepSpacing, eta = 0, strength = 1 } = request;
    if (timestepSpacing !== undefined && isSchedulerClass(className) && !spacesTimesteps(className)) {
      throw new SchedulerError(className, "timestep_spacing", "cannot be chosen for this scheduler; leave it out");
    }
    const spaced = timestepSpacing === undefined ? chosen : { ...chosen, timestep_spacing: timestepSpacing };
    const { config, ...levels } = withLevels(className, spaced, request, options.aligned ?? "sd");
    const tokens = Math.ceil(request.width / downscale / PATCH) * Math.ceil(request.height / downscale / PATCH);
    const shifts = className === "FlowMatchEulerDiscreteScheduler" && config.use_dynamic_shifting === true;
    const asked = { steps, eta, ...levels, ...(shifts && { mu: flowShift(config, tokens) }) };
    if (request.denoisingStart !== undefined || request.denoisingEnd !== undefined) {
      return partOf(createSchedule(className, config, asked), config, request);
    }
    if (!request.image) return createSchedule(className, config, asked);
    if (options.spacesStepsWithinStrength && className === "LCMScheduler") {
      return createSchedule(className, config, { ...asked, lcmStrength: strength });
    }
    const schedule = createSchedule(className, config, asked);
    return schedule.from(img2imgStart(schedule, strength));
  };
}

/**
 * The part of a schedule that one of several models runs (`StableDiffusionXLPipeline` and its image-to-image pipeline): the
 * first has the timesteps from `1 − denoisingEnd` of training on, the second those below `1 − denoisingStart`. From a
 * picture, without a start of its own, the strength says where it begins.
 */
function partOf(whole: Schedule, config: SchedulerConfig, request: ScheduleRequest): Schedule {
  const { image, strength = 1, denoisingStart, denoisingEnd } = request;
  const { className, timesteps, evaluations } = whole;
  const trained = typeof config.num_train_timesteps === "number" ? config.num_train_timesteps : 1000;
  /** Rows of whole steps with timesteps from `share` of training on. */
  const rowsTo = (share: number) => {
    const cutoff = Math.round(trained - share * trained);
    const count = timesteps.findIndex((timestep) => timestep < cutoff);
    return count < 0 ? timesteps.length : Math.floor(count / evaluations) * evaluations;
  };
  const usual = image === undefined ? 0 : img2imgStart(whole, strength);
  const begin = denoisingStart === undefined ? usual : rowsTo(denoisingStart);
  const end = denoisingEnd === undefined ? timesteps.length : rowsTo(denoisingEnd);
  if (begin >= end) {
    const field = denoisingStart === undefined ? "denoising_end" : "denoising_start";
    throw new SchedulerError(className, field, "leaves no step to run; choose another, or more num_inference_steps");
  }
  const tail = whole.from(begin);
  if (end === timesteps.length) return tail;
  const rows = end - begin;
  return {
    ...tail,
    timesteps: tail.timesteps.slice(0, rows),
    ...(tail.sigmas && { sigmas: tail.sigmas.slice(0, rows + 1) }),
    rows: tail.rows.slice(0, rows),
    end: tail.addNoise(rows),
  };
}

const CLEAN: NoiseLevel = { original: 1, noise: 0 };

/** The level of the latents that a row leaves. */
export function levelAfter(schedule: Schedule, row: number): NoiseLevel {
  if (row + 1 < schedule.rows.length) return schedule.addNoise(row + 1);
  return schedule.end ?? CLEAN;
}

/** The configuration and options of the noise levels or timesteps that a request asks for. */
function withLevels(
  className: string,
  config: SchedulerConfig,
  { steps, sigmaSchedule, sigmas, timesteps }: ScheduleRequest,
  aligned: AlignedModel,
): Pick<ScheduleOptions, "sigmas" | "timesteps"> & { readonly config: SchedulerConfig } {
  const refuse = (field: string, reason: string) => {
    throw new SchedulerError(className, field, reason);
  };
  const asked = Object.entries({ sigma_schedule: sigmaSchedule, sigmas, timesteps }).filter(([, value]) => value);
  const [first, second] = asked.map(([field]) => field);
  if (second !== undefined) refuse(second, `cannot be combined with ${first}`);
  if (sigmas || timesteps) return { config: { ...config, ...NO_RESPACING }, sigmas, timesteps };
  if (sigmaSchedule === undefined || !isSchedulerClass(className)) return { config };
  const how = levelsOf(className);
  const fields = sigmaScheduleFields(sigmaSchedule);
  const isFlow = className === "FlowMatchEulerDiscreteScheduler" || config.use_flow_sigmas === true;
  if (how === "fixed" || (isFlow && (!fields || config.use_flow_sigmas === true))) {
    refuse("sigma_schedule", `cannot be ${sigmaSchedule} for this scheduler; leave it out`);
  }
  if (fields && how === "fields") return { config: { ...config, ...fields } };
  const levels = sigmaScheduleLevels(sigmaSchedule, className, config, { steps, aligned });
  return { config: { ...config, ...NO_RESPACING }, sigmas: levels };
}

/** The fields of a request that options of a schedule come from. */
const REQUEST_FIELDS: Readonly<Record<string, string>> = {
  steps: "num_inference_steps",
  strength: "strength",
  eta: "eta",
  sigma_schedule: "sigma_schedule",
  sigmas: "sigmas",
  timesteps: "timesteps",
  denoising_start: "denoising_start",
  denoising_end: "denoising_end",
};

/** The schedule of a request. @throws PipelineError naming the field that leaves it without one */
export function scheduleOf(family: Pick<FamilyModel, "schedule">, request: PipelineRequest): Schedule {
  try {
    return family.schedule(request);
  } catch (error) {
    throw error instanceof SchedulerError ? toRequestFault(error, request) : error;
  }
}

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
    const reason = `the model's own, ${className}, is not a scheduler of this server; ask for one of ${SAMPLERS.map(({ name }) => name).join(", ")}`;
    return new PipelineError("scheduler", reason);
  }
  const whose = scheduler ? `${className} does not run with this model` : `the model's ${className} does not run`;
  return new PipelineError("scheduler", `${whose}: in its configuration, ${field} ${reason}`);
}
