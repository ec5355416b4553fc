/** Facts that a checkpoint of one file does not hold: schedules, and numbers that go with a kind. Values of the published models. */

import type { CheckpointFamily, CheckpointKind } from "./kind.ts";

/** Betas of all of Stable Diffusion. */
const BETAS = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  steps_offset: 1,
};

export interface Traits {
  /** In words, for people. */
  readonly title: string;
  readonly pipelineClass: string;
  readonly scalingFactor: number;
  /** Latents of a picture's side. */
  readonly sampleSize: number;
  /** `force_zeros_for_empty_prompt` of `model_index.json`. */
  readonly zerosForNoPrompt: boolean;
}

export const TRAITS: Readonly<Record<CheckpointFamily, Traits>> = {
  sd1: {
    title: "Stable Diffusion 1",
    pipelineClass: "StableDiffusionPipeline",
    scalingFactor: 0.18215,
    sampleSize: 64,
    zerosForNoPrompt: false,
  },
  sd2: {
    title: "Stable Diffusion 2",
    pipelineClass: "StableDiffusionPipeline",
    scalingFactor: 0.18215,
    sampleSize: 64,
    zerosForNoPrompt: false,
  },
  sdxl: {
    title: "Stable Diffusion XL",
    pipelineClass: "StableDiffusionXLPipeline",
    scalingFactor: 0.13025,
    sampleSize: 128,
    zerosForNoPrompt: true,
  },
  "sdxl-refiner": {
    title: "Stable Diffusion XL refiner",
    pipelineClass: "StableDiffusionXLImg2ImgPipeline",
    scalingFactor: 0.13025,
    sampleSize: 128,
    zerosForNoPrompt: false,
  },
};

/** Stable Diffusion 2 with velocities was made for 768 pixels, SD-Turbo and SDXL-Turbo for 512. */
export function sampleSizeOf({ family, predictsVelocity }: CheckpointKind, name: string): number {
  if (family === "sd2" && predictsVelocity) return 96;
  if (family === "sdxl" && /sd[-_ ]?xl[-_ ]?turbo/i.test(name)) return 64;
  return TRAITS[family].sampleSize;
}

export interface SchedulerOf {
  readonly className: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/**
 * The schedule of a kind, as its makers' repositories have it: PNDM for version 1, DDIM for version 2, Euler for XL, and
 * Euler with trailing timesteps for distilled checkpoints, which their names tell.
 */
export function schedulerOf({ family, predictsVelocity, hasZeroSignal }: CheckpointKind, name: string): SchedulerOf {
  const prediction = { prediction_type: predictsVelocity ? "v_prediction" : "epsilon" };
  const common = { ...BETAS, ...prediction, ...(hasZeroSignal && ZERO_SIGNAL) };
  if (/(?:^|[^a-z])lcm(?![a-z])/i.test(name)) return { className: "LCMScheduler", config: { ...common, ...DDIM } };
  if (/turbo|lightning|hyper[-_ ]?sd|(?:^|[^a-z])dmd2?(?![a-z])/i.test(name)) {
    const className = /sd[-_ ]?xl[-_ ]?turbo/i.test(name) ? "EulerAncestralDiscreteScheduler" : EULER;
    return { className, config: { ...common, timestep_spacing: "trailing" } };
  }
  if (family === "sd1" && !predictsVelocity) {
    return { className: "PNDMScheduler", config: { ...common, skip_prk_steps: true, set_alpha_to_one: false } };
  }
  if (family === "sd1" || family === "sd2") return { className: "DDIMScheduler", config: { ...common, ...DDIM } };
  return { className: EULER, config: { timestep_spacing: "leading", ...common } };
}

const EULER = "EulerDiscreteScheduler";
const DDIM = { clip_sample: false, set_alpha_to_one: false };
const ZERO_SIGNAL = { rescale_betas_zero_snr: true, timestep_spacing: "trailing" };
