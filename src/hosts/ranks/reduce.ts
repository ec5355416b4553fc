/** Sums of many ranks' numbers. */

/** Numbers that can be added up. */
export type Reducible = number | Float32Array | Float64Array | Int32Array | Uint32Array;

export type Reduction = "sum" | "mean" | "max";

const OPERATIONS: Readonly<Record<Reduction, (left: number, right: number) => number>> = {
  sum: (left, right) => left + right,
  mean: (left, right) => left + right,
  // `reduce` passes more arguments than two.
  max: (left, right) => Math.max(left, right),
};

/**
 * `values` by rank, combined in that order. The sum is in the type of the values: a `Float32Array` rounds after each rank.
 * @throws RangeError if two ranks have lists of different lengths or types
 */
export function reduce<T extends Reducible>(values: readonly T[], reduction: Reduction): T {
  const operation = OPERATIONS[reduction];
  const [first, ...rest] = values;
  if (typeof first === "number") {
    const total = (rest as number[]).reduce(operation, first);
    return (reduction === "mean" ? total / values.length : total) as T;
  }
  const list = (first as Float32Array).slice();
  for (const [index, other] of (rest as Float32Array[]).entries()) {
    if (other.length !== list.length || other.constructor !== list.constructor) {
      throw new RangeError(`allReduce: rank 0 has ${nameOf(list)}, rank ${index + 1} has ${nameOf(other)}`);
    }
    for (let at = 0; at < list.length; at++) list[at] = operation(list[at]!, other[at]!);
  }
  if (reduction === "mean") for (let at = 0; at < list.length; at++) list[at] = list[at]! / values.length;
  return list as Reducible as T;
}

const nameOf = (list: Float32Array) => `${list.constructor.name} of ${list.length}`;
