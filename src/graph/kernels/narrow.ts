/** 3 × 3 convolutions to few output channels: `shaders/conv2d_narrow.wgsl`. */

import narrow from "../../../shaders/conv2d_narrow.wgsl" with { type: "text" };
import convolution from "../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import rowsWhole from "../../../shaders/prelude/rows_whole.wgsl" with { type: "text" };
import tilesBuffer from "../../../shaders/prelude/tiles_buffer.wgsl" with { type: "text" };
import { type Dispatch, fold, kernel, type Target } from "../dispatch.ts";
import { type Convolution, channelsOf, partsOf, quads, type Tensor } from "../tensor.ts";
import { convolutionParams, epilogueCode } from "./convolution.ts";

// Pixels of a row that a lane owns in conv2d_narrow.wgsl.
const WIDTH = 8;

/** `operation` is one that `convolutionVariants` offers this form for. */
export function lowerNarrow(operation: Convolution, { storage, weights, lanes }: Target): Dispatch[] {
  const { picture, weight, bias, perImage, residual } = operation;
  const outQuads = quads(channelsOf(operation.output));
  const high = picture.outHeight;
  const wide = Math.ceil(picture.outWidth / WIDTH);
  const count = picture.images * high * wide;
  const { width, height } = fold(Math.ceil(count / lanes!));
  const parts = partsOf(operation.input);
  let firstInQuad = 0;
  return parts.map((input, part): Dispatch => {
    const isLast = part === parts.length - 1;
    const wanted = { accumulate: part > 0, epilogue: isLast };
    const ending = epilogueCode(operation, wanted, lanes);
    const block = convolutionParams(operation, {
      input,
      firstInQuad,
      ...wanted,
      gridWidth: width,
      tiles: { first: 0, count, stride: 0, productQuads: 0, high, wide, side: WIDTH },
    });
    firstInQuad += quads(channelsOf(input));
    const epilogue = (tensor: Tensor | undefined) => (isLast && tensor ? { tensor } : "blank");
    return {
      kernel: kernel("conv2d_narrow", narrow, storage, {
        weights,
        subgroups: lanes,
        preludes: [convolution, rowsWhole, ending.prelude, tilesBuffer],
        constants: ending.constants,
      }),
      label: operation.name,
      params: block,
      bindings: [
        { tensor: input },
        { parameter: weight },
        isLast && bias ? { parameter: bias } : "blank",
        epilogue(perImage?.tensor),
        epilogue(residual),
        { tensor: operation.output },
      ],
      workgroups: [width, outQuads, height],
    };
  });
}
