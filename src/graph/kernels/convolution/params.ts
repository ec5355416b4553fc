/** The parameters and the endings that the convolution kernels share: `shaders/prelude/{convolution,epilogue_*}.wgsl`. */

import epilogueConstant from "../../../../shaders/prelude/epilogue_constant.wgsl" with { type: "text" };
import epilogueUniform from "../../../../shaders/prelude/epilogue_uniform.wgsl" with { type: "text" };
import { type Binding, type Params, QUAD_LANES } from "../../dispatch.ts";
import { activationCode, channelsOf, quads, type Tensor } from "../../tensor.ts";
import type { Convolution } from "./operation.ts";

/** Pixels of an output that a dispatch makes: (2y, 2x) and so on, with the taps of the sub-pixel weights from `firstTap` on. */
export interface Phase {
  readonly y: number;
  readonly x: number;
  readonly firstTap: number;
}

/** The part of a convolution's end that a dispatch does. */
export interface Ending {
  /** Adds to the values that are in the output already. */
  readonly accumulate: boolean;
  /** Ends with the layer's epilogue. */
  readonly epilogue: boolean;
}

export interface ParamsOptions extends Ending {
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
export function convolutionParams(operation: Convolution, options: ParamsOptions): Params {
  const { picture, virtual, kernel: window, weight, perImage } = operation;
  const { input, firstInQuad, gridWidth, phase, tiles } = options;
  const ending = epilogueFlags(operation, options);
  return {
    in_height: picture.inHeight,
    in_width: picture.inWidth,
    in_quads: quads(channelsOf(input)),
    first_in_quad: firstInQuad,
    virtual_height: virtual.height,
    virtual_width: virtual.width,
    out_height: picture.outHeight,
    out_width: picture.outWidth,
    rows: picture.images * picture.outHeight * picture.outWidth,
    out_quads: quads(channelsOf(operation.output)),
    first_out_quad: operation.firstOutputQuad,
    stride: window.stride,
    kernel_height: window.height,
    kernel_width: window.width,
    pad_top: window.top,
    pad_left: window.left,
    layer_in_quads: weight.inputQuads,
    layer_out_quads: weight.outputQuads,
    accumulate: ending.ACCUMULATE,
    has_bias: ending.HAS_BIAS,
    has_per_image: ending.HAS_PER_IMAGE,
    has_residual: ending.HAS_RESIDUAL,
    activation: ending.ACTIVATION,
    activation_after_residual: ending.ACTIVATION_AFTER_RESIDUAL,
    grid_width: gridWidth,
    first_tile: tiles?.first ?? 0,
    tile_count: tiles?.count ?? 0,
    tile_stride: tiles?.stride ?? 0,
    product_quads: tiles?.productQuads ?? 0,
    tiles_high: tiles?.high ?? 0,
    tiles_wide: tiles?.wide ?? 0,
    tile_side: tiles?.side ?? 0,
    tile_pixels: (tiles?.side ?? 0) ** 2,
    per_image_quads: perImage ? quads(channelsOf(perImage.tensor)) : 0,
    first_per_image_quad: perImage ? perImage.offset / 4 : 0,
    phased: phase !== undefined,
    phase_y: phase?.y ?? 0,
    phase_x: phase?.x ?? 0,
    gated: Number(operation.gated ?? false),
  };
}

/** Bindings of bias, addend of one row an image, and residual; blank in a dispatch that leaves the epilogue to another. */
export function epilogueBindings({ bias, perImage, residual }: Convolution, epilogue: boolean): Binding[] {
  return [
    epilogue && bias ? { parameter: bias } : "blank",
    ...[perImage?.tensor, residual].map((tensor): Binding => (epilogue && tensor ? { tensor } : "blank")),
  ];
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

/** A kernel learns its ending from its parameters. */
export const uniformEpilogue = { prelude: epilogueUniform, constants: {} } as const;

/** How a kernel learns its ending: from its parameters, or from constants on adapters that go through both sides of a branch. */
export function epilogueCode(
  operation: Convolution,
  ending: Ending,
  lanes: number | undefined,
): { readonly prelude: string; readonly constants: Readonly<Record<string, number>> } {
  if (lanes !== QUAD_LANES) return uniformEpilogue;
  return { prelude: epilogueConstant, constants: epilogueFlags(operation, ending) };
}
