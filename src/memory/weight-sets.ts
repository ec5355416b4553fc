/**
 * Weight sets: a model's own weights, and the same with LoRAs merged in.
 *
 * Merging copies the weights that the files touch; the model's own are never written. A merged set is kept for the next run
 * that wants it, within the budget of the device's memory, and is known by its files, when they were written, and their
 * scales. A set owns the things made of it: its plans, and the conditioning of the prompts that it has read.
 */

import { LRUCache } from "lru-cache";
import type { Gpu } from "../gpu/device.ts";
import { fileVersion } from "../platform/file-version.ts";
import { fileAt, type ModelFiles } from "../platform/model-files.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { ownTurn } from "../platform/turns.ts";
import { type LoraComponent, type LoraFile, openLora, type ResolveOptions } from "../weights/lora.ts";
import { countLayers } from "../weights/lora-names.ts";
import { type LoraScales, scaleOf } from "../weights/lora-scales.ts";
import type { Budget, Evictable } from "./budget.ts";
import type { ComponentId, ComponentSpec } from "./component.ts";
import type { LoadedParameters } from "./load.ts";
import { mergeLoras, modulesOf } from "./merge-loras.ts";
import type { PlanCache } from "./plan-cache.ts";
import type { Preparation, PreparationWatch } from "./preparation.ts";
import { SharedWork } from "./shared-work.ts";

/** A LoRA file and how strongly it counts. */
export interface LoraRequest extends LoraScales {
  /** A path on this machine, or among `modelFiles`. */
  readonly path: string;
  /** The model's own files if it is one of them: it does not change while the model is loaded. */
  readonly modelFiles?: ModelFiles;
}

/** Prompts whose conditioning a set keeps; a few hundred KB each, on the host. */
const MAX_PROMPTS = 64;
/** Bytes on the host of what was read from pictures: a ControlNet reads 5 MB from one of 512 × 512. */
const MAX_PICTURE_BYTES = 256 * 2 ** 20;

export class WeightSet {
  /** Bytes of weights of its own, beside the model's. */
  readonly bytes: number;
  /** Conditioning of prompts by its text encoders, by the key of `Encoders.remember`. */
  readonly prompts = new LRUCache<string, object>({ max: MAX_PROMPTS });
  /** Results of networks that have read pictures, by the key of `Encoders.picture`. */
  readonly pictures = new LRUCache<string, { readonly bytes: number }>({
    maxSize: MAX_PICTURE_BYTES,
    sizeCalculation: ({ bytes }) => Math.max(1, bytes),
  });
  readonly #own: ReadonlyMap<ComponentId, LoadedParameters>;
  readonly #base: WeightSet | undefined;

  /** @param own weights by component; those of other components are those of `base` */
  constructor(own: ReadonlyMap<ComponentId, LoadedParameters>, base?: WeightSet) {
    this.#own = own;
    this.#base = base;
    this.bytes = base ? [...own.values()].reduce((sum, { bytes }) => sum + bytes, 0) : 0;
  }

  /** Bytes of the transformed weights of its own. */
  get transformedBytes(): number {
    return [...this.#own.values()].reduce((sum, { transformedBytes }) => sum + transformedBytes, 0);
  }

  /** @throws Error if the model has no such component */
  weights(component: ComponentId): LoadedParameters {
    const weights = this.#own.get(component) ?? this.#base?.weights(component);
    if (!weights) throw new Error(`the model has no component ${component}`);
    return weights;
  }

  /** The set that owns what is made of these components: the model's own if this one has changed none of them. */
  ownerOf(components: readonly ComponentId[]): WeightSet {
    return this.#base && !components.some((component) => this.#own.has(component)) ? this.#base : this;
  }

  destroy(): void {
    this.prompts.clear();
    this.pictures.clear();
    for (const weights of this.#own.values()) weights.destroy();
  }
}

/** A set in use; `release` it when the run ends. */
export interface WeightSetLease {
  readonly set: WeightSet;
  /** Things in the LoRAs' files that were left out, for people. */
  readonly warnings: readonly string[];
  release(): void;
}

/** A set that is being merged, or was, and those who follow it. */
interface Merging {
  readonly work: SharedWork<MergedSet>;
  readonly followers: Set<(progress: Preparation) => void>;
}

/** A merged set, and how many use it. */
interface MergedSet extends Evictable {
  readonly set: WeightSet;
  readonly warnings: readonly string[];
  leases: number;
}

/** Does something with the weights of these components on the device (`ModelMemory.withRoom`). */
type WithRoom = <T>(components: readonly ComponentId[], make: () => Promise<T>, watch: PreparationWatch) => Promise<T>;

export interface WeightSetsOptions {
  readonly gpu: Gpu;
  readonly base: WeightSet;
  readonly specs: readonly ComponentSpec[];
  readonly plans: PlanCache;
  readonly budget: Budget;
  readonly withRoom: WithRoom;
  /** How the names in LoRA files are read. */
  readonly resolve: ResolveOptions;
}

export class WeightSets {
  readonly #options: WeightSetsOptions;
  /** Merged sets, some still being merged, by files and scales. */
  readonly #merged = new Map<string, Merging>();
  /** Sets that were merged so far. */
  merges = 0;
  readonly #ready = new Set<MergedSet>();
  /** The ends of those that are being merged. */
  readonly #works = new Set<Promise<unknown>>();

  constructor(options: WeightSetsOptions) {
    this.#options = options;
  }

  /** The model's own weights. */
  get base(): WeightSet {
    return this.#options.base;
  }

  /** Merged sets that are on the device. */
  get size(): number {
    return this.#ready.size;
  }

  /** Bytes of the weights of merged sets. */
  get bytes(): number {
    let sum = this.transformedBytes;
    for (const { set } of this.#ready) sum += set.bytes;
    return sum;
  }

  /** The part of them that is transformed for faster kernels. */
  get transformedBytes(): number {
    let sum = 0;
    for (const { set } of this.#ready) sum += set.transformedBytes;
    return sum;
  }

  /** A set is being merged, be it one that nobody waits for any more. */
  get isMerging(): boolean {
    return this.#works.size > 0;
  }

  /** Resolves once all sets that are being merged now are there, or have failed. */
  async merged(): Promise<void> {
    await Promise.all(this.#works);
  }

  /**
   * The model's weights with `loras` merged in; without any, the model's own.
   * @throws WeightsError naming file and module if a file does not fit this model, before anything is allocated
   * @throws MemoryLimitError if there is no room for the copies; the signal's reason if it is aborted
   */
  async lease(loras: readonly LoraRequest[], watch: PreparationWatch = {}): Promise<WeightSetLease> {
    if (loras.length === 0) return { set: this.base, warnings: [], release() {} };
    const key = await keyOf(loras);
    let merging = this.#merged.get(key);
    if (merging === undefined || merging.work.isStopped) merging = this.#begin(key, loras);
    if (watch.onProgress) merging.followers.add(watch.onProgress);
    const merged = await merging.work.join(watch.signal);
    if (!this.#ready.has(merged)) return this.lease(loras, watch); // it had to give way at once
    merged.leases++;
    this.#options.budget.use(merged);
    let released = false;
    return {
      set: merged.set,
      warnings: merged.warnings,
      release: () => {
        if (released) return;
        released = true;
        merged.leases--;
        this.#options.budget.trim();
      },
    };
  }

  /** Gives up the merged sets that are not in use; whether there were any. */
  dropUnused(): boolean {
    const unused = [...this.#ready].filter(({ isUsed }) => !isUsed);
    for (const merged of unused) {
      this.#options.budget.forget(merged);
      merged.drop();
    }
    return unused.length > 0;
  }

  destroy(): void {
    for (const { work } of this.#merged.values()) {
      work.join().then(
        (merged) => merged.drop(),
        () => {},
      );
    }
  }

  #begin(key: string, loras: readonly LoraRequest[]): Merging {
    const followers: Merging["followers"] = new Set();
    const onProgress = (progress: Preparation) => {
      for (const follow of followers) follow(progress);
    };
    const work = new SharedWork((signal) => this.#merge(key, loras, { signal, onProgress }));
    const merging = { work, followers };
    this.#merged.set(key, merging);
    const { ended } = work;
    this.#works.add(ended);
    void ended.then((isMerged) => {
      this.#works.delete(ended);
      if (!isMerged && this.#merged.get(key) === merging) this.#merged.delete(key);
    });
    return merging;
  }

  async #merge(key: string, loras: readonly LoraRequest[], watch: PreparationWatch): Promise<MergedSet> {
    const { base, plans } = this.#options;
    const { own, warnings } = await mergeAll(loras, this.#options, watch);
    const set = new WeightSet(own, base);
    const merged: MergedSet = {
      set,
      warnings,
      leases: 0,
      bytes: set.bytes,
      get isUsed() {
        return this.leases > 0;
      },
      drop: () => {
        this.#merged.delete(key);
        this.#ready.delete(merged);
        plans.drop(set);
        set.destroy();
      },
    };
    this.#ready.add(merged);
    this.merges++;
    return merged;
  }
}

/** A text that is equal for the same files, as they are now, at the same scales. */
async function keyOf(loras: readonly LoraRequest[]): Promise<string> {
  const parts = loras.map(async ({ path, modelFiles, ...scales }) => {
    // A file that is not there is an error when it is opened.
    const version = modelFiles ? undefined : await fileVersion(path).catch(() => undefined);
    return [modelFiles !== undefined, path, version?.bytes, version?.writtenAt, keyOfScales(scales)];
  });
  return JSON.stringify(await Promise.all(parts));
}

function keyOfScales({ scale, unet, text_encoder, text_encoder_2, blocks }: LoraScales): unknown[] {
  const named = blocks === undefined || Array.isArray(blocks) ? blocks : Object.entries(blocks).sort();
  return [scale, unet, text_encoder, text_encoder_2, named];
}

async function mergeAll(
  loras: readonly LoraRequest[],
  { gpu, base, specs, withRoom, resolve }: WeightSetsOptions,
  watch: PreparationWatch,
): Promise<{ readonly own: Map<ComponentId, LoadedParameters>; readonly warnings: readonly string[] }> {
  const modules = new Map(specs.map(({ id, parameters }) => [id, modulesOf(parameters)]));
  const layers = resolve.layersPerBlock ?? countLayers(modules.get("unet")?.keys() ?? []);
  const files: LoraFile[] = [];
  const warnings: string[] = [];
  const merged = new Map<ComponentId, LoadedParameters>();
  try {
    for (const { path, modelFiles } of loras) {
      const file = await openLora(modelFiles ? fileAt(modelFiles, path) : path, modelFiles ? { name: path } : {});
      files.push(file);
      await ownTurn();
      const left = file.leftOut(Object.fromEntries(modules), resolve);
      if (left.length > 0) warnings.push(leftOut(file.file, left));
    }
    for (const { id, parameters } of specs) {
      await ownTurn();
      const component = id as LoraComponent; // a file has no other components than these
      const deltas = files.flatMap((file, index) => {
        if (!file.components.has(component)) return [];
        const scales = loras[index]!;
        return file.resolve(component, modules.get(id)!, resolve).map((delta) => {
          return { delta, scale: scaleOf(scales, component, delta.module, layers) };
        });
      });
      if (deltas.length === 0) continue;
      const merge = () => mergeLoras(gpu, base.weights(id), parameters, deltas, { label: `${id} with LoRA`, ...watch });
      merged.set(id, await withRoom([id], merge, watch));
    }
    return { own: merged, warnings };
  } catch (error) {
    for (const weights of merged.values()) weights.destroy();
    throw error;
  } finally {
    for (const file of files) await file.close();
  }
}

/** Names that one warning shows. */
const MOST_LISTED = 3;

function leftOut(file: string, names: readonly string[]): string {
  const count = names.length === 1 ? "one thing" : `${names.length} things`;
  const shown = listed(names.map(quoted), MOST_LISTED);
  return `The LoRA ${quoted(file)} changes ${count} that this model does not have, which were left out: ${shown}.`;
}
