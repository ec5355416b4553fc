import type { Tensor } from "./tensor.ts";

/** The fields that every operation has. The operations themselves are in `ops/`. */
export interface OperationBase {
  readonly kind: string;
  /** The layer's name in the model: `down_blocks.1.resnets.0.conv1`. */
  readonly name: string;
  readonly output: Tensor;
}
