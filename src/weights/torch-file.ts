/**
 * Tensors of a file that `torch.save` wrote (`.ckpt`, `.pt`, `.pth`, `.bin`).
 *
 * Since PyTorch 1.6 it is a zip archive, uncompressed: `NAME/data.pkl` says which tensor is which view of which storage, and
 * `NAME/data/KEY` are the storages. Before, five pickles follow each other (a magic number, a version, facts of the machine,
 * the tensors, the keys of storages), and then the storages, each behind its length. The pickles are read by `pickle.ts`,
 * which runs nothing; tensors are read from where they lie.
 */

import type { OpenFile } from "../platform/model-files.ts";
import { quoted } from "../platform/quoted.ts";
import { inTurns } from "../platform/turns.ts";
import { ELEMENT_BYTES } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import { unpickle } from "./pickle.ts";
import { type Pickled, type PickledStorage, PickledTensor } from "./pickled.ts";
import { PlacedFile, readExactly } from "./placed-tensors.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";
import { ordered } from "./tensor-views.ts";
import { rounded } from "./widened.ts";
import { openZip, type StoredFile } from "./zip.ts";

/** SDXL's names take half a megabyte. */
const LONGEST_PICKLE = 64 * 2 ** 20;
/** The pickle of an old file is read to its end, wherever that is. */
const OLD_MAGIC = 0x1950a86a20f9469cfc6cn;
/** Bytes of a storage's length in an old file. */
const LENGTH_BYTES = 8;
/** Where training programs put the weights, beside what they know of the training; the last is textual inversion's. */
const STATES = ["state_dict", "params_ema", "params", "model", "module", "string_to_param"];

/** Storages of a file by their keys. */
type Places = (storage: PickledStorage) => Promise<StoredFile | undefined>;

/**
 * The tensors of an open file; closing the set closes it.
 * @param file its name in messages
 * @throws WeightsError "weights-pickle" if it holds anything but tensors, "weights-format" if it is no sound archive
 */
export async function openTorchFile(handle: OpenFile, file: string, isArchive: boolean): Promise<TensorSet> {
  const { value, places } = isArchive ? await fromArchive(handle, file) : await fromOldFile(handle, file);
  const state = stateIn(value);
  if (state === undefined) throw new WeightsError("weights-pickle", "is a pickle without tensors", { file });
  const placed = new PlacedFile(handle, file, handle.bytes);
  const entries: { readonly start: number; readonly entry: TensorEntry }[] = [];
  const stored = new Map<string, StoredFile>();
  for (const [name, tensor] of state) {
    const { storage } = tensor;
    const known = stored.get(storage.key) ?? (await places(storage));
    if (known === undefined)
      throw new WeightsError(
        "weights-offsets",
        `lies in storage ${quoted(storage.key)}, which the file does not have`,
        {
          file,
          tensor: name,
        },
      );
    stored.set(storage.key, known);
    entries.push({ start: known.start, entry: entryOf(name, tensor, known, placed, file) });
  }
  return placed.set(entries.sort((a, b) => a.start - b.start).map(({ entry }) => entry));
}

function entryOf(
  name: string,
  { storage, offset, shape, strides }: PickledTensor,
  { start, bytes }: StoredFile,
  placed: PlacedFile,
  file: string,
): TensorEntry {
  const { type } = storage;
  const size = ELEMENT_BYTES[type];
  const count = shape.reduce((product, length) => product * length, 1);
  // The last element of a view lies this far behind its first.
  const reach = count === 0 ? 0 : shape.reduce((sum, length, axis) => sum + (length - 1) * strides[axis]!, 1);
  const room = Math.min(Math.floor(bytes / size), storage.count);
  if (!(count <= room && offset + reach <= room))
    throw new WeightsError("weights-offsets", `takes ${count} numbers from ${offset} on of a storage of ${room}`, {
      file,
      tensor: name,
    });
  const run = { name, type, start: start + offset * size, byteLength: reach * size };
  const isInOrder = shape.every((length, axis) => {
    const behind = shape.slice(axis + 1).reduce((product, other) => product * other, 1);
    return length === 1 || strides[axis] === behind;
  });
  if (isInOrder || count === 0) return rounded(placed.entry({ ...run, byteLength: count * size, shape }));
  return rounded(ordered(placed.entry({ ...run, shape: [reach] }), { shape, strides }));
}

interface Pickle {
  readonly value: Pickled;
  readonly places: Places;
}

async function fromArchive(handle: OpenFile, file: string): Promise<Pickle> {
  const zip = await openZip(handle, file);
  const name = [...zip.names()].find((one) => /^[^/]+\/data\.pkl$/.test(one));
  const pickle = name === undefined ? undefined : await zip.stored(name);
  if (name === undefined || pickle === undefined)
    throw new WeightsError("weights-format", "is a zip archive: unpack it first", { file });
  if (pickle.bytes > LONGEST_PICKLE) throw tooLong(pickle.bytes, file);
  const root = name.slice(0, name.indexOf("/"));
  const order = await zip.stored(`${root}/byteorder`);
  if (order !== undefined && (await textAt(handle, order, file)) === "big")
    throw new WeightsError("weights-format", "has its numbers in big-endian order, which is not supported", { file });
  const bytes = new Uint8Array(pickle.bytes);
  await readExactly(handle, bytes, pickle.start, file);
  const { value } = await inTurns(unpickle(bytes, file));
  return { value, places: ({ key }) => zip.stored(`${root}/data/${key}`) };
}

async function textAt(handle: OpenFile, { start, bytes }: StoredFile, file: string): Promise<string> {
  const text = new Uint8Array(Math.min(bytes, 16));
  await readExactly(handle, text, start, file);
  return new TextDecoder().decode(text);
}

async function fromOldFile(handle: OpenFile, file: string): Promise<Pickle> {
  const bytes = new Uint8Array(Math.min(handle.bytes, LONGEST_PICKLE));
  await readExactly(handle, bytes, 0, file);
  let at = 0;
  const values: Pickled[] = [];
  for (let part = 0; part < 5; part++) {
    const { value, end } = await inTurns(unpickle(bytes, file, at));
    // The beginning says which number it is, in a form that the reader gives as the nearest double.
    if (part === 0 && value !== Number(OLD_MAGIC))
      throw new WeightsError("weights-pickle", "is a pickle, and no file of tensors", { file });
    values.push(value);
    at = end;
  }
  const storages = storagesIn(values[3]!);
  const places = new Map<string, StoredFile>();
  for (const key of Array.isArray(values[4]) ? values[4] : []) {
    const storage = storages.get(String(key));
    if (storage === undefined) throw new WeightsError("weights-pickle", "lists a storage that no tensor has", { file });
    const run = { start: at + LENGTH_BYTES, bytes: storage.count * ELEMENT_BYTES[storage.type] };
    if (run.start + run.bytes > handle.bytes)
      throw new WeightsError("weights-truncated", `ends within storage ${quoted(storage.key)}`, { file });
    places.set(storage.key, run);
    at = run.start + run.bytes;
  }
  return { value: values[3]!, places: async ({ key }) => places.get(key) };
}

function tooLong(bytes: number, file: string): WeightsError {
  const reason = `has a pickle of ${bytes} bytes, more than the ${LONGEST_PICKLE} allowed`;
  return new WeightsError("weights-pickle", reason, { file });
}

/** The named tensors: those of the value itself, or of the dictionary in it where training programs put them. */
function stateIn(value: Pickled): Map<string, PickledTensor> | undefined {
  if (!(value instanceof Map)) return undefined;
  for (const place of [value, ...STATES.map((name) => value.get(name))]) {
    if (!(place instanceof Map)) continue;
    const tensors = [...place].filter((entry): entry is [string, PickledTensor] => {
      return typeof entry[0] === "string" && entry[1] instanceof PickledTensor;
    });
    if (tensors.length > 0) return new Map(tensors);
  }
  return undefined;
}

/** Levels of dictionaries in each other that a training program makes. */
const DEEPEST = 8;

/** The storages of all tensors in a value, by their keys. */
function storagesIn(value: Pickled): Map<string, PickledStorage> {
  const storages = new Map<string, PickledStorage>();
  const seen = new Set<Pickled>();
  const collect = (one: Pickled, depth: number) => {
    if (one instanceof PickledTensor) storages.set(one.storage.key, one.storage);
    if (depth === DEEPEST || seen.has(one) || !(one instanceof Map || Array.isArray(one))) return;
    seen.add(one);
    for (const inner of one.values()) collect(inner, depth + 1);
  };
  collect(value, 0);
  return storages;
}
