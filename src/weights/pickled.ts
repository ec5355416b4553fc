/**
 * The values that a pickle of tensors has, and the few names that it may use.
 *
 * A name is looked up in lists; it never becomes a module or a function of the machine that reads it.
 */

import type { ElementType } from "./element-types.ts";

/** A run of numbers of one type, as the pickle refers to it. */
export class PickledStorage {
  readonly type: ElementType;
  readonly key: string;
  /** The number of its elements. */
  readonly count: number;

  constructor(type: ElementType, key: string, count: number) {
    this.type = type;
    this.key = key;
    this.count = count;
  }
}

/** A view of a storage. Offset and strides are in elements. */
export class PickledTensor {
  readonly storage: PickledStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: PickledStorage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** PyTorch's dictionary of parameters, which old files of textual inversion have: its entries come with its state. */
export class ParameterDictionary extends Map<unknown, Pickled> {
  /** Takes the parameters of the state that a module is built from. */
  build(state: Pickled): void {
    const parameters = state instanceof Map ? state.get("_parameters") : undefined;
    if (parameters instanceof Map) for (const [name, value] of parameters) this.set(name, value);
  }
}

/** The class of `ParameterDictionary`. */
export const PARAMETER_DICTIONARY = Symbol("a class of PyTorch's dictionaries of parameters");

/** A value that a training program left beside the tensors, of which nothing is looked at. */
export const INERT = Symbol("a value of no interest");

export type Pickled =
  | null
  | boolean
  | number
  | string
  | symbol
  | Uint8Array
  | Pickled[]
  | Map<unknown, Pickled>
  | PickledStorage
  | PickledTensor
  | StorageType
  | Constructor;

/** A class of storages, `torch.HalfStorage`. */
export class StorageType {
  readonly type: ElementType;

  constructor(type: ElementType) {
    this.type = type;
  }
}

type Constructor = (values: readonly Pickled[]) => Pickled;

const STORAGES: Readonly<Record<string, ElementType>> = {
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  FloatStorage: "F32",
  DoubleStorage: "F64",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

/** Names that old training programs leave in their checkpoints, beside the tensors; they stand for nothing here. */
const INERT_NAMES: ReadonlySet<string> = new Set([
  "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint",
  "pytorch_lightning.callbacks ModelCheckpoint",
  "pytorch_lightning.utilities.types CheckpointSaveInformation",
  "numpy.core.multiarray scalar",
  "numpy dtype",
  "_codecs encode",
  "torch Size",
  "torch device",
  ...["float16", "bfloat16", "float32", "float64", "int64"].map((type) => `torch ${type}`),
]);

const CONSTRUCTORS: ReadonlyMap<string, Constructor> = new Map<string, Constructor>([
  ["collections OrderedDict", (values) => dictionary(values)],
  ["torch._utils _rebuild_tensor", rebuiltTensor],
  ["torch._utils _rebuild_tensor_v2", rebuiltTensor],
  ["torch._utils _rebuild_parameter", ([tensor = null]) => tensor],
]);

/** The thing that a name stands for; undefined: nothing that has to do with tensors. */
export function named(module: string, name: string): Pickled | undefined {
  if (module === "torch.nn.modules.container" && name === "ParameterDict") return PARAMETER_DICTIONARY;
  if (module === "torch" && Object.hasOwn(STORAGES, name)) return new StorageType(STORAGES[name]!);
  return CONSTRUCTORS.get(`${module} ${name}`) ?? (INERT_NAMES.has(`${module} ${name}`) ? INERT : undefined);
}

/** Arguments that make no tensor; the message is the rest of a sentence about a pickle. */
export class Malformed extends Error {}

/** `OrderedDict()` is empty; PyTorch gives it no entries in another way. */
function dictionary(values: readonly Pickled[]): Map<unknown, Pickled> {
  if (values.length > 0) throw new Malformed("makes a dictionary of a list");
  return new Map();
}

/** NumPy's own limit of dimensions. */
const MOST_DIMENSIONS = 64;

/** `(storage, offset, shape, strides, …)` */
function rebuiltTensor([storage, offset, shape, strides]: readonly Pickled[]): PickledTensor {
  const isSound =
    storage instanceof PickledStorage &&
    isCount(offset) &&
    Array.isArray(shape) &&
    Array.isArray(strides) &&
    shape.length === strides.length &&
    shape.length <= MOST_DIMENSIONS &&
    [...shape, ...strides].every(isCount);
  if (!isSound) throw new Malformed("has a tensor without a storage, or with a shape that is no shape");
  return new PickledTensor(storage, offset, shape as number[], strides as number[]);
}

/** True for a whole number of 0 to 2^53 - 1. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
