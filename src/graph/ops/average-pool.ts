/** Averages of a picture's windows, or of the whole picture. */

import source from "../../../shaders/average_pool.wgsl" with { type: "text" };
import { fold, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

export interface AveragePool extends OperationBase {
  readonly kind: "average-pool";
  readonly input: Tensor;
  /** Pixels of a window, which is as far from the next. */
  readonly window: { readonly height: number; readonly width: number };
}

/**
 * `[n, h, w, c]` → `[n, ⌈h / window⌉, ⌈w / window⌉, c]`: the mean of each window; one at the edge has the pixels that there
 * are. Without a window: the mean of each picture, `[n, 1, 1, c]`.
 */
export function averagePool(g: Graph, x: Tensor, name: string, window?: number): Tensor {
  const [n, h, w, c] = g.picture(x, name);
  const size = { height: window ?? h, width: window ?? w };
  const output = g.tensor(g.path(name), [n, Math.ceil(h / size.height), Math.ceil(w / size.width), c]);
  return g.push<AveragePool>({ kind: "average-pool", name: g.path(name), input: x, window: size, output }).output;
}

export const averagePoolKind: OperationKind<AveragePool> = {
  reads: ({ input }) => [input],
  lower({ name, input, window, output }, { storage }) {
    const [, inHeight, inWidth] = input.shape as [number, number, number];
    const [, outHeight, outWidth] = output.shape as [number, number, number];
    const quadCount = quads(channelsOf(input));
    const count = rowsOf(output) * quadCount;
    const { width, height } = fold(count);
    return [
      {
        kernel: kernel("average_pool", source, storage),
        label: name,
        params: {
          in_height: inHeight,
          in_width: inWidth,
          out_height: outHeight,
          out_width: outWidth,
          window_height: window.height,
          window_width: window.width,
          quads: quadCount,
          count,
          grid_width: width,
        },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups: [width, height, 1],
      },
    ];
  },
};
