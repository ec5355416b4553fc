/** Dispatches of kernels that change weights, and what they need for a moment: parameters, and buffers filled by the host. */

import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { type Kernel, type Params, packParams, paramBytes } from "../graph/dispatch.ts";

/** Bytes handed to the device before it is waited for: each write holds its bytes until the queue has passed it. */
const MAX_BYTES_IN_FLIGHT = 64 * 2 ** 20;
/** Room for the longest block of parameters. */
const BLOCK_BYTES = 128;

/** A step of merging: a kernel, its parameters, its buffers from binding 1 on, and its workgroups. */
export interface MergeStep {
  readonly kernel: Kernel;
  readonly params: Params;
  /** Numbers are uploaded for this step alone. */
  readonly buffers: readonly (GPUBuffer | Float32Array)[];
  readonly workgroups: readonly [number, number, number];
}

export class Merging {
  readonly gpu: Gpu;
  readonly #label: string;
  readonly #uniforms: GPUBuffer;
  /** Bytes uploaded since the queue was last waited for. */
  #inFlight = 0;

  constructor(gpu: Gpu, label: string) {
    this.gpu = gpu;
    this.#label = label;
    this.#uniforms = gpu.createBuffer(`${label}: merging`, BLOCK_BYTES, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
  }

  async run(label: string, { kernel, params, buffers, workgroups }: MergeStep): Promise<void> {
    const uploads: GPUBuffer[] = [];
    try {
      const bound = buffers.map((buffer) => {
        if (!(buffer instanceof Float32Array)) return buffer;
        const upload = this.gpu.createBuffer(`${this.#label}: factors`, buffer.byteLength);
        uploads.push(upload);
        this.#inFlight += buffer.byteLength;
        const { buffer: bytes, byteOffset, byteLength } = buffer;
        if (byteLength > 0) this.gpu.write(upload, 0, new Uint8Array(bytes, byteOffset, byteLength));
        return upload;
      });
      await this.#dispatch(label, { kernel, params, workgroups }, bound);
    } finally {
      for (const upload of uploads) this.gpu.destroyBuffer(upload); // the queue keeps what it still has to read
    }
    if (this.#inFlight > MAX_BYTES_IN_FLIGHT) {
      this.#inFlight = 0;
      await this.gpu.idle();
    }
  }

  async #dispatch(
    label: string,
    { kernel, params, workgroups }: Omit<MergeStep, "buffers">,
    buffers: readonly GPUBuffer[],
  ): Promise<void> {
    const { gpu } = this;
    gpu.write(this.#uniforms, 0, packParams(params));
    const pipeline = await gpu.pipeline(kernel.name, kernel.code);
    const group = gpu.bind(`${this.#label}: ${kernel.name}`, pipeline, [
      { buffer: this.#uniforms, size: paramBytes(params) },
      ...buffers.map((buffer) => ({ buffer })),
    ]);
    gpu.submit(this.#label, (encoder) => {
      const pass = encoder.beginComputePass({ label });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
      pass.end();
    });
  }

  close(): void {
    this.gpu.destroyBuffer(this.#uniforms);
  }
}
