/**
 * Splitting: tensors that are too large for one binding become several **slices** along the channels, and the operations
 * on them operations on slices. A layer's channels are nearly independent of each other: a convolution adds up over slices
 * of its input, group normalisation needs only the statistics of all, everything elementwise does not notice.
 *
 * A sliced tensor is a concatenation like that of a skip connection (`Tensor.concatenated`), so that whoever reads a
 * concatenation reads slices too. Tensors of one shape are sliced alike, so that residuals line up. Along the channels and
 * not along rows of the picture, since a convolution would need the neighbouring rows of other slices.
 */

import { kindOf, type Operation, readsOf } from "../ops/table.ts";
import { Slicing, type SplitOptions } from "../slicing.ts";
import type { Tensor } from "../tensor.ts";

/**
 * The operations with no tensor over the limit. `outputs` are read from outside and stay whole.
 * @throws TensorTooLargeError naming the layer if one is too large and the operation needs it whole
 */
export function split(operations: readonly Operation[], outputs: Iterable<Tensor>, options: SplitOptions): Operation[] {
  const slicing = new Slicing(options, {
    whole: new Set([...outputs].map((tensor) => tensor.id)),
    halved: new Set(operations.flatMap((op) => (op.kind === "geglu" ? [op.value.tensor.id, op.gate.tensor.id] : []))),
    nextId: 1 + Math.max(...operations.flatMap((op) => [op.output, ...readsOf(op)]).map((tensor) => tensor.id)),
  });
  return operations.flatMap((operation) => splitOne(operation, slicing));
}

function splitOne(operation: Operation, slicing: Slicing): Operation[] {
  const kind = kindOf(operation);
  if (kind.split) return kind.split(operation, slicing);
  slicing.needWhole(operation, kind.reads(operation));
  if (!slicing.fits(operation.output)) throw slicing.tooLarge(operation, operation.output);
  return [operation];
}
