/**
 * One denoising step as one plan: scale the latents, run the network on all branches of guidance, apply a row of the
 * scheduler's table. The latents of each picture come from a slot and go back to it (`slots.ts`); they never leave the
 * device.
 */

import { finiteCheck } from "../graph/ops/diffusion/finite-check.ts";
import { guidanceRescale } from "../graph/ops/diffusion/guidance-rescale.ts";
import { maskBlend } from "../graph/ops/diffusion/mask-blend.ts";
import { modelInput } from "../graph/ops/diffusion/model-input.ts";
import { ROW_QUADS } from "../graph/ops/diffusion/rows.ts";
import { schedulerStep } from "../graph/ops/diffusion/scheduler-step.ts";
import type { Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import type { SlotMask } from "./mask.ts";
import type { StepModel, StepPlace, StepShape } from "./model.ts";
import { MAX_HISTORY_SLOTS, type NoiseLevel, type StepRow } from "./schedulers/schedule.ts";

/** The plan of a step. */
export function stepSpec(model: StepModel, shape: StepShape): PlanSpec {
  const { height, width, slots, branches } = shape;
  return {
    part: model.part,
    shape,
    label: `${model.part} ${height}×${width} ×${slots * branches}`,
    components: model.needs(shape),
    batch: slots,
    reads: ["latents", "broken"],
    record: () => recordStep(model, shape),
  };
}

/**
 * Records one step: states `latents` and `history`, inputs `noise` and `rows` (the scheduler's row of each slot), and what
 * the network reads; outputs `model`, its prediction, `denoised`, and `broken`, 1 for a slot with NaN or infinity. If the
 * shape is `masked`, inputs `original`, `start noise`, `mask` and `known` as well (`ops/diffusion/mask-blend.ts`).
 */
export function recordStep(model: StepModel, shape: StepShape): Recorder {
  const g = new Recorder();
  const { slots, branches, height, width, channels } = shape;
  const latentShape = [slots, height, width, channels];
  const latents = g.state("latents", latentShape);
  const history = g.state("history", [slots * MAX_HISTORY_SLOTS, height, width, channels]);
  const noise = g.input("noise", latentShape, { element: "f32" });
  const rows = g.input("rows", [slots * ROW_QUADS, 4], { element: "f32" });
  const prediction = model.predict(g, shape, modelInput(g, latents, rows, branches as 1 | 2, "model_input"));
  g.output("model", prediction);
  const guided = shape.rescales ? guidanceRescale(g, prediction, rows, "guidance") : prediction;
  g.output("denoised", schedulerStep(g, { latents, model: guided, noise, history, rows }, "scheduler"));
  const after = shape.masked ? recordBlend(g, latents) : latents;
  g.output("broken", finiteCheck(g, prediction, after, "finite"));
  return g;
}

function recordBlend(g: Recorder, latents: Tensor): Tensor {
  const [slots, height, width] = latents.shape as [number, number, number, number];
  const f32 = { element: "f32" } as const;
  const operands = {
    latents,
    original: g.input("original", latents.shape, f32),
    noise: g.input("start noise", latents.shape, f32),
    mask: g.input("mask", [slots, height, width, 1], f32),
    known: g.input("known", [slots, 4], f32),
  };
  return maskBlend(g, operands, "mask_blend");
}

/** Numbers of classifier-free guidance. */
export interface Guidance {
  readonly guidanceScale: number;
  /** 0 to 1; read where the shape `rescales`. Left out: 0. */
  readonly guidanceRescale?: number;
}

/** Writes what a slot's steps read of its mask, once it has joined. */
export async function writeMask(
  plan: Plan,
  model: StepModel,
  shape: StepShape,
  slot: number,
  { mask, original, noise, masked }: SlotMask,
): Promise<void> {
  if (masked) await model.writeMasked!(plan, shape, slot, { mask, masked });
  if (!shape.masked) return;
  await plan.writeInTurns("mask", mask, slot);
  await plan.writeInTurns("original", original!, slot);
  await plan.writeInTurns("start noise", noise!, slot);
}

/** Writes what a slot's step needs. */
export function writeStep(
  plan: Plan,
  model: StepModel,
  shape: StepShape,
  slot: number,
  step: StepPlace & Guidance & { readonly after?: NoiseLevel },
  conditioning?: unknown,
): void {
  plan.write("rows", packRow(step.rows[step.index]!, step.guidanceScale, step.guidanceRescale), slot * ROW_QUADS);
  if (shape.masked) plan.write("known", Float32Array.of(step.after!.original, step.after!.noise, 0, 0), slot);
  model.writeTimestep(plan, shape, slot, step, conditioning);
}

// Larger than any latent, and finite in f32.
const UNCLAMPED = 1e30;

/** A scheduler's row as `shaders/scheduler_step.wgsl` reads it. */
export function packRow(row: StepRow, guidanceScale: number, guidanceRescale = 0): Float32Array {
  const { x0, next, denoised, push } = row;
  const packed = new Float32Array(ROW_QUADS * 4);
  packed.set([row.inputScale, guidanceScale, x0.sample, x0.model], 0);
  packed.set([next.sample, next.model, next.x0, next.noise], 4);
  packed.set([denoised.sample, denoised.model, denoised.x0, push ? push.slot : -1], 8);
  packed.set([push?.sample ?? 0, push?.model ?? 0, push?.x0 ?? 0, Math.min(x0.clamp, UNCLAMPED)], 12);
  packed.set(next.history, 16);
  packed.set([row.keep ?? -1, guidanceRescale], 21);
  return packed;
}
