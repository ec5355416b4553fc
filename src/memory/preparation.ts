/** Work that a run waits for before it can begin or go on: weights that come onto the device, kernels that are compiled. */

import type { CompileWatch } from "../graph/plan.ts";

export interface Preparation {
  readonly what: "weights" | "kernels" | "tuning";
  /** Parts that are ready, of `total` as far as is known: kernels, shapes that were timed, bytes or matrices of weights. */
  readonly done: number;
  readonly total: number;
}

/** Follows what is made ready. */
export interface PreparationWatch {
  /** If it is aborted, the work stops before its next part and rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Preparation) => void) | undefined;
}

/** Counts the kernels of several plans that are compiled one after the other or beside each other. */
export class KernelCount implements CompileWatch {
  readonly signal: AbortSignal | undefined;
  readonly #onProgress: PreparationWatch["onProgress"];
  #done = 0;
  #total = 0;

  constructor({ signal, onProgress }: PreparationWatch) {
    this.signal = signal;
    this.#onProgress = onProgress;
  }

  readonly onKernels = (more: number): void => {
    this.#total += more;
    this.#report();
  };

  readonly onKernel = (): void => {
    this.#done++;
    this.#report();
  };

  #report(): void {
    this.#onProgress?.({ what: "kernels", done: this.#done, total: this.#total });
  }
}
