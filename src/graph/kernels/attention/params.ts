/** The parameters that the attention kernels share: `shaders/prelude/attention.wgsl`. */

import type { Binding, Params } from "../../dispatch.ts";
import { channelsOf, quads, rowsOf } from "../../tensor.ts";
import type { Attention } from "./operation.ts";

/** Images, and the tokens of each on both sides. */
export function sizesOf({ query, key }: Attention) {
  const images = query.tensor.shape[0]!;
  const [queries, keys] = [rowsOf(query.tensor) / images, rowsOf(key.tensor) / images];
  return { images, queries, keys, rows: Math.max(queries, keys) };
}

export function attentionParams(operation: Attention, gridWidth: number): Params {
  const { query, key, value, heads, head, causal } = operation;
  const { images, queries, keys, rows } = sizesOf(operation);
  return {
    ...{ images, heads, queries, keys },
    query_row: quads(channelsOf(query.tensor)),
    query_offset: query.offset / 4,
    key_row: quads(channelsOf(key.tensor)),
    key_offset: key.offset / 4,
    value_row: quads(channelsOf(value.tensor)),
    value_offset: value.offset / 4,
    causal,
    scale: { f32: 1 / Math.sqrt(head.width) },
    rows,
    grid_width: gridWidth,
    head_quads: head.padded / 4,
  };
}

export function operands({ query, key, value }: Attention): Binding[] {
  return [query, key, value].map(({ tensor }) => ({ tensor }));
}

/** The constants of `shaders/prelude/attention.wgsl`. */
export function attentionConstants({ head }: Attention) {
  return { HEAD_QUADS: head.padded / 4 };
}
