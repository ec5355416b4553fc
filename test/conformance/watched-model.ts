/** A model whose plans are watched: what the pipeline really wrote into them, and the plans, to read what they hold. */

import type { LoadedModel } from "../../src/diffusion/loaded-model.ts";
import type { Plan } from "../../src/graph/plan.ts";

type Values = Float32Array | Uint32Array;

interface Write {
  readonly label: string;
  readonly input: string;
  readonly values: Values;
  /** Where they begin along the first dimension. */
  readonly first: number;
}

export interface Watched {
  readonly model: LoadedModel;
  /** The plan whose label begins so. Throws if none was used. */
  plan(label: string): Plan;
  /** All that was written to the beginning of an input of that plan since `clear`, in order. */
  writes(label: string, input: string): Values[];
  /** All rows of an input, each as it was written first. */
  rows(label: string, input: string): Values[];
  /** The latents that the first step began with, `[n, h, w, c]`. */
  readonly start: Float32Array;
  clear(): void;
}

export function watch(model: LoadedModel): Watched {
  const plans = new Map<string, Plan>();
  let writes: Write[] = [];
  let start: Float32Array | undefined;
  const { gpu, plans: cache } = model.memory;
  const watched = (plan: Plan): Plan => {
    plans.set(plan.label, plan);
    const note = (input: string, values: Values, first = 0) => {
      writes.push({ label: plan.label, input, values: values.slice(), first });
    };
    const noted: Partial<Plan> = {
      write(input, values, first) {
        note(input, values, first);
        plan.write(input, values, first);
      },
      writeInTurns(input, values, first) {
        note(input, values, first);
        return plan.writeInTurns(input, values, first);
      },
      async replayAndRead(name, around) {
        if (start === undefined && around?.before) {
          gpu.submit("watched", around.before);
          start = (await plan.read("latents")) as Float32Array;
        }
        return plan.replayAndRead(name, around);
      },
    };
    return new Proxy(plan, {
      get(target, name) {
        const own = Reflect.get(noted, name) ?? Reflect.get(target, name, target);
        return typeof own === "function" ? own.bind(target) : own;
      },
    });
  };
  const borrow = cache.borrow.bind(cache);
  cache.borrow = () => {
    const loan = borrow();
    return { get: async (key, make) => watched(await loan.get(key, make)), giveBack: () => loan.giveBack() };
  };
  const of = (label: string, input: string) =>
    writes.filter((write) => write.label.startsWith(label) && write.input === input);
  return {
    model,
    plan(label) {
      const found = [...plans].find(([name]) => name.startsWith(label));
      if (!found) throw new Error(`the run used no plan named ${label}`);
      return found[1];
    },
    writes: (label, input) => of(label, input).flatMap(({ values, first }) => (first === 0 ? [values] : [])),
    rows(label, input) {
      const firsts = new Map<number, Values>();
      for (const { first, values } of of(label, input)) if (!firsts.has(first)) firsts.set(first, values);
      return [...firsts].sort(([one], [other]) => one - other).map(([, values]) => values);
    },
    get start() {
      if (start === undefined) throw new Error("no step was run");
      return start;
    },
    clear() {
      plans.clear();
      writes = [];
      start = undefined;
    },
  };
}
