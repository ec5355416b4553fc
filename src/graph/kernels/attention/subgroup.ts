/** Queries in the lanes of a subgroup, which share the keys that they load: `shaders/attention_subgroup.wgsl`. */

import source from "../../../../shaders/attention_subgroup.wgsl" with { type: "text" };
import prelude from "../../../../shaders/prelude/attention.wgsl" with { type: "text" };
import { kernel } from "../../dispatch.ts";
import type { KernelVariant } from "../variant.ts";
import type { Attention } from "./operation.ts";
import { attentionConstants, attentionParams, operands, sizesOf } from "./params.ts";

const QUERIES_A_LANE = 4;

export const subgroup = {
  name: "subgroup",
  can: (_, { lanes }) => lanes !== undefined,
  cost: () => 1,
  lower(operation, { storage, lanes }) {
    const { images, queries } = sizesOf(operation);
    return [
      {
        kernel: kernel("attention_subgroup", source, storage, {
          subgroups: lanes,
          preludes: [prelude],
          constants: attentionConstants(operation),
        }),
        label: operation.name,
        params: attentionParams(operation, 0),
        bindings: [...operands(operation), { tensor: operation.output }],
        workgroups: [Math.ceil(queries / (lanes! * QUERIES_A_LANE)), operation.heads, images],
      },
    ];
  },
} as const satisfies KernelVariant<Attention>;
