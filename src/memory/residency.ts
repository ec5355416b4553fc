/**
 * Who is on the device where not everything can be (`Gpu.maxBytes`).
 *
 * Weights and plans stay as long as they fit. Where something does not, what no run is using gives way: first plans, which
 * are made again in a moment, and copies of weights that are transformed for faster kernels; then the new plan does without
 * such copies itself; and only then the weights of other components go, which come back from their files. With room for
 * all of a model nothing ever moves.
 */

import { MemoryLimitError } from "../gpu/errors.ts";
import type { PlanCache } from "./plan-cache.ts";
import type { StreamedWeights } from "./streamed-weights.ts";

export interface ResidentComponent {
  readonly weights: StreamedWeights;
  /** How the keys of its plans begin. */
  readonly plans: readonly string[];
}

export interface Residency {
  readonly components: readonly ResidentComponent[];
  readonly plans: PlanCache;
}

/** How a plan is made: with weights transformed for faster kernels, or without. */
export interface PlanForm {
  readonly transformed: boolean;
}

/**
 * Does `make` with the weights of `needed` on the device. Called again for each time that something had to give way.
 * Throws `MemoryLimitError` where nothing is left that could.
 */
export async function withRoom<T>(
  { components, plans }: Residency,
  needed: readonly StreamedWeights[],
  make: (form: PlanForm) => Promise<T>,
): Promise<T> {
  let transformed = true;
  let isRetry = false;
  for (;;) {
    try {
      for (const weights of needed) await weights.bring();
      return await make({ transformed });
    } catch (error) {
      if (!(error instanceof MemoryLimitError)) throw error;
      const unused = components.filter(({ plans: keys }) => !keys.some((key) => plans.isUsed(key)));
      if (plans.dropUnused("")) continue;
      if (transformed) {
        // Once: what the second attempt has made itself would be made, and be too much, for ever.
        const dropped = unused.filter(({ weights }) => weights.dropTransformed()).length > 0;
        if (!dropped || isRetry) transformed = false;
        isRetry = true;
        continue;
      }
      const idle = unused.find(({ weights }) => weights.resident && !needed.includes(weights));
      if (!idle) throw error;
      idle.weights.evict();
      transformed = true;
      isRetry = false;
    }
  }
}
