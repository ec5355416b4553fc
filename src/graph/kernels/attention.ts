/** Attention: `shaders/attention_*.wgsl`. */

import subgroup from "../../../shaders/attention_subgroup.wgsl" with { type: "text" };
import tiled from "../../../shaders/attention_tiled.wgsl" with { type: "text" };
import attention from "../../../shaders/prelude/attention.wgsl" with { type: "text" };
import { type Dispatch, kernel, params, type Target } from "../dispatch.ts";
import { type Attention, channelsOf, quads, rowsOf } from "../tensor.ts";
import { attentionVariant } from "../variants.ts";

const QUERIES_A_LANE = 4;
const TILED_QUERIES = 64;

export function lowerAttention(operation: Attention, target: Target): Dispatch[] {
  const { query, key, value, heads, head } = operation;
  const images = query.tensor.shape[0]!;
  const queries = rowsOf(query.tensor) / images;
  const keys = rowsOf(key.tensor) / images;
  const form = attentionVariant(operation, target);
  const variant =
    form === "subgroup"
      ? { name: "attention_subgroup", source: subgroup, queries: target.lanes! * QUERIES_A_LANE }
      : { name: "attention_tiled", source: tiled, queries: TILED_QUERIES };
  return [
    {
      kernel: kernel(variant.name, variant.source, target.storage, {
        subgroups: form === "subgroup" ? target.lanes : undefined,
        preludes: [attention],
        constants: { HEAD_QUADS: head.padded / 4 },
      }),
      label: operation.name,
      params: params(
        ...[images, heads, queries, keys],
        ...[quads(channelsOf(query.tensor)), query.offset / 4, quads(channelsOf(key.tensor)), key.offset / 4],
        ...[quads(channelsOf(value.tensor)), value.offset / 4, operation.causal, { f32: 1 / Math.sqrt(head.width) }],
      ),
      bindings: [
        { tensor: query.tensor },
        { tensor: key.tensor },
        { tensor: value.tensor },
        { tensor: operation.output },
      ],
      workgroups: [Math.ceil(queries / variant.queries), heads, images],
    },
  ];
}
