/** Buffers of the device that outlive a run, for the next run that needs one of the same size: no run has to allocate. */

import type { Gpu } from "../gpu/device.ts";
import { align } from "../graph/compile/memory.ts";

/** Free buffers that are kept of one size. */
const MAX_FREE = 8;

export class BufferPool {
  readonly #gpu: Gpu;
  readonly #free = new Map<number, GPUBuffer[]>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /**
   * A buffer of at least `bytes`, which may hold anything. `giveBack` it.
   * @throws GpuOutOfMemoryError, MemoryLimitError as `Gpu.createBuffer`
   */
  take(label: string, bytes: number): GPUBuffer {
    return this.#free.get(align(bytes, 16))?.pop() ?? this.#gpu.createBuffer(label, bytes);
  }

  giveBack(buffer: GPUBuffer): void {
    const free = this.#free.get(buffer.size) ?? [];
    if (free.length >= MAX_FREE) {
      this.#gpu.destroyBuffer(buffer);
      return;
    }
    this.#free.set(buffer.size, [...free, buffer]);
  }

  /** Gives up the free buffers; whether there were any. */
  dropUnused(): boolean {
    const free = [...this.#free.values()].flat();
    for (const buffer of free) this.#gpu.destroyBuffer(buffer);
    this.#free.clear();
    return free.length > 0;
  }

  destroy(): void {
    this.dropUnused();
  }
}
