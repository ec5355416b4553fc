import type { OperationBase } from "../../operation.ts";
import type { Activation, MatrixParameter, Tensor, VectorParameter, View } from "../../tensor.ts";

/** A convolution, or a linear layer as a convolution of kernel 1 × 1 over pictures one pixel high. */
export interface Convolution extends OperationBase {
  readonly kind: "convolution";
  readonly input: Tensor;
  readonly weight: MatrixParameter;
  readonly bias?: VectorParameter;
  /** `[images, in_height, in_width]` and `[out_height, out_width]` */
  readonly picture: { images: number; inHeight: number; inWidth: number; outHeight: number; outWidth: number };
  /** The size that the input is resized to (nearest) while it is read. */
  readonly virtual: { height: number; width: number };
  readonly kernel: { height: number; width: number; stride: number; top: number; left: number };
  /** The output channel of the layer that `output` begins with, in quads; not 0 if it is a slice. */
  readonly firstOutputQuad: number;
  /** Epilogue, in its order; of `perImage`, one row an image, as many channels as the layer has. */
  readonly perImage?: View;
  readonly residual?: Tensor;
  readonly activation: Activation;
  readonly activationAfterResidual: boolean;
  /** The output is the first half of the layer's channels times the GELU of the second; the epilogue is the bias alone. */
  readonly gated?: boolean;
}
