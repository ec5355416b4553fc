/**
 * A recorded network as an ONNX model: the operations as Daguerre's models record them, before anything is fused, so that
 * onnxruntime optimises the same network in its own way.
 *
 * Pictures are channels first there and tokens `[n, tokens, channels]`; a tensor gets the layout that is asked for, and
 * a transposition where its maker gave the other one. Attention is onnxruntime's fused MultiHeadAttention; several
 * linear layers side by side are layers of their own again, as its exporters have them.
 */

import type { Attention } from "../../src/graph/ops/attention.ts";
import type { Convolution } from "../../src/graph/ops/convolution.ts";
import { addsPerImage, type Elementwise } from "../../src/graph/ops/elementwise.ts";
import type { Operation } from "../../src/graph/ops/table.ts";
import type { Recorder } from "../../src/graph/recorder.ts";
import {
  type Activation,
  channelsOf,
  rowsOf,
  type Tensor,
  type VectorParameter,
  type View,
} from "../../src/graph/tensor.ts";
import { transposed } from "../layout.ts";
import { createModelWriter, type ModelWriter } from "./model-writer.ts";
import { instanceGroupNorm } from "./op-models.ts";

/** Values of a tensor of the checkpoint. */
export type Weights = (name: string) => Float32Array;

interface Layouts {
  /** `[n, c, h, w]` */
  picture?: string;
  /** The tensor's own shape, channels last. */
  rows?: string;
  /** Channels last, in parts. */
  readonly parts?: readonly { readonly name: string; readonly begin: number }[];
}

/** Writes `<file>` with its weights beside it. The recorder must have one output. Throws where ONNX has no such thing. */
export function exportGraph(g: Recorder, weights: Weights, file: string): string {
  const m = createModelWriter(file, { external: true });
  const layouts = new Map<number, Layouts>();
  for (const [name, tensor] of g.inputs) {
    if (tensor.element === "u32") layouts.set(tensor.id, { rows: m.input(name, tensor.shape, "int32") });
    else if (tensor.shape.length === 4) layouts.set(tensor.id, { picture: m.input(name, channelsFirstShape(tensor)) });
    else layouts.set(tensor.id, { rows: m.input(name, tensor.shape) });
  }
  const context = { m, weights, forms: layouts };
  for (const operation of g.operations) {
    const made = exportOperation(context, operation);
    if (made) layouts.set(operation.output.id, made);
  }
  const [output] = g.outputs.values();
  const picture = output!.shape.length === 4;
  const result = picture ? asPicture(context, output!) : asRows(context, output!);
  m.output(result, picture ? channelsFirstShape(output!) : output!.shape);
  return m.finish();
}

interface Context {
  readonly m: ModelWriter;
  readonly weights: Weights;
  readonly layouts: Map<number, Layouts>;
}

function channelsFirstShape({ shape }: Tensor): number[] {
  const [n, h, w, c] = shape as [number, number, number, number];
  return [n, c, h, w];
}

/** A tensor of four dimensions as `[n, c, h, w]`. */
function asPicture(context: Context, tensor: Tensor): string {
  const { m, layouts: forms } = context;
  if (tensor.concatenated) {
    const parts = tensor.concatenated.map((part) => asPicture(context, part));
    return m.node("Concat", parts, { attributes: { axis: 1 } });
  }
  const known = forms.get(tensor.id)!;
  if (known.picture) return known.picture;
  const square = m.node("Reshape", [asRows(context, tensor), m.integers(tensor.shape)]);
  known.picture = m.node("Transpose", [square], { attributes: { perm: [0, 3, 1, 2] } });
  return known.picture;
}

/** `[n, tokens, c]`, or `[n, c]` where the tensor has two dimensions. */
function asRows(context: Context, tensor: Tensor): string {
  const { m, layouts: forms } = context;
  const known = forms.get(tensor.id)!;
  if (known.rows) return known.rows;
  if (known.parts) {
    known.rows = m.node(
      "Concat",
      known.parts.map(({ name }) => name),
      { attributes: { axis: -1 } },
    );
    return known.rows;
  }
  const last = m.node("Transpose", [known.picture!], { attributes: { perm: [0, 2, 3, 1] } });
  known.rows = m.node("Reshape", [last, m.integers([tensor.shape[0]!, -1, channelsOf(tensor)])]);
  return known.rows;
}

/** The layout that is there, for operations that take either. */
function asIs(context: Context, tensor: Tensor): { name: string; picture: boolean } {
  const known = context.layouts.get(tensor.id);
  if (tensor.concatenated || known?.picture) return { name: asPicture(context, tensor), picture: true };
  return { name: asRows(context, tensor), picture: false };
}

/**
 * The layouts of the operation's output; none for an operation that has no counterpart there and is part of the next
 * operation.
 */
function exportOperation(context: Context, operation: Operation): Layouts | undefined {
  const { m, weights } = context;
  switch (operation.kind) {
    case "convolution":
      return isPicture(operation) ? { picture: convolution(context, operation) } : linear(context, operation);
    case "group-norm-stats":
      return undefined;
    case "group-norm-apply": {
      const shape = channelsFirstShape(operation.input);
      const channels = shape[1]!;
      const scale = (parameter: VectorParameter) =>
        m.weight(`${parameter.key} [c, 1, 1]`, [channels, 1, 1], weights(parameter.parts[0]!.name));
      const scales = [scale(operation.gamma), scale(operation.beta)];
      const groups = channels / operation.groupChannels;
      const eps = { float: operation.eps };
      return { picture: instanceGroupNorm(m, asPicture(context, operation.input), shape, groups, scales, eps) };
    }
    case "layer-norm": {
      const inputs = [
        asRows(context, operation.input),
        vector(context, operation.gamma),
        vector(context, operation.beta),
      ];
      const attributes = { axis: -1, epsilon: { float: operation.eps } };
      return { rows: m.node("LayerNormalization", inputs, { attributes }) };
    }
    case "attention":
      return { rows: attention(context, operation) };
    case "geglu": {
      const x = asRows(context, operation.value.tensor);
      const channels = channelsOf(operation.output);
      const halves = m.split(x, [channels, channels]);
      const gate = m.node("Gelu", [halves[1]!], { domain: "com.microsoft" });
      return { rows: m.node("Mul", [halves[0]!, gate]) };
    }
    case "elementwise": {
      const { name, picture } = asIs(context, operation.input);
      let x = scaled(m, name, "Mul", operation.inputScale, 1);
      x = activation(m, x, operation.activation);
      x = scaled(m, x, "Mul", operation.scale, 1);
      x = scaled(m, x, "Add", operation.shift, 0);
      if (operation.addend) x = m.node("Add", [x, addend(context, operation, operation.addend, picture)]);
      return picture ? { picture: x } : { rows: x };
    }
    case "upsample-nearest": {
      const sizes = m.integers(channelsFirstShape(operation.output));
      const attributes = { mode: "nearest", nearest_mode: "floor", coordinate_transformation_mode: "asymmetric" };
      return { picture: m.node("Resize", [asPicture(context, operation.input), "", "", sizes], { attributes }) };
    }
    case "softmax":
      return { rows: m.node("Softmax", [asRows(context, operation.input)], { attributes: { axis: -1 } }) };
    case "embedding": {
      const { ids, table, positions, output } = operation;
      const [, tokens, channels] = output.shape as [number, number, number];
      const rows = m.weight(table.key, [table.rows, channels], weights(table.parts[0].name));
      const places = weights(positions.parts[0].name).slice(0, tokens * channels);
      const taken = m.node("Gather", [rows, m.node("Reshape", [asRows(context, ids), m.integers([-1, tokens])])]);
      return { rows: m.node("Add", [taken, m.weight(positions.key, [tokens, channels], places)]) };
    }
    case "gather-rows":
    case "pack-picture":
    case "latent-to-rgb":
    case "model-input":
    case "scheduler-step":
    case "concatenate":
    case "finite-check":
    case "philox-normals":
      throw new Error(`${operation.name}: ${operation.kind} is not exported to ONNX`);
    default:
      return operation satisfies never;
  }
}

/** A convolution of a picture, rather than a linear layer, which is recorded as one. */
function isPicture({ input, output, picture }: Convolution): boolean {
  return input.shape.length === 4 && output.shape.length === 4 && input.shape[1] === picture.inHeight;
}

function convolution(context: Context, operation: Convolution): string {
  const { m, weights } = context;
  const { weight, bias, kernel, picture } = operation;
  const { name, shape } = weight.parts[0]!;
  const end = (out: number, size: number, begin: number, taps: number) =>
    Math.max(0, (out - 1) * kernel.stride + taps - size - begin);
  const attributes = {
    kernel_shape: [kernel.height, kernel.width],
    strides: [kernel.stride, kernel.stride],
    pads: [
      kernel.top,
      kernel.left,
      end(picture.outHeight, picture.inHeight, kernel.top, kernel.height),
      end(picture.outWidth, picture.inWidth, kernel.left, kernel.width),
    ],
  };
  const inputs = [asPicture(context, operation.input), m.weight(name, shape, weights(name))];
  if (bias) inputs.push(vector(context, bias));
  return m.node("Conv", inputs, { attributes });
}

function linear(context: Context, operation: Convolution): Layouts {
  const { m, weights } = context;
  const { weight, bias } = operation;
  if (weight.outputHead || weight.inputHead)
    throw new Error(`${operation.name}: padded heads are not exported to ONNX`);
  const x = asRows(context, operation.input);
  let begin = 0;
  const parts = weight.parts.map(({ name, shape }, index) => {
    const [outputs, inputs] = shape as [number, number];
    const right = m.weight(`${name} transposed`, [inputs, outputs], transposed(weights(name), 1, outputs, inputs));
    const product = m.node("MatMul", [x, right]);
    const offset = bias?.parts[index]?.name;
    const result = offset ? m.node("Add", [product, m.weight(offset, [outputs], weights(offset))]) : product;
    const part = { name: result, begin };
    begin += outputs;
    return part;
  });
  return parts.length === 1 ? { rows: parts[0]!.name } : { parts };
}

function attention(context: Context, operation: Attention): string {
  const { m } = context;
  const { heads, head, causal } = operation;
  if (head.width !== head.padded) throw new Error(`${operation.name}: padded heads are not exported to ONNX`);
  const channels = heads * head.width;
  const inputs = [operation.query, operation.key, operation.value].map((view) => columns(context, view, channels));
  if (causal) {
    const tokens = rowsOf(operation.query.tensor) / operation.query.tensor.shape[0]!;
    const mask = new Float32Array(tokens * tokens);
    for (let q = 0; q < tokens; q++) for (let k = q + 1; k < tokens; k++) mask[q * tokens + k] = -1e9;
    inputs.push("", "", m.weight(`causal ${tokens}`, [1, 1, tokens, tokens], mask));
  }
  return m.node("MultiHeadAttention", inputs, { domain: "com.microsoft", attributes: { num_heads: heads } });
}

function addend(context: Context, operation: Elementwise, other: Tensor, picture: boolean): string {
  const { m } = context;
  const { input, firstAddendQuad } = operation;
  if (!addsPerImage(operation)) {
    return picture ? asPicture(context, { ...other, shape: input.shape }) : asRows(context, other);
  }
  const channels = channelsOf(input);
  const shape = picture ? [-1, channels, 1, 1] : [-1, 1, channels];
  const row = columns(context, { tensor: other, offset: firstAddendQuad * 4 }, channels);
  return m.node("Reshape", [row, m.integers(shape)]);
}

/** Channels of a tensor: a layer of its own where several were recorded side by side. */
function columns(context: Context, { tensor, offset }: View, channels: number): string {
  const { m, layouts: forms } = context;
  const part = forms.get(tensor.id)?.parts?.find(({ begin }) => begin === offset);
  if (part) return part.name;
  const rows = asRows(context, tensor);
  if (channelsOf(tensor) === channels) return rows;
  return m.node("Slice", [rows, ...[[offset], [offset + channels], [-1]].map((bounds) => m.integers(bounds))]);
}

function vector({ m, weights }: Context, parameter: VectorParameter): string {
  if (parameter.parts.length !== 1 || parameter.head)
    throw new Error(`${parameter.key}: parts of a vector are not exported`);
  const { name, shape } = parameter.parts[0]!;
  return m.weight(name, shape, weights(name));
}

function scaled(m: ModelWriter, x: string, operator: "Mul" | "Add", by: number, neutral: number): string {
  return by === neutral ? x : m.node(operator, [x, m.weight(`constant ${by}`, [], Float32Array.of(by))]);
}

function activation(m: ModelWriter, x: string, which: Activation): string {
  switch (which) {
    case "none":
      return x;
    case "silu":
      return m.node("Mul", [x, m.node("Sigmoid", [x])]);
    case "gelu":
      return m.node("Gelu", [x], { domain: "com.microsoft" });
    case "quick_gelu":
      return m.node("QuickGelu", [x], { domain: "com.microsoft", attributes: { alpha: { float: 1.702 } } });
    case "relu":
      return m.node("Relu", [x]);
    case "tanh":
      return m.node("Tanh", [x]);
    default:
      return which satisfies never;
  }
}
