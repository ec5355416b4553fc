import type { OperationBase } from "../../operation.ts";
import type { HeadPadding, View } from "../../tensor.ts";

/** Scaled dot-product attention. */
export interface Attention extends OperationBase {
  readonly kind: "attention";
  readonly query: View;
  readonly key: View;
  readonly value: View;
  readonly heads: number;
  readonly head: HeadPadding;
  readonly causal: boolean;
}
