/**
 * The operations that several kernels can do, and whoever chooses among those kernels: a tuner that has timed them, or a
 * test that forces one after the other.
 */

import type { Attention } from "./kernels/attention/operation.ts";
import type { Convolution } from "./kernels/convolution/operation.ts";
import type { GroupNormApply } from "./kernels/norm/operation.ts";
import type { MatrixParameter, Storage } from "./tensor.ts";

/** The operations that have variants. */
export type Varied = Convolution | Attention | GroupNormApply;

/** Facts that a choice may depend on besides the operation; those of weights, if it has a matrix. */
export interface ChoiceTarget {
  readonly storage: Storage;
  readonly weights?: Storage;
  readonly textured?: (matrix: MatrixParameter) => boolean;
}

/** Picks one of `candidates` by name. The first is the rule's own choice, and stays if any other name is returned. */
export type Choose = (operation: Varied, candidates: readonly string[], target: ChoiceTarget) => string | undefined;
