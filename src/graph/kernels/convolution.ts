/**
 * Convolutions and linear layers: `shaders/conv2d_*.wgsl` (and `winograd.ts`, `narrow.ts`, `subpixel.ts`). An input in
 * several parts is one dispatch a part, each adding to what the one before left in the output.
 */

import subgroup from "../../../shaders/conv2d_subgroup.wgsl" with { type: "text" };
import quad from "../../../shaders/conv2d_subgroup_quad.wgsl" with { type: "text" };
import tiled from "../../../shaders/conv2d_tiled.wgsl" with { type: "text" };
import convolution from "../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import epilogueConstant from "../../../shaders/prelude/epilogue_constant.wgsl" with { type: "text" };
import epilogueUniform from "../../../shaders/prelude/epilogue_uniform.wgsl" with { type: "text" };
import quadProduct from "../../../shaders/prelude/quad_product.wgsl" with { type: "text" };
import rowsPhase from "../../../shaders/prelude/rows_phase.wgsl" with { type: "text" };
import rowsWhole from "../../../shaders/prelude/rows_whole.wgsl" with { type: "text" };
import subgroupProduct from "../../../shaders/prelude/subgroup_product.wgsl" with { type: "text" };
import tilesBuffer from "../../../shaders/prelude/tiles_buffer.wgsl" with { type: "text" };
import tilesTextureF16 from "../../../shaders/prelude/tiles_texture_f16.wgsl" with { type: "text" };
import tilesTextureF32 from "../../../shaders/prelude/tiles_texture_f32.wgsl" with { type: "text" };
import { type Dispatch, fold, type KernelOptions, kernel, params, type Target } from "../dispatch.ts";
import { activationCode, type Convolution, channelsOf, partsOf, quads, type Tensor } from "../tensor.ts";
import { type ConvolutionVariant, convolutionVariant, QUAD_LANES } from "../variants.ts";
import { isMatrixVariant, matrixKernel } from "./matrix.ts";
import { lowerNarrow } from "./narrow.ts";
import { lowerSubpixel } from "./subpixel.ts";
import { lowerWinograd } from "./winograd.ts";

// What a subgroup of the subgroup variant owns: so many pixels × so many quads of output channels a lane. `cost` is CPU time
// on lavapipe where no pixel and no channel of it is wasted, beside the best. A load from a buffer is so much code that two
// quads a lane outgrow the instruction cache.
const SUBGROUP_TILES = {
  texture: [
    { rows: 16, quads: 2, cost: 1 },
    { rows: 32, quads: 1, cost: 1.3 },
    { rows: 8, quads: 2, cost: 1.4 },
  ],
  buffer: [
    { rows: 32, quads: 1, cost: 1 },
    { rows: 16, quads: 1, cost: 1.15 },
    { rows: 8, quads: 1, cost: 1.5 },
  ],
} as const;
// The same of the form for subgroups of four, on SwiftShader.
const QUAD_TILES = [
  { rows: 32, quads: 4, cost: 1 },
  { rows: 32, quads: 2, cost: 1.15 },
  { rows: 32, quads: 1, cost: 1.8 },
  { rows: 8, quads: 4, cost: 2 },
] as const;
const TILED_ROWS = 64;
const TILED_QUADS = 16;

export function lowerConvolution(operation: Convolution, target: Target): Dispatch[] {
  const form = convolutionVariant(operation, target);
  if (form === "winograd") return lowerWinograd(operation, target);
  if (form === "narrow") return lowerNarrow(operation, target);
  if (form === "subpixel") return lowerSubpixel(operation, target);
  return lowerDirect(form, operation, target);
}

/** The forms that go over a convolution's taps and input channels one after the other. */
type DirectVariant = Exclude<ConvolutionVariant, "winograd" | "narrow" | "subpixel">;

/** Pixels of an output that a dispatch makes: (2y, 2x) and so on, with the taps of the sub-pixel weights from `firstTap` on. */
export interface Phase {
  readonly y: number;
  readonly x: number;
  readonly firstTap: number;
}

/** All of the output of `operation`, or a phase of it, whose own size `operation.picture` has then. */
export function lowerDirect(form: DirectVariant, operation: Convolution, target: Target, phase?: Phase): Dispatch[] {
  const { picture, weight, bias, perImage, residual, gated = false } = operation;
  const { storage, lanes } = target;
  const weights = phase ? "f32" : target.weights;
  const outQuads = quads(channelsOf(operation.output)) * (gated ? 2 : 1); // those that are computed
  const rows = picture.images * picture.outHeight * picture.outWidth;
  const held = phase || target.textured?.(weight) ? "texture" : "buffer";
  const variant = kernelOf(form, { rows, outQuads, held, gated, target });
  const { width, height } = fold(Math.ceil(rows / variant.rows));
  const parts = partsOf(operation.input);
  let firstInQuad = (phase?.firstTap ?? 0) * weight.inputQuads;
  return parts.map((input, part): Dispatch => {
    const isLast = part === parts.length - 1;
    const wanted = { accumulate: part > 0, epilogue: isLast };
    const block = convolutionParams(operation, { input, firstInQuad, ...wanted, gridWidth: width, phase });
    const ending = epilogueCode(operation, wanted, lanes);
    firstInQuad += quads(channelsOf(input));
    const epilogue = (tensor: Tensor | undefined) => (isLast && tensor ? { tensor } : "blank");
    return {
      kernel: kernel(variant.name, variant.source, storage, {
        ...variant,
        weights,
        preludes: [
          convolution,
          phase ? rowsPhase : rowsWhole,
          ending.prelude,
          TILES[held][weights],
          ...(variant.preludes ?? []),
        ],
        constants: { ...ending.constants, ...variant.constants },
      }),
      label: operation.name,
      params: block,
      bindings: [
        { tensor: input },
        phase ? { transformed: weight, form: "subpixel" } : { parameter: weight },
        isLast && bias ? { parameter: bias } : "blank",
        epilogue(perImage?.tensor),
        epilogue(residual),
        { tensor: operation.output },
      ],
      workgroups: [width, Math.ceil(outQuads / variant.quads), height],
    };
  });
}

export interface ConvolutionKernel extends KernelOptions {
  readonly name: string;
  readonly source: string;
  /** Output pixels of a workgroup, and quads of output channels. */
  readonly rows: number;
  readonly quads: number;
}

function kernelOf(
  form: DirectVariant,
  of: { rows: number; outQuads: number; held: "texture" | "buffer"; gated: boolean; target: Target },
): ConvolutionKernel {
  const { rows, outQuads, held, gated, target } = of;
  const constants = { GATED: Number(gated) };
  if (form === "tiled") return { name: "conv2d_tiled", source: tiled, rows: TILED_ROWS, quads: TILED_QUADS, constants };
  const lanes = target.lanes!;
  if (isMatrixVariant(form)) return matrixKernel(form, target.matrixUnit!, lanes);
  const inFours = lanes === QUAD_LANES;
  // A lane has both halves of what a gate multiplies.
  const tiles = (inFours ? QUAD_TILES : SUBGROUP_TILES[held]).filter(({ quads: owned }) => !gated || owned > 1);
  const tile = cheapestTile(tiles, rows, outQuads, lanes);
  return {
    ...(inFours ? { name: "conv2d_subgroup_quad", source: quad } : { name: "conv2d_subgroup", source: subgroup }),
    ...{ rows: tile.rows, quads: tile.quads * lanes },
    subgroups: lanes,
    preludes: [inFours ? quadProduct : subgroupProduct],
    constants: { ...constants, ROWS: tile.rows, QUADS: tile.quads },
  };
}

/** What of a convolution's end a dispatch does. */
interface Ending {
  /** Adds to what is in the output already. */
  readonly accumulate: boolean;
  /** Ends with the layer's epilogue. */
  readonly epilogue: boolean;
}

interface ParamsOptions extends Ending {
  /** The part of the input that this dispatch reads, and the input channel of the layer that it begins with, in quads. */
  readonly input: Tensor;
  readonly firstInQuad: number;
  readonly gridWidth: number;
  readonly phase?: Phase | undefined;
  readonly tiles?: {
    first: number;
    count: number;
    stride: number;
    productQuads: number;
    high: number;
    wide: number;
    side: number;
  };
}

/** The parameters of `shaders/prelude/convolution.wgsl`. */
export function convolutionParams(operation: Convolution, options: ParamsOptions): ArrayBuffer {
  const { picture, virtual, kernel: window, weight, perImage } = operation;
  const { input, firstInQuad, gridWidth, phase, tiles } = options;
  const ending = epilogueFlags(operation, options);
  const rows = picture.images * picture.outHeight * picture.outWidth;
  return params(
    ...[picture.inHeight, picture.inWidth, quads(channelsOf(input)), firstInQuad],
    ...[virtual.height, virtual.width, picture.outHeight, picture.outWidth],
    ...[rows, quads(channelsOf(operation.output)), operation.firstOutputQuad, window.stride],
    ...[window.height, window.width, window.top, window.left],
    ...[weight.inputQuads, weight.outputQuads, ending.ACCUMULATE, ending.HAS_BIAS],
    ...[ending.HAS_PER_IMAGE, ending.HAS_RESIDUAL, ending.ACTIVATION, ending.ACTIVATION_AFTER_RESIDUAL],
    ...[gridWidth, tiles?.first ?? 0, tiles?.count ?? 0, tiles?.stride ?? 0],
    ...[tiles?.productQuads ?? 0, tiles?.high ?? 0, tiles?.wide ?? 0, tiles?.side ?? 0, (tiles?.side ?? 0) ** 2],
    ...(perImage ? [quads(channelsOf(perImage.tensor)), perImage.offset / 4] : [0, 0]),
    ...(phase ? [phase.y, phase.x] : [0, 0]),
  );
}

function epilogueFlags(operation: Convolution, { accumulate, epilogue }: Ending) {
  const { bias, perImage, residual, activation, activationAfterResidual } = operation;
  return {
    ACCUMULATE: Number(accumulate),
    HAS_BIAS: Number(epilogue && bias !== undefined),
    HAS_PER_IMAGE: Number(epilogue && perImage !== undefined),
    HAS_RESIDUAL: Number(epilogue && residual !== undefined),
    ACTIVATION: activationCode[epilogue ? activation : "none"],
    ACTIVATION_AFTER_RESIDUAL: Number(activationAfterResidual),
  };
}

/** How a kernel learns what it ends with: from its parameters, or from constants where both sides of a branch are gone through. */
export function epilogueCode(
  operation: Convolution,
  ending: Ending,
  lanes: number | undefined,
): { readonly prelude: string; readonly constants: Readonly<Record<string, number>> } {
  if (lanes !== QUAD_LANES) return { prelude: epilogueUniform, constants: {} };
  return { prelude: epilogueConstant, constants: epilogueFlags(operation, ending) };
}

const TILES = {
  buffer: { f32: tilesBuffer, f16: tilesBuffer },
  texture: { f32: tilesTextureF32, f16: tilesTextureF16 },
} as const;

interface Tile {
  readonly rows: number;
  readonly quads: number;
  readonly cost: number;
}

/** The tile that costs least for so many rows and output quads. */
function cheapestTile(tiles: readonly Tile[], rows: number, outQuads: number, lanes: number): Tile {
  const up = (count: number, unit: number) => Math.ceil(count / unit) * unit;
  const costs = tiles.map((tile) => ({
    tile,
    total: up(rows, tile.rows) * up(outQuads, tile.quads * lanes) * tile.cost,
  }));
  return costs.reduce((best, next) => (next.total < best.total ? next : best)).tile;
}
