/**
 * Weights that may leave the device and come back from their files: so a model runs in less memory than all of its
 * components take. The plans that read them are given up before they are evicted.
 */

import type { LoadedParameters } from "./load.ts";

/** Told of bytes that are on the device, of all that the component has. */
export type LoadingProgress = (done: number, total: number) => void;

export interface StreamedWeights extends LoadedParameters {
  readonly resident: boolean;
  /** Loads them, if they are not there. @throws the errors of loading */
  bring(onProgress?: LoadingProgress): Promise<void>;
  evict(): void;
}

/** `load` is called now, and again whenever they are brought back. */
export async function streamedWeights(
  load: (onProgress?: LoadingProgress) => Promise<LoadedParameters>,
): Promise<StreamedWeights> {
  let held: LoadedParameters | undefined = await load();
  let loading: Promise<LoadedParameters> | undefined;
  const { storage, bytes, loadingBytes, finer } = held;
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
    loadingBytes,
    get: (parameter) => present().get(parameter),
    texture: (matrix) => present().texture?.(matrix),
    get transformed() {
      return present().transformed;
    },
    get transformedBytes() {
      return held?.transformedBytes ?? 0;
    },
    dropTransformed: () => held?.dropTransformed() ?? false,
    ...(finer && { finer }),
    get resident() {
      return held !== undefined;
    },
    async bring(onProgress) {
      if (held) return;
      loading ??= load(onProgress).finally(() => {
        loading = undefined;
      });
      held = await loading;
    },
    evict,
    destroy: evict,
  };
}
