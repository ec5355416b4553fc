/** A weighted addition whose weights are inputs: what a ControlNet adds to a UNet, times its scale in this step. */

import source from "../../../shaders/add_scaled.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, partsOf, quads, rowsOf, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

/** `out[n] = input[n] + factors[n, column] · addend[n]` */
export interface AddScaled extends OperationBase {
  readonly kind: "add-scaled";
  readonly input: Tensor;
  /** It has the shape of `input`, or is one row an image. */
  readonly addend: Tensor;
  /** f32 `[images, columns]` */
  readonly factors: Tensor;
  readonly column: number;
  /** The channel of an addend of one row an image that `input` begins with, in quads; not 0 if it is a slice. */
  readonly firstAddendQuad: number;
}

/** `x + factors[image, column] · y`; y has x's shape, or is one row an image. `factors`: f32 `[images, columns]`. */
export function addScaled(
  g: Graph,
  x: Tensor,
  y: Tensor,
  { tensor: factors, column }: { readonly tensor: Tensor; readonly column: number },
  name: string,
): Tensor {
  const images = x.shape[0]!;
  const fits = channelsOf(x) === channelsOf(y) && (rowsOf(y) === rowsOf(x) || rowsOf(y) === images);
  if (!fits) throw g.error(name, `shapes ${x.shape} and ${y.shape} do not add`);
  if (factors.element !== "f32" || factors.shape[0] !== images || column >= channelsOf(factors)) {
    throw g.error(name, `factors [${factors.shape}] have no column ${column} for ${images} images`);
  }
  return g.push<AddScaled>({
    kind: "add-scaled",
    name: g.path(name),
    input: x,
    addend: y,
    factors,
    column,
    firstAddendQuad: 0,
    output: g.tensor(g.path(name), x.shape),
  }).output;
}

/** True if the addend is one row an image, and not of the shape of the input. */
function addsPerImage({ input, addend }: AddScaled): boolean {
  return rowsOf(addend) !== rowsOf(input);
}

export const addScaledKind: OperationKind<AddScaled> = {
  reads: ({ input, addend, factors }) => [input, addend, factors],
  split(operation, slicing) {
    const parts = partsOf(slicing.stored(operation.input));
    const slices = slicing.sliceInto(operation, parts.map(channelsOf));
    const isPerImage = addsPerImage(operation);
    if (isPerImage) slicing.needWhole(operation, [operation.addend]);
    const addends = isPerImage ? undefined : slicing.beside(operation, slices, operation.addend);
    return slices.map(({ tensor, firstQuad }, i) => ({
      ...operation,
      input: parts[i]!,
      addend: addends ? addends[i]! : operation.addend,
      firstAddendQuad: isPerImage ? operation.firstAddendQuad + firstQuad : 0,
      output: tensor,
    }));
  },
  lower(operation, { storage }) {
    const { name, input, addend, factors, column, firstAddendQuad, output } = operation;
    const quadCount = quads(channelsOf(input));
    const count = rowsOf(input) * quadCount;
    const { workgroups, width } = grid(count);
    return [
      {
        kernel: kernel("add_scaled", source, storage),
        label: name,
        params: {
          count,
          quads: quadCount,
          image_quads: count / input.shape[0]!,
          per_image: addsPerImage(operation),
          column,
          factor_quads: quads(channelsOf(factors)),
          row_quads: quads(channelsOf(addend)),
          first_row_quad: firstAddendQuad,
          grid_width: width,
        },
        bindings: [{ tensor: input }, { tensor: addend }, { tensor: factors }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
