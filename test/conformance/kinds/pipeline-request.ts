/** A run of `case.json`, as a request to the pipeline. */

import type { PipelineRequest } from "../../../src/diffusion/request.ts";
import type { SchedulerClass } from "../../../src/diffusion/schedulers/create-schedule.ts";
import type { Tensor } from "../tensors.ts";

/** An entry of `runs`. */
export interface RunFacts {
  /** Another case's model, relative to this case. */
  readonly model?: string;
  readonly prompt: string;
  readonly negative_prompt?: string;
  readonly width?: number;
  readonly height?: number;
  readonly num_inference_steps: number;
  readonly guidance_scale: number;
  /** Left out: the noise of the start is given. */
  readonly seed?: string | number;
  readonly guidance_rescale?: number;
  readonly eta?: number;
  readonly strength?: number;
  /** The model's own, in words; a folder, read before; or a configuration of another, whose class is told by its fields. */
  readonly scheduler?: string | Readonly<Record<string, unknown>>;
  readonly num_images_per_prompt?: number;
  readonly original_size?: readonly [number, number];
  readonly crops_coords_top_left?: readonly [number, number];
  readonly target_size?: readonly [number, number];
  readonly controlnet_conditioning_scale?: number | readonly number[];
  readonly control_guidance_start?: number | readonly number[];
  readonly control_guidance_end?: number | readonly number[];
  /** Kinds of the pictures of a union. */
  readonly control_mode?: readonly number[];
  readonly guess_mode?: boolean;
  readonly adapter_conditioning_scale?: number;
  /** One for all attentions, or by their names. */
  readonly ip_adapter_scale?: number | Readonly<Record<string, number>>;
  /** Follows from the strength and the steps. */
  readonly t_start?: number;
}

const KNOWN: ReadonlySet<string> = new Set<keyof RunFacts>([
  "model",
  "prompt",
  "negative_prompt",
  "width",
  "height",
  "num_inference_steps",
  "guidance_scale",
  "seed",
  "guidance_rescale",
  "eta",
  "strength",
  "scheduler",
  "num_images_per_prompt",
  "original_size",
  "crops_coords_top_left",
  "target_size",
  "controlnet_conditioning_scale",
  "control_guidance_start",
  "control_guidance_end",
  "control_mode",
  "guess_mode",
  "adapter_conditioning_scale",
  "ip_adapter_scale",
  "t_start",
]);

/** Tensors that say what `case.json` does not: the start picture, and how many pictures were drawn. */
export interface Described {
  /** `[height, width, 3]` uint8 */
  readonly init?: Tensor;
  /** `[images, …]` */
  readonly noise?: Tensor;
  /** The start noise, where there is no seed to draw it. */
  readonly drawn?: Tensor;
}

/** Throws for a field whose meaning is not known, rather than running something else. */
export function pipelineRequest(facts: RunFacts, { init, noise, drawn }: Described): PipelineRequest {
  for (const field of Object.keys(facts))
    if (!KNOWN.has(field)) throw new Error(`do not know what ${field} of a run means`);
  const fromImage = facts.strength !== undefined && init !== undefined;
  const [height, width] = fromImage ? init.shape : [facts.height, facts.width];
  return {
    prompt: facts.prompt,
    negativePrompt: facts.negative_prompt,
    width: facts.width ?? width!,
    height: facts.height ?? height!,
    steps: facts.num_inference_steps,
    guidanceScale: facts.guidance_scale,
    seed: BigInt(facts.seed ?? 0),
    startNoise: facts.seed === undefined && drawn ? Float32Array.from(drawn.values) : undefined,
    guidanceRescale: facts.guidance_rescale,
    eta: facts.eta,
    images: facts.num_images_per_prompt ?? noise?.shape[0],
    strength: facts.strength,
    scheduler: typeof facts.scheduler === "object" ? schedulerOf(facts.scheduler) : undefined,
    image: fromImage ? pixelsOf(init) : undefined,
    sizes: { original: facts.original_size, crop: facts.crops_coords_top_left, target: facts.target_size },
  };
}

/** Fields that only one class of diffusers has; DDIM's is shared with LCM, which is asked for first. */
const TELLTALES: readonly (readonly [string, SchedulerClass])[] = [
  ["original_inference_steps", "LCMScheduler"],
  ["skip_prk_steps", "PNDMScheduler"],
  ["solver_order", "DPMSolverMultistepScheduler"],
  ["algorithm_type", "DPMSolverMultistepScheduler"],
  ["shift", "FlowMatchEulerDiscreteScheduler"],
  ["interpolation_type", "EulerDiscreteScheduler"],
  ["use_karras_sigmas", "EulerDiscreteScheduler"],
  ["set_alpha_to_one", "DDIMScheduler"],
  ["clip_sample", "DDIMScheduler"],
];

function schedulerOf(config: Readonly<Record<string, unknown>>): {
  className: string;
  config: Readonly<Record<string, unknown>>;
} {
  const named = typeof config._class_name === "string" ? config._class_name : undefined;
  // A case with none of the others' fields is Euler ancestral's, which adds nothing to the noise schedule's.
  const className = named ?? TELLTALES.find(([field]) => field in config)?.[1] ?? "EulerAncestralDiscreteScheduler";
  return { className, config };
}

function pixelsOf({ shape, values }: Tensor): { width: number; height: number; rgba: Uint8Array } {
  const [height, width] = shape as [number, number];
  const rgba = new Uint8Array(height * width * 4).fill(255);
  for (let pixel = 0; pixel < height * width; pixel++) rgba.set(values.subarray(pixel * 3, pixel * 3 + 3), pixel * 4);
  return { width, height, rgba };
}
