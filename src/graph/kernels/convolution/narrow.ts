/** 3 × 3 convolutions to few output channels: `shaders/conv2d_narrow.wgsl`. */

import source from "../../../../shaders/conv2d_narrow.wgsl" with { type: "text" };
import convolution from "../../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import tilesBuffer from "../../../../shaders/prelude/tiles_buffer.wgsl" with { type: "text" };
import { type Dispatch, fold, kernel, type Target } from "../../dispatch.ts";
import { channelsOf, partsOf, quads } from "../../tensor.ts";
import type { KernelVariant } from "../variant.ts";
import type { Convolution } from "./operation.ts";
import { convolutionParams, epilogueBindings, epilogueCode } from "./params.ts";
import { isSquare } from "./square.ts";

// Pixels of a row that a lane owns in conv2d_narrow.wgsl.
const WIDTH = 8;
// Lanes of a subgroup that load weights in conv2d_narrow.wgsl.
const LOADING_LANES = 3;
// A pixel of it costs so much for each output quad, beside one of conv2d_subgroup.wgsl for as many as there are lanes.
const QUAD_COST = 0.25;
// On subgroups of no more lanes than this it is never the faster one.
const FEW_LANES = 4;

export const narrow = {
  name: "narrow",
  can(operation, target) {
    const { weight, gated } = operation;
    const { lanes = 0, textured } = target;
    return !gated && lanes >= LOADING_LANES && weight.outputQuads < lanes && isSquare(operation) && !textured?.(weight);
  },
  /** Below 1 if so few of the lanes would have channels of their own that it is better to give them pixels. */
  cost({ weight }, { lanes = 0 }) {
    const cost = (weight.outputQuads * QUAD_COST) / Math.ceil(weight.outputQuads / lanes);
    return lanes > FEW_LANES && cost < 1 ? cost : Number.POSITIVE_INFINITY;
  },
  lower: lowerNarrow,
} as const satisfies KernelVariant<Convolution>;

function lowerNarrow(operation: Convolution, { storage, weightStorage, lanes }: Target): Dispatch[] {
  const { picture, weight } = operation;
  const outQuads = quads(channelsOf(operation.output));
  const high = picture.outHeight;
  const wide = Math.ceil(picture.outWidth / WIDTH);
  const count = picture.images * high * wide;
  const { width, height } = fold(Math.ceil(count / lanes!));
  const parts = partsOf(operation.input);
  let firstInQuad = 0;
  return parts.map((input, part): Dispatch => {
    const isLast = part === parts.length - 1;
    const end = { accumulate: part > 0, epilogue: isLast };
    const ending = epilogueCode(operation, end, lanes);
    const block = convolutionParams(operation, {
      input,
      firstInQuad,
      ...end,
      gridWidth: width,
      tiles: { first: 0, count, stride: 0, productQuads: 0, high, wide, side: WIDTH },
    });
    firstInQuad += quads(channelsOf(input));
    return {
      kernel: kernel("conv2d_narrow", source, storage, {
        weightStorage,
        subgroups: lanes,
        preludes: [convolution, ending.prelude, tilesBuffer],
        constants: ending.constants,
      }),
      label: operation.name,
      params: block,
      bindings: [
        { tensor: input },
        { parameter: weight },
        ...epilogueBindings(operation, isLast),
        { tensor: operation.output },
      ],
      workgroups: [width, outQuads, height],
    };
  });
}
