/** Arithmetic of each element with itself, and with that of another tensor. */

import source from "../../../shaders/elementwise.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import {
  type Activation,
  activationCode,
  channelsOf,
  partsOf,
  quads,
  rowsOf,
  type Tensor,
  type View,
} from "../tensor.ts";
import { type OperationKind, present } from "./kind.ts";

/** `out = activation(x · inputScale) · scale + shift + addend` */
export interface Elementwise extends OperationBase {
  readonly kind: "elementwise";
  readonly input: Tensor;
  readonly addend?: Tensor;
  /** The channel of an addend of one row an image that `input` begins with, in quads. */
  readonly firstAddendQuad: number;
  readonly activation: Activation;
  readonly inputScale: number;
  readonly scale: number;
  readonly shift: number;
}

export interface AffineOptions {
  inputScale?: number;
  activation?: Activation;
  scale?: number;
  shift?: number;
}

/** `activation(x · inputScale) · scale + shift` */
export function affine(g: Graph, x: Tensor, name: string, options: AffineOptions): Tensor {
  return pushElementwise(g, x, name, options);
}

/** `x + y`; y has x's shape, or is one row an image: `[n, c]` or `[n, 1, c]`, or c channels of such rows. */
export function add(g: Graph, x: Tensor, y: Tensor | View, name: string): Tensor {
  const { tensor, offset } = "tensor" in y ? y : { tensor: y, offset: 0 };
  const [channels, others] = [channelsOf(x), channelsOf(tensor)];
  const fits = others === channels || ("tensor" in y && offset % 4 === 0 && offset + channels <= others);
  const perImage = fits && rowsOf(tensor) === x.shape[0];
  if (!perImage && (rowsOf(tensor) !== rowsOf(x) || others !== channels)) {
    throw g.error(name, `shapes ${x.shape} and ${tensor.shape} do not add`);
  }
  return pushElementwise(g, x, name, { addend: tensor, firstAddendQuad: offset / 4 });
}

function pushElementwise(
  g: Graph,
  x: Tensor,
  name: string,
  options: AffineOptions & { addend?: Tensor; firstAddendQuad?: number },
): Tensor {
  return g.push<Elementwise>({
    kind: "elementwise",
    name: g.path(name),
    input: x,
    addend: options.addend,
    firstAddendQuad: options.firstAddendQuad ?? 0,
    activation: options.activation ?? "none",
    inputScale: options.inputScale ?? 1,
    scale: options.scale ?? 1,
    shift: options.shift ?? 0,
    output: g.tensor(g.path(name), x.shape),
  }).output;
}

/** True if the addend is one row an image, and not of the shape of the input. */
export function addsPerImage({ input, addend }: Elementwise): boolean {
  return addend !== undefined && (rowsOf(addend) !== rowsOf(input) || channelsOf(addend) !== channelsOf(input));
}

/** The numbers of `shaders/elementwise.wgsl`. */
const ADDEND = { none: 0, whole: 1, perImage: 2 };

export const elementwiseKind: OperationKind<Elementwise> = {
  reads: ({ input, addend }) => present(input, addend),
  split(operation, slicing) {
    const parts = partsOf(slicing.stored(operation.input));
    const slices = slicing.sliceInto(operation, parts.map(channelsOf));
    const { addend, firstAddendQuad } = operation;
    const isPerImage = addsPerImage(operation);
    if (addend && isPerImage) slicing.needWhole(operation, [addend]);
    const addends = addend && !isPerImage ? slicing.beside(operation, slices, addend) : undefined;
    return slices.map(({ tensor, firstQuad }, i) => ({
      ...operation,
      input: parts[i]!,
      addend: addends ? addends[i]! : addend,
      firstAddendQuad: isPerImage ? firstAddendQuad + firstQuad : 0,
      output: tensor,
    }));
  },
  lower(operation, { storage }) {
    const { input, addend, output } = operation;
    const quadCount = quads(channelsOf(input));
    const count = rowsOf(input) * quadCount;
    const { workgroups, width } = grid(count);
    return [
      {
        kernel: kernel("elementwise", source, storage),
        label: operation.name,
        params: {
          count,
          quads: quadCount,
          image_quads: count / input.shape[0]!,
          addend: addend === undefined ? ADDEND.none : addsPerImage(operation) ? ADDEND.perImage : ADDEND.whole,
          activation: activationCode[operation.activation],
          input_scale: { f32: operation.inputScale },
          scale: { f32: operation.scale },
          shift: { f32: operation.shift },
          channels: channelsOf(input),
          row_quads: addend ? quads(channelsOf(addend)) : 0,
          first_row_quad: operation.firstAddendQuad,
          grid_width: width,
        },
        bindings: [{ tensor: input }, addend ? { tensor: addend } : "blank", { tensor: output }],
        workgroups,
      },
    ];
  },
};
