/**
 * The graph's vocabulary: tensors and parameters. Plain data; the operations between them are in `ops/`, `recorder.ts`
 * records them and `compile/` makes plans of them.
 *
 * A **tensor** is an activation: `[…, channels]`, channels last (NHWC for pictures, `[n, tokens, channels]` for text), its
 * channels stored in quads of four, the last one zero-padded. A **parameter** is a weight, named as in the checkpoint.
 * A **state** is a tensor that lives from one replay to the next and is changed in place.
 */

/** The storage of activations or weights. Arithmetic is f32 always. */
export type Storage = "f32" | "f16";

/** The type of a tensor's elements: the plan's storage, or a type that does not follow it. */
export type Element = "stored" | "f32" | "u32";

export type Role = "input" | "state" | "computed";

export interface Tensor {
  readonly id: number;
  /** `[…, channels]`; for u32: `[count]`. */
  readonly shape: readonly number[];
  readonly element: Element;
  readonly role: Role;
  /** The model's own name of the layer that makes it, or of the input. */
  readonly name: string;
  /** Inputs that change with the prompt rather than with the step; the operations that follow from them alone run once. */
  readonly constant: boolean;
  /**
   * Tensors one after the other along the channels, never stored as one: a skip connection, or the slices of a tensor that
   * no binding could hold. All but the last are whole quads.
   */
  readonly concatenated?: readonly Tensor[];
}

/** A head's width and the width it is stored with: a multiple of four. */
export interface HeadPadding {
  readonly width: number;
  readonly padded: number;
}

/** One tensor of the checkpoint that a parameter is made of. */
export interface ParameterPart {
  readonly name: string;
  readonly shape: readonly number[];
  readonly aliases?: readonly string[];
}

/**
 * Identities of a parameter: the component that it belongs to (a UNet, a ControlNet beside it), and its key among those of
 * the component, which is made of the names of its parts.
 */
interface ParameterIdentity {
  readonly component: string;
  readonly key: string;
}

/** Convolution and linear weights, packed in tiles; several parts stand side by side along the outputs. */
export interface MatrixParameter extends ParameterIdentity {
  readonly kind: "matrix";
  readonly parts: readonly ParameterPart[];
  /** Output channels of each part as stored (heads padded). */
  readonly partChannels: readonly number[];
  readonly taps: number;
  readonly inputs: number;
  readonly inputQuads: number;
  readonly outputQuads: number;
  readonly outputHead?: HeadPadding;
  readonly inputHead?: HeadPadding;
}

/** Biases and norm weights: f32, zero-padded to quads. */
export interface VectorParameter extends ParameterIdentity {
  readonly kind: "vector";
  readonly parts: readonly ParameterPart[];
  readonly partChannels: readonly number[];
  readonly quads: number;
  readonly head?: HeadPadding;
}

/** An embedding table: rows of quads, in pieces no larger than a binding. */
export interface TableParameter extends ParameterIdentity {
  readonly kind: "table";
  readonly parts: readonly [ParameterPart];
  readonly rows: number;
  readonly channels: number;
}

export type Parameter = MatrixParameter | VectorParameter | TableParameter;

export type Activation = "none" | "silu" | "gelu" | "quick_gelu" | "relu" | "tanh";

/** The numbers of `shaders/prelude/activation.wgsl`. */
export const activationCode: Record<Activation, number> = {
  none: 0,
  silu: 1,
  gelu: 2,
  quick_gelu: 3,
  relu: 4,
  tanh: 5,
};

/** Channels of a tensor, counted from `offset`, as attention, gates and additions of one row an image read. */
export interface View {
  readonly tensor: Tensor;
  readonly offset: number;
}

/** Channels in quads. */
export function quads(channels: number): number {
  return Math.ceil(channels / 4);
}

export function channelsOf(tensor: Tensor): number {
  return tensor.shape[tensor.shape.length - 1]!;
}

/** Pixels or tokens: the product of all dimensions but the last. */
export function rowsOf(tensor: Tensor): number {
  return tensor.shape.slice(0, -1).reduce((product, size) => product * size, 1);
}

/** Bytes that a tensor takes on the device. */
export function tensorBytes(tensor: Tensor, storage: Storage): number {
  if (tensor.element === "u32") return tensor.shape.reduce((product, size) => product * size, 1) * 4;
  const quadBytes = tensor.element === "f32" || storage === "f32" ? 16 : 8;
  return rowsOf(tensor) * quads(channelsOf(tensor)) * quadBytes;
}

/** The tensors that are stored: those of a concatenation, else the tensor itself. */
export function partsOf(tensor: Tensor): readonly Tensor[] {
  return tensor.concatenated ?? [tensor];
}
