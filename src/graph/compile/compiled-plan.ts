import type { Gpu } from "../../gpu/device.ts";
import { atOnce, inTurns } from "../../platform/turns.ts";
import { GraphError } from "../errors.ts";
import { type Storage, type Tensor, tensorBytes } from "../tensor.ts";
import { type BoundDispatch, encodeAll } from "./bound.ts";
import { fromDevice, toDevice } from "./host-layout.ts";
import type { Around, KernelTime, Plan, Range } from "./plan.ts";
import type { PlanBuffers } from "./plan-buffers.ts";
import { profile } from "./profile.ts";

/** Replays whose times are remembered, and the part of the shortest for which the next one is not asked about. */
const RECENT = 4;
const SURELY_BUSY = 0.94;
/** The part of a long replay, in ms, so that little time is slept away if another's work is done and the device is faster. */
const SURELY_BUSY_LONG = 0.5;
const LONG_MS = 500;

/** The parts of a plan, as `compile` has made them. */
export interface PlanParts {
  readonly label: string;
  readonly storage: Storage;
  readonly buffers: PlanBuffers;
  readonly prologue: readonly BoundDispatch[];
  readonly replay: readonly BoundDispatch[];
  /** Inputs, states and outputs. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

export class CompiledPlan implements Plan {
  readonly label: string;
  readonly #gpu: Gpu;
  readonly #parts: PlanParts;
  #prologueDue: boolean;
  /** Milliseconds of the last replays. */
  #recent: readonly number[] = [];

  constructor(gpu: Gpu, parts: PlanParts) {
    this.label = parts.label;
    this.#gpu = gpu;
    this.#parts = parts;
    this.#prologueDue = parts.prologue.length > 0;
  }

  get bytes(): number {
    return this.#parts.buffers.bytes;
  }

  get arenaBytes(): number {
    return this.#parts.buffers.arenaBytes;
  }

  get dispatches(): number {
    return this.#parts.replay.length;
  }

  write(name: string, values: Float32Array | Uint32Array, first?: number): void {
    atOnce(this.#writing(name, values, first));
  }

  writeInTurns(name: string, values: Float32Array | Uint32Array, first?: number): Promise<void> {
    return inTurns(this.#writing(name, values, first));
  }

  *#writing(name: string, values: Float32Array | Uint32Array, first?: number): Generator<void, void, void> {
    const tensor = this.#find(name);
    const range = this.#parts.buffers.range(tensor);
    for (const { offset, bytes } of toDevice(tensor, values, this.#parts.storage, first)) {
      this.#gpu.write(range.buffer, range.offset + offset, bytes);
      yield;
    }
    if (tensor.constant) this.touch();
  }

  range(name: string): Range {
    return this.#parts.buffers.range(this.#find(name));
  }

  touch(): void {
    this.#prologueDue = this.#parts.prologue.length > 0;
  }

  encode(encoder: GPUCommandEncoder): void {
    const pass = encoder.beginComputePass({ label: this.label });
    if (this.#prologueDue) encodeAll(pass, this.#parts.prologue);
    this.#prologueDue = false;
    encodeAll(pass, this.#parts.replay);
    pass.end();
  }

  run(): void {
    this.#submit();
  }

  async replay(around?: Around): Promise<void> {
    const begun = performance.now();
    this.#submit(around);
    const least = this.#recent.length === 0 ? 0 : Math.min(...this.#recent);
    await this.#gpu.idle(least * (least < LONG_MS ? SURELY_BUSY : SURELY_BUSY_LONG));
    this.#recent = [...this.#recent.slice(1 - RECENT), performance.now() - begun];
  }

  #submit({ before, after }: Around = {}): void {
    this.#gpu.submit(this.label, (encoder) => {
      before?.(encoder);
      this.encode(encoder);
      after?.(encoder);
    });
  }

  profile(): Promise<KernelTime[]> {
    return profile(this.#gpu, this.label, [...this.#parts.prologue, ...this.#parts.replay]);
  }

  async read(name: string): Promise<Float32Array | Uint32Array> {
    const { buffers, storage } = this.#parts;
    const tensor = this.#find(name);
    const { buffer, offset } = buffers.range(tensor);
    const size = tensorBytes(tensor, storage);
    return fromDevice(tensor, await this.#gpu.read(buffer, offset, size, buffers.staging(name, size)), storage);
  }

  destroy(): void {
    this.#parts.buffers.destroy();
  }

  #find(name: string): Tensor {
    const { tensors: named } = this.#parts;
    const tensor = named.get(name);
    if (tensor) return tensor;
    throw new GraphError(`${this.label}: no tensor is named ${name}; there are ${[...named.keys()].join(", ")}`);
  }
}
