/**
 * Plans by key, the least recently used given up first once they take more than a bound of bytes.
 */

import type { Plan } from "./plan.ts";

export interface PlanCache {
  /** The plan of `key`, made by `make` where there is none. It stays valid until the next call. */
  get(key: string, make: () => Promise<Plan>): Promise<Plan>;
  /** Gives up every plan whose key begins with `prefix`. */
  drop(prefix: string): void;
  readonly bytes: number;
  readonly size: number;
}

/** `maxBytes`: of arenas, inputs and states together; the plan in use is kept even if it alone takes more. */
export function createPlanCache(maxBytes: number): PlanCache {
  const plans = new Map<string, Plan>();
  const bytes = () => [...plans.values()].reduce((sum, plan) => sum + plan.bytes, 0);
  return {
    async get(key, make) {
      const known = plans.get(key);
      if (known) {
        plans.delete(key);
        plans.set(key, known); // newest last
        return known;
      }
      const plan = await make();
      plans.set(key, plan);
      for (const [oldest, old] of plans) {
        if (bytes() <= maxBytes || old === plan) break;
        plans.delete(oldest);
        old.destroy();
      }
      return plan;
    },
    drop(prefix) {
      for (const [key, plan] of plans) {
        if (!key.startsWith(prefix)) continue;
        plans.delete(key);
        plan.destroy();
      }
    },
    get bytes() {
      return bytes();
    },
    get size() {
      return plans.size;
    },
  };
}
