/** The built-in model, or any safetensors file, with some of its numbers changed: for tests of damaged and failed training. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { builtInModel } from "../src/engine/runtime.ts";
import { folderFiles } from "../src/platform/folder-files.ts";
import { memoryFiles } from "../src/platform/memory-files.ts";
import type { ModelFiles } from "../src/platform/model-files.ts";
import { ELEMENT_BYTES, type FloatType, toFloat32 } from "../src/weights/element-types.ts";
import { safetensorsBytes } from "./fixtures/safetensors-bytes.ts";

export type Change = (values: Float32Array, name: string) => void;

interface HeaderEntry {
  readonly dtype: FloatType;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

interface Tensor {
  readonly name: string;
  readonly dtype: FloatType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A safetensors file with the tensors that `pattern` matches changed in place and written as `dtype`, and the others as they are. */
export function changedTensors(
  file: Uint8Array,
  pattern: RegExp,
  change: Change,
  dtype: FloatType = "F32",
): Uint8Array {
  const tensors = tensorsOf(file);
  if (!tensors.some(({ name }) => pattern.test(name))) throw new Error(`no tensor is named ${pattern}`);
  return fileOf(
    tensors.map((tensor) => {
      if (!pattern.test(tensor.name)) return tensor;
      const values = toFloat32(tensor.bytes, tensor.dtype);
      change(values, tensor.name);
      return { ...tensor, dtype, bytes: encoded(values, dtype) };
    }),
  );
}

/** A safetensors file without the tensors that `pattern` matches. */
export function withoutTensors(file: Uint8Array, pattern: RegExp): Uint8Array {
  return fileOf(tensorsOf(file).filter(({ name }) => !pattern.test(name)));
}

function tensorsOf(file: Uint8Array): Tensor[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const begin = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, begin))) as Record<string, HeaderEntry>;
  return Object.entries(header)
    .filter(([name]) => name !== "__metadata__")
    .map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [start, end],
        },
      ]) => {
        return { name, dtype, shape, bytes: file.slice(begin + start, begin + end) };
      },
    );
}

function fileOf(tensors: readonly Tensor[]): Uint8Array {
  let end = 0;
  const entries = tensors.map(({ name, dtype, shape, bytes }) => {
    const start = end;
    end += bytes.byteLength;
    return [name, { dtype, shape, data_offsets: [start, end] }];
  });
  return safetensorsBytes(Object.fromEntries(entries), Buffer.concat(tensors.map(({ bytes }) => bytes)));
}

function encoded(values: Float32Array, dtype: FloatType): Uint8Array {
  const bytes = new Uint8Array(values.length * ELEMENT_BYTES[dtype]);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) {
    if (dtype === "F32") view.setFloat32(index * 4, value, true);
    else view.setUint16(index * 2, dtype === "BF16" ? bits(value) >>> 16 : half(value), true);
  }
  return bytes;
}

const word = new DataView(new ArrayBuffer(4));
function bits(value: number): number {
  word.setFloat32(0, value);
  return word.getUint32(0);
}

/** An f16's bits, cut off; enough for numbers that were f16, and for NaN and infinity. */
function half(value: number): number {
  const [sign, magnitude] = [(bits(value) >>> 16) & 0x8000, bits(value) & 0x7fffffff];
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) return sign | Math.trunc(Math.abs(value) * 2 ** 24);
  return sign | ((magnitude - 0x38000000) >>> 13);
}

export const WEIGHTS = {
  unet: "unet/diffusion_pytorch_model.safetensors",
  vae: "vae/diffusion_pytorch_model.safetensors",
  text_encoder: "text_encoder/model.safetensors",
} as const;

/** A file of the built-in model. */
export function builtInFile(file: string): Uint8Array {
  return readFileSync(join(builtInModel(), file));
}

/** The built-in model with other content in some of its files. */
export function changedModel(contents: Readonly<Record<string, Uint8Array | string>>): ModelFiles {
  const [disk, memory] = [folderFiles(builtInModel()), memoryFiles(contents)];
  return { ...disk, open: (path) => (Object.hasOwn(contents, path) ? memory : disk).open(path) };
}
