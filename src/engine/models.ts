/**
 * The models of one runtime: opened at the start, on the device as long as they are used or there is room for them.
 *
 * A model is loaded once for all runs that wait for it, and no further if none of them waits any more. Idle models give way
 * to it, the longest unused first (`memory/device-memory.ts`). If the loading fails, those that gave way for it are brought
 * back. A model in use stays, whoever else needs the room.
 */

import { DeviceTurns } from "../diffusion/device-turns.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { FamilyModel } from "../diffusion/model.ts";
import type { Gpu } from "../gpu/device.ts";
import { GpuOutOfMemoryError } from "../gpu/errors.ts";
import type { Choose } from "../graph/choice.ts";
import { Pace } from "../line/pace.ts";
import type { Precision } from "../memory/component.ts";
import { DeviceMemory } from "../memory/device-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import { SharedWork } from "../memory/shared-work.ts";
import { type Later, later } from "../platform/later.ts";
import type { DeviceWork, LoadProgress, ModelChange, ModelFacts, ModelState } from "./contract.ts";
import { loadFamily } from "./load-model.ts";
import { type Claim, ModelClaim } from "./model-claim.ts";
import { factsOf, noSuchModel, type OpenedModel } from "./opened-model.ts";

/** A model in use; `release` it. */
export interface ModelLease {
  readonly model: LoadedModel;
  release(): void;
}

/** A loading, and those who follow it. */
interface Loading {
  readonly work: SharedWork<LoadedModel>;
  readonly followers: Set<NonNullable<PreparationWatch["onProgress"]>>;
}

/** The part that a model which has left has had in the work of the device. */
interface PastWork {
  readonly batches: Map<number, number>;
  merges: number;
}

export interface ModelsOptions {
  readonly gpu: Gpu;
  readonly precision: Precision;
  /** Which kernels plans take. Default: by rule. */
  readonly choose?: Choose | undefined;
  /** Told of the bytes of each component that is loaded. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Brings back a model that had to give way to one whose loading has failed. */
  readonly restore: (model: ServedModel) => void;
}

/** All models of a runtime, and what they share. */
export class Models {
  readonly options: ModelsOptions;
  readonly device: DeviceMemory;
  readonly turns = new DeviceTurns();
  /** Which kernels plans take that are made from now on. */
  choose: Choose | undefined;
  readonly #models: ReadonlyMap<string, ServedModel>;
  readonly #listeners = new Set<(change: ModelChange) => void>();
  /** Loadings that wait for a model to be given back. */
  readonly #waiting = new Set<() => void>();

  /** @param opened the default first; at least one */
  constructor(opened: readonly OpenedModel[], options: ModelsOptions) {
    this.options = options;
    this.choose = options.choose;
    this.device = new DeviceMemory(options.gpu);
    this.#models = new Map(opened.map((one) => [one.name, new ServedModel(one, this)]));
  }

  get all(): readonly ServedModel[] {
    return [...this.#models.values()];
  }

  /** The model that a request means which names none. */
  get default(): ServedModel {
    return this.all[0]!;
  }

  /** @throws FaultError "model-not-found" with the names that there are */
  named(name: string | undefined): ServedModel {
    if (name === undefined) return this.default;
    const found = this.#models.get(name);
    if (found) return found;
    throw noSuchModel(name, [...this.#models.keys()]);
  }

  get states(): readonly ModelState[] {
    return this.all.map((model) => model.state);
  }

  watch(listener: (change: ModelChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(change: ModelChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  /** Has plans that are made from now on take their kernels by `choose`, those of all models but `tuned`, which have it. */
  useChoice(choose: Choose | undefined, tuned: ServedModel): void {
    this.choose = choose;
    for (const model of this.all) {
      if (model !== tuned) model.loaded?.memory.useChoice(choose);
    }
  }

  /** Resolves when a model has been given back that was in use. @throws the signal's reason if it is aborted */
  released(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#waiting.delete(wake);
        reject(signal!.reason);
      };
      const wake = () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.add(wake);
    });
  }

  tellRelease(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  get work(): DeviceWork {
    const batches = new Map<number, number>();
    let merges = 0;
    for (const { work } of this.all) {
      for (const [slots, count] of work.batches) batches.set(slots, (batches.get(slots) ?? 0) + count);
      merges += work.merges;
    }
    const { turns, device } = this;
    return {
      batches,
      turns: turns.count,
      waitMilliseconds: turns.waitMilliseconds,
      merges,
      evictions: device.budget.evictions,
    };
  }

  /** Frees all of them, once what is being loaded has ended. */
  async close(): Promise<void> {
    await Promise.all(this.all.map((model) => model.close()));
  }
}

/** One model of a runtime, on the device or not. */
export class ServedModel {
  readonly name: string;
  readonly family: FamilyModel;
  readonly facts: ModelFacts;
  readonly preload: boolean;
  readonly claim: ModelClaim;
  /** How fast its runs get done; a request of its defaults costs 1. */
  readonly pace = new Pace();
  /** How long it was loading the last time, in ms; undefined: it never was. */
  loadMs: number | undefined;
  readonly #models: Models;
  readonly #keepAlive: number | undefined;
  #loaded: LoadedModel | undefined;
  #loading: Loading | undefined;
  #expiry: Later | undefined;
  #runs = 0;
  /** Shapes of the runs since it was loaded. */
  readonly #shapes = new Set<string>();
  #loads = 0;
  #evictions = 0;
  readonly #past: PastWork = { batches: new Map(), merges: 0 };

  constructor({ name, family, keepAlive, preload = false }: OpenedModel, models: Models) {
    this.name = name;
    this.family = family;
    this.facts = { ...factsOf(family), name };
    this.preload = preload;
    this.#keepAlive = keepAlive;
    this.#models = models;
    this.claim = new ModelClaim(models.options.gpu, family, models.options.precision);
  }

  get loaded(): LoadedModel | undefined {
    return this.#loaded;
  }

  get state(): ModelState {
    return {
      ...this.facts,
      isDefault: this.#models.default === this,
      state: this.#loaded ? "loaded" : this.#loading ? "loading" : "absent",
      bytes: this.#loaded?.memory.bytes ?? 0,
      ...(this.#keepAlive !== undefined && { keepAlive: this.#keepAlive }),
      preload: this.preload,
      loads: this.#loads,
      evictions: this.#evictions,
    };
  }

  /** The part of the device's work that it has had. */
  get work(): Pick<DeviceWork, "batches" | "merges"> {
    const batches = new Map(this.#past.batches);
    const { stepper, memory } = this.#loaded ?? {};
    for (const [slots, count] of stepper?.batches ?? []) batches.set(slots, (batches.get(slots) ?? 0) + count);
    return { batches, merges: this.#past.merges + (memory?.weightSets.merges ?? 0) };
  }

  /**
   * The model on the device, loaded if it is not there; it stays until `release`.
   * @throws the errors of `loadModel`; the signal's reason if it is aborted
   */
  async lease(watch: PreparationWatch = {}): Promise<ModelLease> {
    this.#expiry?.cancel();
    try {
      let loaded = this.#loaded;
      while (loaded === undefined || loaded !== this.#loaded) {
        loaded = await this.#loadWithRoom(watch); // it may have had to give way at once
      }
      const leave = loaded.memory.enter();
      const release = () => {
        leave();
        this.#expireLater();
        this.#models.tellRelease();
      };
      return { model: loaded, release };
    } catch (error) {
      this.#expireLater();
      throw error;
    }
  }

  /**
   * Bytes that a run takes with the model, as things are now. Weights that were transformed for plans of other shapes come
   * on top: as long as the model is in use they cannot give way.
   */
  bytesOf(claim: Claim): number {
    return Math.min(claim.bytes + this.#bytesOfOthers(claim), this.#mostBytes);
  }

  /** Gives up what was made for runs of other shapes, unless all of it finds room beside a run of this claim, the only one. */
  async makeRoomFor(claim: Claim): Promise<void> {
    const memory = this.#loaded?.memory;
    const others = this.#bytesOfOthers(claim);
    if (memory && others > 0 && claim.bytes + others > this.#mostBytes) {
      await memory.settled();
      memory.shrink();
      this.#shapes.clear();
    }
    this.#shapes.add(claim.shape);
  }

  get #mostBytes(): number {
    return this.#models.options.gpu.maxBytes ?? Number.POSITIVE_INFINITY;
  }

  #bytesOfOthers({ shape }: Claim): number {
    const areOthers = [...this.#shapes].some((one) => one !== shape);
    return areOthers ? (this.#loaded?.memory.transformedBytes ?? 0) : 0;
  }

  /** Measures a run from now on; the function that this returns is called at its end, with the work that it has done. */
  measure(): (cost: number) => void {
    this.#runs++;
    this.pace.begin();
    return (cost) => {
      this.#runs--;
      this.pace.end(cost, this.#runs === 0);
    };
  }

  /** Frees it, once what is being loaded has ended. */
  async close(): Promise<void> {
    await this.#loading?.work.ended;
    this.#expiry?.cancel();
    this.#leave();
  }

  /** Loads it; if there is no room while others are in use, again each time that one of them is given back. */
  async #loadWithRoom(watch: PreparationWatch): Promise<LoadedModel> {
    for (;;) {
      try {
        return await this.#load(watch);
      } catch (error) {
        const areOthersUsed = this.#models.all.some((one) => one !== this && one.loaded?.memory.isUsed);
        if (!(error instanceof GpuOutOfMemoryError) || !areOthersUsed) throw error;
        await this.#models.released(watch.signal);
      }
    }
  }

  async #load({ signal, onProgress }: PreparationWatch): Promise<LoadedModel> {
    while (this.#loading?.work.isStopped) await this.#loading.work.ended;
    signal?.throwIfAborted();
    this.#loading ??= this.#beginLoading();
    const { work, followers } = this.#loading;
    if (onProgress) followers.add(onProgress);
    return work.join(signal);
  }

  #beginLoading(): Loading {
    const followers: Loading["followers"] = new Set();
    const work = new SharedWork((signal) => this.#loadOnce(signal, followers));
    const loading = { work, followers };
    void work.ended.then(() => {
      if (this.#loading === loading) this.#loading = undefined;
    });
    return loading;
  }

  async #loadOnce(signal: AbortSignal, followers: Loading["followers"]): Promise<LoadedModel> {
    const { options, device, turns, choose } = this.#models;
    const { gpu, precision } = options;
    const victims = new Set<ServedModel>();
    const began = performance.now();
    try {
      const loaded = await loadFamily(
        gpu,
        this.family,
        {
          ...{ precision, choose, device, signal },
          onProgress: (what, done, total) => {
            options.onProgress?.({ what, done, total });
            for (const follow of followers) follow({ what: "weights", done, total });
          },
          onDisplace: (memory) => {
            const victim = this.#models.all.find((one) => one.loaded?.memory === memory);
            if (victim) victims.add(victim);
          },
          evict: () => this.#evict("evicted"),
        },
        turns,
      );
      this.#loaded = loaded;
      this.#loads++;
      this.loadMs = performance.now() - began;
      this.#tell("loaded", { ms: this.loadMs, bytes: loaded.memory.bytes });
      return loaded;
    } catch (error) {
      const ms = performance.now() - began;
      this.#tell(signal.aborted ? "load cancelled" : "load failed", { ms, ...(!signal.aborted && { error }) });
      for (const victim of victims) options.restore(victim);
      throw error;
    }
  }

  #evict(change: "evicted" | "expired"): void {
    const bytes = this.#loaded?.memory.bytes ?? 0;
    this.#evictions++;
    this.#leave();
    this.#tell(change, { bytes });
  }

  #leave(): void {
    if (this.#loaded === undefined) return;
    const { batches, merges } = this.work;
    for (const [slots, count] of batches) this.#past.batches.set(slots, count);
    this.#past.merges = merges;
    const { memory } = this.#loaded;
    this.#loaded = undefined;
    this.#shapes.clear();
    memory.destroy();
  }

  /** Frees it after `keepAlive`, unless somebody uses it until then. */
  #expireLater(): void {
    if (this.#keepAlive === undefined || this.#loaded === undefined || this.#loaded.memory.isUsed) return;
    this.#expiry?.cancel();
    const { memory } = this.#loaded;
    this.#expiry = later(this.#keepAlive * 1000, async () => {
      await memory.settled();
      if (this.#loaded?.memory === memory && memory.isIdle) this.#evict("expired");
    });
  }

  #tell(change: ModelChange["change"], facts: Omit<ModelChange, "model" | "change">): void {
    this.#models.tell({ model: this.name, change, ...facts });
  }
}
