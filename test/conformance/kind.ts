/** A kind of case: how it is recognised, and how it is run. One file each in `kinds/`. */

import type { Gpu } from "../../src/gpu/device.ts";
import type { Choose } from "../../src/graph/choice.ts";
import type { Storage } from "../../src/graph/tensor.ts";
import type { CaseFolder } from "./case-folder.ts";
import { type Check, compare, equal } from "./comparison.ts";
import type { Tensor } from "./tensors.ts";
import { type Tolerance, type Tolerances, tolerancesOf, withinFloor } from "./tolerances.ts";

export interface Kind {
  readonly name: string;
  /** From files, configs and tensor names alone. */
  recognises(folder: CaseFolder): boolean;
  run(run: CaseRun): Promise<void>;
}

export interface Bench {
  readonly gpu: Gpu;
  /** The storage of weights. */
  readonly storage: Storage;
  readonly activations: Storage;
  /** Which kernels run; by rule if undefined. */
  readonly choose?: Choose;
  /** True if to compare the milestones inside networks too. */
  readonly intermediates: boolean;
}

export interface CompareOptions {
  readonly group?: string;
  readonly by?: string;
  /** How far rounding alone moves this result. */
  readonly floor?: number;
}

/** One case being run. Every tensor of the case is taken as an input or compared; the rest is told. */
export interface CaseRun {
  readonly folder: CaseFolder;
  readonly bench: Bench;
  readonly tolerances: Tolerances;
  readonly checks: readonly Check[];
  /** A tensor that the case gives. Throws where there is none. */
  input(name: string): Tensor;
  optional(name: string): Tensor | undefined;
  /** Compares a result with tensor `name`; `by` tells paths to the same tensor apart. */
  compare(name: string, actual: ArrayLike<number>, tolerance: Tolerance, options?: CompareOptions): void;
  /** Compares with a figure of `case.json` or of another file of the case. */
  equal(group: string, what: string, actual: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: Tolerance): void;
  compareIntermediate(name: string, actual: ArrayLike<number>, tolerance: Tolerance): void;
  /** Something that could not be done. */
  fail(group: string, what: string, note: string): void;
  /** Runs one group; an error fails the group and not the case. */
  group(name: string, body: () => Promise<void>): Promise<void>;
  /** Tensors that were neither taken nor compared. */
  leftOver(): string[];
}

export function caseRun(folder: CaseFolder, bench: Bench): CaseRun {
  const checks: Check[] = [];
  const used = new Set<string>();
  const find = (name: string): Tensor => {
    const tensor = folder.expected.get(name);
    if (!tensor) throw new Error(`expected.safetensors has no tensor ${name}`);
    used.add(name);
    return tensor;
  };
  const groupOf = (name: string) => {
    if (/\.scale-?\d+\.\d+$/.test(name)) return name; // the last dot is a decimal point
    return name.includes(".") ? name.slice(0, name.lastIndexOf(".")) : "main";
  };
  return {
    folder,
    bench,
    tolerances: tolerancesOf(bench.storage),
    checks,
    input: find,
    optional: (name) => (folder.expected.has(name) ? find(name) : undefined),
    compare(name, actual, tolerance, { group = groupOf(name), by, floor } = {}) {
      const inGroup = name.startsWith(`${group}.`) ? name.slice(group.length + 1) : name;
      const check = compare(group, by ? `${inGroup} (${by})` : inGroup, actual, find(name), tolerance);
      checks.push(floor === undefined ? check : { ...check, floor, passed: withinFloor(check, floor, bench.storage) });
    },
    equal(group, what, actual, wanted, tolerance) {
      checks.push(equal(group, what, actual, wanted, tolerance));
    },
    compareIntermediate(name, actual, tolerance) {
      checks.push(compare("intermediates", name, actual, folder.intermediates.get(name)!, tolerance));
    },
    fail(group, what, note) {
      checks.push({ group, what, passed: false, note });
    },
    async group(name, body) {
      try {
        await body();
      } catch (error) {
        const note = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
        checks.push({ group: name, what: "", passed: false, note });
      }
    },
    leftOver: () => [...folder.expected.keys()].filter((name) => !used.has(name)),
  };
}
