/**
 * A model's memory: its components on the device, merged weight sets and plans, and the order in which they give way if not
 * everything fits (`Gpu.maxBytes`).
 *
 * Weights and plans stay as long as they fit. If something does not, what no run is using gives way: first plans, which
 * are made again in a moment, free buffers and merged weight sets, those of other models (`device-memory.ts`) before its
 * own; then other models that nobody uses; then copies of weights that are transformed for faster kernels; then the new
 * plan does without such copies itself; and only then the weights of other components go, which come back from their files.
 * With room for all of a model nothing ever moves. If the device itself is out of memory, the same gives way up to other
 * models, and the rest is an error.
 */

import type { Gpu } from "../gpu/device.ts";
import { GpuOutOfMemoryError, MemoryLimitError } from "../gpu/errors.ts";
import type { Choose } from "../graph/choice.ts";
import { type CompileWatch, compile, footprint, type Plan, type PlanParameters, storageOf } from "../graph/plan.ts";
import type { Recorder } from "../graph/recorder.ts";
import type { Storage } from "../graph/tensor.ts";
import type { ParameterBuffers } from "../graph/weights.ts";
import type { ResolveOptions } from "../weights/lora.ts";
import type { Evictable } from "./budget.ts";
import { BufferPool } from "./buffer-pool.ts";
import {
  activationStorage,
  type ComponentId,
  type ComponentSpec,
  loadComponent,
  measureComponent,
  type Precision,
} from "./component.ts";
import { DeviceMemory, type Tenant } from "./device-memory.ts";
import { PlanCache, type PlanLoan, type PlanShape } from "./plan-cache.ts";
import { KernelCount, type PreparationWatch } from "./preparation.ts";
import type { StreamedWeights } from "./streamed-weights.ts";
import { WeightSet, WeightSets } from "./weight-sets.ts";

/** A plan that a model wants: how it is found again, and how it is made. */
export interface PlanSpec {
  /** The part of the model: `unet`, `decoder`. */
  readonly part: string;
  readonly shape: PlanShape;
  /** Names it in errors and profiles: `unet 64×64 ×2`. */
  readonly label: string;
  /** Components whose weights it reads. */
  readonly components: readonly ComponentId[];
  /** Independent parts of its tensors' first dimension: kernels are chosen as for one. Default 1. */
  readonly batch?: number;
  /** Its activations stay f32 whatever the others are stored as. */
  readonly upcast?: boolean;
  /** Outputs and states that the host reads. */
  readonly reads?: readonly string[];
  record(): Recorder;
  /** Writes what never changes, once it is made. */
  prepare?(plan: Plan): void;
}

/** How a plan is made: with weights transformed for faster kernels, or without. */
export interface PlanOptions {
  readonly transformed: boolean;
}

export interface LoadOptions {
  readonly precision: Precision;
  /** Instead of what `activationStorage` says of the precision. */
  readonly activations?: Storage;
  /** The memory of the device, if other models are on it as well. */
  readonly device?: DeviceMemory;
  /** Frees the whole model, which nobody uses, because another needs the room. Left out: it never goes for another. */
  readonly evict?: () => void;
  /** Told of each model that is about to give way to this one. */
  readonly onDisplace?: (model: Tenant) => void;
  /** Bytes that plans and merged weight sets may take before old ones are given up, without `device`. */
  readonly maxKeptBytes?: number;
  /** Which kernels plans take. Default: by rule. */
  readonly choose?: Choose;
  /** How the names in LoRA files are read. */
  readonly resolve?: ResolveOptions;
  readonly onProgress?: (component: ComponentId, done: number, total: number) => void;
  /** If it is aborted, loading stops before the next parameter. */
  readonly signal?: AbortSignal;
}

const NO_PARAMETERS: ParameterBuffers = { storage: "f32", get: () => [] };

export class ModelMemory implements Tenant {
  readonly gpu: Gpu;
  /** How activations are stored, but for a part that is to be upcast. */
  readonly activations: Storage;
  readonly plans: PlanCache;
  readonly weightSets: WeightSets;
  readonly device: DeviceMemory;
  /** Frees the whole model for the sake of another; undefined: it never goes. */
  readonly evict: LoadOptions["evict"];
  /** Told of each model that is about to give way to this one. */
  readonly onDisplace: LoadOptions["onDisplace"];
  /** Buffers that runs keep their latents in. */
  readonly buffers: BufferPool;
  readonly #components = new Map<ComponentId, StreamedWeights>();
  readonly #precision: Precision;
  /** Components that runs have brought, being loaded or there. */
  readonly #added = new Map<ComponentId, Promise<Evictable>>();
  #choose: Choose | undefined;
  #users = 0;

  private constructor(gpu: Gpu, specs: readonly ComponentSpec[], options: LoadOptions) {
    const { precision, activations, maxKeptBytes, resolve = {} } = options;
    this.gpu = gpu;
    this.device = options.device ?? new DeviceMemory(gpu, maxKeptBytes);
    this.evict = options.evict;
    this.onDisplace = options.onDisplace;
    this.#precision = precision;
    this.#choose = options.choose;
    this.activations = activations ?? activationStorage(gpu, precision);
    this.buffers = new BufferPool(gpu);
    const { budget } = this.device;
    const plans = new PlanCache(budget);
    this.plans = plans;
    const base = new WeightSet(this.#components);
    const withRoom = <T>(components: readonly ComponentId[], make: () => Promise<T>, watch: PreparationWatch) =>
      this.withRoom(components, make, watch);
    this.weightSets = new WeightSets({ gpu, base, specs, plans, budget, withRoom, resolve });
  }

  /**
   * Loads components onto the device, one after the other; those that were loaded give way if there is no room for all.
   * @throws WeightsError naming file, tensor and reason
   * @throws MemoryLimitError if one component alone is over the GPU's limit, before another model gives way; the signal's
   *   reason if it is aborted
   */
  static async load(gpu: Gpu, specs: readonly ComponentSpec[], options: LoadOptions): Promise<ModelMemory> {
    const { precision, signal } = options;
    const memory = new ModelMemory(gpu, specs, options);
    const leave = memory.enter();
    try {
      if (gpu.maxBytes !== undefined && options.device !== undefined) {
        let bytes = 0;
        for (const spec of specs) bytes += (await measureComponent(gpu, spec, precision)).loadingBytes;
        await memory.device.makeRoom(memory, bytes);
      }
      for (const { id, parameters, files } of specs) {
        const onProgress = (done: number, total: number) => options.onProgress?.(id, done, total);
        const load = () => loadComponent(gpu, files, parameters, { precision, onProgress, signal });
        memory.#components.set(id, await memory.withRoom([], load));
      }
      return memory;
    } catch (error) {
      memory.destroy();
      throw error;
    } finally {
      leave();
    }
  }

  /** Bytes that it takes on the device. */
  get bytes(): number {
    const { plans, weightSets, buffers } = this;
    let weights = 0;
    for (const { resident, bytes, transformedBytes } of this.#components.values()) {
      if (resident) weights += bytes + transformedBytes;
    }
    return weights + plans.bytes + weightSets.bytes + buffers.bytes;
  }

  /** Bytes of weights that are transformed for faster kernels. They stay as long as any plan reads the component. */
  get transformedBytes(): number {
    const own = [...this.#components.values()].reduce((sum, { transformedBytes }) => sum + transformedBytes, 0);
    return own + this.weightSets.transformedBytes;
  }

  /** Gives up all but the weights, which no run may be using. */
  shrink(): void {
    this.dropUnused();
    this.weightSets.dropUnused();
    for (const weights of this.#components.values()) weights.dropTransformed();
  }

  /** Somebody uses it until the function that this returns is called: it does not give way to other models. */
  enter(): () => void {
    this.#users++;
    this.device.use(this);
    let isIn = true;
    return () => {
      if (isIn) this.#users--;
      isIn = false;
    };
  }

  /** Somebody has entered it. */
  get isUsed(): boolean {
    return this.#users > 0;
  }

  /** Nobody uses it, and nothing is being made for it that was asked for before. */
  get isIdle(): boolean {
    return !this.isUsed && !this.plans.isMaking && !this.weightSets.isMerging;
  }

  /** Resolves once all that is being made now has been made. */
  async settled(): Promise<void> {
    await Promise.all([this.plans.made(), this.weightSets.merged()]);
  }

  /**
   * Loads a component that a run needs beside the model's own, unless it is there. It stays for the next run, within the
   * budget of plans and merged weight sets, and comes back from its files after it has given way.
   * @throws WeightsError naming file, tensor and reason; MemoryLimitError if it is over the GPU's limit
   */
  async add(spec: ComponentSpec, watch: PreparationWatch = {}): Promise<void> {
    let added = this.#added.get(spec.id);
    if (added === undefined) {
      added = this.#load(spec, watch);
      this.#added.set(spec.id, added);
      added.catch(() => this.#added.delete(spec.id));
    }
    this.device.budget.use(await added);
  }

  async #load({ id, parameters, files }: ComponentSpec, { onProgress }: PreparationWatch): Promise<Evictable> {
    const onBytes = (done: number, total: number) => onProgress?.({ what: "weights", done, total });
    const load = () => loadComponent(this.gpu, files, parameters, { precision: this.#precision, onProgress: onBytes });
    const weights = await this.withRoom([], load);
    this.#components.set(id, weights);
    const { plans } = this;
    return {
      get bytes() {
        return weights.resident ? weights.bytes : 0;
      },
      get isUsed() {
        return plans.reads(id);
      },
      drop() {
        plans.dropReaders(id);
        weights.evict();
      },
    };
  }

  get components(): ReadonlyMap<ComponentId, StreamedWeights> {
    return this.#components;
  }

  /**
   * Does `make` with the weights of these components on the device. Called again for each time that something had to
   * give way.
   * @throws MemoryLimitError, GpuOutOfMemoryError if nothing is left that could; the signal's reason if it is aborted
   */
  async withRoom<T>(
    components: readonly ComponentId[],
    make: (options: PlanOptions) => Promise<T>,
    { signal, onProgress }: PreparationWatch = {},
  ): Promise<T> {
    const onBytes = (done: number, total: number) => onProgress?.({ what: "weights", done, total });
    let transformed = true;
    let isRetry = false;
    for (;;) {
      try {
        for (const component of components) {
          signal?.throwIfAborted();
          await this.#components.get(component)!.bring(onBytes);
        }
        return await make({ transformed });
      } catch (error) {
        if (!(error instanceof GpuOutOfMemoryError)) throw error;
        if (this.device.dropUnused(this) || this.dropUnused() || (await this.device.dropModel(this))) continue;
        if (!(error instanceof MemoryLimitError)) throw error;
        const unused = [...this.#components].filter(([id]) => !this.plans.reads(id));
        if (transformed) {
          // Once: what the second attempt has made itself would be made, and be too much, for ever.
          const dropped = unused.filter(([, weights]) => weights.dropTransformed()).length > 0;
          if (!dropped || isRetry) transformed = false;
          isRetry = true;
          continue;
        }
        const idle = unused.find(([id, weights]) => weights.resident && !components.includes(id));
        if (!idle) throw error;
        idle[1].evict();
        transformed = true;
        isRetry = false;
      }
    }
  }

  /** Gives up what later runs would be glad of and no run is using; whether there was anything. */
  dropUnused(): boolean {
    const [plans, buffers] = [this.plans.dropUnused(), this.buffers.dropUnused()];
    return plans || buffers || this.weightSets.dropUnused();
  }

  /** The most device memory that a plan takes at a time, in bytes, beside its weights. Nothing is made. */
  footprint(spec: PlanSpec, set: WeightSet): number {
    const storage = spec.upcast ? "f32" : this.activations;
    const weightStorage = storageOf(this.parameters(spec, set));
    const { batch, reads } = spec;
    const options = { storage, weightStorage, transformed: false, reads, batch, choose: this.#choose };
    return footprint(this.gpu, spec.record(), options).peak;
  }

  /** Compiles a plan that reads the weights of `set`. It is the caller's to destroy. */
  async compile(
    spec: PlanSpec,
    set: WeightSet,
    options: PlanOptions = { transformed: true },
    { signal, onKernels, onKernel }: CompileWatch = {},
  ): Promise<Plan> {
    const plan = await compile(this.gpu, spec.record(), {
      label: spec.label,
      storage: spec.upcast ? "f32" : this.activations,
      parameters: this.parameters(spec, set),
      reads: spec.reads,
      batch: spec.batch,
      choose: this.#choose,
      standIns: this.gpu.facts.kind === "software",
      ...{ signal, onKernels, onKernel },
      ...options,
    });
    spec.prepare?.(plan);
    return plan;
  }

  /** Which kernels plans take that are compiled from now on; by rule if undefined. */
  get choose(): Choose | undefined {
    return this.#choose;
  }

  /** Has plans take their kernels by `choose` from now on. Plans that are not in use go, and so do transformed weights. */
  useChoice(choose: Choose | undefined): void {
    this.#choose = choose;
    this.plans.dropUnused();
    for (const weights of this.#components.values()) weights.dropTransformed();
  }

  destroy(): void {
    this.device.forget(this);
    this.plans.drop();
    this.weightSets.destroy();
    this.buffers.dropUnused();
    for (const weights of this.#components.values()) weights.destroy();
  }

  /** The weights of `set` that a plan reads; by component, if it reads those of several. */
  parameters({ components }: PlanSpec, set: WeightSet): PlanParameters {
    const [component] = components;
    if (components.length > 1) return new Map(components.map((id) => [id, set.weights(id)]));
    return component === undefined ? NO_PARAMETERS : set.weights(component);
  }
}

/** The part of a model's memory that one run has in use: a weight set, and the plans that it has asked for. */
export class Leases {
  readonly set: WeightSet;
  readonly memory: ModelMemory;
  readonly #loan: PlanLoan;
  readonly #watch: PreparationWatch;
  readonly #kernels: KernelCount;

  /** @param watch follows the plans that have to be compiled, and the weights that have to be brought for them */
  constructor(memory: ModelMemory, set: WeightSet, watch: PreparationWatch = {}) {
    this.memory = memory;
    this.set = set;
    this.#watch = watch;
    this.#kernels = new KernelCount(watch);
    this.#loan = memory.plans.borrow();
  }

  /**
   * The plan of `spec`, compiled if it is not there. It stays until `giveBack`.
   * @throws MemoryLimitError, TensorTooLargeError if it does not fit; GPU errors
   */
  plan(spec: PlanSpec): Promise<Plan> {
    return this.#withRoom(spec.components, spec);
  }

  /** Several plans, compiled beside each other, with the weights of all of them on the device. */
  plans(specs: readonly PlanSpec[]): Promise<Plan[]> {
    const components = [...new Set(specs.flatMap((spec) => spec.components))];
    return Promise.all(specs.map((spec) => this.#withRoom(components, spec)));
  }

  /** Lets all of its plans give way to others. */
  giveBack(): void {
    this.#loan.giveBack();
  }

  #withRoom(needed: readonly ComponentId[], spec: PlanSpec): Promise<Plan> {
    const { part, shape, components } = spec;
    const owner = this.set.ownerOf(components);
    const get = (options: PlanOptions) => {
      const make = (watch: CompileWatch) => this.memory.compile(spec, owner, options, watch);
      return this.#loan.get({ owner, part, shape, components }, make, this.#kernels);
    };
    return this.memory.withRoom(needed, get, this.#watch);
  }
}
