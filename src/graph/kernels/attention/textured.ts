/**
 * Operands copied into a texture first, which some adapters load from in less time than from a buffer:
 * `shaders/attention_stage.wgsl`, then `shaders/attention_textured.wgsl`.
 */

import stage from "../../../../shaders/attention_stage.wgsl" with { type: "text" };
import source from "../../../../shaders/attention_textured.wgsl" with { type: "text" };
import prelude from "../../../../shaders/prelude/attention.wgsl" with { type: "text" };
import { grid, kernel, type Scratch } from "../../dispatch.ts";
import type { KernelVariant } from "../variant.ts";
import type { Attention } from "./operation.ts";
import { attentionConstants, attentionParams, operands, sizesOf } from "./params.ts";

const QUERIES = 16;
// Quads of a head that a lane has in attention_textured.wgsl.
const MAX_HEAD_QUADS_A_LANE = 3;
// With fewer, a dispatch that copies the operands first does not pay.
const MANY_KEYS = 256;
// With the four of SwiftShader it never does.
const MANY_LANES = 8;

/** Queries, keys and values beside each other, a row for each token. */
function stagedOf(operation: Attention): Scratch {
  const { images, rows } = sizesOf(operation);
  return { name: "staged", width: 3 * operation.heads * (operation.head.padded / 4), height: images * rows };
}

export const textured = {
  name: "textured",
  can(operation, { lanes, maxTextureDimension }) {
    if (lanes === undefined || operation.head.padded / 4 > MAX_HEAD_QUADS_A_LANE * lanes) return false;
    const { width, height } = stagedOf(operation);
    return Math.max(width, height) <= maxTextureDimension;
  },
  cost(operation, { lanes = 0 }) {
    return lanes >= MANY_LANES ? MANY_KEYS / sizesOf(operation).keys : Number.POSITIVE_INFINITY;
  },
  lower(operation, { storage, lanes }) {
    const { images, queries, rows } = sizesOf(operation);
    const constants = attentionConstants(operation);
    const staged = stagedOf(operation);
    const { workgroups, width } = grid(images * rows * operation.heads * constants.HEAD_QUADS);
    return [
      {
        kernel: kernel("attention_stage", stage, storage, { preludes: [prelude], constants }),
        label: operation.name,
        params: attentionParams(operation, width),
        bindings: [...operands(operation), "unused", { scratch: staged }],
        workgroups,
      },
      {
        kernel: kernel("attention_textured", source, storage, { subgroups: lanes, preludes: [prelude], constants }),
        label: operation.name,
        params: attentionParams(operation, 0),
        bindings: ["unused", "unused", "unused", { tensor: operation.output }, { scratch: staged }],
        workgroups: [Math.ceil(queries / QUERIES), operation.heads, images],
      },
    ];
  },
} as const satisfies KernelVariant<Attention>;
