/**
 * One denoising step as one plan: scale the latents, run the UNet on all branches of guidance, apply a row of the
 * scheduler's table in place. The latents never leave the device.
 *
 * What the UNet adds for the timestep is computed for many steps at once, in the plan's prologue; a step takes its row.
 */

import type { Gpu } from "../gpu/device.ts";
import { ROW_QUADS } from "../graph/ops/diffusion/rows.ts";
import { compile, type Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { Storage } from "../graph/tensor.ts";
import type { ParameterBuffers } from "../graph/weights.ts";
import {
  hasAddedConditions,
  type TimeInputs,
  timeProjections,
  timestepSinusoids,
  type UnetConfig,
  unet,
} from "../models/unet.ts";
import type { LatentSize } from "./latents.ts";
import { MAX_HISTORY_SLOTS, type StepRow } from "./schedulers/schedule.ts";

/** What a denoiser's plan is made for. */
export interface DenoiserShape extends LatentSize {
  readonly images: number;
  /** 2 with classifier-free guidance (the batch is [negative…, positive…]), else 1. */
  readonly branches: 1 | 2;
  readonly tokens: number;
}

/** Steps whose timesteps are projected at once; a longer schedule does so again after as many. */
const PROJECTED_STEPS = 32;

/** Records one step. Without a scheduler's part it is the bare UNet's parameters that are wanted. */
export function recordDenoiser(config: UnetConfig, shape: DenoiserShape): Recorder {
  const g = new Recorder();
  const { images, branches, height, width, channels, tokens } = shape;
  const rows = images * branches;
  const latentShape = [images, height, width, channels];
  const latents = g.state("latents", latentShape);
  const history = g.state("history", [images * MAX_HISTORY_SLOTS, height, width, channels]);
  const noise = g.input("noise", latentShape, { element: "f32" });
  const table = g.input("rows", [images * ROW_QUADS, 4], { element: "f32" });
  const timeRows = projectedRows(config, shape);
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
  const model = unet(g, config, {
    sample: g.modelInput(latents, table, branches, "model_input"),
    time: g.gatherRows(timeProjections(g, config, time), step, "time"),
    text: g.input("text", [rows, tokens, config.cross_attention_dim], { constant: true }),
  });
  g.output("model", model);
  g.output("denoised", g.schedulerStep({ latents, model, noise, history, rows: table }, "scheduler"));
  return g;
}

/** Rows of the batch are at the same timestep, and differ only in what is added to it. */
function projectedRows(config: UnetConfig, { images, branches }: DenoiserShape): number {
  return hasAddedConditions(config) ? images * branches : 1;
}

export function compileDenoiser(
  gpu: Gpu,
  config: UnetConfig,
  shape: DenoiserShape,
  options: { storage: Storage; parameters: ParameterBuffers; transformed?: boolean },
): Promise<Plan> {
  const label = `unet ${shape.height}×${shape.width} ×${shape.images * shape.branches}`;
  return compile(gpu, recordDenoiser(config, shape), { label, ...options, reads: DENOISER_READS });
}

/** Of the plan of `recordDenoiser`, what the host may read after a step. */
export const DENOISER_READS = ["latents"];

/**
 * Writes what step `index` of a schedule needs: the row of the table and which timestep, the same for every image. From 0
 * on, one after the other.
 */
export function writeStep(
  plan: Plan,
  config: UnetConfig,
  shape: DenoiserShape,
  schedule: readonly StepRow[],
  index: number,
  guidanceScale: number,
): void {
  const packed = packRow(schedule[index]!, guidanceScale);
  const table = new Float32Array(packed.length * shape.images);
  for (let image = 0; image < shape.images; image++) table.set(packed, image * packed.length);
  plan.write("rows", table);
  const at = index % PROJECTED_STEPS;
  if (at === 0) writeTimesteps(plan, config, shape, schedule.slice(index, index + PROJECTED_STEPS));
  plan.write("step", new Uint32Array(shape.images * shape.branches).fill(at));
}

function writeTimesteps(plan: Plan, config: UnetConfig, shape: DenoiserShape, steps: readonly StepRow[]): void {
  const timesteps = new Float64Array(projectedRows(config, shape) * PROJECTED_STEPS);
  for (let first = 0; first < timesteps.length; first += PROJECTED_STEPS) {
    for (const [index, { timestep }] of steps.entries()) timesteps[first + index] = timestep;
  }
  const options = { flip: config.flip_sin_to_cos, freqShift: config.freq_shift };
  plan.write("timesteps", timestepSinusoids(timesteps, config.block_out_channels[0]!, options));
}

// Larger than any latent, and finite in f32.
const UNCLAMPED = 1e30;

/** A scheduler's row as `shaders/scheduler_step.wgsl` reads it. */
export function packRow(row: StepRow, guidanceScale: number): Float32Array {
  const { x0, next, denoised, push } = row;
  const packed = new Float32Array(ROW_QUADS * 4);
  packed.set([row.inputScale, guidanceScale, x0.sample, x0.model], 0);
  packed.set([next.sample, next.model, next.x0, next.noise], 4);
  packed.set([denoised.sample, denoised.model, denoised.x0, push ? push.slot : -1], 8);
  packed.set([push?.sample ?? 0, push?.model ?? 0, push?.x0 ?? 0, Math.min(x0.clamp, UNCLAMPED)], 12);
  packed.set(next.history, 16);
  return packed;
}
