import type { OperationBase } from "../../operation.ts";
import type { Activation, Tensor, VectorParameter } from "../../tensor.ts";

/** Partial means and squared deviations of chunks of pixels, for each channel: the first half of group normalisation. */
export interface GroupNormStats extends OperationBase {
  readonly kind: "group-norm-stats";
  readonly input: Tensor;
  readonly chunks: number;
  readonly chunkPixels: number;
}

/** Group normalisation by statistics that are made before, or in the same dispatch. */
export interface GroupNormApply extends OperationBase {
  readonly kind: "group-norm-apply";
  readonly input: Tensor;
  readonly statistics: GroupNormStats;
  /** The statistics are made in the same dispatch; `statistics` itself does not run. */
  readonly joined?: boolean;
  readonly groupChannels: number;
  /** The channel of the layer that `input` and `output` begin with, in quads; not 0 if they are slices. */
  readonly firstQuad: number;
  readonly eps: number;
  readonly gamma: VectorParameter;
  readonly beta: VectorParameter;
  readonly activation: Activation;
}
