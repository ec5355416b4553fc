/**
 * The kernels that go over a convolution's taps and input channels one after the other: `shaders/conv2d_*.wgsl`. An input
 * in several parts is one dispatch a part, each adding to the output of the one before.
 */

import convolution from "../../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import tilesBuffer from "../../../../shaders/prelude/tiles_buffer.wgsl" with { type: "text" };
import tilesTextureF16 from "../../../../shaders/prelude/tiles_texture_f16.wgsl" with { type: "text" };
import tilesTextureF32 from "../../../../shaders/prelude/tiles_texture_f32.wgsl" with { type: "text" };
import { type Dispatch, fold, type KernelOptions, kernel, type Target } from "../../dispatch.ts";
import { channelsOf, partsOf, quads } from "../../tensor.ts";
import type { Convolution } from "./operation.ts";
import { convolutionParams, epilogueBindings, epilogueCode, type Phase, uniformEpilogue } from "./params.ts";

/** A kernel, and the part of a convolution that a workgroup of it owns. */
export interface DirectKernel extends KernelOptions {
  readonly name: string;
  readonly source: string;
  /** Output pixels of a workgroup, and quads of output channels. */
  readonly rows: number;
  readonly quads: number;
  /** One pipeline does for all endings, whatever the adapter. */
  readonly endings?: boolean;
}

/** The sizes that a kernel is chosen by. */
export interface DirectShape {
  /** Output pixels, and quads of output channels that are computed. */
  readonly rows: number;
  readonly outQuads: number;
  /** Where the weights lie. */
  readonly weightResource: "texture" | "buffer";
  readonly gated: boolean;
  readonly phased: boolean;
}

/** All of the output of `operation`, or a phase of it, whose own size `operation.picture` has then. */
export function lowerDirect(
  kernelOf: (shape: DirectShape) => DirectKernel,
  operation: Convolution,
  target: Target,
  phase?: Phase,
): Dispatch[] {
  const { picture, weight, gated = false } = operation;
  const { storage, lanes } = target;
  const weightStorage = phase ? "f32" : target.weightStorage;
  const outQuads = quads(channelsOf(operation.output)) * (gated ? 2 : 1);
  const rows = picture.images * picture.outHeight * picture.outWidth;
  const weightResource = phase || target.textured?.(weight) ? "texture" : "buffer";
  const direct = kernelOf({ rows, outQuads, weightResource, gated, phased: phase !== undefined });
  const { width, height } = fold(Math.ceil(rows / direct.rows));
  const parts = partsOf(operation.input);
  let firstInQuad = (phase?.firstTap ?? 0) * weight.inputQuads;
  return parts.map((input, part): Dispatch => {
    const isLast = part === parts.length - 1;
    const end = { accumulate: part > 0, epilogue: isLast };
    const block = convolutionParams(operation, { input, firstInQuad, ...end, gridWidth: width, phase });
    const ending = direct.endings ? uniformEpilogue : epilogueCode(operation, end, lanes);
    firstInQuad += quads(channelsOf(input));
    return {
      kernel: kernel(direct.name, direct.source, storage, {
        ...direct,
        weightStorage,
        preludes: [convolution, ending.prelude, TILES[weightResource][weightStorage], ...(direct.preludes ?? [])],
        constants: { ...ending.constants, ...direct.constants },
      }),
      label: operation.name,
      params: block,
      bindings: [
        { tensor: input },
        phase ? { transformed: weight, transform: "subpixel" } : { parameter: weight },
        ...epilogueBindings(operation, isLast),
        { tensor: operation.output },
      ],
      workgroups: [width, Math.ceil(outQuads / direct.quads), height],
    };
  });
}

const TILES = {
  buffer: { f32: tilesBuffer, f16: tilesBuffer },
  texture: { f32: tilesTextureF32, f16: tilesTextureF16 },
} as const;
