/** A query for each invocation, keys in workgroup memory: `shaders/attention_tiled.wgsl`. */

import source from "../../../../shaders/attention_tiled.wgsl" with { type: "text" };
import prelude from "../../../../shaders/prelude/attention.wgsl" with { type: "text" };
import { kernel } from "../../dispatch.ts";
import type { KernelVariant } from "../variant.ts";
import type { Attention } from "./operation.ts";
import { attentionConstants, attentionParams, operands, sizesOf } from "./params.ts";

const QUERIES = 64;

export const tiled = {
  name: "tiled",
  can: () => true,
  cost: (_, { lanes }) => (lanes === undefined ? 1 : Number.POSITIVE_INFINITY),
  lower(operation, { storage }) {
    const { images, queries } = sizesOf(operation);
    return [
      {
        kernel: kernel("attention_tiled", source, storage, {
          preludes: [prelude],
          constants: attentionConstants(operation),
        }),
        label: operation.name,
        params: attentionParams(operation, 0),
        bindings: [...operands(operation), { tensor: operation.output }],
        workgroups: [Math.ceil(queries / QUERIES), operation.heads, images],
      },
    ];
  },
} as const satisfies KernelVariant<Attention>;
