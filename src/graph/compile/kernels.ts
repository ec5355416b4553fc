/** The kernels of a plan while it is compiled: a few pipelines at a time, each run once and counted. */

import type { Gpu } from "../../gpu/device.ts";
import { ownTurn } from "../../platform/turns.ts";
import type { Dispatch } from "../dispatch.ts";
import { type BoundDispatch, encodeAll } from "./bound.ts";

/** Follows a plan while it is compiled. */
export interface CompileWatch {
  /** If it is aborted, compiling stops before the next kernel and rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** So many kernels more are waited for; a negative number if that came to nothing. */
  readonly onKernels?: (more: number) => void;
  /** One of them is ready. */
  readonly onKernel?: () => void;
}

/**
 * Pipelines that are made at a time. Software drivers compile one after the other whatever they are asked for (Dawn reads
 * the next one's code meanwhile), and all that is begun runs on after an abort.
 */
const AT_ONCE = { software: 2, hardware: 8 } as const;
/** First runs that took no longer together found their kernels compiled, in ms. */
const QUICK_MS = 10;

/** The codes of pipelines that have run once: of these the driver has nothing left to compile. */
const readyOn = new WeakMap<Gpu, Set<string>>();

export class PlanKernels {
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #watch: CompileWatch;
  /** A dispatch of each kernel, by its code. */
  readonly #firsts: ReadonlyMap<string, Dispatch>;
  readonly #ready: Set<string>;
  /** Codes of those that have never run: they are waited for. */
  readonly #due: ReadonlySet<string>;
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  readonly #making: Promise<unknown>;
  /** Codes whose pipelines are made and have to be run once. */
  readonly #arrived: string[] = [];
  #wake = () => {};
  /** Those that are due and not ready yet. */
  #left: number;

  /** Begins to make them. */
  constructor(gpu: Gpu, label: string, dispatches: readonly Dispatch[], watch: CompileWatch) {
    this.#gpu = gpu;
    this.#label = label;
    this.#watch = watch;
    this.#firsts = new Map(dispatches.toReversed().map((dispatch) => [dispatch.kernel.code, dispatch]));
    this.#ready = readyOn.get(gpu) ?? new Set();
    readyOn.set(gpu, this.#ready);
    const codes = [...new Set(dispatches.map(({ kernel }) => kernel.code))];
    this.#due = new Set(codes.filter((code) => !this.#ready.has(code)));
    this.#left = this.#due.size;
    if (this.#left > 0) watch.onKernels?.(this.#left);
    this.#making = Promise.all(Array.from({ length: AT_ONCE[gpu.facts.kind] }, () => this.#make(codes)));
    this.#making.catch(() => {}); // thrown by `prepare`
  }

  /** Takes codes off the list until it is empty. */
  async #make(codes: string[]): Promise<void> {
    for (let code = codes.shift(); code !== undefined; code = codes.shift()) {
      this.#watch.signal?.throwIfAborted();
      const isDue = this.#due.has(code);
      if (isDue) await ownTurn(); // Dawn reads the code in this thread
      this.#pipelines.set(code, await this.#gpu.pipeline(this.#firsts.get(code)!.kernel.name, code));
      if (isDue) this.#arrived.push(code);
      this.#wake();
    }
  }

  /** The pipeline of a kernel, once it is made. */
  pipeline(code: string): GPUComputePipeline {
    return this.#pipelines.get(code)!;
  }

  /**
   * Waits until all are made. A kernel that has never run runs one workgroup of its first dispatch: drivers that
   * compile a kernel when it first runs do so now. Nothing may read the values that it leaves in the arenas.
   * @throws what the compiler said, GPU errors, the signal's reason
   */
  async prepare(bind: (dispatch: Dispatch) => BoundDispatch): Promise<void> {
    let atOnce = 1;
    while (this.#left > 0) {
      this.#watch.signal?.throwIfAborted();
      const codes = this.#arrived.splice(0, atOnce);
      if (codes.length === 0) {
        await this.#arrival();
        continue;
      }
      const begun = performance.now();
      for (const code of codes) this.#runOnce(bind(this.#firsts.get(code)!));
      await this.#gpu.idle();
      // One after the other while they are compiled; those that a cache has take less than the waiting for each.
      atOnce = performance.now() - begun < QUICK_MS ? atOnce * 2 : 1;
      for (const code of codes) {
        this.#ready.add(code);
        this.#left--;
        this.#watch.onKernel?.();
      }
    }
    await this.#making;
  }

  /** Tells that nobody waits any more for those that are not ready. */
  giveUp(): void {
    if (this.#left > 0) this.#watch.onKernels?.(-this.#left);
  }

  async #arrival(): Promise<void> {
    const arrived = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    await Promise.race([arrived, this.#making]);
  }

  #runOnce(bound: BoundDispatch): void {
    this.#gpu.submit(`${this.#label} first run`, (encoder) => {
      const pass = encoder.beginComputePass({ label: bound.dispatch.kernel.name });
      encodeAll(pass, [{ ...bound, dispatch: { ...bound.dispatch, workgroups: [1, 1, 1] } }]);
      pass.end();
    });
  }
}
