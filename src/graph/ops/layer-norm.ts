import layerNormSource from "../../../shaders/layer_norm.wgsl" with { type: "text" };
import layerNormSubgroup from "../../../shaders/layer_norm_subgroup.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor, type VectorParameter } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

export interface LayerNorm extends OperationBase {
  readonly kind: "layer-norm";
  readonly input: Tensor;
  readonly eps: number;
  readonly gamma: VectorParameter;
  readonly beta: VectorParameter;
}

/** Layer normalisation over the last dimension; weights `<name>.weight`, `<name>.bias` `[c]`. */
export function layerNorm(g: Graph, x: Tensor, name: string, options: { eps: number }): Tensor {
  const c = channelsOf(x);
  return g.push<LayerNorm>({
    kind: "layer-norm",
    name: g.path(name),
    input: x,
    eps: options.eps,
    gamma: g.vector(name, "weight", c),
    beta: g.vector(name, "bias", c),
    output: g.tensor(g.path(name), x.shape),
  }).output;
}

// Invocations of a workgroup whose subgroups have a row each.
const INVOCATIONS = 64;

export const layerNormKind: OperationKind<LayerNorm> = {
  reads: ({ input }) => [input],
  parameters: ({ gamma, beta }) => [gamma, beta],
  lower({ name, input, eps, gamma, beta, output }, { storage, lanes, hardware }) {
    const channels = channelsOf(input);
    const rows = rowsOf(input);
    const subgroups = hardware && lanes ? Math.max(1, INVOCATIONS / lanes) : undefined;
    const { workgroups, width } = grid(subgroups ? Math.ceil(rows / subgroups) * 64 : rows);
    return [
      {
        kernel: subgroups
          ? kernel("layer_norm_subgroup", layerNormSubgroup, storage, {
              subgroups: lanes,
              constants: { SUBGROUPS: subgroups },
            })
          : kernel("layer_norm", layerNormSource, storage),
        label: name,
        params: { rows, quads: quads(channels), channels, eps: { f32: eps }, grid_width: width },
        bindings: [{ tensor: input }, { parameter: gamma }, { parameter: beta }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
