/**
 * The graph's vocabulary: tensors, parameters, operations. Plain data; what records it is `recorder.ts`, what runs it
 * is `plan.ts`.
 *
 * A **tensor** is an activation: `[…, channels]`, channels last (NHWC for pictures, `[n, tokens, channels]` for text), its
 * channels stored in quads of four, the last one zero-padded. A **parameter** is a weight, named as in the checkpoint.
 * A **state** is a tensor that lives from one replay to the next and is changed in place.
 */

/** How activations or weights are stored. Arithmetic is f32 always. */
export type Storage = "f32" | "f16";

/** What a tensor's elements are: the plan's storage, or a type that does not follow it. */
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
  /** Inputs that change with the prompt rather than with the step; what follows from them alone is computed once. */
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

/** Convolution and linear weights, packed in tiles; several parts stand side by side along the outputs. */
export interface MatrixParameter {
  readonly kind: "matrix";
  readonly key: string;
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
export interface VectorParameter {
  readonly kind: "vector";
  readonly key: string;
  readonly parts: readonly ParameterPart[];
  readonly partChannels: readonly number[];
  readonly quads: number;
  readonly head?: HeadPadding;
}

/** An embedding table: rows of quads, in pieces no larger than a binding. */
export interface TableParameter {
  readonly kind: "table";
  readonly key: string;
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

/** Channels of a tensor, counted from `offset`: what attention, gates and additions of one row an image read. */
export interface View {
  readonly tensor: Tensor;
  readonly offset: number;
}

interface OperationBase {
  /** The layer's name in the model: `down_blocks.1.resnets.0.conv1`. */
  readonly name: string;
  readonly output: Tensor;
}

/** A convolution, or a linear layer as a convolution of kernel 1 × 1 over pictures one pixel high. */
export interface Convolution extends OperationBase {
  readonly kind: "convolution";
  readonly input: Tensor;
  readonly weight: MatrixParameter;
  readonly bias?: VectorParameter;
  /** `[images, in_height, in_width]` and `[out_height, out_width]` */
  readonly picture: { images: number; inHeight: number; inWidth: number; outHeight: number; outWidth: number };
  /** The size that the input is resized to (nearest) while it is read. */
  readonly virtual: { height: number; width: number };
  readonly kernel: { height: number; width: number; stride: number; top: number; left: number };
  /** The output channel of the layer that `output` begins with, in quads; not 0 where it is a slice. */
  readonly firstOutputQuad: number;
  /** Epilogue, in its order; of `perImage`, one row an image, as many channels as the layer has. */
  readonly perImage?: View;
  readonly residual?: Tensor;
  readonly activation: Activation;
  readonly activationAfterResidual: boolean;
  /** The output is the first half of the layer's channels times the GELU of the second; the epilogue is the bias alone. */
  readonly gated?: boolean;
}

export interface GroupNormStats extends OperationBase {
  readonly kind: "group-norm-stats";
  readonly input: Tensor;
  readonly chunks: number;
  readonly chunkPixels: number;
}

export interface GroupNormApply extends OperationBase {
  readonly kind: "group-norm-apply";
  readonly input: Tensor;
  readonly statistics: GroupNormStats;
  /** The statistics are made in the same dispatch; `statistics` itself does not run. */
  readonly joined?: boolean;
  readonly groupChannels: number;
  /** The channel of the layer that `input` and `output` begin with, in quads; not 0 where they are slices. */
  readonly firstQuad: number;
  readonly eps: number;
  readonly gamma: VectorParameter;
  readonly beta: VectorParameter;
  readonly activation: Activation;
}

export interface LayerNorm extends OperationBase {
  readonly kind: "layer-norm";
  readonly input: Tensor;
  readonly eps: number;
  readonly gamma: VectorParameter;
  readonly beta: VectorParameter;
}

export interface Attention extends OperationBase {
  readonly kind: "attention";
  readonly query: View;
  readonly key: View;
  readonly value: View;
  readonly heads: number;
  readonly head: HeadPadding;
  readonly causal: boolean;
}

/** `out = value · GELU(gate)` */
export interface Geglu extends OperationBase {
  readonly kind: "geglu";
  readonly value: View;
  readonly gate: View;
}

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

export interface Upsample extends OperationBase {
  readonly kind: "upsample-nearest";
  readonly input: Tensor;
  /** The channel of `input` that `output` begins with, in quads; not 0 where it is a slice. */
  readonly firstQuad: number;
}

export interface Softmax extends OperationBase {
  readonly kind: "softmax";
  readonly input: Tensor;
}

export interface Embedding extends OperationBase {
  readonly kind: "embedding";
  /** `[n · tokens]` u32 */
  readonly ids: Tensor;
  readonly table: TableParameter;
  readonly positions: TableParameter;
}

/** Two tensors side by side along the channels, stored as one. */
export interface Concatenate extends OperationBase {
  readonly kind: "concatenate";
  readonly first: Tensor;
  readonly second: Tensor;
}

export interface GatherRows extends OperationBase {
  readonly kind: "gather-rows";
  /** `[n, tokens, channels]`, or `[1, tokens, channels]` for all images */
  readonly input: Tensor;
  /** `[n]` u32 */
  readonly rows: Tensor;
}

/** A picture in [-1, 1] to RGBA8, one u32 a pixel. */
export interface PackPicture extends OperationBase {
  readonly kind: "pack-picture";
  readonly input: Tensor;
}

/** Latents to RGB by a matrix given as an f32 input `[4 · quads + 1, 4]`. */
export interface LatentToRgb extends OperationBase {
  readonly kind: "latent-to-rgb";
  readonly input: Tensor;
  readonly matrix: Tensor;
}

/** The model's input from the latents: `out[b] = latents[b mod n] · row[b mod n].input_scale`, in the plan's storage. */
export interface ModelInput extends OperationBase {
  readonly kind: "model-input";
  readonly latents: Tensor;
  readonly rows: Tensor;
}

/** Noise as `torch.randn` draws it on CUDA; `draws` says which, in six u32 an image (`shaders/philox_normal.wgsl`). */
export interface PhiloxNormals extends OperationBase {
  readonly kind: "philox-normals";
  readonly draws: Tensor;
}

/** One row of a scheduler's table applied to the latents, in place; `output` is the denoised prediction. */
export interface SchedulerStep extends OperationBase {
  readonly kind: "scheduler-step";
  readonly latents: Tensor;
  readonly model: Tensor;
  readonly noise: Tensor;
  readonly history: Tensor;
  readonly rows: Tensor;
}

export type Operation =
  | Convolution
  | GroupNormStats
  | GroupNormApply
  | LayerNorm
  | Attention
  | Geglu
  | Elementwise
  | Upsample
  | Softmax
  | Embedding
  | Concatenate
  | GatherRows
  | PackPicture
  | LatentToRgb
  | ModelInput
  | PhiloxNormals
  | SchedulerStep;

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

/** The tensors that an operation reads (concatenations as their parts). */
export function readsOf(operation: Operation): readonly Tensor[] {
  switch (operation.kind) {
    case "convolution":
      return [...partsOf(operation.input), ...present(operation.perImage?.tensor, operation.residual)];
    case "group-norm-apply":
      return [...partsOf(operation.input), ...(operation.joined ? [] : [operation.statistics.output])];
    case "group-norm-stats":
    case "upsample-nearest":
      return partsOf(operation.input);
    case "geglu":
      return [operation.value.tensor, operation.gate.tensor];
    case "attention":
      return [operation.query.tensor, operation.key.tensor, operation.value.tensor];
    case "elementwise":
      return present(operation.input, operation.addend);
    case "embedding":
      return [operation.ids];
    case "concatenate":
      return [operation.first, operation.second];
    case "gather-rows":
      return [operation.input, operation.rows];
    case "latent-to-rgb":
      return [operation.input, operation.matrix];
    case "model-input":
      return [operation.latents, operation.rows];
    case "philox-normals":
      return [operation.draws];
    case "scheduler-step":
      return [operation.latents, operation.model, operation.noise, operation.history, operation.rows];
    case "layer-norm":
    case "softmax":
    case "pack-picture":
      return [operation.input];
    default:
      return operation satisfies never;
  }
}

/** The parameters that an operation uses. */
export function parametersOf(operation: Operation): Parameter[] {
  switch (operation.kind) {
    case "convolution":
      return present<Parameter>(operation.weight, operation.bias);
    case "group-norm-apply":
    case "layer-norm":
      return [operation.gamma, operation.beta];
    case "embedding":
      return [operation.table, operation.positions];
    default:
      return [];
  }
}

/** Whether the addend is one row an image, and not of the shape of what it is added to. */
export function addsPerImage({ input, addend }: Elementwise): boolean {
  return addend !== undefined && (rowsOf(addend) !== rowsOf(input) || channelsOf(addend) !== channelsOf(input));
}

/** The tensors that are stored: those of a concatenation, else the tensor itself. */
export function partsOf(tensor: Tensor): readonly Tensor[] {
  return tensor.concatenated ?? [tensor];
}

function present<T>(...values: (T | undefined)[]): T[] {
  return values.filter((value) => value !== undefined);
}
