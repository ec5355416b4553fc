import source from "../../../../shaders/latent_to_rgb.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";

/** Latents to RGB by a matrix, an f32 input `[4 · quads + 1, 4]`. */
export interface LatentToRgb extends OperationBase {
  readonly kind: "latent-to-rgb";
  readonly input: Tensor;
  readonly matrix: Tensor;
}

/** f32 latents `[n, h, w, c]` and matrix `[4 · ⌈c/4⌉ + 1, 4]` → `[n, h, w, 3]`. */
export function latentToRgb(g: Graph, latents: Tensor, matrix: Tensor, name: string): Tensor {
  const output = g.tensor(g.path(name), [...latents.shape.slice(0, -1), 3]);
  return g.push<LatentToRgb>({ kind: "latent-to-rgb", name: g.path(name), input: latents, matrix, output }).output;
}

export const latentToRgbKind: OperationKind<LatentToRgb> = {
  reads: ({ input, matrix }) => [input, matrix],
  lower({ name, input, matrix, output }, { storage }) {
    const pixels = rowsOf(input);
    const { workgroups, width } = grid(pixels);
    return [
      {
        kernel: kernel("latent_to_rgb", source, storage),
        label: name,
        params: { pixels, quads: quads(channelsOf(input)), grid_width: width },
        bindings: [{ tensor: input }, { tensor: matrix }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
