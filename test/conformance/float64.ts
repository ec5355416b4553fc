/**
 * A recorded network in float64, operation by operation, on the host: what it would give if nothing were rounded.
 *
 * References were computed in f32 and carry rounding of their own, which a network may amplify beyond any limit. Where a
 * result is over its limit, this tells who is off: the reference, or we. Slow (plain loops), so only for small networks.
 */

import type { Recorder } from "../../src/graph/recorder.ts";
import {
  channelsOf,
  type MatrixParameter,
  type Operation,
  partsOf,
  rowsOf,
  type Tensor,
  type VectorParameter,
} from "../../src/graph/tensor.ts";
import * as reference from "../../src/graph/testing/reference.ts";

/** A checkpoint's tensor by name, in float64. */
export type ExactWeights = (name: string) => Float64Array;

/** `inputs` by name as the device has them (channels last, no padding) → the recorder's outputs likewise. */
export function evaluate(
  recorder: Recorder,
  inputs: Readonly<Record<string, Float32Array | Uint32Array>>,
  weights: ExactWeights,
): Map<string, Float64Array> {
  const values = new Map<number, Float64Array>();
  for (const [name, tensor] of recorder.inputs) values.set(tensor.id, Float64Array.from(inputs[name]!));
  for (const operation of recorder.operations) values.set(operation.output.id, run(operation, values, weights));
  return new Map([...recorder.outputs].map(([name, tensor]) => [name, values.get(tensor.id)!]));
}

function run(operation: Operation, values: Map<number, Float64Array>, weights: ExactWeights): Float64Array {
  const read = (tensor: Tensor) => valuesOf(tensor, values);
  switch (operation.kind) {
    case "convolution": {
      const { input, picture, kernel, weight, bias, virtual } = operation;
      return reference.convolution({
        input: read(input),
        shape: [picture.images, picture.inHeight, picture.inWidth, channelsOf(input)],
        weight: matrix(weight, weights),
        outputs: channelsOf(operation.output),
        kernel,
        stride: kernel.stride,
        before: kernel,
        output: { height: picture.outHeight, width: picture.outWidth },
        resized: virtual,
        bias: bias && vector(bias, weights),
      }).values;
    }
    case "group-norm-stats":
      return new Float64Array(0); // part of what follows
    case "group-norm-apply": {
      const { input, eps, gamma, beta } = operation;
      const channels = channelsOf(input);
      const images = input.shape[0]!;
      const shape = { images, pixels: rowsOf(input) / images, channels, groups: channels / operation.groupChannels };
      return reference.groupNorm(read(input), shape, {
        eps,
        gamma: vector(gamma, weights),
        beta: vector(beta, weights),
      }).values;
    }
    case "layer-norm": {
      const { input, eps, gamma, beta } = operation;
      const shape = { images: rowsOf(input), pixels: 1, channels: channelsOf(input), groups: 1 };
      return reference.groupNorm(read(input), shape, {
        eps,
        gamma: vector(gamma, weights),
        beta: vector(beta, weights),
      }).values;
    }
    case "attention": {
      const { query, key, value, heads, head, causal } = operation;
      const view = ({ tensor, offset }: typeof query) => ({ values: read(tensor), row: channelsOf(tensor), offset });
      const images = query.tensor.shape[0]!;
      return reference.attention(
        { query: view(query), key: view(key), value: view(value) },
        { images, heads, queries: rowsOf(query.tensor) / images, keys: rowsOf(key.tensor) / images, ...head, causal },
      ).values;
    }
    case "geglu": {
      const channels = channelsOf(operation.output);
      return reference.geglu(read(operation.value.tensor), channels).values;
    }
    case "elementwise": {
      const { input, addend } = operation;
      const x = read(input);
      const y = addend && read(addend);
      const perImage = x.length / input.shape[0]!;
      const channels = channelsOf(input);
      const at = (index: number) =>
        y!.length === x.length ? y![index]! : y![Math.floor(index / perImage) * channels + (index % channels)]!;
      return reference.elementwise(x, { ...operation, addend: y && at }).values;
    }
    case "upsample-nearest": {
      const [, height, width] = operation.output.shape as [number, number, number, number];
      const shape = operation.input.shape as [number, number, number, number];
      return reference.upsampleNearest(read(operation.input), shape, { height, width }).values;
    }
    case "embedding": {
      const { ids, table, positions, output } = operation;
      const shape = { channels: table.channels, length: output.shape[1]! };
      const tables = [table, positions].map(({ parts }) => weights(parts[0].name)) as [Float64Array, Float64Array];
      return reference.embedding(Uint32Array.from(read(ids)), ...tables, shape).values;
    }
    default:
      throw new Error(`${operation.kind} is not evaluated in float64`);
  }
}

function valuesOf(tensor: Tensor, values: Map<number, Float64Array>): Float64Array {
  const parts = partsOf(tensor);
  if (parts.length === 1) return values.get(parts[0]!.id)!;
  const channels = channelsOf(tensor);
  const joined = new Float64Array(rowsOf(tensor) * channels);
  let first = 0;
  for (const part of parts) {
    const own = channelsOf(part);
    const source = values.get(part.id)!;
    for (let row = 0; row < rowsOf(tensor); row++)
      joined.set(source.subarray(row * own, (row + 1) * own), row * channels + first);
    first += own;
  }
  return joined;
}

/** The layers of a parameter side by side, heads padded as they are stored: `[outputs, inputs, taps]`. */
function matrix(parameter: MatrixParameter, weights: ExactWeights): Float64Array {
  const { outputHead, inputHead, taps, inputs, partChannels } = parameter;
  const storedInputs = inputHead ? (inputs / inputHead.width) * inputHead.padded : inputs;
  const outputs = partChannels.reduce((sum, size) => sum + size, 0);
  const stored = new Float64Array(outputs * storedInputs * taps);
  let first = 0;
  parameter.parts.forEach(({ name }, part) => {
    const source = weights(name);
    for (let output = 0; output < source.length / inputs / taps; output++) {
      for (let input = 0; input < inputs; input++) {
        const row = first + padded(output, outputHead);
        const from = (output * inputs + input) * taps;
        stored.set(source.subarray(from, from + taps), (row * storedInputs + padded(input, inputHead)) * taps);
      }
    }
    first += partChannels[part]!;
  });
  return stored;
}

function vector(parameter: VectorParameter, weights: ExactWeights): Float64Array {
  const stored = new Float64Array(parameter.partChannels.reduce((sum, size) => sum + size, 0));
  let first = 0;
  parameter.parts.forEach(({ name }, part) => {
    weights(name).forEach((value, channel) => {
      stored[first + padded(channel, parameter.head)] = value;
    });
    first += parameter.partChannels[part]!;
  });
  return stored;
}

function padded(channel: number, head: { width: number; padded: number } | undefined): number {
  return head ? Math.floor(channel / head.width) * head.padded + (channel % head.width) : channel;
}
