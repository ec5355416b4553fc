/** Device memory that a run takes in each of its phases, and the largest picture that finds room. */

import { MemoryLimitError } from "../gpu/errors.ts";
import { TensorTooLargeError } from "../graph/recorder.ts";
import type { ComponentId } from "../memory/component.ts";
import type { WeightSet } from "../memory/weight-sets.ts";
import { ownTurn } from "../platform/turns.ts";
import { decodeBandsBytes, isTooSliced } from "./bands.ts";
import { decoderSpec, latentBytes } from "./latents.ts";
import type { LoadedModel } from "./loaded-model.ts";
import type { StepShape } from "./model.ts";
import { PipelineError, type RunShape } from "./request.ts";
import { MAX_HISTORY_SLOTS } from "./schedulers/schedule.ts";
import { stepShape } from "./shape.ts";
import { Slot } from "./slots.ts";
import { stepSpec } from "./step.ts";

/** A picture is too large for the memory that may be used, or for what this device binds. */
type OutOfRoom = MemoryLimitError | TensorTooLargeError;

export function isOutOfRoom(error: unknown): error is OutOfRoom {
  return error instanceof MemoryLimitError || error instanceof TensorTooLargeError;
}

/** How messages name a limit of memory. */
export function limitOf({ limitBytes: limit }: MemoryLimitError): string {
  return `the ${Math.floor(limit / 2 ** 20)} MiB of device memory that may be used`;
}

/**
 * The error for pictures that do not fit. If one of their size does, it names how many do, else the largest size of their
 * proportions that does.
 */
export async function tooLarge(
  model: LoadedModel,
  set: WeightSet,
  request: RunShape,
  error: OutOfRoom,
): Promise<PipelineError> {
  const { width, height, images = 1 } = request;
  const limited = error instanceof MemoryLimitError;
  const limit = limited ? error.limitBytes : Number.MAX_VALUE;
  const where = limited ? limitOf(error) : "what this device binds at once";
  const most = images > 1 ? await mostThatFit(model, set, request, limit) : 0;
  if (most > 0) {
    const reason = `${images} pictures of ${width}x${height} do not fit into ${where}; ${most === 1 ? "1 does" : `${most} do`}`;
    return new PipelineError("num_images", reason, { cause: error });
  }
  const fits = await largestThatFits(model, set, { ...request, images: 1 }, limit);
  const hope = fits ? `; ${fits.width}x${fits.height} fits` : "; none does";
  const reason = `a picture of ${width}x${height} does not fit into ${where}${hope}`;
  return new PipelineError("width", reason, { cause: error });
}

/** How many pictures of this size fit, fewer than are asked for; 0 if not even one does. */
async function mostThatFit(model: LoadedModel, set: WeightSet, request: RunShape, limit: number): Promise<number> {
  const bytesOf = await runBytes(model, set, stepShape(model.family, request));
  let [fitting, tooMany] = [0, request.images ?? 1];
  while (tooMany - fitting > 1) {
    const count = Math.floor((fitting + tooMany) / 2);
    if (bytesOf(count) <= limit) fitting = count;
    else tooMany = count;
  }
  return fitting;
}

/** By halves of what is left in question: a larger picture never takes less. */
async function largestThatFits(model: LoadedModel, set: WeightSet, request: RunShape, limit: number) {
  const unit = 64; // every model's size is a multiple of it
  const longer = Math.max(request.width, request.height);
  const ofLonger = (side: number) => {
    const [width, height] = [request.width, request.height].map((pixels) =>
      Math.max(unit, Math.round((pixels * side) / longer / unit) * unit),
    ) as [number, number];
    return { width, height };
  };
  let [fitting, tooMany] = [0, Math.ceil(longer / unit)];
  while (tooMany - fitting > 1) {
    const units = Math.floor((fitting + tooMany) / 2);
    const shape = stepShape(model.family, { ...request, ...ofLonger(units * unit) });
    const bytesOf = await runBytes(model, set, shape);
    if (bytesOf(shape.slots) <= limit) fitting = units;
    else tooMany = units;
  }
  return fitting > 0 ? ofLonger(fitting * unit) : undefined;
}

/** The least device memory that so many pictures of this shape, from text, take in any of their phases, in bytes. */
async function runBytes(
  { family, memory }: LoadedModel,
  set: WeightSet,
  shape: StepShape,
): Promise<(slots: number) => number> {
  const { gpu, components } = memory;
  const { full } = family.picture;
  /** Bytes of weights in a phase that needs these: the others have given way. */
  const resident = (needed: readonly ComponentId[]) =>
    set.bytes + needed.reduce((sum, id) => sum + components.get(id)!.bytes, 0);
  const slotBytes = Slot.bytes(shape, MAX_HISTORY_SLOTS);

  // Each of these is a plan's whole layout.
  await ownTurn();
  const text = family.encoders.map((spec) => memory.footprint(spec, set));
  await ownTurn();
  const step = bytesOrNever(() => memory.footprint(stepSpec(family.step, { ...shape, slots: 1 }), set));
  await ownTurn();
  const decoder = decoderSpec(full, shape);
  const storage = decoder.upcast ? "f32" : memory.activations;
  const inOnePiece = isTooSliced(gpu, decoder.record(), storage)
    ? Number.POSITIVE_INFINITY
    : bytesOrNever(() => memory.footprint(decoder, set));
  await ownTurn();
  const weightStorage = set.weights(full.component).storage;
  const options = { storage, weightStorage, choose: memory.choose };
  const inBands = bytesOrNever(() => decodeBandsBytes(gpu, full.autoencoder, shape, options));
  const picture = Math.min(inOnePiece, inBands);
  const encoders = [...new Set(family.encoders.flatMap((spec) => spec.components))];
  const before = Math.max(
    ...[...components.values()].map(({ loadingBytes }) => resident([]) + loadingBytes),
    resident(encoders) + text.reduce((sum, bytes) => sum + bytes, 0),
  );
  const stepping = resident(family.step.needs(shape)) + step;
  const decoding = resident([full.component]) + picture;
  const latents = latentBytes(shape); // as kept, and as read
  return (slots) => Math.max(before, stepping + slotBytes * slots, decoding + (slotBytes + latents) * slots);
}

/** Infinite if a tensor is more than the adapter binds. */
function bytesOrNever(estimate: () => number): number {
  try {
    return estimate();
  } catch (error) {
    if (error instanceof TensorTooLargeError) return Number.POSITIVE_INFINITY;
    throw error;
  }
}
