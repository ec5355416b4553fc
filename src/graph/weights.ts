/**
 * Where parameters lie on the device, and in what form. Who fills the buffers is `src/models/load.ts`; who reads them
 * are the kernels.
 */

import type { Gpu } from "../gpu/device.ts";
import { type Parameter, quads, type Storage, type TableParameter } from "./tensor.ts";

/** Buffers of the parameters of one component, by `Parameter.key`. A table has a buffer for each piece. */
export interface ParameterBuffers {
  readonly storage: Storage;
  get(parameter: Parameter): readonly GPUBuffer[];
}

/** Bytes of four neighbouring weights. */
export function weightQuadBytes(storage: Storage): number {
  return storage === "f16" ? 8 : 16;
}

/** Rows of a table that fit into one binding each; all but a very large table are one piece. */
export function tablePieces(
  table: TableParameter,
  limits: { readonly weights: Storage; readonly maxBindingBytes: number },
): { firstRow: number; endRow: number }[] {
  const rowBytes = quads(table.channels) * weightQuadBytes(limits.weights);
  const rowsAPiece = Math.max(1, Math.floor(limits.maxBindingBytes / rowBytes));
  const pieces: { firstRow: number; endRow: number }[] = [];
  for (let firstRow = 0; firstRow < table.rows; firstRow += rowsAPiece) {
    pieces.push({ firstRow, endRow: Math.min(firstRow + rowsAPiece, table.rows) });
  }
  return pieces;
}

/** Bytes that each buffer of a parameter takes. Vectors are f32 whatever the storage. */
export function parameterBytes(parameter: Parameter, storage: Storage, gpu: Pick<Gpu, "maxBindingBytes">): number[] {
  switch (parameter.kind) {
    case "matrix":
      return [parameter.taps * parameter.inputQuads * parameter.outputQuads * 4 * weightQuadBytes(storage)];
    case "vector":
      return [parameter.quads * 16];
    case "table": {
      const rowBytes = quads(parameter.channels) * weightQuadBytes(storage);
      const limits = { weights: storage, maxBindingBytes: gpu.maxBindingBytes };
      return tablePieces(parameter, limits).map(({ firstRow, endRow }) => (endRow - firstRow) * rowBytes);
    }
    default:
      return parameter satisfies never;
  }
}
