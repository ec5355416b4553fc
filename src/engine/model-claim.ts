/**
 * The device memory that a run claims with its model, so that runs of several models go on at once only if all of them find
 * room. It is what they take at the most with everything that makes them fast: a run that is admitted never has to do
 * without, and its picture does not depend on its company.
 */

import { LRUCache } from "lru-cache";
import { isTooSliced } from "../diffusion/bands.ts";
import { decoderSpec, encoderSpec, latentBytes, linearSpec } from "../diffusion/latents.ts";
import type { FamilyModel, StepShape } from "../diffusion/model.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { MAX_HISTORY_SLOTS } from "../diffusion/schedulers/schedule.ts";
import { stepShape } from "../diffusion/shape.ts";
import { Slot } from "../diffusion/slots.ts";
import { stepSpec } from "../diffusion/step.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Choose } from "../graph/choice.ts";
import { footprint, type WeightStorage } from "../graph/plan.ts";
import { TensorTooLargeError } from "../graph/recorder.ts";
import type { Storage } from "../graph/tensor.ts";
import {
  activationStorage,
  type ComponentId,
  type ComponentSize,
  measureComponent,
  type Precision,
} from "../memory/component.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import { ownTurn } from "../platform/turns.ts";

/** Shapes whose claims are remembered: each takes a layout of every plan. */
const MAX_SHAPES = 256;

/** The request in what decides how much memory it takes. */
type Claiming = Pick<PipelineRequest, "width" | "height" | "guidanceScale" | "images" | "image" | "loras" | "fewStep">;

interface ClaimedPlans {
  readonly bytes: number;
  /** The part of it that is transformed weights, which a set with LoRAs has twice. */
  readonly transformed: number;
}

/** The memory that a run claims. */
export interface Claim {
  /** Equal for runs that read the same plans and weights. */
  readonly shape: string;
  readonly bytes: number;
}

export class ModelClaim {
  readonly #gpu: Gpu;
  readonly #family: FamilyModel;
  readonly #precision: Precision;
  readonly #activations: Storage;
  readonly #plans = new LRUCache<string, ClaimedPlans>({ max: MAX_SHAPES });
  #sizes: Promise<ReadonlyMap<ComponentId, ComponentSize>> | undefined;

  constructor(gpu: Gpu, family: FamilyModel, precision: Precision) {
    this.#gpu = gpu;
    this.#family = family;
    this.#precision = precision;
    this.#activations = activationStorage(gpu, precision);
  }

  /** Bytes of its weights. @throws WeightsError, MemoryLimitError for a model that cannot be loaded */
  async weightBytes(): Promise<number> {
    const sizes = [...(await this.#measured()).values()];
    const loading = Math.max(...sizes.map(({ bytes, loadingBytes }) => loadingBytes - bytes));
    return sizes.reduce((sum, { bytes }) => sum + bytes, loading);
  }

  /**
   * Bytes of the model with a run of this request, as many as there are at the most.
   * @throws WeightsError, MemoryLimitError for a model that cannot be loaded
   */
  async of(request: Claiming, choose: Choose | undefined): Promise<Claim> {
    const weights = await this.weightBytes();
    const shape = stepShape(this.#family, request);
    const images = shape.slots;
    const key = JSON.stringify([{ ...shape, slots: 1 }, request.image !== undefined]);
    let plans = this.#plans.get(key);
    if (plans === undefined) {
      plans = await this.#claimOf({ ...shape, slots: 1 }, request.image, choose);
      this.#plans.set(key, plans);
    }
    const slots = images * (Slot.bytes(shape, MAX_HISTORY_SLOTS) + latentBytes(shape));
    const isMerged = request.fewStep === true || (request.loras?.length ?? 0) > 0;
    const merged = isMerged ? weights + plans.transformed : 0;
    return { shape: `${key} ${isMerged}`, bytes: weights + plans.bytes + slots + merged };
  }

  #measured(): Promise<ReadonlyMap<ComponentId, ComponentSize>> {
    this.#sizes ??= this.#measure();
    return this.#sizes;
  }

  async #measure(): Promise<ReadonlyMap<ComponentId, ComponentSize>> {
    const sizes = new Map<ComponentId, ComponentSize>();
    try {
      for (const spec of this.#family.components) {
        sizes.set(spec.id, await measureComponent(this.#gpu, spec, this.#precision));
      }
      return sizes;
    } catch (error) {
      this.#sizes = undefined; // the files may be others the next time
      throw error;
    }
  }

  async #claimOf(shape: StepShape, image: Claiming["image"], choose: Choose | undefined): Promise<ClaimedPlans> {
    const { encoders, step, picture } = this.#family;
    const { full, tiny, linear } = picture;
    const plans = [...encoders, stepSpec(step, shape), ...(linear ? [linearSpec(linear, shape)] : [])];
    const pictures = [
      decoderSpec(full, shape),
      ...(tiny ? [decoderSpec(tiny, shape)] : []),
      ...(image ? [encoderSpec(full, image)] : []),
    ];
    let [bytes, transformed] = [0, 0];
    for (const spec of [...plans, ...pictures]) {
      await ownTurn(); // a plan's whole layout
      const of = await this.#footprint(spec, choose);
      bytes += of.bytes;
      transformed += of.transformed;
    }
    return { bytes, transformed };
  }

  /** A plan's own; all that there is if the picture is gone through in bands, whose number follows from the room. */
  async #footprint(spec: PlanSpec, choose: Choose | undefined): Promise<ClaimedPlans> {
    const storage = spec.upcast ? "f32" : this.#activations;
    const { reads, batch } = spec;
    const recorder = spec.record();
    const all = { bytes: Number.POSITIVE_INFINITY, transformed: 0 };
    if (isTooSliced(this.#gpu, recorder, storage)) return all;
    try {
      const weightStorage = await this.#storageOf(spec.components);
      const { peak, transformed } = footprint(this.#gpu, recorder, { storage, weightStorage, reads, batch, choose });
      return { bytes: peak, transformed };
    } catch (error) {
      if (error instanceof TensorTooLargeError) return all;
      throw error;
    }
  }

  async #storageOf(components: readonly ComponentId[]): Promise<WeightStorage> {
    const sizes = await this.#measured();
    const of = (id: ComponentId): Storage => sizes.get(id)?.storage ?? "f32";
    const [only] = components;
    if (components.length > 1) return new Map(components.map((id) => [id, of(id)]));
    return only === undefined ? "f32" : of(only);
  }
}
