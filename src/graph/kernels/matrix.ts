/**
 * The kernels for matrix units: `shaders/conv2d_matrix.wgsl` in forms that differ in how much of a convolution a subgroup and a
 * workgroup own, and `shaders/attention_matrix.wgsl`.
 */

import attentionSource from "../../../shaders/attention_matrix.wgsl" with { type: "text" };
import source from "../../../shaders/conv2d_matrix.wgsl" with { type: "text" };
import matrixUnit from "../../../shaders/prelude/matrix_unit.wgsl" with { type: "text" };
import attentionUnit from "../../../shaders/prelude/matrix_unit_attention.wgsl" with { type: "text" };
import tileRows from "../../../shaders/prelude/tile_rows.wgsl" with { type: "text" };
import type { MatrixUnit } from "../../gpu/matrix-unit.ts";
import type { KernelOptions } from "../dispatch.ts";
import type { ConvolutionKernel } from "./convolution.ts";

export interface MatrixForm {
  /** What a subgroup owns: pixels × output channels. */
  readonly rows: number;
  readonly channels: number;
  /** Subgroups of a workgroup: down × across. */
  readonly down: number;
  readonly across: number;
  /** Input channels at a time. */
  readonly step: number;
  /** Of workgroup memory: 2, so that a step needs one barrier; 1, so that more workgroups fit. */
  readonly buffers: 1 | 2;
  /** Time of an element of the output where workgroups are many and full, beside the first form's. */
  readonly cost: number;
}

// Those of eleven that were the fastest somewhere on an H200 (docs/performance.md); `cost` is of its figures.
/** Of the variants that run on a matrix unit, by name: output pixels × channels of a workgroup, 64 × 64 where none are said. */
export const MATRIX_FORMS = {
  matrix: { rows: 32, channels: 32, down: 2, across: 2, step: 64, buffers: 1, cost: 1 },
  "matrix-32x64": { rows: 16, channels: 32, down: 2, across: 2, step: 32, buffers: 2, cost: 1.5 },
  "matrix-64x128": { rows: 32, channels: 64, down: 2, across: 2, step: 32, buffers: 2, cost: 0.7 },
  "matrix-128x128": { rows: 64, channels: 64, down: 2, across: 2, step: 32, buffers: 2, cost: 0.46 },
} as const satisfies Record<string, MatrixForm>;
export type MatrixVariant = keyof typeof MATRIX_FORMS;
export const MATRIX_VARIANTS = Object.keys(MATRIX_FORMS) as readonly MatrixVariant[];

export function isMatrixVariant(variant: string): variant is MatrixVariant {
  return Object.hasOwn(MATRIX_FORMS, variant);
}

/** Of the sums that a workgroup hands to the epilogue at a time. */
const BATCH_BYTES = 8192;

// Of an H200, as WebGPU does not say how many a GPU has. Each does one workgroup after the other, or several in as much time as
// one after the other: 133 workgroups take twice as long as 132.
const CORES = 132;

/** What a form takes for so many output pixels and channels, to compare forms by. */
export function costOf({ rows, channels, down, across, cost }: MatrixForm, pixels: number, outputs: number): number {
  const [tileRows, tileChannels] = [down * rows, across * channels];
  const workgroups = Math.ceil(pixels / tileRows) * Math.ceil(outputs / tileChannels);
  return Math.ceil(workgroups / CORES) * tileRows * tileChannels * cost;
}

function countsOf(form: MatrixForm, unit: MatrixUnit, lanes: number) {
  const invocations = form.down * form.across * lanes;
  const [tileRows, tileChannels] = [form.down * form.rows, form.across * form.channels];
  const across = form.channels / unit.columns;
  return {
    ...{ GROUP_DOWN: form.down, GROUP_ACROSS: form.across, STEP: form.step, BUFFERS: form.buffers },
    ...{ MATRIX_ROWS: unit.rows, MATRIX_COLUMNS: unit.columns, MATRIX_INNER: unit.inner },
    ...{ DOWN: form.rows / unit.rows, ACROSS: across, INNERS: form.step / unit.inner },
    BATCH: Math.min(across, Math.max(1, BATCH_BYTES / (form.down * form.across * unit.rows * unit.columns * 4))),
    INPUT_LOADS: Math.ceil((tileRows * form.step) / 8 / invocations),
    WEIGHT_LOADS: Math.ceil(((form.step / 2) * tileChannels) / 8 / invocations),
  };
}

/** Whether whole matrices of this unit fill the form, and its workgroups the adapter's limits. */
export function fitsForm(
  form: MatrixForm,
  unit: MatrixUnit,
  limits: { readonly lanes: number; readonly maxWorkgroupBytes: number; readonly maxWorkgroupSize: number },
): boolean {
  const { rows, channels, step, down, across } = form;
  const areWhole = rows % unit.rows === 0 && channels % unit.columns === 0 && step % unit.inner === 0;
  const bytes = workgroupBytes(form, countsOf(form, unit, limits.lanes));
  return areWhole && bytes <= limits.maxWorkgroupBytes && down * across * limits.lanes <= limits.maxWorkgroupSize;
}

/** Of the three arrays of the kernel. */
function workgroupBytes(form: MatrixForm, { MATRIX_ROWS, MATRIX_COLUMNS, BATCH }: ReturnType<typeof countsOf>) {
  const { rows, channels, down, across, step, buffers } = form;
  const [stepOctets, tileOctets] = [step / 8, (across * channels) / 8];
  const input = buffers * down * rows * (stepOctets + 1) + stepOctets;
  const weights = buffers * step * (tileOctets + 1) + tileOctets;
  const sums = (down * across * MATRIX_ROWS * BATCH * MATRIX_COLUMNS) / 4;
  return 16 * (input + weights + sums);
}

export function matrixKernel(variant: MatrixVariant, unit: MatrixUnit, lanes: number): ConvolutionKernel {
  const form: MatrixForm = MATRIX_FORMS[variant];
  const constants = countsOf(form, unit, lanes);
  return {
    name: "conv2d_matrix",
    source: unrolled(source, constants),
    rows: form.down * form.rows,
    quads: (form.across * form.channels) / 4,
    subgroups: lanes,
    extensions: ["f16", "chromium_experimental_subgroup_matrix"],
    preludes: [tileRows, matrixUnit],
    constants,
  };
}

const ATTENTION_SUBGROUPS = 4;
// Keys at a time: the more, the fewer barriers.
const ATTENTION_BLOCKS = [64, 32];

/** What of `attention_matrix.wgsl` follows from the head; undefined where its workgroups do not fit. */
export function matrixAttention(
  headWidth: number,
  unit: MatrixUnit,
  limits: { readonly lanes: number; readonly maxWorkgroupBytes: number },
): (KernelOptions & { readonly source: string; readonly queries: number }) | undefined {
  const { rows, columns, inner } = unit;
  const { lanes, maxWorkgroupBytes } = limits;
  const headUnit = Math.max(columns, inner, 8);
  const width = Math.ceil(headWidth / headUnit) * headUnit;
  const queries = ATTENTION_SUBGROUPS * rows;
  const bytesOf = (block: number) => {
    const stride = width / 8 + 1;
    const octets = (Math.max(block, queries) + block + 2) * stride + (queries + 1) * (block / 4 + 1 + block / 8 + 1);
    return octets * 16 + queries * 4;
  };
  const block = ATTENTION_BLOCKS.find((size) => bytesOf(size) <= maxWorkgroupBytes);
  if (block === undefined) return;
  const constants = {
    ...{ SUBGROUPS: ATTENTION_SUBGROUPS, BLOCK: block, ITEMS: Math.max(1, rows / lanes) },
    ...{ MATRIX_ROWS: rows, MATRIX_COLUMNS: columns, MATRIX_INNER: inner },
    ...{ HEAD_UNIT: headUnit, HEAD_MATRICES: width / headUnit },
    ...{ HEAD_INNERS: width / inner, HEAD_COLUMNS: width / columns },
  };
  return {
    source: unrolled(attentionSource, constants),
    queries,
    subgroups: lanes,
    extensions: ["f16", "chromium_experimental_subgroup_matrix"],
    preludes: [attentionUnit],
    constants,
  };
}

const LOOP = /^( *)for \(var (\w+) = 0u; \2 < (\w+); \2\+\+\) \{ \/\/ unrolled\n([\s\S]*?)^\1\}\n/m;

/** `code` with the loops that are marked `unrolled` written out, as often as `constants` say. */
export function unrolled(code: string, constants: Readonly<Record<string, number>>): string {
  const once = code.replace(LOOP, (_, indent: string, index: string, count: string, body: string) =>
    Array.from(
      { length: constants[count]! },
      (_, turn) => `${indent}{\n${body.replaceAll(new RegExp(`\\b${index}\\b`, "g"), `${turn}u`)}${indent}}\n`,
    ).join(""),
  );
  return once === code ? code : unrolled(once, constants);
}
