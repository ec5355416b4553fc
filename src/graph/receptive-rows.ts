/** Which rows of a picture decide some rows of a network's result, apart from the statistics of group norms, which follow from all rows. */

import { GraphError } from "./errors.ts";
import type { Convolution } from "./ops/convolution.ts";
import type { Operation } from "./ops/table.ts";
import type { Tensor } from "./tensor.ts";

/** Rows from `first` up to `end`, `end` not among them; beyond the picture where padding is read. */
export interface Rows {
  readonly first: number;
  readonly end: number;
}

/**
 * The rows of `input` that `rows` of `output` follow from, both pictures `[n, h, w, c]`, by way of `operations` as recorded.
 * Throws `GraphError` for an operation that looks further than a window: attention sees all rows.
 */
export function receptiveRows(operations: readonly Operation[], input: Tensor, output: Tensor, rows: Rows): Rows {
  const wanted = new Map<number, Rows>([[output.id, rows]]);
  const want = (tensor: Tensor, { first, end }: Rows) => {
    const known = wanted.get(tensor.id) ?? { first, end };
    wanted.set(tensor.id, { first: Math.min(first, known.first), end: Math.max(end, known.end) });
  };
  for (const operation of [...operations].reverse()) {
    const made = wanted.get(operation.output.id);
    if (!made) continue;
    switch (operation.kind) {
      case "convolution":
        want(operation.input, windowOf(operation, made));
        break;
      case "upsample-nearest": {
        const factor = operation.output.shape[1]! / operation.input.shape[1]!;
        want(operation.input, { first: Math.floor(made.first / factor), end: Math.ceil(made.end / factor) });
        break;
      }
      case "elementwise":
        want(operation.input, made);
        if (operation.addend) want(operation.addend, made);
        break;
      case "group-norm-apply":
        want(operation.input, made);
        break;
      default:
        throw new GraphError(`${operation.name}: ${operation.kind} does not work row by row`);
    }
  }
  const found = wanted.get(input.id);
  if (!found) throw new GraphError(`${output.name} does not follow from ${input.name}`);
  return found;
}

function windowOf({ name, picture, input, kernel }: Convolution, { first, end }: Rows): Rows {
  if (picture.inHeight !== input.shape[1]) throw new GraphError(`${name}: a linear layer does not work row by row`);
  return { first: first * kernel.stride - kernel.top, end: (end - 1) * kernel.stride - kernel.top + kernel.height };
}
