import source from "../../../shaders/gather_rows.wgsl" with { type: "text" };
import { kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, quads, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

export interface GatherRows extends OperationBase {
  readonly kind: "gather-rows";
  /** `[n, tokens, channels]`, or `[1, tokens, channels]` for all images */
  readonly input: Tensor;
  /** `[n]` u32 */
  readonly rows: Tensor;
}

/** `[n, tokens, c]` (or `[1, tokens, c]`, for all images), rows u32 `[n]` → `[n, c]`. */
export function gatherRows(g: Graph, x: Tensor, rows: Tensor, name: string): Tensor {
  const [images] = rows.shape as [number];
  if (x.shape.length !== 3 || (x.shape[0] !== images && x.shape[0] !== 1)) {
    throw g.error(name, `wants [${images} or 1, tokens, c], not [${x.shape}]`);
  }
  const output = g.tensor(g.path(name), [images, channelsOf(x)]);
  return g.push<GatherRows>({ kind: "gather-rows", name: g.path(name), input: x, rows, output }).output;
}

export const gatherRowsKind: OperationKind<GatherRows> = {
  reads: ({ input, rows }) => [input, rows],
  lower({ name, input, rows, output }, { storage }) {
    const [tables, tokens, channels] = input.shape as [number, number, number];
    const images = output.shape[0]!;
    return [
      {
        kernel: kernel("gather_rows", source, storage),
        label: name,
        params: { images, tokens, quads: quads(channels), image_rows: tables === images ? tokens : 0 },
        bindings: [{ tensor: input }, { tensor: rows }, { tensor: output }],
        workgroups: [Math.ceil((images * quads(channels)) / 64), 1, 1],
      },
    ];
  },
};
