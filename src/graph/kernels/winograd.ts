/**
 * 3 × 3 convolutions by Winograd's minimal filtering (Lavin & Gray 2015, arXiv 1509.09308): `shaders/winograd_*.wgsl`.
 *
 * Three steps: tiles of the input are transformed, multiplied with transformed weights frequency by frequency, and
 * transformed back. What lies between them are textures that all such convolutions of a plan share; a large picture goes
 * through them in parts.
 */

import convolution from "../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import epilogueUniform from "../../../shaders/prelude/epilogue_uniform.wgsl" with { type: "text" };
import rowsWhole from "../../../shaders/prelude/rows_whole.wgsl" with { type: "text" };
import subgroupProduct from "../../../shaders/prelude/subgroup_product.wgsl" with { type: "text" };
import tilesTexture from "../../../shaders/prelude/tiles_texture_f32.wgsl" with { type: "text" };
import winograd from "../../../shaders/prelude/winograd.wgsl" with { type: "text" };
import winogradInput from "../../../shaders/winograd_input.wgsl" with { type: "text" };
import winogradOutput from "../../../shaders/winograd_output.wgsl" with { type: "text" };
import winogradProduct from "../../../shaders/winograd_product.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel, params, type Scratch, type Target } from "../dispatch.ts";
import { type Convolution, channelsOf, partsOf, quads, type Tensor } from "../tensor.ts";
import { winogradTile } from "../variants.ts";
import { WINOGRAD_SIDE } from "../weights.ts";
import { convolutionParams, epilogueCode } from "./convolution.ts";

// Frequencies along a side of a tile.
const POINTS = WINOGRAD_SIDE + 2;
// In how many rows they may stand in a texture, and how wide that may be: all layers of a plan share one as wide as the widest
// and as high as the highest, so they had better be as wide as each other.
const FREQUENCY_ROWS = [1, 2, 3, POINTS] as const;
const MAX_SCRATCH_WIDTH = 3072;

// Of a texture between two steps: a guided step of SD 1.5 at 512² goes through all but one of its layers at once.
const MAX_SCRATCH_BYTES = 64 * 2 ** 20;
// The same where the transformed weights, which every part goes over again, are no more than this (up to 256 channels): parts
// that stay in the cache of a core between the steps take 0.8 to 0.9 of the CPU time from lavapipe, and 1.0 of it beyond.
const MAX_CACHED_WEIGHT_BYTES = 10 * 2 ** 20;
const CACHED_SCRATCH_BYTES = 2 * 2 ** 20;
const TEXEL_BYTES = 16;

/** `operation` is one that `convolutionVariants` offers this form for. */
export function lowerWinograd(operation: Convolution, target: Target): Dispatch[] {
  const { picture, weight, perImage, residual, bias } = operation;
  const { storage } = target;
  const lanes = target.lanes!;
  const outQuads = quads(channelsOf(operation.output));
  const tilesHigh = Math.ceil(picture.outHeight / WINOGRAD_SIDE);
  const tilesWide = Math.ceil(picture.outWidth / WINOGRAD_SIDE);
  const tiles = picture.images * tilesHigh * tilesWide;
  const { rows, quads: quadsALane, productQuads } = winogradTile(outQuads, lanes);
  const weightBytes = POINTS ** 2 * weight.inputQuads * weight.outputQuads * 4 * TEXEL_BYTES;
  const maxScratchBytes = weightBytes <= MAX_CACHED_WEIGHT_BYTES ? CACHED_SCRATCH_BYTES : MAX_SCRATCH_BYTES;
  const columns = Math.max(weight.inputQuads, productQuads);
  const frequencyRows = FREQUENCY_ROWS.find((count) => (POINTS ** 2 / count) * columns <= MAX_SCRATCH_WIDTH) ?? POINTS;
  const most = Math.min(
    target.maxTextureDimension / frequencyRows,
    maxScratchBytes / (POINTS ** 2 * columns * TEXEL_BYTES),
  );
  const rowsAtOnce = Math.max(rows, Math.floor(most / rows) * rows);
  const parts = Math.ceil(tiles / rowsAtOnce);
  const stride = Math.ceil(tiles / parts / rows) * rows;
  const scratch = (name: Scratch["name"], columns: number): Scratch => ({
    name,
    width: (POINTS ** 2 / frequencyRows) * columns,
    height: frequencyRows * stride,
  });
  const transformed = scratch("transformed", weight.inputQuads);
  const products = scratch("products", productQuads);
  const ending = { accumulate: false, epilogue: true };
  const output = epilogueCode(operation, ending, lanes);
  const block = (input: Tensor, first: number, count: number, firstInQuad: number, epilogue: boolean, width: number) =>
    convolutionParams(operation, {
      input,
      firstInQuad,
      accumulate: false,
      epilogue,
      gridWidth: width,
      tiles: { first, count, stride, productQuads, high: tilesHigh, wide: tilesWide, side: WINOGRAD_SIDE },
    });

  const dispatches: Dispatch[] = [];
  for (let first = 0; first < tiles; first += stride) {
    const count = Math.min(stride, tiles - first);
    let firstInQuad = 0;
    for (const input of partsOf(operation.input)) {
      const inQuads = quads(channelsOf(input));
      const { workgroups, width } = grid(count * inQuads);
      dispatches.push({
        kernel: kernel("winograd_input", winogradInput, storage, {
          preludes: [convolution, rowsWhole, epilogueUniform, winograd],
          constants: { FREQUENCY_ROWS: frequencyRows },
        }),
        label: operation.name,
        params: block(input, first, count, firstInQuad, false, width),
        bindings: [{ tensor: input }, "unused", "unused", "unused", "unused", "unused", { scratch: transformed }],
        workgroups,
      });
      firstInQuad += inQuads;
    }
    dispatches.push({
      kernel: kernel("winograd_product", winogradProduct, "f32", {
        weights: "f32",
        subgroups: lanes,
        preludes: [tilesTexture, subgroupProduct],
        constants: { ROWS: rows, QUADS: quadsALane, FREQUENCY_ROWS: frequencyRows },
      }),
      label: operation.name,
      params: params(weight.inputQuads, outQuads, operation.firstOutputQuad, stride, productQuads),
      bindings: [{ scratch: transformed }, { transformed: weight, form: "winograd" }, { scratch: products }],
      workgroups: [Math.ceil(count / rows), productQuads / (quadsALane * lanes), POINTS ** 2],
    });
    const { workgroups, width } = grid(count * outQuads);
    const epilogue = (tensor: Tensor | undefined) => (tensor ? ({ tensor } as const) : "blank");
    dispatches.push({
      kernel: kernel("winograd_output", winogradOutput, storage, {
        preludes: [convolution, rowsWhole, output.prelude, winograd],
        constants: { ...output.constants, FREQUENCY_ROWS: frequencyRows },
      }),
      label: operation.name,
      params: block(operation.output, first, count, 0, true, width),
      bindings: [
        "unused",
        "unused",
        bias ? { parameter: bias } : "blank",
        epilogue(perImage?.tensor),
        epilogue(residual),
        { tensor: operation.output },
        { scratch: products },
      ],
      workgroups,
    });
  }
  return dispatches;
}
