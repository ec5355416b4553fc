/** Tensors of a case, read whole: cases are small. Numbers become float64 whatever the file's type, layouts stay PyTorch's. */

import { type FloatType, isFloatType, toFloat32 } from "../../src/weights/element-types.ts";
import { openSafetensors } from "../../src/weights/safetensors.ts";
import type { TensorEntry } from "../../src/weights/tensor-set.ts";

export interface Tensor {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** All tensors of a safetensors file, by name. Throws `WeightsError` for a file that is not sound. */
export async function readTensors(path: string): Promise<Map<string, Tensor>> {
  const file = await openSafetensors(path);
  try {
    const tensors = new Map<string, Tensor>();
    for (const name of file.names()) tensors.set(name, await readTensor(file.get(name)!));
    return tensors;
  } finally {
    await file.close();
  }
}

async function readTensor(entry: TensorEntry): Promise<Tensor> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  return { shape: entry.shape, values: decode(entry, bytes) };
}

function decode({ dtype, name }: TensorEntry, bytes: Uint8Array): Float64Array {
  if (isFloatType(dtype)) return Float64Array.from(toFloat32(bytes, dtype as FloatType));
  switch (dtype) {
    case "F64":
      return new Float64Array(bytes.buffer);
    case "I32":
      return Float64Array.from(new Int32Array(bytes.buffer));
    case "I64":
      return Float64Array.from(new BigInt64Array(bytes.buffer), Number);
    case "U8":
    case "BOOL":
      return Float64Array.from(bytes);
    default:
      throw new Error(`${name}: cases have no tensors of type ${dtype}`);
  }
}

/** One step's or image's part of a tensor whose first dimension counts them. */
export function slice(tensor: Tensor, index: number): Tensor {
  const shape = tensor.shape.slice(1);
  const size = shape.reduce((product, length) => product * length, 1);
  return { shape, values: tensor.values.subarray(index * size, (index + 1) * size) };
}

export function toF32(tensor: Tensor): Float32Array {
  return Float32Array.from(tensor.values);
}

/** `[n, c, h, w]` to the device's `[n, h, w, c]`; tensors of other ranks are the same in both. */
export function channelsLast({ shape, values }: Tensor): { shape: number[]; values: Float32Array } {
  if (shape.length !== 4) return { shape: [...shape], values: Float32Array.from(values) };
  const [n, c, h, w] = shape as [number, number, number, number];
  const moved = new Float32Array(values.length);
  permute(n, c, h * w, (nchw, nhwc) => (moved[nhwc] = values[nchw]!));
  return { shape: [n, h, w, c], values: moved };
}

/** `[n, h, w, c]` to `[n, c, h, w]`; tensors of other ranks as they are. */
export function channelsFirst(shape: readonly number[], values: ArrayLike<number>): Float64Array {
  if (shape.length !== 4) return Float64Array.from(values);
  const [n, h, w, c] = shape as [number, number, number, number];
  const moved = new Float64Array(values.length);
  permute(n, c, h * w, (nchw, nhwc) => (moved[nchw] = values[nhwc]!));
  return moved;
}

function permute(images: number, channels: number, pixels: number, move: (nchw: number, nhwc: number) => void): void {
  for (let n = 0; n < images; n++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < pixels; p++) move((n * channels + c) * pixels + p, (n * pixels + p) * channels + c);
    }
  }
}
