/** The tensors of a file under the names of a model: renamed, cut out of fused ones, transposed. */

import { WeightsError } from "./errors.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";
import { rowsOf, transposed } from "./tensor-views.ts";

/** A model's tensor in a file. */
export interface TensorOrigin {
  /** The name in the file. */
  readonly from: string;
  /** It is one of equal runs of that tensor's rows. */
  readonly rows?: { readonly part: number; readonly parts: number };
  readonly transposed?: boolean;
  /** It is a vector, which the model has as a matrix of one row. */
  readonly isRow?: boolean;
}

/** The file's tensors by the model's names. */
export type TensorMap = ReadonlyMap<string, TensorOrigin>;

/**
 * A set of the tensors that `map` names; closing it closes `set`.
 * @throws WeightsError if one cannot be cut or transposed as the map has it
 */
export function mappedTensors(set: TensorSet, map: TensorMap): TensorSet {
  const entries = new Map<string, TensorEntry>();
  for (const [name, origin] of map) {
    const entry = set.get(origin.from);
    if (entry !== undefined) entries.set(name, viewOf(entry, name, origin));
  }
  return {
    source: set.source,
    totalBytes: [...entries.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    names: () => entries.keys(),
    get: (name) => entries.get(name),
    close: () => set.close(),
  };
}

function viewOf(
  entry: TensorEntry,
  name: string,
  { rows, transposed: isTransposed, isRow }: TensorOrigin,
): TensorEntry {
  const broken = (reason: string) =>
    new WeightsError("weights-shape", `is [${entry.shape.slice(0, 8).join(", ")}], ${reason}`, {
      file: entry.file,
      tensor: entry.name,
    });
  if (rows) {
    if ((entry.shape[0] ?? 0) % rows.parts !== 0) throw broken(`whose rows do not divide into ${rows.parts} parts`);
    return rowsOf(entry, name, rows.part, rows.parts);
  }
  if (isRow) return { ...entry, name, shape: [1, ...entry.shape] };
  if (!isTransposed) return { ...entry, name };
  const matrix = entry.shape.length === 3 && entry.shape[0] === 1 ? { ...entry, shape: entry.shape.slice(1) } : entry;
  if (matrix.shape.length !== 2) throw broken("where a matrix is expected");
  return transposed(matrix, name);
}
