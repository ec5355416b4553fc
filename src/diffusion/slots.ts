/**
 * Slots: where a picture's state lies between two steps, outside any plan. A step copies it into a row of its plan, and
 * back; so pictures of one batch may be at any step of any schedule, and leave with all that they need to go on.
 */

import type { Gpu } from "../gpu/device.ts";
import type { Plan, Range } from "../graph/plan.ts";
import { quads } from "../graph/tensor.ts";
import type { ModelMemory } from "../memory/model-memory.ts";
import { inTurns } from "../platform/turns.ts";
import { type LatentSize, latentBytes, toNchw, toNhwc } from "./latents.ts";
import type { StepShape } from "./model.ts";
import type { StepRow } from "./schedulers/schedule.ts";

export class Slot {
  readonly #memory: ModelMemory;
  readonly #size: LatentSize;
  readonly #latents: GPUBuffer;
  /** History tensors one after the other; none if the schedule needs none. */
  readonly #history: GPUBuffer | undefined;

  private constructor(memory: ModelMemory, size: LatentSize, latents: GPUBuffer, history: GPUBuffer | undefined) {
    this.#memory = memory;
    this.#size = size;
    this.#latents = latents;
    this.#history = history;
  }

  /**
   * A slot whose latents are yet to be written. `release` it.
   * @throws MemoryLimitError if there is no room for it
   */
  static take(memory: ModelMemory, size: LatentSize, historySlots: number): Promise<Slot> {
    const bytes = latentBytes(size);
    return memory.withRoom([], async () => {
      const latents = memory.buffers.take("a slot's latents", bytes);
      try {
        const history = historySlots > 0 ? memory.buffers.take("a slot's history", bytes * historySlots) : undefined;
        return new Slot(memory, size, latents, history);
      } catch (error) {
        memory.buffers.giveBack(latents);
        throw error;
      }
    });
  }

  /** Bytes on the device of one slot. */
  static bytes(size: LatentSize, historySlots: number): number {
    return latentBytes(size) * (1 + historySlots);
  }

  /** The latents on the device, f32 `[h, w, quads of channels]`. */
  get range(): Range {
    return { buffer: this.#latents, offset: 0, size: latentBytes(this.#size) };
  }

  get #gpu(): Gpu {
    return this.#memory.gpu;
  }

  /** Sets the latents, given in PyTorch's order: `[channels, h, w]`. */
  async write(values: Float32Array): Promise<void> {
    const { channels, height, width } = this.#size;
    const pixels = await inTurns(toNhwc(values, 1, channels, height * width));
    const padded = pad(pixels, channels);
    this.#gpu.write(this.#latents, 0, new Uint8Array(padded.buffer, padded.byteOffset, padded.byteLength));
  }

  /** The latents, `[channels, h, w]`. */
  async read(): Promise<Float32Array> {
    const { channels, height, width } = this.#size;
    const bytes = await this.#gpu.read(this.#latents, 0, latentBytes(this.#size));
    return toNchw(unpad(new Float32Array(bytes.buffer), channels), 1, channels, height * width);
  }

  /** Copies what `step` reads into place `index` of a plan. */
  load(encoder: GPUCommandEncoder, plan: Plan, shape: StepShape, index: number, step: StepRow): void {
    const size = latentBytes(this.#size);
    const latents = plan.range("latents");
    encoder.copyBufferToBuffer(this.#latents, 0, latents.buffer, latents.offset + index * size, size);
    for (const [slot, coefficient] of step.next.history.entries()) {
      if (coefficient === 0) continue; // it is skipped, whatever lies there
      const place = historyPlace(plan, shape, index, slot);
      encoder.copyBufferToBuffer(this.#history!, slot * size, place.buffer, place.offset, size);
    }
  }

  /** Copies what `step` has made at place `index` of a plan back. */
  store(encoder: GPUCommandEncoder, plan: Plan, shape: StepShape, index: number, step: StepRow): void {
    const size = latentBytes(this.#size);
    const latents = plan.range("latents");
    encoder.copyBufferToBuffer(latents.buffer, latents.offset + index * size, this.#latents, 0, size);
    for (const slot of [step.push?.slot, step.keep]) {
      if (slot === undefined || slot === null) continue;
      const place = historyPlace(plan, shape, index, slot);
      encoder.copyBufferToBuffer(place.buffer, place.offset, this.#history!, slot * size, size);
    }
  }

  release(): void {
    this.#memory.buffers.giveBack(this.#latents);
    if (this.#history) this.#memory.buffers.giveBack(this.#history);
  }
}

/** The range of a history tensor of one of a plan's pictures: all pictures' first ones, then all their second ones. */
function historyPlace(plan: Plan, shape: StepShape, index: number, slot: number): Range {
  const size = latentBytes(shape);
  const { buffer, offset } = plan.range("history");
  return { buffer, offset: offset + (slot * shape.slots + index) * size, size };
}

/** `[pixels, channels]` → `[pixels, quads of channels · 4]` */
function pad(values: Float32Array, channels: number): Float32Array {
  const stride = quads(channels) * 4;
  if (stride === channels) return values;
  const padded = new Float32Array((values.length / channels) * stride);
  for (let from = 0, to = 0; from < values.length; from += channels, to += stride) {
    padded.set(values.subarray(from, from + channels), to);
  }
  return padded;
}

function unpad(padded: Float32Array, channels: number): Float32Array {
  const stride = quads(channels) * 4;
  if (stride === channels) return padded;
  const values = new Float32Array((padded.length / stride) * channels);
  for (let from = 0, to = 0; from < padded.length; from += stride, to += channels) {
    values.set(padded.subarray(from, from + channels), to);
  }
  return values;
}
