/** A model whose plans are watched: what the pipeline really wrote into them, and the plans, to read what they hold. */

import type { DiffusionModel } from "../../src/diffusion/diffusion-model.ts";
import type { Plan } from "../../src/graph/plan.ts";
import type { PlanCache } from "../../src/memory/plan-cache.ts";

export interface Watched {
  readonly model: DiffusionModel;
  /** The plan whose label begins so. Throws where none was used. */
  plan(label: string): Plan;
  /** All that was written to an input of that plan since `clear`, in order. */
  writes(label: string, input: string): (Float32Array | Uint32Array)[];
  clear(): void;
}

export function watch(model: DiffusionModel): Watched {
  const plans = new Map<string, Plan>();
  let writes: { label: string; input: string; values: Float32Array | Uint32Array }[] = [];
  const watched = (plan: Plan): Plan => {
    plans.set(plan.label, plan);
    return {
      ...plan,
      write(input, values) {
        writes.push({ label: plan.label, input, values: values.slice() });
        plan.write(input, values);
      },
    };
  };
  const cache: PlanCache = {
    borrow() {
      const loan = model.plans.borrow();
      return { get: async (key, make) => watched(await loan.get(key, make)), giveBack: () => loan.giveBack() };
    },
    drop: (prefix) => model.plans.drop(prefix),
    dropUnused: (prefix) => model.plans.dropUnused(prefix),
    isUsed: (prefix) => model.plans.isUsed(prefix),
    get bytes() {
      return model.plans.bytes;
    },
    get size() {
      return model.plans.size;
    },
  };
  return {
    model: { ...model, plans: cache },
    plan(label) {
      const found = [...plans].find(([name]) => name.startsWith(label));
      if (!found) throw new Error(`the run used no plan named ${label}`);
      return found[1];
    },
    writes: (label, input) =>
      writes.filter((write) => write.label.startsWith(label) && write.input === input).map(({ values }) => values),
    clear() {
      plans.clear();
      writes = [];
    },
  };
}
