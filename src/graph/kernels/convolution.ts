/**
 * Convolutions and linear layers: `shaders/conv2d_*.wgsl`. An input in several parts is one dispatch a part, each adding to
 * what the one before left in the output.
 */

import subgroup from "../../../shaders/conv2d_subgroup.wgsl" with { type: "text" };
import tiled from "../../../shaders/conv2d_tiled.wgsl" with { type: "text" };
import convolution from "../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import { type Dispatch, fold, kernel, params, type Target } from "../dispatch.ts";
import { activationCode, type Convolution, channelsOf, partsOf, quads, type Tensor } from "../tensor.ts";
import { convolutionVariant } from "../variants.ts";

// Rows of the subgroup variant, by what they cost beside 32 where none is wasted: CPU time of SD 1.5's layers on lavapipe.
const SUBGROUP_ROWS = [
  { rows: 32, cost: 1 },
  { rows: 16, cost: 1.15 },
  { rows: 8, cost: 1.5 },
] as const;
const TILED_ROWS = 64;
const TILED_QUADS = 16;

export function lowerConvolution(operation: Convolution, target: Target): Dispatch[] {
  const { picture, virtual, kernel: window, weight, bias, perImage, residual } = operation;
  const { storage, weights, lanes } = target;
  const outQuads = quads(channelsOf(operation.output));
  const rows = picture.images * picture.outHeight * picture.outWidth;
  const form = convolutionVariant(operation, target);
  const variant =
    form === "subgroup"
      ? { name: "conv2d_subgroup", source: subgroup, rows: subgroupRows(rows), quads: lanes! }
      : { name: "conv2d_tiled", source: tiled, rows: TILED_ROWS, quads: TILED_QUADS };
  const { width, height } = fold(Math.ceil(rows / variant.rows));
  const parts = partsOf(operation.input);
  let firstWeightQuad = 0;
  return parts.map((input, part): Dispatch => {
    const isLast = part === parts.length - 1;
    const inQuads = quads(channelsOf(input));
    const block = params(
      ...[picture.inHeight, picture.inWidth, inQuads, firstWeightQuad],
      ...[virtual.height, virtual.width, picture.outHeight, picture.outWidth],
      ...[rows, outQuads, operation.firstOutputQuad, window.stride],
      ...[window.height, window.width, window.top, window.left],
      ...[weight.inputQuads, weight.outputQuads, part > 0, isLast && bias !== undefined],
      ...[isLast && perImage !== undefined, isLast && residual !== undefined],
      ...[isLast ? activationCode[operation.activation] : activationCode.none, operation.activationAfterResidual],
      width,
    );
    firstWeightQuad += inQuads;
    const epilogue = (tensor: Tensor | undefined) => (isLast && tensor ? { tensor } : "blank");
    return {
      kernel: kernel(variant.name, variant.source, storage, {
        weights,
        subgroups: form === "subgroup" ? lanes : undefined,
        preludes: [convolution],
        constants: form === "subgroup" ? { ROWS: variant.rows } : {},
      }),
      label: operation.name,
      params: block,
      bindings: [
        { tensor: input },
        { parameter: weight },
        isLast && bias ? { parameter: bias } : "blank",
        epilogue(perImage),
        epilogue(residual),
        { tensor: operation.output },
      ],
      workgroups: [width, Math.ceil(outQuads / variant.quads), height],
    };
  });
}

/** The rows of a workgroup's tile that `rows` in all are computed fastest with. */
function subgroupRows(rows: number): number {
  const costs = SUBGROUP_ROWS.map((tile) => ({
    rows: tile.rows,
    total: Math.ceil(rows / tile.rows) * tile.rows * tile.cost,
  }));
  return costs.reduce((best, tile) => (tile.total < best.total ? tile : best)).rows;
}
