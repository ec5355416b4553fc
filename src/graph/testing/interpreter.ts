/**
 * Runs recorded operations one by one in float64, fused or not: what a plan as a whole is measured against.
 *
 * Operations that work on integers or states, and those that splitting makes, are left out; they have tests of their own.
 */

import { addsPerImage } from "../ops/elementwise.ts";
import type { Operation } from "../ops/table.ts";
import { channelsOf, type Parameter, partsOf, rowsOf, type Tensor, type View } from "../tensor.ts";
import {
  attention,
  averagePool,
  convolution,
  elementwise,
  geglu,
  groupNorm,
  softmax,
  upsampleNearest,
} from "./reference.ts";
import type { Weights } from "./run.ts";

type Picture = readonly [number, number, number, number];

/** Values by the tensor's id. */
export type Values = Map<number, Float64Array | Float32Array>;

/**
 * Adds the outputs of `operations`, which run in their order, to a copy of `inputs`. Throws where one reads too early.
 * @param weights by name; by component and then by name, if the operations are of several
 */
export function interpret(
  operations: readonly Operation[],
  inputs: Values,
  weights: Weights | ((component: string) => Weights),
): Values {
  const values: Values = new Map(inputs);
  const stored = (tensor: Tensor) => {
    const known = values.get(tensor.id);
    if (!known) throw new Error(`${tensor.name} is read before it is made`);
    return known;
  };
  const read = (tensor: Tensor): Float64Array => {
    const parts = partsOf(tensor);
    const rows = rowsOf(tensor);
    const channels = channelsOf(tensor);
    const joined = new Float64Array(rows * channels);
    let first = 0;
    for (const part of parts) {
      const width = channelsOf(part);
      const held = stored(part);
      for (let row = 0; row < rows; row++)
        joined.set(held.subarray(row * width, (row + 1) * width), row * channels + first);
      first += width;
    }
    return joined;
  };
  /** The channels of a view, row after row. */
  const columns = ({ tensor, offset }: View, channels: number) => {
    const held = stored(tensor);
    const width = channelsOf(tensor);
    const rows = Array.from({ length: rowsOf(tensor) }, (_, row) => row * width + offset);
    return Float64Array.from(rows.flatMap((first) => [...held.subarray(first, first + channels)]));
  };
  const weightsOf = typeof weights === "function" ? weights : () => weights;
  const weight = ({ component, parts }: Parameter) =>
    Float64Array.from(parts.flatMap(({ name }) => [...weightsOf(component).get(name)!.values]));
  for (const operation of operations) values.set(operation.output.id, result(operation));
  return values;

  function result(operation: Operation): Float64Array {
    switch (operation.kind) {
      case "convolution": {
        const { picture, kernel, input, output, virtual } = operation;
        if (operation.firstOutputQuad !== 0 || operation.weight.outputHead || operation.weight.inputHead) {
          throw new Error(`${operation.name}: slices and padded heads are tested elsewhere`);
        }
        return convolution({
          input: read(input),
          shape: [picture.images, picture.inHeight, picture.inWidth, channelsOf(input)],
          weight: weight(operation.weight),
          outputs: channelsOf(output),
          kernel,
          stride: kernel.stride,
          before: kernel,
          output: { height: picture.outHeight, width: picture.outWidth },
          resized: virtual,
          bias: operation.bias && weight(operation.bias),
          perImage: operation.perImage && columns(operation.perImage, channelsOf(output)),
          residual: operation.residual && stored(operation.residual),
          activation: operation.activation,
          activationAfterResidual: operation.activationAfterResidual,
        }).values;
      }
      case "group-norm-stats":
        return new Float64Array(0); // the other half works on the input itself
      case "group-norm-apply": {
        stored(operation.statistics.output);
        const channels = channelsOf(operation.input);
        const images = operation.input.shape[0]!;
        const pixels = rowsOf(operation.input) / images;
        return groupNorm(
          read(operation.input),
          { images, pixels, channels, groups: channels / operation.groupChannels },
          {
            eps: operation.eps,
            gamma: weight(operation.gamma),
            beta: weight(operation.beta),
            activation: operation.activation,
          },
        ).values;
      }
      case "layer-norm": {
        const shape = { images: rowsOf(operation.input), pixels: 1, channels: channelsOf(operation.input), groups: 1 };
        const layer = { eps: operation.eps, gamma: weight(operation.gamma), beta: weight(operation.beta) };
        return groupNorm(read(operation.input), shape, layer).values;
      }
      case "attention": {
        const { query, key, value, heads, head, causal } = operation;
        const view = ({ tensor, offset }: typeof query) => ({
          values: stored(tensor),
          row: channelsOf(tensor),
          offset,
        });
        const images = query.tensor.shape[0]!;
        const [queries, keys] = [rowsOf(query.tensor) / images, rowsOf(key.tensor) / images];
        return attention(
          { query: view(query), key: view(key), value: view(value) },
          { images, heads, queries, keys, width: head.width, padded: head.padded, causal },
        ).values;
      }
      case "geglu":
        return geglu(stored(operation.value.tensor), channelsOf(operation.output)).values;
      case "elementwise": {
        const x = stored(operation.input);
        const channels = channelsOf(operation.input);
        const isPerImage = addsPerImage(operation);
        const view = operation.addend && { tensor: operation.addend, offset: operation.firstAddendQuad * 4 };
        const y = view && (isPerImage ? columns(view, channels) : stored(view.tensor));
        const perImage = x.length / operation.input.shape[0]!;
        const addend = (index: number) =>
          isPerImage ? y![Math.floor(index / perImage) * channels + (index % channels)]! : y![index]!;
        return elementwise(x, { ...operation, addend: y && addend }).values;
      }
      case "add-scaled": {
        const { input, addend, factors, column } = operation;
        const [x, y, scales] = [read(input), read(addend), stored(factors)];
        const [channels, perImage] = [channelsOf(input), x.length / input.shape[0]!];
        const isPerImage = rowsOf(addend) !== rowsOf(input);
        return x.map((value, index) => {
          const image = Math.floor(index / perImage);
          const from = isPerImage ? image * channels + (index % channels) : index;
          return value + scales[image * channelsOf(factors) + column]! * y[from]!;
        });
      }
      case "average-pool":
        return averagePool(read(operation.input), operation.input.shape as Picture, operation.window).values;
      case "join-tokens": {
        const [one, other] = [read(operation.first), read(operation.second)];
        const images = operation.output.shape[0]!;
        const part = (values: Float64Array, image: number) => {
          const length = values.length / images;
          return [...values.subarray(image * length, (image + 1) * length)];
        };
        const joined = Array.from({ length: images }, (_, image) => [...part(one, image), ...part(other, image)]);
        return Float64Array.from(joined.flat());
      }
      case "upsample-nearest": {
        const [, height, width] = operation.output.shape as [number, number, number];
        const shape = operation.input.shape as unknown as [number, number, number, number];
        return upsampleNearest(read(operation.input), shape, { height, width }).values;
      }
      case "softmax":
        return softmax(stored(operation.input), channelsOf(operation.input)).values;
      case "concatenate":
        return read({ ...operation.output, concatenated: [operation.first, operation.second] });
      default:
        throw new Error(`${operation.kind} is not interpreted`);
    }
  }
}
