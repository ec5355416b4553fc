import source from "../../../shaders/softmax.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

export interface Softmax extends OperationBase {
  readonly kind: "softmax";
  readonly input: Tensor;
}

/** Softmax over the last dimension. */
export function softmax(g: Graph, x: Tensor, name: string): Tensor {
  const output = g.tensor(g.path(name), x.shape);
  return g.push<Softmax>({ kind: "softmax", name: g.path(name), input: x, output }).output;
}

export const softmaxKind: OperationKind<Softmax> = {
  reads: ({ input }) => [input],
  lower({ name, input, output }, { storage }) {
    const channels = channelsOf(input);
    const rows = rowsOf(input);
    const { workgroups, width } = grid(rows);
    return [
      {
        kernel: kernel("softmax", source, storage),
        label: name,
        params: { rows, quads: quads(channels), channels, grid_width: width },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
