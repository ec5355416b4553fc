/**
 * The operations that several kernels can do, and whoever chooses among those kernels: a tuner that has timed them, or a
 * test that forces one after the other.
 */

import type { Attention } from "./kernels/attention/operation.ts";
import type { Convolution } from "./kernels/convolution/operation.ts";
import type { GroupNormApply } from "./kernels/norm/operation.ts";
import type { MatrixParameter, Storage, Tensor, View } from "./tensor.ts";

/** The operations that have variants. */
export type Varied = Convolution | Attention | GroupNormApply;

/** The operation on one of the equal parts of its first dimension. */
export function perPart<T extends Varied>(operation: T, parts: number): T {
  if (parts === 1) return operation;
  const tensor = (whole: Tensor): Tensor => ({ ...whole, shape: [whole.shape[0]! / parts, ...whole.shape.slice(1)] });
  const view = (whole: View): View => ({ ...whole, tensor: tensor(whole.tensor) });
  switch (operation.kind) {
    case "convolution": {
      const { picture } = operation;
      return {
        ...operation,
        output: tensor(operation.output),
        picture: { ...picture, images: picture.images / parts },
      };
    }
    case "attention":
      return {
        ...operation,
        ...{ query: view(operation.query), key: view(operation.key), value: view(operation.value) },
        output: tensor(operation.output),
      };
    default:
      return { ...operation, input: tensor(operation.input), output: tensor(operation.output) };
  }
}

/** Facts that a choice may depend on besides the operation; those of weights, if it has a matrix. */
export interface ChoiceTarget {
  readonly storage: Storage;
  readonly weightStorage?: Storage;
  readonly textured?: (matrix: MatrixParameter) => boolean;
}

/** Picks one of `candidates` by name. The first is the rule's own choice, and stays if any other name is returned. */
export type Choose = (operation: Varied, candidates: readonly string[], target: ChoiceTarget) => string | undefined;
