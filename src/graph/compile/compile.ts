/** From a recorded model to a plan: laid out, its kernels compiled, its buffers made and bound. */

import type { Gpu } from "../../gpu/device.ts";
import { inTurns } from "../../platform/turns.ts";
import type { Choose } from "../choice.ts";
import type { Storage } from "../tensor.ts";
import { Binder } from "./bind.ts";
import type { BoundDispatch } from "./bound.ts";
import { CompiledPlan } from "./compiled-plan.ts";
import { type CompileWatch, PlanKernels } from "./kernels.ts";
import {
  type Footprint,
  footprintOf,
  type Layout,
  type LayoutOptions,
  layOut,
  layOutInPieces,
  type Recorded,
} from "./layout.ts";
import { ParameterSet, type PlanParameters, untransformed } from "./parameters.ts";
import type { Plan } from "./plan.ts";
import { PlanBuffers } from "./plan-buffers.ts";
import { targetOf, targetOfWeights, type WeightStorage } from "./target.ts";

interface LoweringOptions extends LayoutOptions {
  /** How activations are stored. */
  readonly storage: Storage;
  /** False: without weights transformed for faster kernels, which take memory. */
  readonly transformed?: boolean;
  /** Which variants of kernels to use. Default: the rule of each family. */
  readonly choose?: Choose;
  /** Independent parts of the first dimension: kernels are chosen as for one. Default 1. */
  readonly batch?: number;
}

export interface CompileOptions extends LoweringOptions, CompileWatch {
  /** Names the plan in errors and profiles: `unet 64×64 ×2`. */
  readonly label: string;
  /** Buffers of the parameters; by component, if the recorder has parameters of several. */
  readonly parameters: PlanParameters;
}

export interface FootprintOptions extends LoweringOptions {
  /** How weights are stored; by component, if the recorder has parameters of several. */
  readonly weightStorage: WeightStorage;
}

/**
 * The memory that a plan of the recorded model would take. Nothing is made, and the weights need not be at hand.
 * @throws TensorTooLargeError if a tensor does not fit
 */
export function footprint(gpu: Gpu, recorder: Recorded, options: FootprintOptions): Footprint {
  const { storage, weightStorage, choose, batch, transformed = true } = options;
  const target = { ...targetOfWeights(gpu, storage, weightStorage, { choose, transformed }), batch };
  return footprintOf(layOut(gpu, recorder, target, options), target);
}

/**
 * Compiles a recorded model. Each of its kernels has run once then, so that the first replay compiles nothing.
 * @throws TensorTooLargeError if a tensor does not fit, `MemoryLimitError` before anything is made if the plan is more than
 *   the GPU's limit leaves, other GPU errors as typed errors, the signal's reason if it is aborted
 */
export async function compile(gpu: Gpu, recorder: Recorded, options: CompileOptions): Promise<Plan> {
  const { label, storage, choose } = options;
  const parameters = options.transformed === false ? untransformed(options.parameters) : options.parameters;
  const parameterSet = new ParameterSet(parameters, recorder.operations);
  const target = { ...targetOf(gpu, storage, parameters, choose), batch: options.batch };
  const layout = await inTurns(layOutInPieces(gpu, recorder, target, options));
  gpu.checkRoom(
    label,
    footprintOf(layout, target, (matrix, transform) => parameterSet.hasTransformed(matrix, transform)).peak,
  );
  const buffers = new PlanBuffers(gpu, label, storage, layout);
  try {
    const bound = await bind(gpu, label, layout, buffers, parameterSet, options);
    const named = new Map([...recorder.inputs, ...recorder.states, ...recorder.outputs]);
    return new CompiledPlan(gpu, { label, storage, buffers, tensors: named, ...bound });
  } catch (error) {
    buffers.destroy();
    throw error;
  }
}

async function bind(
  gpu: Gpu,
  label: string,
  layout: Layout,
  buffers: PlanBuffers,
  parameters: ParameterSet,
  watch: CompileWatch,
): Promise<{ readonly prologue: readonly BoundDispatch[]; readonly replay: readonly BoundDispatch[] }> {
  // Begun first: kernels are compiled beside the rest.
  const dispatches = layout.lowered.flatMap((entry) => entry.dispatches);
  const kernels = new PlanKernels(gpu, label, dispatches, watch);
  const binder = new Binder(gpu, label, kernels, buffers, parameters);
  try {
    await parameters.transform(layout.transformed);
    await kernels.prepare((dispatch) => binder.bind(dispatch));
  } catch (error) {
    kernels.giveUp();
    throw error;
  }
  gpu.check();
  const prologue: BoundDispatch[] = [];
  const replay: BoundDispatch[] = [];
  function* bindAll(): Generator<void, void, void> {
    for (const entry of layout.lowered) {
      for (const dispatch of entry.dispatches) {
        (entry.prologue ? prologue : replay).push(binder.bind(dispatch));
        yield;
      }
    }
  }
  await inTurns(bindAll());
  gpu.check();
  return { prologue, replay };
}
