/** A tensor's range of a buffer, in bytes. */
export interface Range {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** Time that a layer's kernel took on the GPU. */
export interface KernelTime {
  readonly kernel: string;
  readonly layer: string;
  readonly milliseconds: number;
}

/** Commands that belong to a replay. */
export interface Around {
  readonly before?: (encoder: GPUCommandEncoder) => void;
  readonly after?: (encoder: GPUCommandEncoder) => void;
}

/**
 * A plan: a recorded model, fused, laid out in memory, and bound to buffers. Replaying it is a flat list of pipeline,
 * bind group and workgroup counts; nothing is allocated, compiled or looked up.
 *
 * The operations that follow from constant inputs alone (the prompt's keys and values, size embeddings) are the plan's
 * **prologue**: it runs after such an input was written, and its results stay until the next time.
 */
export interface Plan {
  readonly label: string;
  /** Bytes that this plan owns: arenas, inputs, states, and a buffer for each result that was read. */
  readonly bytes: number;
  readonly arenaBytes: number;
  /** Dispatches of a replay, the prologue's apart. */
  readonly dispatches: number;
  /**
   * Writes an input (or a state) from the host: f32 values `[…, channels]` without padding, or u32 for u32 inputs.
   * @param first where `values` begin along the tensor's first dimension, if they are a part of it; else they are all of it
   * @throws GraphError if there are more or fewer of them
   */
  write(name: string, values: Float32Array | Uint32Array, first?: number): void;
  /** The same, a piece in each turn of the event loop. `values` must not change until it resolves. */
  writeInTurns(name: string, values: Float32Array | Uint32Array, first?: number): Promise<void>;
  /** Where an input, a state or an output lies, to copy from or to within the device. */
  range(name: string): Range;
  /** Tells that a constant input was changed by a copy, so that the prologue runs again. */
  touch(): void;
  /** Adds a replay to an encoder. */
  encode(encoder: GPUCommandEncoder): void;
  /** Replays and submits; does not wait. */
  run(): void;
  /**
   * Replays, and resolves once the device is done.
   * @throws the errors that the device reported
   * @param around copies that are submitted with it, before and after its kernels
   */
  replay(around?: Around): Promise<void>;
  /** `replay` and then `read`, in one submission and one wait. */
  replayAndRead(name: string, around?: Around): Promise<Float32Array | Uint32Array>;
  /**
   * Replays once with a timestamp around each dispatch.
   * @throws GraphError if the adapter has no timestamps
   */
  profile(): Promise<KernelTime[]>;
  /** An output (or state) as f32 `[…, channels]` without padding, or u32. */
  read(name: string): Promise<Float32Array | Uint32Array>;
  destroy(): void;
}
