/** Tensors of tiny checkpoints, and the formats that they are shared in, written as their specifications have them. */

import { float32ToFloat16Bits } from "../../src/platform/float16.ts";
import { safetensorsBytes } from "../fixtures/safetensors-bytes.ts";

export interface Tensor {
  readonly name: string;
  readonly type: "F16" | "F32" | "BF16" | "F8_E4M3" | "F8_E5M2" | "I64";
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export function halves(name: string, shape: readonly number[], values: ArrayLike<number>): Tensor {
  const bits = Uint16Array.from(values, float32ToFloat16Bits);
  return { name, type: "F16", shape, bytes: new Uint8Array(bits.buffer) };
}

export function safetensors(tensors: readonly Tensor[], metadata?: Readonly<Record<string, string>>): Uint8Array {
  let end = 0;
  const entries = tensors.map(({ name, type, shape, bytes }) => {
    const start = end;
    end += bytes.byteLength;
    return [name, { dtype: type, shape, data_offsets: [start, end] }] as const;
  });
  const header = { ...(metadata && { __metadata__: metadata }), ...Object.fromEntries(entries) };
  return safetensorsBytes(header, Buffer.concat(tensors.map(({ bytes }) => bytes)));
}

const STORAGE: Partial<Record<Tensor["type"], string>> = {
  F16: "HalfStorage",
  F32: "FloatStorage",
  BF16: "BFloat16Storage",
  I64: "LongStorage",
};
const ELEMENT: Record<Tensor["type"], number> = { F16: 2, F32: 4, BF16: 2, F8_E4M3: 1, F8_E5M2: 1, I64: 8 };

/** Instructions of a pickle. */
export const code = {
  proto: Buffer.of(0x80, 2),
  stop: Buffer.from("."),
  text: (value: string) => {
    const text = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    return Buffer.concat([Buffer.from("X"), length, text]);
  },
  int: (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    return Buffer.concat([Buffer.from("J"), bytes]);
  },
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  tuple: (...parts: Uint8Array[]) => Buffer.concat([Buffer.from("("), ...parts, Buffer.from("t")]),
  dict: (...parts: Uint8Array[]) => Buffer.concat([Buffer.from("}("), ...parts, Buffer.from("u")]),
  reduce: Buffer.from("R"),
  persistent: Buffer.from("Q"),
  no: Buffer.of(0x89),
};

/** `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())` */
export function pickledTensor(
  { type, shape }: Pick<Tensor, "type" | "shape">,
  key: string,
  {
    count,
    strides = rowMajor(shape),
    offset = 0,
  }: { count?: number; strides?: readonly number[]; offset?: number } = {},
): Buffer {
  const size = count ?? shape.reduce((product, length) => product * length, 1);
  const storage = code.tuple(
    code.text("storage"),
    code.global("torch", STORAGE[type]!),
    code.text(key),
    code.text("cpu"),
    code.int(size),
  );
  const hooks = [code.global("collections", "OrderedDict"), code.tuple(), code.reduce];
  return Buffer.concat([
    code.global("torch._utils", "_rebuild_tensor_v2"),
    code.tuple(
      storage,
      code.persistent,
      code.int(offset),
      code.tuple(...shape.map(code.int)),
      code.tuple(...strides.map(code.int)),
      code.no,
      ...hooks,
    ),
    code.reduce,
  ]);
}

function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, axis) => shape.slice(axis + 1).reduce((product, length) => product * length, 1));
}

/** The pickle of a dictionary of tensors, within `{"state_dict": …}` as trainers save it. */
export function statePickle(tensors: readonly Tensor[]): Buffer {
  const entries = tensors.flatMap((tensor, index) => [code.text(tensor.name), pickledTensor(tensor, String(index))]);
  const state = code.dict(...entries);
  return Buffer.concat([
    code.proto,
    code.dict(code.text("global_step"), code.int(7), code.text("state_dict"), state),
    code.stop,
  ]);
}

/** A file of `torch.save`. */
export function torchFile(tensors: readonly Tensor[]): Buffer {
  return zip({
    "archive/data.pkl": statePickle(tensors),
    ...Object.fromEntries(tensors.map(({ bytes }, index) => [`archive/data/${index}`, bytes])),
    "archive/version": Buffer.from("3\n"),
  });
}

/** A file of `torch.save` before PyTorch 1.6. */
export function oldTorchFile(tensors: readonly Tensor[]): Buffer {
  const magic = Buffer.concat([Buffer.of(0x8a, 10), Buffer.from("6cfc9c46f9206aa85019", "hex")]);
  const pickle = (...parts: Uint8Array[]) => Buffer.concat([code.proto, ...parts, code.stop]);
  const state = code.dict(
    ...tensors.flatMap((tensor, index) => [code.text(tensor.name), pickledTensor(tensor, String(index))]),
  );
  // Old storage tuples have one more entry, for views.
  const old = Buffer.from(state.toString("latin1").replaceAll("tQ", "NtQ"), "latin1");
  const keys = Buffer.concat([
    Buffer.from("]("),
    ...tensors.map((_, index) => code.text(String(index))),
    Buffer.from("e"),
  ]);
  const storages = tensors.flatMap(({ type, bytes }) => {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(bytes.byteLength / ELEMENT[type]));
    return [count, bytes];
  });
  return Buffer.concat([
    pickle(magic),
    pickle(code.int(1001)),
    pickle(code.dict()),
    pickle(old),
    pickle(keys),
    ...storages,
  ]);
}

export interface ZipOptions {
  readonly method?: number;
  readonly flags?: number;
  /** The size that the directory claims, in place of the true one. */
  readonly bytes?: number;
  readonly entries?: number;
}

/** A zip archive of stored files. */
export function zip(files: Readonly<Record<string, Uint8Array>>, options: ZipOptions = {}): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, content] of Object.entries(files)) {
    const text = Buffer.from(name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(text.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(options.flags ?? 0, 8);
    entry.writeUInt16LE(options.method ?? 0, 10);
    entry.writeUInt32LE(options.bytes ?? content.length, 20);
    entry.writeUInt32LE(options.bytes ?? content.length, 24);
    entry.writeUInt16LE(text.length, 28);
    entry.writeUInt32LE(at, 42);
    locals.push(local, text, Buffer.from(content));
    directory.push(entry, text);
    at += 30 + text.length + content.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(options.entries ?? Object.keys(files).length, 8);
  end.writeUInt16LE(options.entries ?? Object.keys(files).length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...locals, central, end]);
}

const GGUF_TYPES: Partial<Record<Tensor["type"], number>> = { F32: 0, F16: 1, BF16: 30 };

export interface GgufOptions {
  readonly tensors?: number;
  readonly keys?: number;
  readonly version?: number;
  /** Changes what the header says of each tensor. */
  readonly entry?: (entry: GgufEntry, index: number) => GgufEntry;
}

export interface GgufEntry {
  readonly name: string;
  /** Fastest axis first. */
  readonly shape: readonly number[];
  readonly type: number;
  readonly offset: number;
}

/** A GGUF file without key-values, as stable-diffusion.cpp writes it. */
export function gguf(tensors: readonly Tensor[], options: GgufOptions = {}): Buffer {
  const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
  const u64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
  const header = [
    Buffer.from("GGUF"),
    u32(options.version ?? 3),
    u64(options.tensors ?? tensors.length),
    u64(options.keys ?? 0),
  ];
  const data: Uint8Array[] = [];
  let at = 0;
  for (const [index, tensor] of tensors.entries()) {
    const own = { name: tensor.name, shape: [...tensor.shape].reverse(), type: GGUF_TYPES[tensor.type]!, offset: at };
    const { name, shape, type, offset } = options.entry?.(own, index) ?? own;
    header.push(
      u64(Buffer.byteLength(name)),
      Buffer.from(name),
      u32(shape.length),
      ...shape.map(u64),
      u32(type),
      u64(offset),
    );
    const padding = -tensor.bytes.byteLength & 31;
    data.push(tensor.bytes, new Uint8Array(padding));
    at += tensor.bytes.byteLength + padding;
  }
  const head = Buffer.concat(header);
  return Buffer.concat([head, new Uint8Array(-head.length & 31), ...data]);
}
