/**
 * Splitting: tensors that are too large for one binding become several **slices** along the channels, and the operations
 * on them operations on slices. A layer's channels are nearly independent of each other: a convolution adds up over slices
 * of its input, group normalisation needs only the statistics of all, everything elementwise does not notice.
 *
 * A sliced tensor is a concatenation like that of a skip connection (`Tensor.concatenated`), so that whoever reads a
 * concatenation reads slices too. Tensors of one shape are sliced alike, so that residuals line up. Along the channels and
 * not along rows of the picture, since a convolution would need the neighbouring rows of other slices.
 */

import { TensorTooLargeError } from "./recorder.ts";
import {
  addsPerImage,
  channelsOf,
  type Geglu,
  type GroupNormApply,
  type Operation,
  partsOf,
  quads,
  readsOf,
  rowsOf,
  type Storage,
  type Tensor,
  tensorBytes,
} from "./tensor.ts";

export interface SplitLimits {
  readonly storage: Storage;
  /** Bytes that a tensor may take. */
  readonly maxTensorBytes: number;
}

/** A part of a layer's channels. */
interface Slice {
  readonly tensor: Tensor;
  /** The layer's channel that it begins with, in quads. */
  readonly firstQuad: number;
}

/**
 * The operations with no tensor over the limit. `outputs` are read from outside and stay whole.
 * Throws `GraphError` naming the layer where one is too large and the operation needs it whole.
 */
export function split(operations: readonly Operation[], outputs: Iterable<Tensor>, limits: SplitLimits): Operation[] {
  const whole = new Set([...outputs].map((tensor) => tensor.id));
  const gated = new Set(
    operations.flatMap((op) => (op.kind === "geglu" ? [op.value.tensor.id, op.gate.tensor.id] : [])),
  );
  const slicings = new Map<number, readonly Tensor[]>();
  let nextId = 1 + Math.max(...operations.flatMap((op) => [op.output, ...readsOf(op)]).map((tensor) => tensor.id));

  const fits = (tensor: Tensor) => tensorBytes(tensor, limits.storage) <= limits.maxTensorBytes;
  const tooLarge = (operation: Operation, tensor: Tensor) => {
    const bytes = tensorBytes(tensor, limits.storage);
    const rows = Math.floor((rowsOf(tensor) * limits.maxTensorBytes) / bytes);
    return new TensorTooLargeError(
      `${operation.name}: ${operation.kind} needs [${tensor.shape}] in one piece of ${bytes} bytes, and this adapter binds at most ${limits.maxTensorBytes}; ` +
        `at most ${rows} of these ${rowsOf(tensor)} rows (pixels or tokens of the whole batch) fit: ask for a smaller picture or for fewer at a time`,
    );
  };

  /** A tensor as it is stored after splitting: itself, or a concatenation of what fits. */
  const stored = (tensor: Tensor): Tensor => {
    const parts = partsOf(tensor).flatMap((part) => slicings.get(part.id) ?? [part]);
    if (parts.length === 1) return parts[0]!.id === tensor.id ? tensor : reshaped(parts[0]!, tensor);
    return { ...tensor, concatenated: parts.map((part) => reshaped(part, tensor)) };
  };
  /** The only form that some operations read. */
  const inOnePiece = (operation: Operation) => {
    for (const tensor of readsOf(operation)) if (stored(tensor).concatenated) throw tooLarge(operation, tensor);
  };
  /** Slices an operation's output into parts of so many channels each; one part is the output itself. */
  const sliceInto = (operation: Operation, sizes: readonly number[]): Slice[] => {
    const { output } = operation;
    if (sizes.length === 1 && fits(output)) return [{ tensor: output, firstQuad: 0 }];
    if (sizes.length === 1 || whole.has(output.id)) throw tooLarge(operation, output);
    let first = 0;
    const slices = sizes.map((size): Slice => {
      const range = `${first}…${first + size - 1}`;
      const shape = [...output.shape.slice(0, -1), size];
      const slice = {
        tensor: { ...output, id: nextId++, shape, name: `${output.name} (channels ${range})` },
        firstQuad: first / 4,
      };
      first += size;
      return slice;
    });
    const unfit = slices.find(({ tensor }) => !fits(tensor));
    if (unfit) throw tooLarge(operation, unfit.tensor);
    slicings.set(
      output.id,
      slices.map(({ tensor }) => tensor),
    );
    return slices;
  };
  /** The output in as few slices of equal size as fit. A tensor that a gate reads in two halves is sliced by halves. */
  const sliceEvenly = (operation: Operation): Slice[] => {
    const { output } = operation;
    if (fits(output) || output.element === "u32") return [{ tensor: output, firstQuad: 0 }];
    const channels = channelsOf(output);
    const quadBytes = tensorBytes({ ...output, shape: [...output.shape.slice(0, -1), 4] }, limits.storage);
    const most = Math.floor(limits.maxTensorBytes / quadBytes);
    if (most < 1) throw tooLarge(operation, output);
    if (!gated.has(output.id)) return sliceInto(operation, evenSizes(channels, most));
    const half = evenSizes(channels / 2, most);
    return sliceInto(operation, [...half, ...half]);
  };
  /** The parts of another operand of the layer that lie beside the slices. */
  const beside = (operation: Operation, slices: readonly Slice[], other: Tensor): readonly Tensor[] => {
    const parts = partsOf(stored(other));
    if (parts.length !== slices.length || parts.some((part, i) => channelsOf(part) !== channelsOf(slices[i]!.tensor))) {
      throw tooLarge(operation, other);
    }
    return parts;
  };

  const splitGroupNorm = (operation: GroupNormApply): Operation[] => {
    const input = stored(operation.input);
    const parts = partsOf(input);
    // The kernel reads two parts at a time.
    if (fits(operation.output) && parts.length <= 2) return [{ ...operation, input }];
    return sliceInto(operation, parts.map(channelsOf)).map(({ tensor, firstQuad }, i) => ({
      ...operation,
      input: parts[i]!,
      firstQuad,
      output: tensor,
    }));
  };

  const splitGeglu = (operation: Geglu): Operation[] => {
    const { value, gate } = operation;
    const parts = partsOf(stored(value.tensor));
    if (parts.length === 1) {
      if (!fits(operation.output)) throw tooLarge(operation, operation.output);
      return [operation];
    }
    // Sliced by halves, of which the value is the first.
    const values = parts.slice(0, parts.length / 2);
    const gates = partsOf(stored(gate.tensor)).slice(parts.length / 2);
    if (gates.length !== values.length || gates.some((part, i) => channelsOf(part) !== channelsOf(values[i]!))) {
      throw tooLarge(operation, value.tensor);
    }
    return sliceInto(operation, values.map(channelsOf)).map(({ tensor }, i) => ({
      ...operation,
      value: { tensor: values[i]!, offset: 0 },
      gate: { tensor: gates[i]!, offset: 0 },
      output: tensor,
    }));
  };

  const splitOne = (operation: Operation): Operation[] => {
    switch (operation.kind) {
      case "convolution": {
        const input = stored(operation.input);
        const perImage = operation.perImage?.tensor;
        if (perImage && stored(perImage).concatenated) throw tooLarge(operation, perImage);
        const slices = sliceEvenly(operation);
        const residuals = operation.residual && beside(operation, slices, operation.residual);
        return slices.map(({ tensor, firstQuad }, i) => ({
          ...operation,
          input,
          residual: residuals?.[i],
          firstOutputQuad: firstQuad,
          output: tensor,
        }));
      }
      case "group-norm-stats":
        return [{ ...operation, input: stored(operation.input) }];
      case "group-norm-apply":
        return splitGroupNorm(operation);
      case "elementwise": {
        const parts = partsOf(stored(operation.input));
        const slices = sliceInto(operation, parts.map(channelsOf));
        const { addend, firstAddendQuad } = operation;
        const isPerImage = addsPerImage(operation);
        if (addend && isPerImage && stored(addend).concatenated) throw tooLarge(operation, addend);
        const addends = addend && !isPerImage ? beside(operation, slices, addend) : undefined;
        return slices.map(({ tensor, firstQuad }, i) => ({
          ...operation,
          input: parts[i]!,
          addend: addends ? addends[i]! : addend,
          firstAddendQuad: isPerImage ? firstAddendQuad + firstQuad : 0,
          output: tensor,
        }));
      }
      case "upsample-nearest": {
        const input = stored(operation.input);
        return sliceEvenly(operation).map(({ tensor, firstQuad }) => ({
          ...operation,
          input,
          firstQuad,
          output: tensor,
        }));
      }
      case "geglu":
        return splitGeglu(operation);
      case "layer-norm":
      case "attention":
      case "softmax":
      case "embedding":
      case "concatenate":
      case "gather-rows":
      case "pack-picture":
      case "latent-to-rgb":
      case "model-input":
      case "philox-normals":
      case "scheduler-step":
        inOnePiece(operation);
        if (!fits(operation.output)) throw tooLarge(operation, operation.output);
        return [operation];
      default:
        return operation satisfies never;
    }
  };
  return operations.flatMap(splitOne);
}

/** `part` seen under the rows of `tensor`, which holds it: `[n, h, w, c]` may be read as `[n, h · w, c]`. */
function reshaped(part: Tensor, tensor: Tensor): Tensor {
  return { ...part, shape: [...tensor.shape.slice(0, -1), channelsOf(part)] };
}

/** Channels in the fewest parts of at most `mostQuads` quads, all equal but the last. */
function evenSizes(channels: number, mostQuads: number): number[] {
  const count = Math.ceil(quads(channels) / mostQuads);
  const size = Math.ceil(quads(channels) / count) * 4;
  return Array.from({ length: Math.ceil(channels / size) }, (_, i) => Math.min(size, channels - i * size));
}
