/** A Gaussian blur, as two passes. */

import source from "../../../../shaders/gaussian_blur.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";

/** One pass. */
export interface GaussianBlur extends OperationBase {
  readonly kind: "gaussian-blur";
  readonly input: Tensor;
  /** Pixels. */
  readonly sigma: number;
  readonly isVertical: boolean;
}

/** Standard deviations that a pass reaches to either side. */
const REACH = 3;

/** `[n, h, w, c]` blurred by `sigma` pixels; beyond its edge a picture goes on as it ends. */
export function gaussianBlur(g: Graph, x: Tensor, sigma: number, name: string): Tensor {
  g.picture(x, name);
  const pass = (input: Tensor, isVertical: boolean) =>
    g.push<GaussianBlur>({
      kind: "gaussian-blur",
      name: g.path(name),
      input,
      sigma,
      isVertical,
      output: g.tensor(g.path(name), x.shape),
    }).output;
  return pass(pass(x, false), true);
}

export const gaussianBlurKind: OperationKind<GaussianBlur> = {
  reads: ({ input }) => [input],
  lower({ name, input, sigma, isVertical, output }, { storage }) {
    const [, height, width] = input.shape as [number, number, number];
    const quadCount = quads(channelsOf(input));
    const count = rowsOf(output) * quadCount;
    const { workgroups, width: gridWidth } = grid(count);
    return [
      {
        kernel: kernel("gaussian_blur", source, storage),
        label: name,
        params: {
          count,
          height,
          width,
          quads: quadCount,
          radius: Math.ceil(REACH * sigma),
          is_vertical: isVertical,
          falloff: { f32: 1 / (2 * sigma ** 2) },
          grid_width: gridWidth,
        },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
