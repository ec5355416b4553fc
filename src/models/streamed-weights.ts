/**
 * Weights that may leave the device and come back from their files: what makes a model run in less memory than all of its
 * components take. Whoever evicts them gives up the plans that read them first.
 */

import type { MatrixParameter } from "../graph/tensor.ts";
import type { LoadedParameters } from "./load.ts";

export interface StreamedWeights extends LoadedParameters {
  readonly resident: boolean;
  /** Loads them, where they are not there. Throws what loading throws. */
  bring(): Promise<void>;
  evict(): void;
  /** Evicts them, and has no copy of them transformed for faster kernels from now on; false where that was so before. */
  slim(): boolean;
}

/** `load` is called now, and again whenever they are brought back. */
export async function streamedWeights(load: () => Promise<LoadedParameters>): Promise<StreamedWeights> {
  let held: LoadedParameters | undefined = await load();
  let loading: Promise<LoadedParameters> | undefined;
  const { storage, bytes, transformed, finer } = held;
  let isSlim = false;
  const present = (): LoadedParameters => {
    if (!held) throw new Error("these weights were evicted; bring() them first");
    return held;
  };
  const evict = () => {
    held?.destroy();
    held = undefined;
  };
  return {
    storage,
    bytes,
    get: (parameter) => present().get(parameter),
    texture: (matrix) => present().texture?.(matrix),
    get transformed() {
      if (isSlim || !transformed) return undefined;
      return (matrix: MatrixParameter) => present().transformed!(matrix);
    },
    ...(finer && { finer }),
    get resident() {
      return held !== undefined;
    },
    async bring() {
      if (held) return;
      loading ??= load().finally(() => {
        loading = undefined;
      });
      held = await loading;
    },
    evict,
    slim() {
      if (isSlim || !transformed) return false;
      isSlim = true;
      evict();
      return true;
    },
    destroy: evict,
  };
}
