/** A run of `case.json`, as a request to the pipeline. */

import { cpuGenerator, type NoiseGenerator } from "../../../src/diffusion/noise.ts";
import type { PipelineRequest } from "../../../src/diffusion/request.ts";
import { SCHEDULER_CLASSES, type SchedulerClass } from "../../../src/diffusion/schedulers/create-schedule.ts";
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
  readonly denoising_start?: number;
  readonly denoising_end?: number;
  readonly aesthetic_score?: number;
  readonly negative_aesthetic_score?: number;
  /** The latents that it starts from, in words: "last latents of `base`". */
  readonly input?: string;
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
  "denoising_start",
  "denoising_end",
  "aesthetic_score",
  "negative_aesthetic_score",
  "input",
]);

/** Tensors that say what `case.json` does not: the start picture, and how many pictures were drawn. */
export interface Described {
  /** `[height, width, 3]` uint8 */
  readonly init?: Tensor;
  /** `[images, …]` */
  readonly noise?: Tensor;
  /** All that the run draws, in order, where there is no seed. */
  readonly draws?: readonly Tensor[];
  /** `[height, width]` uint8 */
  readonly mask?: Tensor;
  /** `[n, c, h, w]`: the latents to start from. */
  readonly latents?: Tensor;
}

/** Throws for a field whose meaning is not known, rather than running something else. */
export function pipelineRequest(
  facts: RunFacts,
  { init, noise, draws = [], mask, latents }: Described,
): PipelineRequest {
  for (const field of Object.keys(facts))
    if (!KNOWN.has(field)) throw new Error(`do not know what ${field} of a run means`);
  const fromImage = facts.strength !== undefined && init !== undefined;
  const [, , rows = 0, columns = 0] = latents?.shape ?? [];
  const [height, width] = fromImage ? init.shape : [facts.height ?? 8 * rows, facts.width ?? 8 * columns];
  return {
    prompt: facts.prompt,
    negativePrompt: facts.negative_prompt,
    width: facts.width ?? width!,
    height: facts.height ?? height!,
    steps: facts.num_inference_steps,
    guidanceScale: facts.guidance_scale,
    seed: BigInt(facts.seed ?? 0),
    generator: facts.seed === undefined && draws.length > 0 ? replayed(draws) : undefined,
    guidanceRescale: facts.guidance_rescale,
    eta: facts.eta,
    images: facts.num_images_per_prompt ?? noise?.shape[0],
    strength: facts.strength,
    scheduler: typeof facts.scheduler === "object" ? schedulerOf(facts.scheduler) : undefined,
    image: fromImage ? pixelsOf(init) : undefined,
    mask: mask && { width: mask.shape[1]!, height: mask.shape[0]!, values: Uint8Array.from(mask.values) },
    latents: latents && Float32Array.from(latents.values),
    denoisingStart: facts.denoising_start,
    denoisingEnd: facts.denoising_end,
    aestheticScore: facts.aesthetic_score,
    negativeAestheticScore: facts.negative_aesthetic_score,
    sizes: { original: facts.original_size, crop: facts.crops_coords_top_left, target: facts.target_size },
  };
}

/** A generator that draws what a case has drawn, and then what nothing depends on: Euler's steps draw, and add none of it. */
function replayed(draws: readonly Tensor[]): NoiseGenerator {
  let next = 0;
  const unused = cpuGenerator(0);
  const randn = (count: number) => {
    if (next === draws.length) return unused.randn(count);
    const { values } = draws[next++]!;
    if (values.length !== count) throw new Error(`draw ${next - 1} is of ${count}, and the case has ${values.length}`);
    return Float32Array.from(values);
  };
  return {
    randn,
    // biome-ignore lint/correctness/useYield: it is there at once
    *randnInPieces(count) {
      return randn(count);
    },
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

/**
 * A configuration that a case states in words, as "Euler, leading, steps_offset 1", over the model's own; undefined if the
 * words name no class.
 */
export function schedulerInWords(
  words: string,
  own: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> | undefined {
  const [name = ""] = words.split(/[ ,]/);
  const className = ["", "Scheduler", "DiscreteScheduler"]
    .map((ending) => name + ending)
    .find((one) => (SCHEDULER_CLASSES as readonly string[]).includes(one));
  if (className === undefined) return undefined;
  const [, schedule] = /\b(linear|scaled_linear|squaredcos_cap_v2)\b/.exec(words) ?? [];
  const [, first, last] = /\b([\d.]+?)\.\.([\d.]+)\b/.exec(words) ?? [];
  const [, offset] = /\bsteps_offset (\d+)/.exec(words) ?? [];
  const [, spacing] = /\b(leading|trailing|linspace)\b/.exec(words) ?? [];
  return {
    ...own,
    _class_name: className,
    ...(schedule && { beta_schedule: schedule }),
    ...(first && { beta_start: Number(first), beta_end: Number(last) }),
    ...(offset && { steps_offset: Number(offset) }),
    ...(spacing && { timestep_spacing: spacing }),
  };
}

function pixelsOf({ shape, values }: Tensor): { width: number; height: number; rgba: Uint8Array } {
  const [height, width] = shape as [number, number];
  const rgba = new Uint8Array(height * width * 4).fill(255);
  for (let pixel = 0; pixel < height * width; pixel++) rgba.set(values.subarray(pixel * 3, pixel * 3 + 3), pixel * 4);
  return { width, height, rgba };
}
