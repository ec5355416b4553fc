/** Tensors side by side along the channels. Most are never stored as one: the operation is for those that do not end in a whole quad. */

import source from "../../../shaders/concatenate.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

/** Two tensors side by side along the channels, stored as one. */
export interface Concatenate extends OperationBase {
  readonly kind: "concatenate";
  readonly first: Tensor;
  readonly second: Tensor;
}

/** Two tensors as one along the channels; only group norm and convolutions read such a tensor. */
export function concat(g: Graph, x: Tensor, y: Tensor): Tensor {
  const shape = [...x.shape.slice(0, -1), channelsOf(x) + channelsOf(y)];
  if (rowsOf(x) !== rowsOf(y)) {
    throw g.error("concat", `shapes ${x.shape} and ${y.shape} do not stand side by side`);
  }
  const output = g.tensor(g.path("concat"), shape);
  if (channelsOf(x) % 4 === 0) return { ...output, concatenated: [x, y] };
  return g.push<Concatenate>({ kind: "concatenate", name: g.path("concat"), first: x, second: y, output }).output;
}

export const concatenateKind: OperationKind<Concatenate> = {
  reads: ({ first, second }) => [first, second],
  lower({ name, first, second, output }, { storage }) {
    const { workgroups, width } = grid(rowsOf(output) * quads(channelsOf(output)));
    return [
      {
        kernel: kernel("concatenate", source, storage),
        label: name,
        params: {
          rows: rowsOf(output),
          first_channels: channelsOf(first),
          second_channels: channelsOf(second),
          grid_width: width,
        },
        bindings: [{ tensor: first }, { tensor: second }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
