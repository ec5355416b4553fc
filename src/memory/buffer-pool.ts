/** Buffers of the device that outlive a run, for the next run that needs one of the same size: no run has to allocate. */

import type { Gpu } from "../gpu/device.ts";
import { align } from "../graph/compile/memory.ts";

/** Bytes of free buffers that are kept; the longest unused go first. */
const MAX_FREE_BYTES = 64 * 2 ** 20;

export class BufferPool {
  readonly #gpu: Gpu;
  readonly #maxFreeBytes: number;
  /** The longest unused first. */
  #free: GPUBuffer[] = [];
  /** Bytes of its buffers, free ones and others. */
  #bytes = 0;

  constructor(gpu: Gpu, maxFreeBytes = MAX_FREE_BYTES) {
    this.#gpu = gpu;
    this.#maxFreeBytes = maxFreeBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * A buffer of at least `bytes`, which may hold anything. `giveBack` it.
   * @throws GpuOutOfMemoryError, MemoryLimitError as `Gpu.createBuffer`
   */
  take(label: string, bytes: number): GPUBuffer {
    const at = this.#free.findLastIndex(({ size }) => size === align(bytes, 16));
    if (at < 0) {
      const made = this.#gpu.createBuffer(label, bytes);
      this.#bytes += made.size;
      return made;
    }
    return this.#free.splice(at, 1)[0]!;
  }

  giveBack(buffer: GPUBuffer): void {
    this.#free.push(buffer);
    let bytes = this.#free.reduce((sum, { size }) => sum + size, 0);
    while (bytes > this.#maxFreeBytes) {
      const oldest = this.#free.shift()!;
      bytes -= oldest.size;
      this.#destroy(oldest);
    }
  }

  /** Gives up the free buffers; whether there were any. */
  dropUnused(): boolean {
    const free = this.#free;
    this.#free = [];
    for (const buffer of free) this.#destroy(buffer);
    return free.length > 0;
  }

  #destroy(buffer: GPUBuffer): void {
    this.#bytes -= buffer.size;
    this.#gpu.destroyBuffer(buffer);
  }
}
