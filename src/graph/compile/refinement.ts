/**
 * Plans begin with stand-ins for some of their kernels, so that fewer have to be compiled before the first picture. The
 * kernels themselves are made when the device has had nothing to do for a moment, and take their places between two replays:
 * they give the same bits.
 */

import type { Gpu } from "../../gpu/device.ts";
import { type Later, later } from "../../platform/later.ts";
import { ownTurn } from "../../platform/turns.ts";
import type { Dispatch, Kernel } from "../dispatch.ts";
import type { Binder } from "./bind.ts";
import { type BoundDispatch, encodeAll } from "./bound.ts";
import { readyCodes } from "./kernels.ts";
import { BLANK_BYTES } from "./layout.ts";

/** A device that has had nothing to do for so long is taken to be idle, in ms. */
const IDLE_MS = 250;
/** So many replays without a pause: a device that is never idle makes them all the same. */
const MOST_REPLAYS = 32;

/** The stand-ins of one plan. */
export class Refinement {
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #binder: Binder;
  readonly #lists: readonly BoundDispatch[][];
  /** A dispatch of each kernel that is to come, by its code. */
  readonly #later: Map<string, Dispatch>;

  /** @param lists the plan's dispatches, which change in place */
  constructor(gpu: Gpu, label: string, binder: Binder, lists: readonly BoundDispatch[][]) {
    this.#gpu = gpu;
    this.#label = label;
    this.#binder = binder;
    this.#lists = lists;
    const standing = lists.flat().filter(({ dispatch, workgroups }) => workgroups !== dispatch.workgroups);
    this.#later = new Map(standing.map(({ dispatch }) => [dispatch.kernel.code, dispatch]));
  }

  /** A kernel that is to come; undefined if all are there. */
  get next(): Kernel | undefined {
    const [dispatch] = this.#later.values();
    return dispatch?.kernel;
  }

  /** Runs one workgroup of a kernel, on nothing that the plan has: drivers that compile at the first run do so now. */
  async runOnce(code: string, pipeline: GPUComputePipeline): Promise<void> {
    const dispatch = this.#later.get(code)!;
    const spare = dispatch.bindings.map(() => this.#gpu.createBuffer(`${this.#label}: spare`, BLANK_BYTES));
    try {
      const bound = this.#binder.bindTo(dispatch, pipeline, [1, 1, 1], spare);
      this.#gpu.submit(`${this.#label} first run`, (encoder) => {
        const pass = encoder.beginComputePass({ label: dispatch.kernel.name });
        encodeAll(pass, [bound]);
        pass.end();
      });
      await this.#gpu.idle();
    } finally {
      for (const buffer of spare) this.#gpu.destroyBuffer(buffer);
    }
  }

  /** Puts a kernel in the places of its stand-in, if there are any; without a pipeline the stand-in stays. */
  take(code: string, pipeline: GPUComputePipeline | undefined): void {
    if (!this.#later.delete(code) || !pipeline) return;
    for (const list of this.#lists) {
      for (const [index, { dispatch, workgroups }] of list.entries()) {
        if (dispatch.kernel.code !== code || workgroups === dispatch.workgroups) continue;
        list[index] = this.#binder.bindTo(dispatch, pipeline);
      }
    }
  }
}

const refinementsOn = new WeakMap<Gpu, Refinements>();

/** The plans of one device that have stand-ins. */
export class Refinements {
  readonly #gpu: Gpu;
  readonly #due = new Set<Refinement>();
  #clock: Later | undefined;
  #replays = 0;
  #making: Promise<void> | undefined;

  private constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  static of(gpu: Gpu): Refinements {
    const known = refinementsOn.get(gpu) ?? new Refinements(gpu);
    refinementsOn.set(gpu, known);
    return known;
  }

  add(refinement: Refinement): void {
    this.#due.add(refinement);
    this.noteUse();
  }

  remove(refinement: Refinement): void {
    this.#due.delete(refinement);
  }

  /** The device has got work: it is not idle now. */
  noteUse(): void {
    if (this.#due.size === 0 || this.#making) return;
    this.#clock?.cancel();
    this.#clock = later(++this.#replays < MOST_REPLAYS ? IDLE_MS : 0, () => void this.makeAll());
  }

  /** Has every stand-in replaced; resolves also if a kernel cannot be made, whose stand-in stays then. */
  makeAll(): Promise<void> {
    this.#clock?.cancel();
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined;
      this.#replays = 0;
    });
    return this.#making;
  }

  /** Makes no more, and resolves once nothing is under way. */
  async end(): Promise<void> {
    this.#clock?.cancel();
    this.#due.clear();
    await this.#making;
  }

  async #make(): Promise<void> {
    for (;;) {
      const [first] = this.#due;
      if (!first) return;
      const { next } = first;
      if (!next) {
        this.#due.delete(first);
        continue;
      }
      const pipeline = await this.#makeOne(first, next).catch(() => undefined);
      for (const refinement of this.#due) refinement.take(next.code, pipeline);
    }
  }

  async #makeOne(first: Refinement, { name, code }: Kernel): Promise<GPUComputePipeline> {
    await ownTurn(); // Dawn reads the code in this thread
    const pipeline = await this.#gpu.pipeline(name, code);
    const ready = readyCodes(this.#gpu);
    if (!ready.has(code) && this.#due.has(first)) await first.runOnce(code, pipeline);
    ready.add(code);
    return pipeline;
  }
}
