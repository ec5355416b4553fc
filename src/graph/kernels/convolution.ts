/** Convolutions and linear layers: `shaders/conv2d_*.wgsl`. */

import subgroup from "../../../shaders/conv2d_subgroup.wgsl" with { type: "text" };
import tiled from "../../../shaders/conv2d_tiled.wgsl" with { type: "text" };
import convolution from "../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import { type Dispatch, fold, kernel, params, type Target } from "../dispatch.ts";
import { activationCode, channelsOf, type Convolution, quads } from "../tensor.ts";

const SUBGROUP_ROWS = 16;
const TILED_ROWS = 64;
const TILED_QUADS = 16;

export function lowerConvolution(operation: Convolution, target: Target): Dispatch[] {
  const { picture, virtual, kernel: window, weight } = operation;
  const { storage, weights, lanes } = target;
  const outQuads = quads(channelsOf(operation.output));
  const rows = picture.images * picture.outHeight * picture.outWidth;
  const variant = lanes
    ? { name: "conv2d_subgroup", source: subgroup, rows: SUBGROUP_ROWS, quads: lanes }
    : { name: "conv2d_tiled", source: tiled, rows: TILED_ROWS, quads: TILED_QUADS };
  const { width, height } = fold(Math.ceil(rows / variant.rows));
  return [
    {
      kernel: kernel(variant.name, variant.source, storage, { weights, subgroups: lanes, preludes: [convolution] }),
      label: operation.name,
      params: params(
        ...[picture.inHeight, picture.inWidth, quads(channelsOf(operation.input)), 0],
        ...[virtual.height, virtual.width, picture.outHeight, picture.outWidth],
        ...[outQuads, 0, rows, window.stride],
        ...[window.height, window.width, window.top, window.left],
        ...[weight.inputQuads, operation.firstWeightQuad, activationCode[operation.activation]],
        operation.activationAfterResidual,
        ...[operation.bias !== undefined, operation.perImage !== undefined, operation.residual !== undefined, width],
      ),
      bindings: [
        { tensor: operation.input },
        { parameter: weight },
        operation.bias ? { parameter: operation.bias } : "blank",
        operation.perImage ? { tensor: operation.perImage } : "blank",
        operation.residual ? { tensor: operation.residual } : "blank",
        { tensor: operation.output },
      ],
      workgroups: [width, Math.ceil(outQuads / variant.quads), height],
    },
  ];
}
