/**
 * The single operations that are measured: shapes of Stable Diffusion 1.5 and of the built-in model.
 *
 * Canonical layouts, in which peers get their inputs and give their outputs: pictures `[1, c, h, w]`, rows
 * `[rows, channels]`, tokens `[1, tokens, channels]`, weights as PyTorch has them (`[out, in]`, `[out, in, k, k]`). A
 * peer that computes in another layout rearranges before and after, untimed. Weights are f16 values held as f32, so
 * that packing them changes nothing.
 */

export type OpCase = { readonly name: string; readonly bar?: Bar } & (
  | { readonly kind: "gemm"; readonly rows: number; readonly inputs: number; readonly outputs: number }
  | {
      readonly kind: "conv";
      readonly size: number;
      readonly inputs: number;
      readonly outputs: number;
      readonly kernel: number;
      readonly stride: number;
      readonly padding: number;
    }
  | {
      readonly kind: "group-norm";
      readonly size: number;
      readonly channels: number;
      readonly groups: number;
      readonly times: number;
    }
  | {
      readonly kind: "attention";
      readonly queries: number;
      readonly keys: number;
      readonly heads: number;
      readonly head: number;
    }
);

/** Issue 5's bars against onnxruntime's WebGPU provider on lavapipe: required and aimed at. */
export interface Bar {
  readonly f32: readonly [require: number, aim: number];
  readonly packed: readonly [require: number, aim: number];
}

const same = (require: number, aim: number): Bar => ({ f32: [require, aim], packed: [require, aim] });
const GEMM: Bar = { f32: [6, 8], packed: [7, 10] };
const ATTENTION: Bar = { f32: [1.3, 2], packed: [1.8, 3] };

const conv = (inputs: number, outputs: number, size: number, bar?: Bar, kernel = 3, stride = 1): OpCase => ({
  name: `conv ${kernel}×${kernel} ${inputs}→${outputs} @${size}²${stride > 1 ? ` stride ${stride}` : ""}`,
  kind: "conv",
  size,
  inputs,
  outputs,
  kernel,
  stride,
  padding: kernel === 3 ? 1 : 0,
  bar,
});

export const OP_CASES: readonly OpCase[] = [
  { name: "GEMM 1024³", kind: "gemm", rows: 1024, inputs: 1024, outputs: 1024, bar: GEMM },
  { name: "GEMM 4096×320×320", kind: "gemm", rows: 4096, inputs: 320, outputs: 320, bar: GEMM },
  { name: "GEMM 77×768×3072", kind: "gemm", rows: 77, inputs: 768, outputs: 3072, bar: GEMM },
  conv(64, 64, 64, same(8, 12)),
  conv(128, 128, 64, same(10, 14)),
  conv(320, 320, 32, same(16, 22)),
  conv(640, 640, 16),
  conv(640, 320, 32, undefined, 1),
  conv(320, 320, 64, undefined, 3, 2),
  // Four times in a row, so that copying the picture in and out does not count.
  {
    name: "GroupNorm+SiLU 320 @32²",
    kind: "group-norm",
    size: 32,
    channels: 320,
    groups: 32,
    times: 4,
    bar: same(4, 6),
  },
  { name: "GroupNorm+SiLU 64 @64²", kind: "group-norm", size: 64, channels: 64, groups: 16, times: 4, bar: same(4, 6) },
  {
    name: "self-attention 1024×8×40",
    kind: "attention",
    queries: 1024,
    keys: 1024,
    heads: 8,
    head: 40,
    bar: ATTENTION,
  },
  {
    name: "self-attention 4096×8×40",
    kind: "attention",
    queries: 4096,
    keys: 4096,
    heads: 8,
    head: 40,
    bar: ATTENTION,
  },
  {
    name: "cross-attention 4096×77×8×40",
    kind: "attention",
    queries: 4096,
    keys: 77,
    heads: 8,
    head: 40,
    bar: ATTENTION,
  },
];

/** Floating-point operations of one run; 0 for what is bound by memory. */
export function flops(op: OpCase): number {
  switch (op.kind) {
    case "gemm":
      return 2 * op.rows * op.inputs * op.outputs;
    case "conv":
      return 2 * (op.size / op.stride) ** 2 * op.inputs * op.outputs * op.kernel ** 2;
    case "attention":
      return 4 * op.queries * op.keys * op.heads * op.head;
    case "group-norm":
      return 0;
    default:
      return op satisfies never;
  }
}

export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** Standard deviation of its values, and their mean. */
  readonly deviation: number;
  readonly mean?: number;
  /** Rounded to f16. */
  readonly weight?: boolean;
}

/** The tensors of a case, in canonical layout. */
export function tensorsOf(op: OpCase): TensorSpec[] {
  switch (op.kind) {
    case "gemm":
      return [
        { name: "x", shape: [op.rows, op.inputs], deviation: 1 },
        { name: "weight", shape: [op.outputs, op.inputs], deviation: op.inputs ** -0.5, weight: true },
      ];
    case "conv":
      return [
        { name: "x", shape: [1, op.inputs, op.size, op.size], deviation: 1 },
        {
          name: "weight",
          shape: [op.outputs, op.inputs, op.kernel, op.kernel],
          deviation: (op.inputs * op.kernel ** 2) ** -0.5,
          weight: true,
        },
        { name: "bias", shape: [op.outputs], deviation: 0.1, weight: true },
      ];
    case "group-norm":
      return [
        { name: "x", shape: [1, op.channels, op.size, op.size], deviation: 1.5, mean: 0.5 },
        { name: "gamma", shape: [op.channels], deviation: 0.2, mean: 1, weight: true },
        { name: "beta", shape: [op.channels], deviation: 0.2, weight: true },
      ];
    case "attention":
      return [
        { name: "query", shape: [1, op.queries, op.heads * op.head], deviation: 1 },
        { name: "key", shape: [1, op.keys, op.heads * op.head], deviation: 1 },
        { name: "value", shape: [1, op.keys, op.heads * op.head], deviation: 1 },
      ];
    default:
      return op satisfies never;
  }
}
