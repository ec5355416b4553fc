/**
 * A row of pixels for each subgroup, whose lanes share their loads: `shaders/conv2d_subgroup.wgsl`, and
 * `shaders/conv2d_subgroup_quad.wgsl` for subgroups of four.
 */

import source from "../../../../shaders/conv2d_subgroup.wgsl" with { type: "text" };
import quadSource from "../../../../shaders/conv2d_subgroup_quad.wgsl" with { type: "text" };
import quadProduct from "../../../../shaders/prelude/quad_product.wgsl" with { type: "text" };
import subgroupProduct from "../../../../shaders/prelude/subgroup_product.wgsl" with { type: "text" };
import { QUAD_LANES, type Target } from "../../dispatch.ts";
import type { KernelVariant } from "../variant.ts";
import { type DirectKernel, type DirectShape, lowerDirect } from "./direct.ts";
import type { Convolution } from "./operation.ts";

// The part that a subgroup owns: so many pixels × so many quads of output channels a lane. `cost` is CPU time on lavapipe
// where no pixel and no channel of it is wasted, beside the best. A load from a buffer is so much code that two quads a
// lane outgrow the instruction cache.
const TILES = {
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
// The same for subgroups of four, on SwiftShader.
const QUAD_TILES = [
  { rows: 32, quads: 4, cost: 1 },
  { rows: 32, quads: 2, cost: 1.15 },
  { rows: 32, quads: 1, cost: 1.8 },
  { rows: 8, quads: 4, cost: 2 },
] as const;

// A line of a wider matrix is pages long, and its halves lie on pages of their own: from lavapipe, 0.82× of two dispatches at
// 10240 channels, 1.06× at 5120.
const MAX_GATED_QUADS = 1536;

/** True if a kernel should multiply the halves of a layer: if an invocation has, or is given, both. */
function canGate({ weight }: Convolution, target: Target): boolean {
  const hasBoth = target.lanes === QUAD_LANES || target.textured?.(weight) === true;
  return hasBoth && weight.outputQuads <= MAX_GATED_QUADS;
}

/** The kernel whose tile costs least for a convolution of this shape, on subgroups of so many lanes. */
export function subgroupKernel(
  { rows, outQuads, weightResource, gated, phased }: DirectShape,
  lanes: number,
): DirectKernel {
  const inFours = lanes === QUAD_LANES;
  // A lane has both factors of a gate.
  const tiles = (inFours ? QUAD_TILES : TILES[weightResource]).filter(({ quads }) => !gated || quads > 1);
  const tile = cheapestTile(tiles, rows, outQuads, lanes);
  return {
    ...(inFours ? { name: "conv2d_subgroup_quad", source: quadSource } : { name: "conv2d_subgroup", source }),
    ...{ rows: tile.rows, quads: tile.quads * lanes },
    subgroups: lanes,
    preludes: [inFours ? quadProduct : subgroupProduct],
    constants: { ...(inFours && { PHASED: Number(phased) }), ROWS: tile.rows, QUADS: tile.quads },
    endings: inFours,
  };
}

interface Tile {
  readonly rows: number;
  readonly quads: number;
  readonly cost: number;
}

function cheapestTile(tiles: readonly Tile[], rows: number, outQuads: number, lanes: number): Tile {
  const up = (count: number, unit: number) => Math.ceil(count / unit) * unit;
  const costs = tiles.map((tile) => ({
    tile,
    total: up(rows, tile.rows) * up(outQuads, tile.quads * lanes) * tile.cost,
  }));
  return costs.reduce((best, next) => (next.total < best.total ? next : best)).tile;
}

export const subgroup = {
  name: "subgroup",
  can: (operation, target) => target.lanes !== undefined && (!operation.gated || canGate(operation, target)),
  cost: (_, { hardware }) => (hardware ? Number.POSITIVE_INFINITY : 1),
  lower: (operation, target) => lowerDirect((shape) => subgroupKernel(shape, target.lanes!), operation, target),
} as const satisfies KernelVariant<Convolution>;
