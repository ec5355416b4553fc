import type { Graph } from "../graph.ts";
import type { Attention } from "../kernels/attention/operation.ts";
import { ATTENTIONS } from "../kernels/attention/variants.ts";
import { chooseVariant } from "../kernels/variant.ts";
import { type HeadPadding, rowsOf, type Tensor, type View } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

export type { Attention } from "../kernels/attention/operation.ts";

export interface AttentionOptions {
  heads: number;
  head: HeadPadding;
  causal?: boolean;
}

/** Scaled dot-product attention: `[n, queries, …]`, `[n, keys, …]` → `[n, queries, heads · head.padded]`. */
export function attention(
  g: Graph,
  name: string,
  views: { query: View; key: View; value: View },
  options: AttentionOptions,
): Tensor {
  const { query, key, value } = views;
  const images = query.tensor.shape[0]!;
  if (
    key.tensor.shape[0] !== images ||
    value.tensor.shape[0] !== images ||
    rowsOf(key.tensor) !== rowsOf(value.tensor)
  ) {
    throw g.error(name, `keys ${key.tensor.shape} do not fit queries ${query.tensor.shape}`);
  }
  const channels = options.heads * options.head.padded;
  return g.push<Attention>({
    kind: "attention",
    name: g.path(name),
    query,
    key,
    value,
    heads: options.heads,
    head: options.head,
    causal: options.causal ?? false,
    output: g.tensor(g.path(name), [images, rowsOf(query.tensor) / images, channels]),
  }).output;
}

export const attentionKind: OperationKind<Attention> = {
  reads: ({ query, key, value }) => [query.tensor, key.tensor, value.tensor],
  lower: (operation, target) => chooseVariant(ATTENTIONS, operation, target).lower(operation, target),
};
