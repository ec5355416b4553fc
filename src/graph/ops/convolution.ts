/** Convolutions and linear layers, which are convolutions of kernel 1 × 1. */

import type { Graph } from "../graph.ts";
import type { Convolution } from "../kernels/convolution/operation.ts";
import { CONVOLUTIONS } from "../kernels/convolution/variants.ts";
import { chooseVariant } from "../kernels/variant.ts";
import type { Slicing } from "../slicing.ts";
import {
  channelsOf,
  type HeadPadding,
  type MatrixParameter,
  type Parameter,
  partsOf,
  quads,
  rowsOf,
  type Tensor,
  type VectorParameter,
} from "../tensor.ts";
import { type OperationKind, present } from "./kind.ts";

export type { Convolution } from "../kernels/convolution/operation.ts";

export interface ConvolutionOptions {
  outputs: number;
  kernel?: number;
  stride?: number;
  /** Rows and columns of zeros added above and left, below and right. Default: none. */
  padding?: number | { before: number; after: number };
  bias?: boolean;
}

export interface LinearOptions {
  /** Output channels of each of the named layers. */
  outputs: number | readonly number[];
  bias?: boolean;
  /** The outputs are heads of this width, stored padded. */
  outputHead?: HeadPadding;
  /** The inputs are heads of this width, stored padded. */
  inputHead?: HeadPadding;
  /** The name of the operation, if the names of all layers together would be too long. */
  name?: string;
  /** Other names that old files give the layer, and the layer as a 1 × 1 convolution if the file has it so. */
  aliases?: readonly string[];
  /** The checkpoint stores the weight as `[out, in, 1, 1]`. */
  asConvolution?: boolean;
}

/** Width of a head and the multiple of four that it is stored with. */
export function headPadding(width: number): HeadPadding {
  return { width, padded: quads(width) * 4 };
}

/** `[n, h, w, c]` → `[n, h′, w′, outputs]`. Weight `<name>.weight` `[outputs, c, k, k]`. */
export function conv2d(g: Graph, x: Tensor, name: string, options: ConvolutionOptions): Tensor {
  const { outputs, kernel = 3, stride = 1, padding = 0, bias = true } = options;
  const [n, h, w, c] = g.picture(x, name);
  const before = typeof padding === "number" ? padding : padding.before;
  const after = typeof padding === "number" ? padding : padding.after;
  const outHeight = Math.floor((h + before + after - kernel) / stride) + 1;
  const outWidth = Math.floor((w + before + after - kernel) / stride) + 1;
  if (outHeight < 1 || outWidth < 1) throw g.error(name, `a picture of ${h} × ${w} is too small`);
  const weight = g.matrix({
    parts: [{ name: g.path(name, "weight"), shape: [outputs, c, kernel, kernel] }],
    partChannels: [outputs],
    taps: kernel * kernel,
    inputs: c,
  });
  return pushConvolution(g, x, name, weight, bias ? g.vector(name, "bias", outputs) : undefined, {
    shape: [n, outHeight, outWidth, outputs],
    picture: { images: n, inHeight: h, inWidth: w, outHeight, outWidth },
    kernel: { height: kernel, width: kernel, stride, top: before, left: before },
  });
}

/**
 * `[…, c]` → `[…, Σ outputs]`: one or several linear layers of the same input, side by side.
 * Weight `<name>.weight` `[outputs, c]`.
 */
export function linear(g: Graph, x: Tensor, names: string | readonly string[], options: LinearOptions): Tensor {
  const layers = typeof names === "string" ? [names] : names;
  const outputs = typeof options.outputs === "number" ? layers.map(() => options.outputs as number) : options.outputs;
  const { bias = true, outputHead, inputHead } = options;
  const stored = outputs.map((size) => (outputHead ? (size / outputHead.width) * outputHead.padded : size));
  const c = channelsOf(x);
  const inputs = inputHead ? (c / inputHead.padded) * inputHead.width : c;
  const total = stored.reduce((sum, size) => sum + size, 0);
  if (layers.length > 1 && stored.slice(0, -1).some((size) => size % 4 !== 0)) {
    throw g.error(layers[0]!, `layers side by side need multiples of four channels, not ${outputs}`);
  }
  const parts = (field: string, shapeOf: (outputs: number) => readonly number[]) =>
    layers.map((name, i) => ({
      name: g.path(name, field),
      shape: shapeOf(outputs[i]!),
      ...(options.aliases ? { aliases: options.aliases.map((alias) => g.path(alias, field)) } : {}),
    }));
  const suffix = options.asConvolution ? [1, 1] : [];
  const weight = g.matrix({
    parts: parts("weight", (size) => [size, inputs, ...suffix]),
    partChannels: stored,
    taps: 1,
    inputs,
    outputHead: paddedOnly(outputHead),
    inputHead: paddedOnly(inputHead),
  });
  const biasParameter = bias
    ? g.register<VectorParameter>({
        kind: "vector",
        key: layers.map((name) => g.path(name, "bias")).join("+"),
        parts: parts("bias", (size) => [size]),
        partChannels: stored,
        quads: quads(total),
        head: paddedOnly(outputHead),
      })
    : undefined;
  const rows = rowsOf(x);
  const images = x.shape.length > 1 ? x.shape[0]! : 1;
  return pushConvolution(g, x, options.name ?? layers.join("+"), weight, biasParameter, {
    shape: [...x.shape.slice(0, -1), total],
    picture: { images, inHeight: 1, inWidth: rows / images, outHeight: 1, outWidth: rows / images },
    kernel: { height: 1, width: 1, stride: 1, top: 0, left: 0 },
  });
}

function pushConvolution(
  g: Graph,
  x: Tensor,
  name: string,
  weight: MatrixParameter,
  bias: VectorParameter | undefined,
  geometry: { shape: readonly number[]; picture: Convolution["picture"]; kernel: Convolution["kernel"] },
): Tensor {
  const { picture, kernel, shape } = geometry;
  return g.push<Convolution>({
    kind: "convolution",
    name: g.path(name),
    input: x,
    weight,
    bias,
    picture,
    virtual: { height: picture.inHeight, width: picture.inWidth },
    kernel,
    firstOutputQuad: 0,
    activation: "none",
    activationAfterResidual: true,
    output: g.tensor(g.path(name), shape),
  }).output;
}

/** Heads that are a multiple of four wide need no padding, and their layers no special packing. */
function paddedOnly(head: HeadPadding | undefined): HeadPadding | undefined {
  return head && head.width !== head.padded ? head : undefined;
}

export const convolutionKind: OperationKind<Convolution> = {
  reads: ({ input, perImage, residual }) => [...partsOf(input), ...present(perImage?.tensor, residual)],
  parameters: ({ weight, bias }) => present<Parameter>(weight, bias),
  /** A convolution adds up over slices of its input; each slice of its output is a dispatch of its own. */
  split(operation, slicing: Slicing) {
    const input = slicing.stored(operation.input);
    const perImage = operation.perImage?.tensor;
    if (perImage) slicing.needWhole(operation, [perImage]);
    const slices = slicing.sliceEvenly(operation);
    const residuals = operation.residual && slicing.beside(operation, slices, operation.residual);
    return slices.map(({ tensor, firstQuad }, i) => ({
      ...operation,
      input,
      residual: residuals?.[i],
      firstOutputQuad: firstQuad,
      output: tensor,
    }));
  },
  lower: (operation, target) => chooseVariant(CONVOLUTIONS, operation, target).lower(operation, target),
};
