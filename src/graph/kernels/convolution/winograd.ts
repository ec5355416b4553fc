/**
 * 3 × 3 convolutions by Winograd's minimal filtering (Lavin & Gray 2015, arXiv 1509.09308): `shaders/winograd_*.wgsl`.
 *
 * Three steps: tiles of the input are transformed, multiplied with transformed weights frequency by frequency, and
 * transformed back. Between them lie textures that all such convolutions of a plan share; a large picture goes
 * through them in parts.
 */

import convolution from "../../../../shaders/prelude/convolution.wgsl" with { type: "text" };
import epilogueUniform from "../../../../shaders/prelude/epilogue_uniform.wgsl" with { type: "text" };
import subgroupProduct from "../../../../shaders/prelude/subgroup_product.wgsl" with { type: "text" };
import tilesTexture from "../../../../shaders/prelude/tiles_texture_f32.wgsl" with { type: "text" };
import transforms from "../../../../shaders/prelude/winograd.wgsl" with { type: "text" };
import winogradInput from "../../../../shaders/winograd_input.wgsl" with { type: "text" };
import winogradOutput from "../../../../shaders/winograd_output.wgsl" with { type: "text" };
import winogradProduct from "../../../../shaders/winograd_product.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel, type Scratch, type Target } from "../../dispatch.ts";
import { channelsOf, partsOf, quads } from "../../tensor.ts";
import { TRANSFORMED_TAPS, WINOGRAD_SIDE } from "../../weights.ts";
import type { KernelVariant } from "../variant.ts";
import type { Convolution } from "./operation.ts";
import { convolutionParams, epilogueBindings, epilogueCode } from "./params.ts";
import { canTransform, costBesideDirect, isSquare, partCosts } from "./square.ts";

// Frequencies along a side of a tile.
const POINTS = WINOGRAD_SIDE + 2;
// In how many rows they may stand in a texture, and how wide that may be: all layers of a plan share one as wide as the widest
// and as high as the highest, so they had better be as wide as each other.
const FREQUENCY_ROWS = [1, 2, 3, POINTS] as const;
const MAX_SCRATCH_WIDTH = 3072;

// Bytes of a texture between two steps: a guided step of SD 1.5 at 512² goes through all but one of its layers at once.
const MAX_SCRATCH_BYTES = 64 * 2 ** 20;
// The same where the transformed weights, which every part goes over again, are no more than this (up to 256 channels): parts
// that stay in the cache of a core between the steps take 0.8 to 0.9 of the CPU time from lavapipe, and 1.0 of it beyond.
const MAX_CACHED_WEIGHT_BYTES = 10 * 2 ** 20;
const CACHED_SCRATCH_BYTES = 2 * 2 ** 20;
const TEXEL_BYTES = 16;

// With fewer channels than 32 the transforms always cost more than they save.
const MIN_QUADS = 8;
// The part that a subgroup of winograd_product.wgsl owns: so many tiles × so many quads of output channels a lane. `cost` is
// CPU time on lavapipe where no lane is without a channel, beside the best.
const TILES = [
  { rows: 16, quads: 2, cost: 1 },
  { rows: 32, quads: 1, cost: 1.2 },
] as const;

export const winograd = {
  name: "winograd",
  can(operation, target) {
    const { weight } = operation;
    const isWide = Math.min(weight.inputQuads, weight.outputQuads) >= MIN_QUADS;
    return isWide && isSquare(operation) && canTransform(operation, "winograd", target);
  },
  /** The transforms pay if there are many channels, and enough pixels to fill the tiles. */
  cost(operation, target) {
    const { weight, picture } = operation;
    const [inputs, outputs] = [weight.inputQuads * 4, weight.outputQuads * 4];
    const pixels = picture.images * picture.outHeight * picture.outWidth;
    const atOnce = tileOf(weight.outputQuads, target.lanes!).rows;
    const rows = Math.ceil(tilesOf(picture).count / atOnce) * atOnce;
    const part = partCosts(target.lanes);
    const products = rows * TRANSFORMED_TAPS.winograd * inputs * outputs * part.product;
    return costBesideDirect(
      operation,
      products + pixels * (inputs + outputs) * part.transform + 2 * part.dispatch,
      target,
    );
  },
  lower: lowerWinograd,
} as const satisfies KernelVariant<Convolution>;

/** The tile that costs least for so many output quads, and the quads that they take then, those without a channel too. */
function tileOf(outQuads: number, lanes: number) {
  const tiles = TILES.map((tile) => {
    const unit = tile.quads * lanes;
    return { ...tile, productQuads: Math.ceil(outQuads / unit) * unit };
  });
  return tiles.reduce((best, next) => (next.productQuads * next.cost < best.productQuads * best.cost ? next : best));
}

/** Tiles down and across a picture's output, and those of all images. */
function tilesOf({ images, outHeight, outWidth }: Convolution["picture"]) {
  const [high, wide] = [Math.ceil(outHeight / WINOGRAD_SIDE), Math.ceil(outWidth / WINOGRAD_SIDE)];
  return { high, wide, count: images * high * wide };
}

/** How an operation goes through the textures between the three steps. */
interface Layout {
  readonly tiles: ReturnType<typeof tilesOf>;
  readonly tile: ReturnType<typeof tileOf>;
  /** Tiles that go through them at a time, a multiple of those that a subgroup owns. */
  readonly stride: number;
  readonly frequencyRows: number;
  readonly transformed: Scratch;
  readonly products: Scratch;
}

function layoutOf({ picture, weight, output }: Convolution, target: Target): Layout {
  const tiles = tilesOf(picture);
  const tile = tileOf(quads(channelsOf(output)), target.lanes!);
  const weightBytes = POINTS ** 2 * weight.inputQuads * weight.outputQuads * 4 * TEXEL_BYTES;
  const maxScratchBytes = weightBytes <= MAX_CACHED_WEIGHT_BYTES ? CACHED_SCRATCH_BYTES : MAX_SCRATCH_BYTES;
  const columns = Math.max(weight.inputQuads, tile.productQuads);
  const frequencyRows = FREQUENCY_ROWS.find((count) => (POINTS ** 2 / count) * columns <= MAX_SCRATCH_WIDTH) ?? POINTS;
  const most = Math.min(
    target.maxTextureDimension / frequencyRows,
    maxScratchBytes / (POINTS ** 2 * columns * TEXEL_BYTES),
  );
  const rowsAtOnce = Math.max(tile.rows, Math.floor(most / tile.rows) * tile.rows);
  const parts = Math.ceil(tiles.count / rowsAtOnce);
  const stride = Math.ceil(tiles.count / parts / tile.rows) * tile.rows;
  const scratch = (name: string, columns: number): Scratch => ({
    name,
    width: (POINTS ** 2 / frequencyRows) * columns,
    height: frequencyRows * stride,
  });
  return {
    ...{ tiles, tile, stride, frequencyRows },
    transformed: scratch("transformed", weight.inputQuads),
    products: scratch("products", tile.productQuads),
  };
}

function lowerWinograd(operation: Convolution, target: Target): Dispatch[] {
  const layout = layoutOf(operation, target);
  const { tiles, stride } = layout;
  const dispatches: Dispatch[] = [];
  for (let first = 0; first < tiles.count; first += stride) {
    const part = { first, count: Math.min(stride, tiles.count - first) };
    dispatches.push(
      ...transformInputs(operation, target, layout, part),
      multiply(operation, target, layout, part),
      transformBack(operation, target, layout, part),
    );
  }
  return dispatches;
}

/** Tiles that go through the textures together. */
interface Part {
  readonly first: number;
  readonly count: number;
}

function blockTiles({ tiles, tile, stride }: Layout, { first, count }: Part) {
  const { high, wide } = tiles;
  return { first, count, stride, productQuads: tile.productQuads, high, wide, side: WINOGRAD_SIDE };
}

function transformInputs(operation: Convolution, target: Target, layout: Layout, part: Part): Dispatch[] {
  let firstInQuad = 0;
  return partsOf(operation.input).map((input): Dispatch => {
    const inQuads = quads(channelsOf(input));
    const { workgroups, width } = grid(part.count * inQuads);
    const end = { accumulate: false, epilogue: false };
    const params = convolutionParams(operation, {
      ...{ input, firstInQuad, ...end },
      gridWidth: width,
      tiles: blockTiles(layout, part),
    });
    firstInQuad += inQuads;
    return {
      kernel: kernel("winograd_input", winogradInput, target.storage, {
        preludes: [convolution, epilogueUniform, transforms],
        constants: { FREQUENCY_ROWS: layout.frequencyRows },
      }),
      label: operation.name,
      params,
      bindings: [{ tensor: input }, "unused", "unused", "unused", "unused", "unused", { scratch: layout.transformed }],
      workgroups,
    };
  });
}

function multiply(operation: Convolution, target: Target, layout: Layout, { count }: Part): Dispatch {
  const { weight, firstOutputQuad, output } = operation;
  const { tile, stride, frequencyRows, transformed, products } = layout;
  const lanes = target.lanes!;
  return {
    kernel: kernel("winograd_product", winogradProduct, "f32", {
      weightStorage: "f32",
      subgroups: lanes,
      preludes: [tilesTexture, subgroupProduct],
      constants: { ROWS: tile.rows, QUADS: tile.quads, FREQUENCY_ROWS: frequencyRows },
    }),
    label: operation.name,
    params: {
      in_quads: weight.inputQuads,
      out_quads: quads(channelsOf(output)),
      first_out_quad: firstOutputQuad,
      tile_stride: stride,
      product_quads: tile.productQuads,
    },
    bindings: [{ scratch: transformed }, { transformed: weight, transform: "winograd" }, { scratch: products }],
    workgroups: [Math.ceil(count / tile.rows), tile.productQuads / (tile.quads * lanes), POINTS ** 2],
  };
}

function transformBack(operation: Convolution, target: Target, layout: Layout, part: Part): Dispatch {
  const { output } = operation;
  const { workgroups, width } = grid(part.count * quads(channelsOf(output)));
  const end = { accumulate: false, epilogue: true };
  const ending = epilogueCode(operation, end, target.lanes);
  return {
    kernel: kernel("winograd_output", winogradOutput, target.storage, {
      preludes: [convolution, ending.prelude, transforms],
      constants: { ...ending.constants, FREQUENCY_ROWS: layout.frequencyRows },
    }),
    label: operation.name,
    params: convolutionParams(operation, {
      ...{ input: output, firstInQuad: 0, ...end },
      gridWidth: width,
      tiles: blockTiles(layout, part),
    }),
    bindings: [
      ...(["unused", "unused"] as const),
      ...epilogueBindings(operation, true),
      { tensor: output },
      { scratch: layout.products },
    ],
    workgroups,
  };
}
