/**
 * Plans, found by whose weights they read, what part of the model they are, and the shape they are made for. A run
 * borrows plans, and gives all of them back at the end of the run; a plan that is borrowed stays.
 */

import type { CompileWatch, Plan } from "../graph/plan.ts";
import type { Budget, Evictable } from "./budget.ts";
import type { ComponentId } from "./component.ts";
import { SharedWork } from "./shared-work.ts";

/** The shape that a plan is made for, as plain data: equal if all of its fields are. */
export type PlanShape = Readonly<Record<string, string | number | boolean>>;

export interface PlanKey {
  /** The weight set that its parameters are of. */
  readonly owner: object;
  /** The part of the model: `unet`, `decoder`. */
  readonly part: string;
  readonly shape: PlanShape;
  /** Components whose weights it reads. */
  readonly components: readonly ComponentId[];
}

/** The plans of one run. */
export interface PlanLoan {
  /** The plan of `key`, made by `make` if there is none and nobody is making it; it stays until `giveBack`. */
  get(key: PlanKey, make: (watch: CompileWatch) => Promise<Plan>, watch?: CompileWatch): Promise<Plan>;
  giveBack(): void;
}

interface Making {
  readonly work: SharedWork<Entry>;
  readonly watches: Watches;
}

/** All who follow the making of one plan. */
class Watches {
  readonly #all = new Set<CompileWatch>();
  #total = 0;
  #done = 0;

  add(watch: CompileWatch): void {
    this.#all.add(watch);
    if (this.#total > 0) watch.onKernels?.(this.#total);
    for (let kernel = 0; kernel < this.#done; kernel++) watch.onKernel?.();
  }

  of(signal: AbortSignal): CompileWatch {
    return {
      signal,
      onKernels: (more) => {
        this.#total += more;
        for (const { onKernels } of this.#all) onKernels?.(more);
      },
      onKernel: () => {
        this.#done++;
        for (const { onKernel } of this.#all) onKernel?.();
      },
    };
  }
}

interface Entry extends Evictable {
  readonly key: PlanKey;
  readonly plan: Plan;
  borrowers: number;
}

export class PlanCache {
  readonly #budget: Budget;
  readonly #entries = new Map<object, Map<string, Entry>>();
  /** Plans that are being made. */
  readonly #making = new WeakMap<object, Map<string, Making>>();
  readonly #works = new Set<Promise<unknown>>();

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  borrow(): PlanLoan {
    const borrowed = new Set<Entry>();
    return {
      get: async (key, make, watch = {}) => {
        let entry = this.#find(key);
        while (entry === undefined || entry !== this.#find(key)) {
          entry = await this.#make(key, make, watch); // it may have had to give way at once
        }
        if (!borrowed.has(entry)) entry.borrowers++;
        borrowed.add(entry);
        this.#budget.use(entry);
        return entry.plan;
      },
      giveBack: () => {
        for (const entry of borrowed) entry.borrowers--;
        borrowed.clear();
        this.#budget.trim();
      },
    };
  }

  /** Gives up the plans of `owner`, all of them if left out. None of them may be in use. */
  drop(owner?: object): void {
    for (const entry of this.#all(owner)) this.#remove(entry);
  }

  /** Gives up the plans that are not in use; whether there were any. */
  dropUnused(): boolean {
    const unused = this.#all().filter(({ isUsed }) => !isUsed);
    for (const entry of unused) this.#remove(entry);
    return unused.length > 0;
  }

  /** Gives up the plans that read the weights of this component. None of them may be in use. */
  dropReaders(component: ComponentId): void {
    for (const entry of this.#all()) if (entry.key.components.includes(component)) this.#remove(entry);
  }

  /** True if a plan that reads the weights of this component is in use. */
  reads(component: ComponentId): boolean {
    return this.#all().some(({ isUsed, key }) => isUsed && key.components.includes(component));
  }

  /** A plan is being made, be it one that nobody waits for any more. */
  get isMaking(): boolean {
    return this.#works.size > 0;
  }

  /** Resolves once all plans that are being made now are there, or have failed. */
  async made(): Promise<void> {
    await Promise.all(this.#works);
  }

  get bytes(): number {
    return this.#all().reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get size(): number {
    return this.#all().length;
  }

  #all(owner?: object): Entry[] {
    const owners = owner === undefined ? [...this.#entries.values()] : [this.#entries.get(owner) ?? new Map()];
    return owners.flatMap((entries) => [...entries.values()]);
  }

  #find({ owner, ...value }: PlanKey): Entry | undefined {
    return this.#entries.get(owner)?.get(nameOf(value));
  }

  #make(key: PlanKey, make: (watch: CompileWatch) => Promise<Plan>, watch: CompileWatch): Promise<Entry> {
    const name = nameOf(key);
    const making = this.#making.get(key.owner) ?? new Map<string, Making>();
    this.#making.set(key.owner, making);
    let one = making.get(name);
    if (one === undefined || one.work.isStopped) {
      const watches = new Watches();
      const work = new SharedWork(async (signal) => this.#add(key, await make(watches.of(signal))));
      const made = { work, watches };
      making.set(name, made);
      const { ended } = work;
      this.#works.add(ended);
      void ended.then(() => {
        this.#works.delete(ended);
        if (making.get(name) === made) making.delete(name);
      });
      one = made;
    }
    one.watches.add(watch);
    return one.work.join(watch.signal);
  }

  #add(key: PlanKey, plan: Plan): Entry {
    const entry: Entry = {
      key,
      plan,
      borrowers: 0,
      get bytes() {
        return plan.bytes;
      },
      get isUsed() {
        return this.borrowers > 0;
      },
      drop: () => this.#remove(entry),
    };
    const entries = this.#entries.get(key.owner) ?? new Map<string, Entry>();
    this.#entries.set(key.owner, entries.set(nameOf(key), entry));
    return entry;
  }

  #remove(entry: Entry): void {
    const { owner } = entry.key;
    const entries = this.#entries.get(owner);
    entries?.delete(nameOf(entry.key));
    if (entries?.size === 0) this.#entries.delete(owner);
    this.#budget.forget(entry);
    entry.plan.destroy();
  }
}

/** A text that is equal for equal parts and shapes, and for no others: JSON keeps texts apart. */
function nameOf({ part, shape }: Pick<PlanKey, "part" | "shape">): string {
  const fields = Object.entries(shape).sort(([one], [other]) => (one < other ? -1 : 1));
  return JSON.stringify([part, fields]);
}
