/** Two sequences of tokens as one: features of a picture, and the queries that read them. */

import source from "../../../shaders/join_tokens.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, quads, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

/** `[n, a, c]` and `[n, b, c]` as `[n, a + b, c]`. */
export interface JoinTokens extends OperationBase {
  readonly kind: "join-tokens";
  readonly first: Tensor;
  readonly second: Tensor;
}

/** `[n, a, c]` and `[n, b, c]` → `[n, a + b, c]` */
export function joinTokens(g: Graph, x: Tensor, y: Tensor, name: string): Tensor {
  const [images, tokens, channels] = x.shape as [number, number, number];
  if (x.shape.length !== 3 || y.shape.length !== 3 || y.shape[0] !== images || channelsOf(y) !== channels) {
    throw g.error(name, `sequences ${x.shape} and ${y.shape} do not follow each other`);
  }
  const output = g.tensor(g.path(name), [images, tokens + y.shape[1]!, channels]);
  return g.push<JoinTokens>({ kind: "join-tokens", name: g.path(name), first: x, second: y, output }).output;
}

export const joinTokensKind: OperationKind<JoinTokens> = {
  reads: ({ first, second }) => [first, second],
  lower({ name, first, second, output }, { storage }) {
    const quadCount = quads(channelsOf(output));
    const count = output.shape[0]! * output.shape[1]! * quadCount;
    const { workgroups, width } = grid(count);
    return [
      {
        kernel: kernel("join_tokens", source, storage),
        label: name,
        params: { count, first: first.shape[1]! * quadCount, second: second.shape[1]! * quadCount, grid_width: width },
        bindings: [{ tensor: first }, { tensor: second }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
