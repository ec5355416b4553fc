/**
 * Who is on the device where not everything can be (`Gpu.maxBytes`).
 *
 * Weights and plans stay as long as they fit. Where something does not, what no run is using gives way: first plans, which
 * are made again in a moment, then the weights of other components, which come back from their files, then the copies of
 * weights that are transformed for faster kernels. With room for all of a model nothing ever moves.
 */

import { MemoryLimitError } from "../gpu/errors.ts";
import type { PlanCache } from "../graph/plan-cache.ts";
import type { StreamedWeights } from "../models/streamed-weights.ts";

export interface ResidentComponent {
  readonly weights: StreamedWeights;
  /** How the keys of its plans begin. */
  readonly plans: readonly string[];
}

export interface Residency {
  readonly components: readonly ResidentComponent[];
  readonly plans: PlanCache;
}

/**
 * Does `make` with the weights of `needed` on the device. Called again for each time that something had to give way.
 * Throws `MemoryLimitError` where nothing is left that could.
 */
export async function withRoom<T>(
  { components, plans }: Residency,
  needed: readonly StreamedWeights[],
  make: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      for (const weights of needed) await weights.bring();
      return await make();
    } catch (error) {
      if (!(error instanceof MemoryLimitError)) throw error;
      if (plans.dropUnused("")) continue;
      const unused = components.filter(({ plans: keys }) => !keys.some((key) => plans.isUsed(key)));
      const idle = unused.find(({ weights }) => weights.resident && !needed.includes(weights));
      if (idle) idle.weights.evict();
      else if (!unused.some(({ weights }) => needed.includes(weights) && weights.slim())) throw error;
    }
  }
}
