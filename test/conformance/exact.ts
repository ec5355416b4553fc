/**
 * A recorded network in float64, in plain loops, and how much it amplifies rounding: the judge where a result and its
 * reference differ by more than the limit.
 *
 * The reference is float32 too. Some networks amplify its roundings beyond the limit (a LoRA at full strength on random
 * weights, whose attention is then all but hard), and then no other program can agree with it to that limit. Such a network
 * shows itself in exact arithmetic: rounding each intermediate once moves its result. One that was built wrongly does not.
 */

import type { Convolution } from "../../src/graph/ops/convolution.ts";
import { addsPerImage } from "../../src/graph/ops/elementwise.ts";
import type { Operation } from "../../src/graph/ops/table.ts";
import type { Recorder } from "../../src/graph/recorder.ts";
import {
  channelsOf,
  type Tensor as GraphTensor,
  type HeadPadding,
  rowsOf,
  type Storage,
  type VectorParameter,
} from "../../src/graph/tensor.ts";
import * as reference from "../../src/graph/testing/reference.ts";
import { float16BitsToFloat32, float32ToFloat16Bits } from "../../src/platform/float16.ts";
import { type FloatType, toFloat32 } from "../../src/weights/element-types.ts";
import { checkTensors } from "../../src/weights/manifest.ts";
import type { Component } from "../../src/weights/model-directory.ts";
import type { TensorEntry } from "../../src/weights/tensor-set.ts";
import { channelsFirst } from "./tensors.ts";

/** The checkpoint's values, by the names that the model has for them. */
export type WeightValues = ReadonlyMap<string, Float64Array>;

/** Every weight that `recorder` wants, from the component's files. */
export async function weightValues(component: Component, recorder: Recorder): Promise<Map<string, Float64Array>> {
  const set = await component.weights();
  try {
    const parts = [...recorder.parameters.values()].flatMap((parameter) => parameter.parts);
    const values = new Map<string, Float64Array>();
    const entries = checkTensors(set, parts, { component: component.name, ignore: () => true });
    for (const [name, entry] of entries) values.set(name, await entryValues(entry));
    return values;
  } finally {
    await set.close();
  }
}

export async function entryValues(entry: TensorEntry): Promise<Float64Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  return Float64Array.from(toFloat32(bytes, entry.dtype as FloatType));
}

/** How intermediates are kept. */
export type Keep = (value: number) => number;

/** How a storage keeps numbers: each rounded once. */
export const KEPT_AS: Record<Storage, Keep> = {
  f32: Math.fround,
  f16: (value) => float16BitsToFloat32(float32ToFloat16Bits(value)),
};

/**
 * How far the outputs move when every weight is rounded to `storage`, every input and intermediate to `activations`, and
 * arithmetic stays exact: the largest difference over the output's largest magnitude, by output.
 */
export function roundingFloor(
  recorder: Recorder,
  weights: WeightValues,
  inputs: Readonly<Record<string, Float32Array | Uint32Array>>,
  { storage, activations }: { storage: Storage; activations: Storage },
): Map<string, number> {
  // Vectors (biases, norms) are f32 in either storage.
  const keptWeights = new Map(
    [...weights].map(([name, values]) => [name, isMatrix(recorder, name) ? values.map(KEPT_AS[storage]) : values]),
  );
  const exact = evaluate(recorder, weights, inputs, (value) => value);
  const rounded = evaluate(recorder, keptWeights, inputs, KEPT_AS[activations]);
  return new Map([...exact].map(([name, values]) => [name, largestDifference(values, rounded.get(name)!)]));
}

function isMatrix(recorder: Recorder, name: string): boolean {
  const owner = [...recorder.parameters.values()].find(({ parts }) => parts.some((part) => part.name === name));
  return owner !== undefined && owner.kind !== "vector";
}

function largestDifference(exact: Float64Array, other: Float64Array): number {
  const largest = exact.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return exact.reduce((most, value, i) => Math.max(most, Math.abs(value - other[i]!)), 0) / largest;
}

/** The recorder's outputs, channels first, computed in float64. Throws for an operation that no network of the cases has. */
export function evaluate(
  recorder: Recorder,
  weights: WeightValues,
  inputs: Readonly<Record<string, Float32Array | Uint32Array>>,
  keep: Keep,
): Map<string, Float64Array> {
  const known = new Map<number, Float64Array>();
  for (const [name, tensor] of recorder.inputs) {
    const given = inputs[name];
    if (given)
      known.set(tensor.id, tensor.element === "u32" ? Float64Array.from(given) : Float64Array.from(given, keep));
  }
  const valuesOf = (tensor: GraphTensor): Float64Array =>
    tensor.concatenated ? sideBySide(tensor.concatenated, valuesOf) : known.get(tensor.id)!;
  for (const operation of recorder.operations) {
    const values = compute(operation, valuesOf, weights);
    if (values) known.set(operation.output.id, values.map(keep));
  }
  return new Map([...recorder.outputs].map(([name, tensor]) => [name, channelsFirst(tensor.shape, valuesOf(tensor))]));
}

type Values = (tensor: GraphTensor) => Float64Array;

function compute(operation: Operation, valuesOf: Values, weights: WeightValues): Float64Array | undefined {
  switch (operation.kind) {
    case "convolution":
      return convolution(operation, valuesOf(operation.input), weights);
    case "group-norm-stats":
      return undefined; // part of what follows
    case "group-norm-apply": {
      const channels = channelsOf(operation.input);
      const images = operation.input.shape[0]!;
      const groups = channels / operation.groupChannels;
      const shape = { images, pixels: rowsOf(operation.input) / images, channels, groups };
      return reference.groupNorm(valuesOf(operation.input), shape, normOf(operation, weights)).values;
    }
    case "layer-norm": {
      const shape = { images: rowsOf(operation.input), pixels: 1, channels: channelsOf(operation.input), groups: 1 };
      return reference.groupNorm(valuesOf(operation.input), shape, normOf(operation, weights)).values;
    }
    case "attention": {
      const { query, key, value, heads, head, causal } = operation;
      const images = query.tensor.shape[0]!;
      const view = ({ tensor, offset }: typeof query) => ({
        values: valuesOf(tensor),
        row: channelsOf(tensor),
        offset,
      });
      const shape = { images, heads, queries: rowsOf(query.tensor) / images, keys: rowsOf(key.tensor) / images };
      return reference.attention(
        { query: view(query), key: view(key), value: view(value) },
        { ...shape, ...head, causal },
      ).values;
    }
    case "geglu":
      return reference.geglu(valuesOf(operation.value.tensor), channelsOf(operation.output)).values;
    case "elementwise": {
      const { input, addend } = operation;
      const other = addend && valuesOf(addend);
      const channels = channelsOf(input);
      const perImage = addsPerImage(operation);
      const size = (rowsOf(input) / input.shape[0]!) * channels;
      const first = operation.firstAddendQuad * 4;
      const inRow = (index: number) => Math.floor(index / size) * channelsOf(addend!) + first + (index % channels);
      const at = (index: number) => other![perImage ? inRow(index) : index]!;
      return reference.elementwise(valuesOf(input), { ...operation, addend: other && at }).values;
    }
    case "upsample-nearest": {
      const [, height, width] = operation.output.shape as [number, number, number, number];
      const shape = operation.input.shape as [number, number, number, number];
      return reference.upsampleNearest(valuesOf(operation.input), shape, { height, width }).values;
    }
    case "softmax":
      return reference.softmax(valuesOf(operation.input), channelsOf(operation.input)).values;
    case "embedding": {
      const ids = Uint32Array.from(valuesOf(operation.ids));
      const [table, positions] = [operation.table, operation.positions].map(({ parts }) => weights.get(parts[0].name)!);
      const shape = { channels: operation.table.channels, length: operation.output.shape[1]! };
      return reference.embedding(ids, table!, positions!, shape).values;
    }
    case "concatenate":
      return sideBySide([operation.first, operation.second], valuesOf);
    case "gather-rows": {
      const values = valuesOf(operation.input);
      const [, tokens, channels] = operation.input.shape as [number, number, number];
      const rows = [...valuesOf(operation.rows)].map((row, image) => (image * tokens + row) * channels);
      return Float64Array.from(rows.flatMap((start) => [...values.subarray(start, start + channels)]));
    }
    default:
      throw new Error(`${operation.kind}: no network of a case has this operation`);
  }
}

function normOf(layer: { eps: number; gamma: VectorParameter; beta: VectorParameter }, weights: WeightValues) {
  const { eps, gamma, beta } = layer;
  return { eps, gamma: weights.get(gamma.parts[0]!.name)!, beta: weights.get(beta.parts[0]!.name)! };
}

/** Layers side by side as one, and heads as wide as they are stored: a dense weight with zeros where nothing is. */
function convolution(operation: Convolution, input: Float64Array, weights: WeightValues): Float64Array {
  const { picture, kernel, weight, bias } = operation;
  const { images, inHeight, inWidth, outHeight, outWidth } = picture;
  const inputs = channelsOf(operation.input);
  const outputs = channelsOf(operation.output);
  const dense = new Float64Array(outputs * inputs * weight.taps);
  const denseBias = new Float64Array(outputs);
  let first = 0;
  for (const [index, part] of weight.parts.entries()) {
    const values = weights.get(part.name)!;
    const biases = bias && weights.get(bias.parts[index]!.name)!;
    for (let o = 0; o < part.shape[0]!; o++) {
      const row = first + widened(o, weight.outputHead);
      denseBias[row] = biases?.[o] ?? 0;
      for (let i = 0; i < weight.inputs; i++) {
        const from = (o * weight.inputs + i) * weight.taps;
        dense.set(
          values.subarray(from, from + weight.taps),
          (row * inputs + widened(i, weight.inputHead)) * weight.taps,
        );
      }
    }
    first += weight.partChannels[index]!;
  }
  return reference.convolution({
    input,
    shape: [images, inHeight, inWidth, inputs],
    weight: dense,
    outputs,
    kernel,
    stride: kernel.stride,
    before: kernel,
    output: { height: outHeight, width: outWidth },
    bias: denseBias,
  }).values;
}

function widened(channel: number, head: HeadPadding | undefined): number {
  return head ? Math.floor(channel / head.width) * head.padded + (channel % head.width) : channel;
}

function sideBySide(parts: readonly GraphTensor[], valuesOf: Values): Float64Array {
  const rows = rowsOf(parts[0]!);
  const width = parts.reduce((sum, part) => sum + channelsOf(part), 0);
  const values = new Float64Array(rows * width);
  let first = 0;
  for (const part of parts) {
    const own = valuesOf(part);
    const channels = channelsOf(part);
    for (let row = 0; row < rows; row++) {
      values.set(own.subarray(row * channels, (row + 1) * channels), row * width + first);
    }
    first += channels;
  }
  return values;
}
