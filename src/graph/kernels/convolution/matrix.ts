/**
 * Convolutions on a matrix unit: `shaders/conv2d_matrix.wgsl`, in tilings, which differ in how much of a convolution a
 * subgroup and a workgroup own.
 */

import source from "../../../../shaders/conv2d_matrix.wgsl" with { type: "text" };
import matrixUnit from "../../../../shaders/prelude/matrix_unit.wgsl" with { type: "text" };
import tileRows from "../../../../shaders/prelude/tile_rows.wgsl" with { type: "text" };
import type { MatrixUnit } from "../../../gpu/matrix-unit.ts";
import { MAX_WORKGROUP_SIZE, maxWorkgroupBytes, type Target } from "../../dispatch.ts";
import { channelsOf } from "../../tensor.ts";
import { unrolled } from "../unrolled.ts";
import type { KernelVariant } from "../variant.ts";
import { type DirectKernel, lowerDirect } from "./direct.ts";
import type { Convolution } from "./operation.ts";

export interface MatrixTiling {
  /** The part that a subgroup owns: pixels × output channels. */
  readonly rows: number;
  readonly channels: number;
  /** Subgroups of a workgroup: down × across. */
  readonly down: number;
  readonly across: number;
  /** Input channels at a time. */
  readonly step: number;
  /** Buffers in workgroup memory: 2, so that a step needs one barrier; 1, so that more workgroups fit. */
  readonly buffers: 1 | 2;
  /** Time of an element of the output where workgroups are many and full, beside the first tiling's. */
  readonly cost: number;
}

// The fastest somewhere on an H200, of eleven (docs/performance.md); `cost` is from its figures.
/** By name: output pixels × channels of a workgroup, 64 × 64 if the name has none. */
export const MATRIX_TILINGS = {
  matrix: { rows: 32, channels: 32, down: 2, across: 2, step: 64, buffers: 1, cost: 1 },
  "matrix-32x64": { rows: 16, channels: 32, down: 2, across: 2, step: 32, buffers: 2, cost: 1.5 },
  "matrix-64x128": { rows: 32, channels: 64, down: 2, across: 2, step: 32, buffers: 2, cost: 0.7 },
  "matrix-128x128": { rows: 64, channels: 64, down: 2, across: 2, step: 32, buffers: 2, cost: 0.46 },
} as const satisfies Record<string, MatrixTiling>;

/** Bytes of sums that a workgroup hands to the epilogue at a time. */
const BATCH_BYTES = 8192;

// Cores of an H200, as WebGPU does not say how many a GPU has. Each does one workgroup after the other, or several in as much time as
// one after the other: 133 workgroups take twice as long as 132.
const CORES = 132;

/** Time of a tiling for so many output pixels and channels, to compare tilings by. */
function costOf({ rows, channels, down, across, cost }: MatrixTiling, pixels: number, outputs: number): number {
  const [tileRows, tileChannels] = [down * rows, across * channels];
  const workgroups = Math.ceil(pixels / tileRows) * Math.ceil(outputs / tileChannels);
  return Math.ceil(workgroups / CORES) * tileRows * tileChannels * cost;
}

function countsOf(tiling: MatrixTiling, unit: MatrixUnit, lanes: number) {
  const invocations = tiling.down * tiling.across * lanes;
  const [tileRows, tileChannels] = [tiling.down * tiling.rows, tiling.across * tiling.channels];
  const across = tiling.channels / unit.columns;
  return {
    ...{ GROUP_DOWN: tiling.down, GROUP_ACROSS: tiling.across, STEP: tiling.step, BUFFERS: tiling.buffers },
    ...{ MATRIX_ROWS: unit.rows, MATRIX_COLUMNS: unit.columns, MATRIX_INNER: unit.inner },
    ...{ DOWN: tiling.rows / unit.rows, ACROSS: across, INNERS: tiling.step / unit.inner },
    BATCH: Math.min(across, Math.max(1, BATCH_BYTES / (tiling.down * tiling.across * unit.rows * unit.columns * 4))),
    INPUT_LOADS: Math.ceil((tileRows * tiling.step) / 8 / invocations),
    WEIGHT_LOADS: Math.ceil(((tiling.step / 2) * tileChannels) / 8 / invocations),
  };
}

/** True if whole matrices of this unit fill the tiling, and its workgroups fit the adapter's limits. */
function fits(tiling: MatrixTiling, unit: MatrixUnit, lanes: number, target: Target): boolean {
  const { rows, channels, step, down, across } = tiling;
  const areWhole = rows % unit.rows === 0 && channels % unit.columns === 0 && step % unit.inner === 0;
  const bytes = workgroupBytes(tiling, countsOf(tiling, unit, lanes));
  return areWhole && bytes <= maxWorkgroupBytes(target) && down * across * lanes <= MAX_WORKGROUP_SIZE;
}

/** Bytes of the three arrays of the kernel. */
function workgroupBytes(tiling: MatrixTiling, { MATRIX_ROWS, MATRIX_COLUMNS, BATCH }: ReturnType<typeof countsOf>) {
  const { rows, channels, down, across, step, buffers } = tiling;
  const [stepOctets, tileOctets] = [step / 8, (across * channels) / 8];
  const input = buffers * down * rows * (stepOctets + 1) + stepOctets;
  const weightBytes = buffers * step * (tileOctets + 1) + tileOctets;
  const sums = (down * across * MATRIX_ROWS * BATCH * MATRIX_COLUMNS) / 4;
  return 16 * (input + weightBytes + sums);
}

export function matrixKernel(tiling: MatrixTiling, unit: MatrixUnit, lanes: number): DirectKernel {
  const constants = countsOf(tiling, unit, lanes);
  return {
    name: "conv2d_matrix",
    source: unrolled(source, constants),
    rows: tiling.down * tiling.rows,
    quads: (tiling.across * tiling.channels) / 4,
    subgroups: lanes,
    extensions: ["f16", "chromium_experimental_subgroup_matrix"],
    preludes: [tileRows, matrixUnit],
    constants,
  };
}

function variantOf<Name extends string>(name: Name, tiling: MatrixTiling): KernelVariant<Convolution, Name> {
  return {
    name,
    onMatrixUnit: true,
    /** Operands are halves: activations and weights that are stored as such lose nothing. */
    can({ weight, gated }, target) {
      const { lanes, matrixUnit: unit, storage, weightStorage, textured } = target;
      if (gated || !unit || !lanes || storage !== "f16" || weightStorage !== "f16" || textured?.(weight)) return false;
      return fits(tiling, unit, lanes, target);
    },
    cost({ picture, output }) {
      return costOf(tiling, picture.images * picture.outHeight * picture.outWidth, channelsOf(output));
    },
    lower: (operation, target) =>
      lowerDirect(() => matrixKernel(tiling, target.matrixUnit!, target.lanes!), operation, target),
  };
}

export const matrices = [
  variantOf("matrix", MATRIX_TILINGS.matrix),
  variantOf("matrix-32x64", MATRIX_TILINGS["matrix-32x64"]),
  variantOf("matrix-64x128", MATRIX_TILINGS["matrix-64x128"]),
  variantOf("matrix-128x128", MATRIX_TILINGS["matrix-128x128"]),
] as const;
