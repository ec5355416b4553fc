/**
 * A kernel variant: one of several ways to compute an operation, all with the same result within the rounding of f32.
 *
 * A variant states by itself when it can run, and its cost. The rule is the cheapest of those that can; whoever has
 * timed them on this adapter overrules it with `Target.choose`.
 */

import { perPart, type Varied } from "../choice.ts";
import type { Dispatch, Target } from "../dispatch.ts";
import { TensorTooLargeError } from "../errors.ts";

export interface KernelVariant<T, Name extends string = string> {
  readonly name: Name;
  /** Runs on a matrix unit: always ahead of the variants that do not. */
  readonly onMatrixUnit?: boolean;
  /** True if it can compute the operation on this adapter. */
  can(operation: T, target: Target): boolean;
  /**
   * Time beside that of the general kernel of this adapter, which is 1. Infinity: never known to be the fastest here, and
   * only there for whoever times it. On a matrix unit: beside the other variants for one.
   */
  cost(operation: T, target: Target): number;
  /** `operation` is one that it can compute on `target`. */
  lower(operation: T, target: Target): Dispatch[];
}

/** The variants that can compute an operation, by rule the best first. Equal ones stay in the order of `variants`. */
export function ranked<T, V extends KernelVariant<T>>(variants: readonly V[], operation: T, target: Target): V[] {
  return variants
    .filter((variant) => variant.can(operation, target))
    .map((variant) => ({ variant, cost: variant.cost(operation, target), unit: variant.onMatrixUnit === true }))
    .sort((a, b) => Number(b.unit) - Number(a.unit) || (a.cost === b.cost ? 0 : a.cost - b.cost))
    .map(({ variant }) => variant);
}

/**
 * The variant that computes an operation: the target's choice among those that can, else the rule's.
 * @throws TensorTooLargeError if the one that computes a part of a batch cannot compute all of it
 */
export function chooseVariant<T extends Varied, V extends KernelVariant<T>>(
  variants: readonly V[],
  operation: T,
  target: Target,
): V {
  const part = perPart(operation, target.batch ?? 1);
  const candidates = ranked<T, V>(variants, part, target);
  const choice = target.choose?.(
    part,
    candidates.map(({ name }) => name),
    target,
  );
  const taken = candidates.find(({ name }) => name === choice) ?? candidates[0]!;
  if (part === operation || taken.can(operation, target)) return taken;
  throw new TensorTooLargeError(
    `${operation.name}: the kernel ${taken.name} cannot compute a batch of ${target.batch}`,
  );
}
