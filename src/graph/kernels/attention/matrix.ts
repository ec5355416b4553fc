/** Both products on a matrix unit: `shaders/attention_matrix.wgsl`. */

import source from "../../../../shaders/attention_matrix.wgsl" with { type: "text" };
import prelude from "../../../../shaders/prelude/attention.wgsl" with { type: "text" };
import unitPrelude from "../../../../shaders/prelude/matrix_unit_attention.wgsl" with { type: "text" };
import { type KernelOptions, kernel, maxWorkgroupBytes, type Target } from "../../dispatch.ts";
import { unrolled } from "../unrolled.ts";
import type { KernelVariant } from "../variant.ts";
import type { Attention } from "./operation.ts";
import { attentionConstants, attentionParams, operands, sizesOf } from "./params.ts";

const SUBGROUPS = 4;
// Keys at a time: the more, the fewer barriers.
const BLOCKS = [64, 32];

/** The kernel for heads of this width; undefined if the adapter has no matrix unit, or its workgroups do not fit. */
function matrixKernel(
  headWidth: number,
  target: Target,
): (KernelOptions & { readonly source: string; readonly queries: number }) | undefined {
  const { lanes, matrixUnit, storage } = target;
  if (!matrixUnit || !lanes || storage !== "f16") return;
  const { rows, columns, inner } = matrixUnit;
  const headUnit = Math.max(columns, inner, 8);
  const width = Math.ceil(headWidth / headUnit) * headUnit;
  const queries = SUBGROUPS * rows;
  const bytesOf = (block: number) => {
    const stride = width / 8 + 1;
    const octets = (Math.max(block, queries) + block + 2) * stride + (queries + 1) * (block / 4 + 1 + block / 8 + 1);
    return octets * 16 + queries * 4;
  };
  const block = BLOCKS.find((size) => bytesOf(size) <= maxWorkgroupBytes(target));
  if (block === undefined) return;
  const constants = {
    ...{ SUBGROUPS, BLOCK: block, ITEMS: Math.max(1, rows / lanes) },
    ...{ MATRIX_ROWS: rows, MATRIX_COLUMNS: columns, MATRIX_INNER: inner },
    ...{ HEAD_UNIT: headUnit, HEAD_MATRICES: width / headUnit },
    ...{ HEAD_INNERS: width / inner, HEAD_COLUMNS: width / columns },
  };
  return {
    source: unrolled(source, constants),
    queries,
    subgroups: lanes,
    extensions: ["f16", "chromium_experimental_subgroup_matrix"],
    preludes: [unitPrelude],
    constants,
  };
}

export const matrix = {
  name: "matrix",
  onMatrixUnit: true,
  can: ({ head }, target) => matrixKernel(head.padded, target) !== undefined,
  cost: () => 1,
  lower(operation, target) {
    const { source, queries: atOnce, ...options } = matrixKernel(operation.head.padded, target)!;
    const { images, queries } = sizesOf(operation);
    return [
      {
        kernel: kernel("attention_matrix", source, target.storage, {
          ...options,
          preludes: [prelude, ...options.preludes!],
          constants: { ...attentionConstants(operation), ...options.constants },
        }),
        label: operation.name,
        params: attentionParams(operation, 0),
        bindings: [...operands(operation), { tensor: operation.output }],
        workgroups: [Math.ceil(queries / atOnce), operation.heads, images],
      },
    ];
  },
} as const satisfies KernelVariant<Attention>;
