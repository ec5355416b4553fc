/**
 * The denoising step of the families whose network is a UNet.
 *
 * The UNet's additions for the timestep are computed for many steps at once, in the plan's prologue; a step takes its row.
 */

import type { MaskedPicture } from "../diffusion/mask.ts";
import type { StepModel, StepPlace, StepShape } from "../diffusion/model.ts";
import type { PipelineRequest, RunShape } from "../diffusion/request.ts";
import type { StepRow } from "../diffusion/schedulers/schedule.ts";
import type { Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import { channelsOf, type Parameter, type Tensor } from "../graph/tensor.ts";
import { ModelConfigError } from "../models/config.ts";
import { unet } from "../models/unet.ts";
import { hasAddedConditions, type UnetConfig } from "../models/unet-config.ts";
import { guidanceEmbedding, type TimeInputs, timeProjections, timestepSinusoids } from "../models/unet-time.ts";
import type { TextConditioning } from "./clip-text.ts";
import { type ControlConditioning, checkPictures, UnetControls } from "./control/unet-controls.ts";

/** All that conditions the UNet for one picture. */
export interface UnetConditioning {
  /** By branch of guidance: the negative prompt and the prompt, or the prompt alone. */
  readonly branches: readonly TextConditioning[];
  readonly request: Pick<
    PipelineRequest,
    "width" | "height" | "guidanceScale" | "sizes" | "aestheticScore" | "negativeAestheticScore"
  >;
  /** The values that the networks beside the UNet read; undefined if there are none. */
  readonly control?: ControlConditioning;
}

/** Steps whose timesteps are projected at once; a longer schedule does so again after as many. */
const PROJECTED_STEPS = 32;

/** Aesthetic scores that SDXL's refiner reads instead of a target size, as diffusers gives them if nobody says others. */
const AESTHETIC_SCORES = { negative: 2.5, positive: 6 };
/** Numbers of the size conditions: original size, crop, and the target size or a score. */
const SIZES = { withTarget: 6, withScore: 5 };

export class UnetStep implements StepModel<UnetConditioning> {
  readonly part = "unet";
  readonly readsMask: boolean;
  readonly #config: UnetConfig;
  readonly #tokens: number;
  readonly #chunks: (request: RunShape) => number;
  readonly controls = new UnetControls();
  /** Its size conditions end with an aesthetic score. */
  readonly #readsScore: boolean;

  /**
   * @param tokens of a chunk of a prompt's embedding
   * @param pooledWidth numbers of a prompt's pooled vector, 0 without one; left out: added conditions are not checked
   * @param chunks counts those of a request's prompts
   * @throws ModelConfigError if its added conditions are not such a vector and sizes
   */
  constructor(
    config: UnetConfig,
    tokens: number,
    pooledWidth?: number,
    chunks: (request: RunShape) => number = () => 1,
  ) {
    this.#config = config;
    this.#tokens = tokens;
    this.#chunks = chunks;
    this.readsMask = isInpainting(config);
    const isChecked = hasAddedConditions(config) && pooledWidth !== undefined;
    this.#readsScore = isChecked && sizesOf(config, pooledWidth) === SIZES.withScore;
  }

  needs(shape: StepShape): readonly string[] {
    return ["unet", ...this.controls.needs(shape)];
  }

  shape(request: RunShape) {
    const isGuided = request.guidanceScale > 1 && !this.#config.time_cond_proj_dim;
    const tokens = this.#tokens * this.#chunks(request);
    checkPictures(request);
    return { branches: isGuided ? 2 : 1, tokens, ...this.controls.shape(request) } as const;
  }

  /** The UNet's parameters. They do not depend on the picture's size, so any small one names them. */
  parameters(): Parameter[] {
    const side = 2 ** this.#config.block_out_channels.length;
    const channels = this.#config.out_channels;
    const shape = { slots: 1, branches: 1, tokens: 1, height: side, width: side, channels };
    const g = new Recorder();
    this.predict(g, shape, g.input("sample", [1, side, side, channels]));
    return [...g.parameters.values()];
  }

  predict(g: Recorder, shape: StepShape, sample: Tensor): Tensor {
    const config = this.#config;
    const rows = shape.slots * shape.branches;
    const timeRows = this.#timeRows(shape);
    const time: TimeInputs = {
      timesteps: g.input("timesteps", [timeRows, PROJECTED_STEPS, config.block_out_channels[0]!], { constant: true }),
      guidance: config.time_cond_proj_dim
        ? g.input("guidance", [timeRows, config.time_cond_proj_dim], { constant: true })
        : undefined,
      added: hasAddedConditions(config)
        ? g.input("added", [timeRows, config.projection_class_embeddings_input_dim!], { constant: true })
        : undefined,
    };
    const step = g.input("step", [rows], { element: "u32" });
    const inputs = this.readsMask
      ? g.concat(sample, g.input("masked picture", [rows, shape.height, shape.width, 1 + shape.channels]))
      : sample;
    const atStep = (projected: Tensor) => {
      const allRows = g.reshape(projected, [1, timeRows * PROJECTED_STEPS, channelsOf(projected)]);
      return g.gatherRows(allRows, step, "time");
    };
    const text = g.input("text", [rows, this.#textTokens(shape), config.cross_attention_dim], { constant: true });
    const control = this.controls.record(g, shape, { rows, sample, text, time, atStep });
    const whole = () =>
      unet(g, config, { sample: inputs, time: atStep(timeProjections(g, config, time)), text, control });
    return control ? g.component("unet", whole) : whole();
  }

  async writeConditioning(plan: Plan, shape: StepShape, slot: number, conditioning: UnetConditioning): Promise<void> {
    const { branches, request } = conditioning;
    const config = this.#config;
    for (const [branch, text] of branches.entries()) {
      const row = branch * shape.slots + slot;
      await plan.writeInTurns("text", text.embedding, row);
      if (!hasAddedConditions(config)) continue;
      const isNegative = branches.length > 1 && branch === 0;
      const score = isNegative
        ? (request.negativeAestheticScore ?? AESTHETIC_SCORES.negative)
        : (request.aestheticScore ?? AESTHETIC_SCORES.positive);
      const last = this.#readsScore ? [score] : undefined;
      plan.write("added", addedConditions(config.addition_time_embed_dim!, text, request, last), row);
    }
    if (conditioning.control) {
      await this.controls.writeConditioning(plan, shape, slot, conditioning.control, this.#timeRows(shape));
    }
    if (!config.time_cond_proj_dim) return;
    const guidance = guidanceEmbedding(request.guidanceScale, config.time_cond_proj_dim);
    for (const row of this.#timeRowsOf(shape, slot)) plan.write("guidance", guidance, row);
  }

  /** The mask stands first among the channels (`StableDiffusionInpaintPipeline`); all branches get the same. */
  async writeMasked(plan: Plan, shape: StepShape, slot: number, { mask, masked }: MaskedPicture): Promise<void> {
    const { channels, slots, branches } = shape;
    const values = new Float32Array(mask.length * (1 + channels));
    for (const [pixel, value] of mask.entries()) {
      values[pixel * (1 + channels)] = value;
      values.set(masked.subarray(pixel * channels, (pixel + 1) * channels), pixel * (1 + channels) + 1);
    }
    for (let branch = 0; branch < branches; branch++) {
      await plan.writeInTurns("masked picture", values, branch * slots + slot);
    }
  }

  writeTimestep(
    plan: Plan,
    shape: StepShape,
    slot: number,
    place: StepPlace,
    { control }: Pick<UnetConditioning, "control"> = {},
  ): void {
    const { rows, index, joins } = place;
    if (control) this.controls.writeFactors(plan, shape, slot, place, control);
    const at = index % PROJECTED_STEPS;
    const first = index - at;
    if (at === 0 || joins) this.#writeTimesteps(plan, shape, slot, rows.slice(first, first + PROJECTED_STEPS));
    const timeRows = this.#timeRowsOf(shape, slot);
    for (let branch = 0; branch < shape.branches; branch++) {
      const timeRow = timeRows[branch] ?? timeRows[0]!;
      plan.write("step", Uint32Array.of(timeRow * PROJECTED_STEPS + at), branch * shape.slots + slot);
    }
  }

  #writeTimesteps(plan: Plan, shape: StepShape, slot: number, steps: readonly StepRow[]): void {
    const timesteps = new Float64Array(PROJECTED_STEPS);
    for (const [index, { timestep }] of steps.entries()) timesteps[index] = timestep;
    const config = this.#config;
    const options = { flip: config.flip_sin_to_cos, freqShift: config.freq_shift };
    const sinusoids = timestepSinusoids(timesteps, config.block_out_channels[0]!, options);
    for (const row of this.#timeRowsOf(shape, slot)) plan.write("timesteps", sinusoids, row);
  }

  /** Rows of timesteps: one for each slot, or for each row of the batch if something of its own is added to them. */
  #timeRows({ slots, branches }: StepShape): number {
    return hasAddedConditions(this.#config) ? slots * branches : slots;
  }

  #timeRowsOf({ slots, branches }: StepShape, slot: number): number[] {
    if (!hasAddedConditions(this.#config)) return [slot];
    return Array.from({ length: branches }, (_, branch) => branch * slots + slot);
  }

  #textTokens({ tokens }: StepShape): number {
    return tokens as number;
  }
}

/** True for a UNet that reads the latents, a mask, and the latents of the masked picture. */
export function isInpainting({ in_channels: inputs, out_channels: channels }: UnetConfig): boolean {
  return inputs === 2 * channels + 1;
}

/** The number of sizes beside the pooled vector. @throws ModelConfigError if that is no number that we know */
function sizesOf(config: UnetConfig, pooledWidth: number): number {
  const { projection_class_embeddings_input_dim: inputs, addition_time_embed_dim: width } = config;
  const sizes = (inputs! - pooledWidth) / width!;
  if (Object.values(SIZES).includes(sizes)) return sizes;
  const reason = `is ${inputs}; a pooled vector of ${pooledWidth} and 5 or 6 sizes of ${width} each were expected`;
  throw new ModelConfigError("unet", "projection_class_embeddings_input_dim", reason);
}

/**
 * SDXL: the pooled text, then sinusoids of the sizes (Podell et al. 2023, arXiv 2307.01952, section 2.2).
 * @param last the numbers after original size and crop, if not the target size
 */
function addedConditions(
  width: number,
  { pooled }: TextConditioning,
  { width: pictureWidth, height, sizes = {} }: UnetConditioning["request"],
  last?: readonly number[],
): Float32Array {
  const size = [height, pictureWidth] as const;
  const { original = size, crop = [0, 0], target = size } = sizes;
  const sinusoids = timestepSinusoids([...original, ...crop, ...(last ?? target)], width);
  const added = new Float32Array(pooled!.length + sinusoids.length);
  added.set(pooled!);
  added.set(sinusoids, pooled!.length);
  return added;
}
