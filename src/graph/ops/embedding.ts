import source from "../../../shaders/embedding.wgsl" with { type: "text" };
import addedSource from "../../../shaders/embedding_added.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { quads, type TableParameter, type Tensor } from "../tensor.ts";
import { tablePieces } from "../weights.ts";
import type { OperationKind } from "./kind.ts";

/** Token plus position embedding. */
export interface Embedding extends OperationBase {
  readonly kind: "embedding";
  /** `[n · tokens]` u32 */
  readonly ids: Tensor;
  readonly table: TableParameter;
  readonly positions: TableParameter;
  /** f32 `[1, rows, channels]`: the rows of ids behind the table. */
  readonly added?: Tensor;
}

export interface EmbeddingSizes {
  images: number;
  tokens: number;
  vocabulary: number;
  positions: number;
  channels: number;
}

/** Token plus position embedding: ids u32 `[n · tokens]` → `[n, tokens, channels]`. `added`: rows behind the table. */
export function embedding(
  g: Graph,
  ids: Tensor,
  names: { table: string; positions: string },
  sizes: EmbeddingSizes,
  added?: Tensor,
): Tensor {
  const table = (name: string, rows: number): TableParameter =>
    g.register<TableParameter>({
      kind: "table",
      key: g.path(name, "weight"),
      parts: [{ name: g.path(name, "weight"), shape: [rows, sizes.channels] }],
      rows,
      channels: sizes.channels,
    });
  if (sizes.tokens > sizes.positions) {
    throw g.error(names.positions, `${sizes.tokens} tokens, but only ${sizes.positions} positions`);
  }
  return g.push<Embedding>({
    kind: "embedding",
    name: g.path(names.table),
    ids,
    table: table(names.table, sizes.vocabulary),
    positions: table(names.positions, sizes.positions),
    ...(added && { added }),
    output: g.tensor(g.path(names.table), [sizes.images, sizes.tokens, sizes.channels]),
  }).output;
}

export const embeddingKind: OperationKind<Embedding> = {
  reads: ({ ids, added }) => (added ? [ids, added] : [ids]),
  parameters: ({ table, positions }) => [table, positions],
  lower({ name, ids, table, positions, added, output }, target) {
    const tokens = ids.shape[0]!;
    const quadCount = quads(table.channels);
    const { workgroups, width } = grid(tokens * quadCount);
    const dispatches: Dispatch[] = tablePieces(table, target).map(({ firstRow, endRow }, piece) => ({
      kernel: kernel("embedding", source, target.storage, { weightStorage: target.weightStorage }),
      label: name,
      params: {
        tokens,
        length: output.shape[1]!,
        quads: quadCount,
        first_id: firstRow,
        end_id: endRow,
        grid_width: width,
      },
      bindings: [{ tensor: ids }, { parameter: table, piece }, { parameter: positions }, { tensor: output }],
      workgroups,
    }));
    if (added === undefined) return dispatches;
    dispatches.push({
      kernel: kernel("embedding_added", addedSource, target.storage, { weightStorage: target.weightStorage }),
      label: `${name} added`,
      params: {
        tokens,
        length: output.shape[1]!,
        quads: quadCount,
        first_id: table.rows,
        rows: added.shape[1]!,
        grid_width: width,
      },
      bindings: [{ tensor: ids }, { tensor: added }, { parameter: positions }, { tensor: output }],
      workgroups,
    });
    return dispatches;
  },
};
