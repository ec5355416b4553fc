import source from "../../../../shaders/pack_picture.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";
import { infinityBits } from "./finite-check.ts";

/** A picture in [-1, 1] to RGBA8, one u32 a pixel. */
export interface PackPicture extends OperationBase {
  readonly kind: "pack-picture";
  readonly input: Tensor;
}

/** `[n, h, w, ≥3]` in [-1, 1] → RGBA8, u32 `[n · h · w]`; transparent where a colour is NaN or infinite. */
export function packPicture(g: Graph, x: Tensor, name: string): Tensor {
  const output = g.tensor(g.path(name), [rowsOf(x)], { element: "u32" });
  return g.push<PackPicture>({ kind: "pack-picture", name: g.path(name), input: x, output }).output;
}

export const packPictureKind: OperationKind<PackPicture> = {
  reads: ({ input }) => [input],
  lower({ name, input, output }, { storage }) {
    const pixels = rowsOf(input);
    const { workgroups, width } = grid(pixels);
    return [
      {
        kernel: kernel("pack_picture", source, storage),
        label: name,
        params: { pixels, quads: quads(channelsOf(input)), grid_width: width, limit: infinityBits(storage) },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
