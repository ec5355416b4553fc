/**
 * A kind of operation, as the graph knows it. A file of this folder holds one: the data of the operation, the function
 * that records it (and checks shapes, so that a mistake names the layer and not a buffer), and its kind.
 */

import type { Dispatch, Target } from "../dispatch.ts";
import type { OperationBase } from "../operation.ts";
import type { Slicing } from "../slicing.ts";
import type { Parameter, Tensor } from "../tensor.ts";

export interface OperationKind<T extends OperationBase> {
  /** The tensors that it reads (concatenations as their parts). */
  reads(operation: T): readonly Tensor[];
  /** The parameters that it uses; none if this is absent. All are of one component. */
  parameters?(operation: T): readonly Parameter[];
  /** It changes a state besides making its output, so that it runs even if nothing reads that. */
  readonly changesState?: boolean;
  /**
   * The operation over slices of tensors that no binding could hold. Absent: it needs them all in one piece.
   * @throws TensorTooLargeError naming the layer if that is impossible
   */
  split?(operation: T, slicing: Slicing): T[];
  /** The operation's dispatches, in their order. */
  lower(operation: T, target: Target): Dispatch[];
}

export function present<T>(...values: (T | undefined)[]): T[] {
  return values.filter((value) => value !== undefined);
}
