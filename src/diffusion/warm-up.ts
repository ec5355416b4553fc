/** Making ready: all plans that text-to-image of some shape takes, so that the first run neither compiles nor allocates. */

import type { Plan } from "../graph/plan.ts";
import { Leases, type PlanSpec } from "../memory/model-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import { isTooLarge, isTooSliced } from "./bands.ts";
import { batchSize } from "./batch.ts";
import { decoderSpec, linearSpec, type PictureCoder } from "./latents.ts";
import type { LoadedModel } from "./loaded-model.ts";
import type { StepShape } from "./model.ts";
import type { RunShape } from "./request.ts";
import { isOutOfRoom, tooLarge } from "./room.ts";
import { leaseWeights } from "./run-weights.ts";
import { stepShape } from "./shape.ts";
import { stepSpec } from "./step.ts";

/**
 * Makes the plans, previews' included; each of their kernels has run once then.
 * @throws PipelineError, GPU errors, and the signal's reason when it is aborted
 */
export async function warmUp(model: LoadedModel, request: RunShape, watch: PreparationWatch = {}): Promise<void> {
  const { family, memory } = model;
  const shape = stepShape(family, request);
  const lease = await leaseWeights(model, request, [], watch);
  const leases = new Leases(memory, lease.set, watch);
  const phases = phasesOf(model, leases, shape);
  // With room for all they are compiled beside each other; else one phase of a run after the other, as it will be run.
  const together = memory.gpu.maxBytes === undefined ? [() => Promise.all(phases.map((make) => make()))] : phases;
  try {
    for (const make of together) {
      watch.signal?.throwIfAborted();
      await make();
      leases.giveBack();
    }
  } catch (error) {
    throw isOutOfRoom(error) ? await tooLarge(model, lease.set, request, error) : error;
  } finally {
    leases.giveBack();
    lease.release();
  }
}

/** The phases of a run, each with the plans that it holds at once. */
function phasesOf({ family, memory }: LoadedModel, leases: Leases, shape: StepShape): (() => Promise<Plan[]>)[] {
  const { full, tiny, linear } = family.picture;
  const whole = (coder: PictureCoder) => wholeDecoder(leases, decoderSpec(coder, shape));
  const previews = linear ? [linearSpec(linear, shape)] : [];
  return [
    () => leases.plans(family.encoders),
    () => leases.plans([stepSpec(family.step, { ...shape, slots: batchSize(memory, shape.slots) })]),
    async () => (await Promise.all([whole(full), leases.plans(previews)])).flat(),
    ...(tiny ? [() => whole(tiny)] : []),
  ];
}

/** A decoder's plan; none if pictures of this size are decoded in bands. */
async function wholeDecoder(leases: Leases, spec: PlanSpec): Promise<Plan[]> {
  const { memory } = leases;
  if (isTooSliced(memory.gpu, spec.record(), spec.upcast ? "f32" : memory.activations)) return [];
  try {
    return [await leases.plan(spec)];
  } catch (error) {
    if (isTooLarge(error)) return [];
    throw error;
  }
}
