/** Tiles in workgroup memory, for adapters without subgroups, and for GPUs: `shaders/conv2d_tiled.wgsl`. */

import source from "../../../../shaders/conv2d_tiled.wgsl" with { type: "text" };
import type { KernelVariant } from "../variant.ts";
import { type DirectKernel, type DirectShape, lowerDirect } from "./direct.ts";
import type { Convolution } from "./operation.ts";

const ROWS = 64;
const QUADS = 16;

function tiledKernel({ gated }: DirectShape): DirectKernel {
  return { name: "conv2d_tiled", source, rows: ROWS, quads: QUADS, constants: { GATED: Number(gated) } };
}

export const tiled = {
  name: "tiled",
  can: () => true,
  cost: (_, { lanes, hardware }) => (hardware || lanes === undefined ? 1 : Number.POSITIVE_INFINITY),
  lower: (operation, target) => lowerDirect(tiledKernel, operation, target),
} as const satisfies KernelVariant<Convolution>;
