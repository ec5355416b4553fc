/** Attention: `shaders/attention_*.wgsl`. */

import stage from "../../../shaders/attention_stage.wgsl" with { type: "text" };
import subgroup from "../../../shaders/attention_subgroup.wgsl" with { type: "text" };
import textured from "../../../shaders/attention_textured.wgsl" with { type: "text" };
import tiled from "../../../shaders/attention_tiled.wgsl" with { type: "text" };
import attention from "../../../shaders/prelude/attention.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel, params, type Scratch, type Target } from "../dispatch.ts";
import { type Attention, channelsOf, quads, rowsOf } from "../tensor.ts";
import { attentionVariant, workgroupLimits } from "../variants.ts";
import { matrixAttention } from "./matrix.ts";

const QUERIES_A_LANE = 4;
const TILED_QUERIES = 64;
const TEXTURED_QUERIES = 16;

export function lowerAttention(operation: Attention, target: Target): Dispatch[] {
  const { query, key, value, heads, head, output } = operation;
  const images = query.tensor.shape[0]!;
  const queries = rowsOf(query.tensor) / images;
  const keys = rowsOf(key.tensor) / images;
  const rows = Math.max(queries, keys);
  const headQuads = head.padded / 4;
  const constants = { HEAD_QUADS: headQuads };
  const block = (gridWidth: number) =>
    params(
      ...[images, heads, queries, keys],
      ...[quads(channelsOf(query.tensor)), query.offset / 4, quads(channelsOf(key.tensor)), key.offset / 4],
      ...[quads(channelsOf(value.tensor)), value.offset / 4, operation.causal, { f32: 1 / Math.sqrt(head.width) }],
      ...[rows, gridWidth],
    );
  const operands = [{ tensor: query.tensor }, { tensor: key.tensor }, { tensor: value.tensor }] as const;
  const form = attentionVariant(operation, target);
  if (form === "textured") {
    const staged: Scratch = { name: "staged", width: 3 * heads * headQuads, height: images * rows };
    const { workgroups, width } = grid(images * rows * heads * headQuads);
    return [
      {
        kernel: kernel("attention_stage", stage, target.storage, { preludes: [attention], constants }),
        label: operation.name,
        params: block(width),
        bindings: [...operands, "unused", { scratch: staged }],
        workgroups,
      },
      {
        kernel: kernel("attention_textured", textured, target.storage, {
          subgroups: target.lanes,
          preludes: [attention],
          constants,
        }),
        label: operation.name,
        params: block(0),
        bindings: ["unused", "unused", "unused", { tensor: output }, { scratch: staged }],
        workgroups: [Math.ceil(queries / TEXTURED_QUERIES), heads, images],
      },
    ];
  }
  if (form === "matrix") {
    const { source, ...of } = matrixAttention(head.padded, target.matrixUnit!, workgroupLimits(target))!;
    return [
      {
        kernel: kernel("attention_matrix", source, target.storage, {
          ...of,
          preludes: [attention, ...of.preludes!],
          constants: { ...constants, ...of.constants },
        }),
        label: operation.name,
        params: block(0),
        bindings: [...operands, { tensor: output }],
        workgroups: [Math.ceil(queries / of.queries), heads, images],
      },
    ];
  }
  const variant =
    form === "subgroup"
      ? { name: "attention_subgroup", source: subgroup, queries: target.lanes! * QUERIES_A_LANE }
      : { name: "attention_tiled", source: tiled, queries: TILED_QUERIES };
  return [
    {
      kernel: kernel(variant.name, variant.source, target.storage, {
        subgroups: form === "subgroup" ? target.lanes : undefined,
        preludes: [attention],
        constants,
      }),
      label: operation.name,
      params: block(0),
      bindings: [...operands, { tensor: output }],
      workgroups: [Math.ceil(queries / variant.queries), heads, images],
    },
  ];
}
