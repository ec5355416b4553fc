/** The buffers and textures that a plan owns, and where its tensors lie in them. */

import { BufferUsage, type Gpu } from "../../gpu/device.ts";
import { type Dispatch, packParams, paramBytes } from "../dispatch.ts";
import { GraphError } from "../errors.ts";
import { type Storage, type Tensor, tensorBytes } from "../tensor.ts";
import { textureBytes } from "../weights.ts";
import { BLANK_BYTES, type Layout } from "./layout.ts";
import { align, type MemoryPlan } from "./memory.ts";
import type { Range } from "./plan.ts";

export class PlanBuffers {
  /** An input of kernels that a dispatch does not use. */
  readonly blank: GPUBuffer;
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #storage: Storage;
  readonly #places: MemoryPlan["places"];
  readonly #blocks: Layout["uniforms"]["offsets"];
  readonly #buffers: GPUBuffer[] = [];
  readonly #textures: GPUTexture[] = [];
  readonly #arenas: readonly GPUBuffer[];
  readonly #external = new Map<number, Range>();
  readonly #uniforms: GPUBuffer;
  readonly #scratch = new Map<string, GPUTexture>();
  readonly #stagings = new Map<string, GPUBuffer>();

  /** @throws GPU errors if there is no room; nothing is left behind then */
  constructor(gpu: Gpu, label: string, storage: Storage, layout: Layout) {
    this.#gpu = gpu;
    this.#label = label;
    this.#storage = storage;
    this.#places = layout.memory.places;
    this.#blocks = layout.uniforms.offsets;
    try {
      this.#arenas = layout.memory.arenas.map((size, index) => this.#own(`arena ${index}`, size));
      for (const [name, { tensor, size }] of layout.external) {
        this.#external.set(tensor.id, { buffer: this.#own(name, size), offset: 0, size });
      }
      this.blank = this.#own("blank", BLANK_BYTES);
      this.#uniforms = this.#writeUniforms(layout.uniforms);
      for (const [name, shape] of layout.scratch) {
        const texture = gpu.createTexture(`${label}: ${name}`, { ...shape, format: "rgba32float" });
        this.#textures.push(texture);
        this.#scratch.set(name, texture);
      }
      for (const [name, size] of layout.reads) this.staging(name, size);
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  get bytes(): number {
    const buffers = this.#buffers.reduce((sum, buffer) => sum + buffer.size, 0);
    return buffers + this.#textures.reduce((sum, texture) => sum + textureBytes(texture), 0);
  }

  get arenaBytes(): number {
    return this.#arenas.reduce((sum, arena) => sum + arena.size, 0);
  }

  /** @throws GraphError if nothing makes the tensor */
  range(tensor: Tensor): Range {
    const place = this.#places.get(tensor.id);
    if (place) {
      const size = align(tensorBytes(tensor, this.#storage), 16);
      return { buffer: this.#arenas[place.arena]!, offset: place.offset, size };
    }
    const range = this.#external.get(tensor.id);
    if (!range) throw new GraphError(`${this.#label}: nothing makes ${tensor.name}`);
    return range;
  }

  uniforms(dispatch: Dispatch): GPUBufferBinding {
    return { buffer: this.#uniforms, offset: this.#blocks.get(dispatch)!, size: paramBytes(dispatch.params) };
  }

  scratch(name: string): GPUTexture {
    return this.#scratch.get(name)!;
  }

  /** The buffer that the host reads so many bytes by way of; made when first asked for. */
  staging(name: string, size: number): GPUBuffer {
    const known = this.#stagings.get(name);
    if (known) return known;
    const staging = this.#gpu.stagingBuffer(`${this.#label}: read-back of ${name}`, size);
    this.#buffers.push(staging);
    this.#stagings.set(name, staging);
    return staging;
  }

  destroy(): void {
    for (const buffer of this.#buffers.splice(0)) this.#gpu.destroyBuffer(buffer);
    for (const texture of this.#textures.splice(0)) this.#gpu.destroyTexture(texture);
  }

  #own(name: string, size: number, usage?: number): GPUBuffer {
    const buffer = this.#gpu.createBuffer(`${this.#label}: ${name}`, size, usage);
    this.#buffers.push(buffer);
    return buffer;
  }

  /** All uniform blocks in one buffer. */
  #writeUniforms({ offsets, size }: Layout["uniforms"]): GPUBuffer {
    const bytes = new Uint8Array(size);
    for (const [dispatch, offset] of offsets) bytes.set(new Uint8Array(packParams(dispatch.params)), offset);
    const buffer = this.#own("uniforms", size, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
    this.#gpu.write(buffer, 0, bytes);
    return buffer;
  }
}
