/**
 * The slices of tensors while the operations of a graph are split: the tensors that are cut along the channels, their
 * parts, and the slices that an operation reads.
 */

import { TensorTooLargeError } from "./errors.ts";
import type { OperationBase } from "./operation.ts";
import { channelsOf, partsOf, quads, rowsOf, type Storage, type Tensor, tensorBytes } from "./tensor.ts";

export interface SplitOptions {
  readonly storage: Storage;
  /** Bytes that a tensor may take. */
  readonly maxTensorBytes: number;
}

/** A part of a layer's channels. */
export interface Slice {
  readonly tensor: Tensor;
  /** The layer's channel that it begins with, in quads. */
  readonly firstQuad: number;
}

export class Slicing {
  readonly #options: SplitOptions;
  readonly #whole: ReadonlySet<number>;
  readonly #halved: ReadonlySet<number>;
  readonly #slices = new Map<number, readonly Tensor[]>();
  #nextId: number;

  /**
   * @param tensors Ids of tensors that are read from outside and stay `whole`, and of those that a gate reads in two
   *   halves, which are sliced by halves; slices get ids from `nextId` on
   */
  constructor(
    options: SplitOptions,
    tensors: { readonly whole: ReadonlySet<number>; readonly halved: ReadonlySet<number>; readonly nextId: number },
  ) {
    this.#options = options;
    this.#whole = tensors.whole;
    this.#halved = tensors.halved;
    this.#nextId = tensors.nextId;
  }

  fits(tensor: Tensor): boolean {
    return tensorBytes(tensor, this.#options.storage) <= this.#options.maxTensorBytes;
  }

  tooLarge(operation: OperationBase, tensor: Tensor): TensorTooLargeError {
    const { storage, maxTensorBytes } = this.#options;
    const bytes = tensorBytes(tensor, storage);
    const rows = Math.floor((rowsOf(tensor) * maxTensorBytes) / bytes);
    return new TensorTooLargeError(
      `${operation.name}: ${operation.kind} needs [${tensor.shape}] in one piece of ${bytes} bytes, and this adapter binds at most ${maxTensorBytes}; ` +
        `at most ${rows} of these ${rowsOf(tensor)} rows (pixels or tokens of the whole batch) fit: ask for a smaller picture or for fewer at a time`,
    );
  }

  /** A tensor as it is stored after splitting: itself, or a concatenation of tensors that fit. */
  stored(tensor: Tensor): Tensor {
    const parts = partsOf(tensor).flatMap((part) => this.#slices.get(part.id) ?? [part]);
    if (parts.length === 1) return parts[0]!.id === tensor.id ? tensor : reshaped(parts[0]!, tensor);
    return { ...tensor, concatenated: parts.map((part) => reshaped(part, tensor)) };
  }

  /** @throws TensorTooLargeError if one of the tensors is sliced: the operation reads each in one piece */
  needWhole(operation: OperationBase, tensors: readonly Tensor[]): void {
    for (const tensor of tensors) if (this.stored(tensor).concatenated) throw this.tooLarge(operation, tensor);
  }

  /** Slices an operation's output into parts of so many channels each; one part is the output itself. */
  sliceInto(operation: OperationBase, sizes: readonly number[]): Slice[] {
    const { output } = operation;
    if (sizes.length === 1 && this.fits(output)) return [{ tensor: output, firstQuad: 0 }];
    if (sizes.length === 1 || this.#whole.has(output.id)) throw this.tooLarge(operation, output);
    let first = 0;
    const slices = sizes.map((size): Slice => {
      const range = `${first}…${first + size - 1}`;
      const shape = [...output.shape.slice(0, -1), size];
      const slice = {
        tensor: { ...output, id: this.#nextId++, shape, name: `${output.name} (channels ${range})` },
        firstQuad: first / 4,
      };
      first += size;
      return slice;
    });
    const unfit = slices.find(({ tensor }) => !this.fits(tensor));
    if (unfit) throw this.tooLarge(operation, unfit.tensor);
    this.#slices.set(
      output.id,
      slices.map(({ tensor }) => tensor),
    );
    return slices;
  }

  /** The output in as few slices of equal size as fit. */
  sliceEvenly(operation: OperationBase): Slice[] {
    const { output } = operation;
    if (this.fits(output) || output.element === "u32") return [{ tensor: output, firstQuad: 0 }];
    const channels = channelsOf(output);
    const quadBytes = tensorBytes({ ...output, shape: [...output.shape.slice(0, -1), 4] }, this.#options.storage);
    const most = Math.floor(this.#options.maxTensorBytes / quadBytes);
    if (most < 1) throw this.tooLarge(operation, output);
    if (!this.#halved.has(output.id)) return this.sliceInto(operation, evenSizes(channels, most));
    const half = evenSizes(channels / 2, most);
    return this.sliceInto(operation, [...half, ...half]);
  }

  /** The parts of another operand of the layer that lie beside the slices. */
  beside(operation: OperationBase, slices: readonly Slice[], other: Tensor): readonly Tensor[] {
    const parts = partsOf(this.stored(other));
    if (parts.length !== slices.length || parts.some((part, i) => channelsOf(part) !== channelsOf(slices[i]!.tensor))) {
      throw this.tooLarge(operation, other);
    }
    return parts;
  }
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
