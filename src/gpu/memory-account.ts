import { MemoryLimitError } from "./errors.ts";

/** Bytes on the device, of buffers and textures. */
export interface GpuMemory {
  readonly bytes: number;
  readonly peakBytes: number;
  /** The number of buffers, textures among them. */
  readonly buffers: number;
  /** Bytes of the largest there has been. */
  readonly largestBytes: number;
}

/** The buffers and textures of one device, with their sizes. */
export class MemoryAccount {
  /** Bytes that they may take together; undefined: as many as the device has. */
  readonly maxBytes: number | undefined;
  readonly #sizes = new Map<GPUBuffer | GPUTexture, number>();
  #bytes = 0;
  #peakBytes = 0;
  #largestBytes = 0;

  constructor(maxBytes: number | undefined) {
    this.maxBytes = maxBytes;
  }

  get state(): GpuMemory {
    const buffers = this.#sizes.size;
    return { bytes: this.#bytes, peakBytes: this.#peakBytes, buffers, largestBytes: this.#largestBytes };
  }

  /**
   * @param label names in the message what `size` bytes more are for.
   * @throws MemoryLimitError if they would be over the limit.
   */
  checkRoom(label: string, size: number): void {
    const { maxBytes } = this;
    if (maxBytes === undefined || this.#bytes + size <= maxBytes) return;
    const reason = `${size} bytes beside the ${this.#bytes} in use are over the limit of ${maxBytes}`;
    throw new MemoryLimitError(`${label}: ${reason}`, size, maxBytes);
  }

  add(made: GPUBuffer | GPUTexture, size: number): void {
    this.#sizes.set(made, size);
    this.#bytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
    this.#largestBytes = Math.max(this.#largestBytes, size);
  }

  /** Destroys it, once. */
  destroy(made: GPUBuffer | GPUTexture): void {
    const size = this.#sizes.get(made);
    if (size === undefined) return;
    this.#sizes.delete(made);
    this.#bytes -= size;
    made.destroy();
  }

  destroyAll(): void {
    for (const made of [...this.#sizes.keys()]) this.destroy(made);
  }
}
