/**
 * The memory of one device, for all models on it: one budget of plans and merged weight sets, and the order in which models
 * give way to each other. Things that no run uses go first, those of the model that was used the longest ago before
 * others; then whole models that nobody uses. A model in use never goes.
 */

import type { Gpu } from "../gpu/device.ts";
import { Budget } from "./budget.ts";

/** Bytes that plans and merged weight sets may take before old ones are given up. */
const DEFAULT_KEPT_BYTES = 4 * 2 ** 30;

/** A model's memory, as the others on the device see it. */
export interface Tenant {
  /** Somebody uses it. */
  readonly isUsed: boolean;
  /** Nobody uses it, and nothing is being made for it that was asked for before. */
  readonly isIdle: boolean;
  /** Frees it, for the sake of another; undefined: it never goes. */
  readonly evict: (() => void) | undefined;
  /** Told of each model that is about to give way to this one. */
  readonly onDisplace: ((model: Tenant) => void) | undefined;
  /** Resolves once all that is being made now has been made. */
  settled(): Promise<void>;
  /** Gives up what later runs would be glad of and no run is using; whether there was anything. */
  dropUnused(): boolean;
}

export class DeviceMemory {
  readonly gpu: Gpu;
  readonly budget: Budget;
  /** The least recently used first. */
  readonly #models = new Set<Tenant>();

  /** @param maxKeptBytes bytes that plans and merged weight sets of all models may take */
  constructor(gpu: Gpu, maxKeptBytes = DEFAULT_KEPT_BYTES) {
    this.gpu = gpu;
    this.budget = new Budget(maxKeptBytes);
  }

  /** Notes that a model is used now, for the first time or again. */
  use(model: Tenant): void {
    this.#models.delete(model);
    this.#models.add(model);
  }

  forget(model: Tenant): void {
    this.#models.delete(model);
  }

  /** Has plans and the like of another model than `asker` give way; whether there were any. */
  dropUnused(asker: Tenant): boolean {
    return this.#others(asker).some((model) => model.dropUnused());
  }

  /** Has the model that was used the longest ago give way to `asker`; false if all others are in use. */
  async dropModel(asker: Tenant): Promise<boolean> {
    for (const model of this.#others(asker)) {
      if (model.evict === undefined) continue;
      if (!model.isUsed) await model.settled();
      if (!model.isIdle || !this.#models.has(model)) continue; // somebody has come, or another was quicker
      asker.onDisplace?.(model);
      model.evict();
      return true;
    }
    return false;
  }

  /** Makes room for so many bytes more of `asker`, as far as others can give way. */
  async makeRoom(asker: Tenant, bytes: number): Promise<void> {
    const { gpu } = this;
    if (gpu.maxBytes === undefined) return;
    const wanted = Math.min(bytes, gpu.maxBytes);
    while (gpu.memory.bytes + wanted > gpu.maxBytes) {
      if (!this.dropUnused(asker) && !(await this.dropModel(asker))) return;
    }
  }

  #others(asker: Tenant): Tenant[] {
    return [...this.#models].filter((model) => model !== asker);
  }
}
