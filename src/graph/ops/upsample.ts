import source from "../../../shaders/upsample_nearest.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, partsOf, quads, rowsOf, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

/** Nearest-neighbour resize of a picture. */
export interface Upsample extends OperationBase {
  readonly kind: "upsample-nearest";
  readonly input: Tensor;
  /** The channel of `input` that `output` begins with, in quads; not 0 if it is a slice. */
  readonly firstQuad: number;
}

/** Nearest-neighbour resize of `[n, h, w, c]`. */
export function upsampleNearest(g: Graph, x: Tensor, name: string, size: { height: number; width: number }): Tensor {
  const [n, , , c] = g.picture(x, name);
  const output = g.tensor(g.path(name), [n, size.height, size.width, c]);
  return g.push<Upsample>({ kind: "upsample-nearest", name: g.path(name), input: x, firstQuad: 0, output }).output;
}

export const upsampleKind: OperationKind<Upsample> = {
  reads: ({ input }) => partsOf(input),
  split(operation, slicing) {
    const input = slicing.stored(operation.input);
    return slicing.sliceEvenly(operation).map(({ tensor, firstQuad }) => ({
      ...operation,
      input,
      firstQuad,
      output: tensor,
    }));
  },
  lower({ name, input, output, firstQuad }, { storage }) {
    const [images, inHeight, inWidth] = input.shape as [number, number, number];
    const [, outHeight, outWidth] = output.shape as [number, number, number];
    const outQuads = quads(channelsOf(output));
    const dispatches: Dispatch[] = [];
    let partStart = 0;
    for (const part of partsOf(input)) {
      // The channels that this part of the input and the output have in common.
      const inQuads = quads(channelsOf(part));
      const begin = Math.max(partStart, firstQuad);
      const count = Math.min(partStart + inQuads, firstQuad + outQuads) - begin;
      if (count > 0) {
        const { workgroups, width } = grid(rowsOf(output) * count);
        dispatches.push({
          kernel: kernel("upsample_nearest", source, storage),
          label: name,
          params: {
            images,
            in_height: inHeight,
            in_width: inWidth,
            out_height: outHeight,
            out_width: outWidth,
            quads: count,
            in_quads: inQuads,
            first_in_quad: begin - partStart,
            out_quads: outQuads,
            first_out_quad: begin - firstQuad,
            grid_width: width,
          },
          bindings: [{ tensor: part }, { tensor: output }],
          workgroups,
        });
      }
      partStart += inQuads;
    }
    return dispatches;
  },
};
