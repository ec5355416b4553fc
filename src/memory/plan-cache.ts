/**
 * Plans by key, the least recently used given up first once they take more than a bound of bytes. A plan in use is never
 * given up: whoever runs plans borrows them, and gives all of them back at the end of the run.
 */

import type { Plan } from "../graph/plan.ts";

/** The plans of one run. */
export interface PlanLoan {
  /** The plan of `key`, made by `make` where there is none; it stays until `giveBack`. */
  get(key: string, make: () => Promise<Plan>): Promise<Plan>;
  giveBack(): void;
}

export interface PlanCache {
  borrow(): PlanLoan;
  /** Gives up every plan whose key begins with `prefix`. None of them may be in use. */
  drop(prefix: string): void;
  /** Gives up those of them that are not in use; whether there were any. */
  dropUnused(prefix: string): boolean;
  /** Whether a plan whose key begins with `prefix` is in use. */
  isUsed(prefix: string): boolean;
  readonly bytes: number;
  readonly size: number;
}

/** `maxBytes`: of arenas, inputs and states together; plans in use are kept even beyond it. */
export function createPlanCache(maxBytes: number): PlanCache {
  const plans = new Map<string, Plan>();
  const users = new Map<Plan, number>();
  const bytes = () => [...plans.values()].reduce((sum, plan) => sum + plan.bytes, 0);
  const evict = () => {
    for (const [key, plan] of plans) {
      if (bytes() <= maxBytes) return;
      if (users.has(plan)) continue;
      plans.delete(key);
      plan.destroy();
    }
  };
  return {
    borrow() {
      const borrowed = new Set<Plan>();
      return {
        async get(key, make) {
          const plan = plans.get(key) ?? (await make());
          plans.delete(key);
          plans.set(key, plan); // newest last
          if (!borrowed.has(plan)) users.set(plan, (users.get(plan) ?? 0) + 1);
          borrowed.add(plan);
          evict();
          return plan;
        },
        giveBack() {
          for (const plan of borrowed) {
            const left = users.get(plan)! - 1;
            if (left === 0) users.delete(plan);
            else users.set(plan, left);
          }
          borrowed.clear();
          evict();
        },
      };
    },
    drop(prefix) {
      for (const [key, plan] of plans) {
        if (!key.startsWith(prefix)) continue;
        plans.delete(key);
        plan.destroy();
      }
    },
    dropUnused(prefix) {
      let dropped = false;
      for (const [key, plan] of plans) {
        if (!key.startsWith(prefix) || users.has(plan)) continue;
        plans.delete(key);
        plan.destroy();
        dropped = true;
      }
      return dropped;
    },
    isUsed: (prefix) => [...plans].some(([key, plan]) => key.startsWith(prefix) && users.has(plan)),
    get bytes() {
      return bytes();
    },
    get size() {
      return plans.size;
    },
  };
}
