/**
 * One denoising step as one plan: scale the latents, run the network on all branches of guidance, apply a row of the
 * scheduler's table. The latents of each picture come from a slot and go back to it (`slots.ts`); they never leave the
 * device.
 */

import { finiteCheck } from "../graph/ops/diffusion/finite-check.ts";
import { guidanceRescale } from "../graph/ops/diffusion/guidance-rescale.ts";
import { modelInput } from "../graph/ops/diffusion/model-input.ts";
import { ROW_QUADS } from "../graph/ops/diffusion/rows.ts";
import { schedulerStep } from "../graph/ops/diffusion/scheduler-step.ts";
import type { Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import type { StepModel, StepPlace, StepShape } from "./model.ts";
import { MAX_HISTORY_SLOTS, type StepRow } from "./schedulers/schedule.ts";

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
 * the network reads; outputs `model`, its prediction, `denoised`, and `broken`, 1 for a slot with NaN or infinity.
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
  g.output("broken", finiteCheck(g, prediction, latents, "finite"));
  return g;
}

/** Numbers of classifier-free guidance. */
export interface Guidance {
  readonly guidanceScale: number;
  /** 0 to 1; read where the shape `rescales`. Left out: 0. */
  readonly guidanceRescale?: number;
}

/** Writes what a slot's step needs. */
export function writeStep(
  plan: Plan,
  model: StepModel,
  shape: StepShape,
  slot: number,
  step: StepPlace & Guidance,
  conditioning?: unknown,
): void {
  plan.write("rows", packRow(step.rows[step.index]!, step.guidanceScale, step.guidanceRescale), slot * ROW_QUADS);
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
