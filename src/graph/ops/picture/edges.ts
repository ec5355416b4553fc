/** Edges of a picture: Sobel's gradient, and Canny's thin and linked ones. */

import gradientSource from "../../../../shaders/edge_gradient.wgsl" with { type: "text" };
import linkSource from "../../../../shaders/edge_link.wgsl" with { type: "text" };
import thinSource from "../../../../shaders/edge_thin.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { rowsOf, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";

export interface EdgeGradient extends OperationBase {
  readonly kind: "edge-gradient";
  readonly input: Tensor;
}

export interface EdgeThin extends OperationBase {
  readonly kind: "edge-thin";
  readonly input: Tensor;
  readonly low: number;
  readonly high: number;
}

/** One round of linking. */
export interface EdgeLink extends OperationBase {
  readonly kind: "edge-link";
  readonly input: Tensor;
}

/** Pixels of a side that a workgroup links. */
const TILE = 16;

/** `[n, h, w, 3]` → the gradient of its brightness, `[n, h, w, 3]`: `|gx| + |gy|`, gx, gy. */
export function edgeGradient(g: Graph, x: Tensor, name: string): Tensor {
  const [n, h, w] = g.picture(x, name);
  const output = g.tensor(g.path(name), [n, h, w, 3]);
  return g.push<EdgeGradient>({ kind: "edge-gradient", name: g.path(name), input: x, output }).output;
}

/** A gradient → edges one pixel wide, `[n, h, w, 1]`: 1 above `high`, ½ above `low`, else 0. */
export function edgeThin(
  g: Graph,
  gradient: Tensor,
  { low, high }: Pick<EdgeThin, "low" | "high">,
  name: string,
): Tensor {
  const [n, h, w] = g.picture(gradient, name);
  const output = g.tensor(g.path(name), [n, h, w, 1]);
  return g.push<EdgeThin>({ kind: "edge-thin", name: g.path(name), input: gradient, low, high, output }).output;
}

/**
 * Thin edges → the same, ½ become 1 if a way of others leads to a 1. Rounds are bounded, by the tiles across and down: a way
 * that winds through more tiles than twice as many is cut off.
 */
export function edgeLinked(g: Graph, thin: Tensor, name: string): Tensor {
  const [, h, w] = g.picture(thin, name);
  let linked = thin;
  for (let round = 0; round < 2 * (Math.ceil(h / TILE) + Math.ceil(w / TILE)); round++) {
    const output = g.tensor(g.path(name), thin.shape);
    linked = g.push<EdgeLink>({ kind: "edge-link", name: g.path(name), input: linked, output }).output;
  }
  return linked;
}

export const edgeGradientKind: OperationKind<EdgeGradient> = {
  reads: ({ input }) => [input],
  lower({ name, input, output }, { storage }) {
    const [, height, width] = input.shape as [number, number, number];
    const { workgroups, width: gridWidth } = grid(rowsOf(output));
    return [
      {
        kernel: kernel("edge_gradient", gradientSource, storage),
        label: name,
        params: { pixels: rowsOf(output), height, width, grid_width: gridWidth },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups,
      },
    ];
  },
};

export const edgeThinKind: OperationKind<EdgeThin> = {
  reads: ({ input }) => [input],
  lower({ name, input, low, high, output }, { storage }) {
    const [, height, width] = input.shape as [number, number, number];
    const { workgroups, width: gridWidth } = grid(rowsOf(output));
    const limits = { low: { f32: low }, high: { f32: high } };
    return [
      {
        kernel: kernel("edge_thin", thinSource, storage),
        label: name,
        params: { pixels: rowsOf(output), height, width, grid_width: gridWidth, ...limits },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups,
      },
    ];
  },
};

export const edgeLinkKind: OperationKind<EdgeLink> = {
  reads: ({ input }) => [input],
  lower({ name, input, output }, { storage }) {
    const [images, height, width] = input.shape as [number, number, number];
    const [tiles, down] = [Math.ceil(width / TILE), Math.ceil(height / TILE)];
    return [
      {
        kernel: kernel("edge_link", linkSource, storage),
        label: name,
        params: { height, width, tiles, tiles_down: down },
        bindings: [{ tensor: input }, { tensor: output }],
        workgroups: [tiles, down * images, 1],
      },
    ];
  },
};
