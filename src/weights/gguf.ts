/**
 * Tensors of a GGUF file (the format's specification is `docs/gguf.md` of ggml).
 *
 *     "GGUF" | u32 version | u64 tensors | u64 key-values | key-values | tensors' names, shapes, types, offsets | data
 *
 * Shapes have the fastest axis first; offsets count from the data, which begins at a multiple of `general.alignment`.
 * Everything is little-endian. Quantised tensors are read as float32 (`gguf-blocks.ts`).
 */

import type { OpenFile } from "../platform/model-files.ts";
import { quoted } from "../platform/quoted.ts";
import { convertedRead } from "./converted.ts";
import { ELEMENT_BYTES, type ElementType } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import { BLOCK_TYPES, type BlockType, blockConversion } from "./gguf-blocks.ts";
import { PlacedFile, readExactly } from "./placed-tensors.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";

const MAGIC = 0x46554747;
/** Version 1 had counts of 32 bits, and no file of a diffusion model is of it. */
const VERSIONS = [2, 3];
/** Those of language models hold their vocabulary; a UNet's takes some hundred kilobytes. */
const LONGEST_HEADER = 64 * 2 ** 20;
const FIRST_READ = 2 ** 20;
const MOST_TENSORS = 100_000;
const MOST_KEYS = 100_000;
const MOST_DIMENSIONS = 4;
const LONGEST_NAME = 1024;
const ALIGNMENT = 32;
const LARGEST_ALIGNMENT = 2 ** 20;

/** Plain types by ggml's number. */
const PLAIN: Readonly<Record<number, ElementType>> = {
  0: "F32",
  1: "F16",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  30: "BF16",
};

/** Kinds of values: their bytes, by GGUF's number; texts and lists have lengths of their own. */
const VALUE_BYTES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const [UINT32, INT32, TEXT, LIST] = [4, 5, 8, 9];

/** The shapes that ComfyUI's converter keeps of tensors that it has laid out anew. */
const ORIGINAL_SHAPE = "comfy.gguf.orig_shape.";

interface Place {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: ElementType | BlockType;
  /** Bytes in the file. */
  readonly bytes: number;
  /** From the beginning of the data. */
  readonly offset: number;
}

interface Header {
  readonly places: readonly Place[];
  readonly dataStart: number;
}

/**
 * The tensors of an open file; closing the set closes it.
 * @param file its name in messages
 * @throws WeightsError if it is not sound, or has a tensor of a type that is not known
 */
export async function openGguf(handle: OpenFile, file: string): Promise<TensorSet> {
  const { places, dataStart } = await readHeader(handle, file);
  checkPlaces(places, handle.bytes - dataStart, file);
  const placed = new PlacedFile(handle, file, handle.bytes);
  return placed.set(places.map((place) => entryOf(place, dataStart + place.offset, placed, file)));
}

function entryOf({ name, shape, type, bytes }: Place, start: number, placed: PlacedFile, file: string): TensorEntry {
  if (typeof type === "string") return placed.entry({ name, type, shape, start, byteLength: bytes });
  const read = placed.reader({ name, start, byteLength: bytes });
  const conversion = blockConversion(type);
  const byteLength = (bytes / conversion.from) * conversion.to;
  return { name, dtype: "F32", storedAs: type.name, shape, byteLength, file, read: convertedRead(read, conversion) };
}

/** More of the file is needed than has been read. */
class Unread extends Error {}

async function readHeader(handle: OpenFile, file: string): Promise<Header> {
  const longest = Math.min(handle.bytes, LONGEST_HEADER);
  for (let length = Math.min(FIRST_READ, longest); ; length = Math.min(length * 4, longest)) {
    const bytes = new Uint8Array(length);
    await readExactly(handle, bytes, 0, file);
    try {
      return new HeaderReader(bytes, file).read();
    } catch (error) {
      if (!(error instanceof Unread)) throw error;
      if (length < longest) continue;
      const reason =
        longest === handle.bytes
          ? `ends at byte ${longest}, within its header`
          : `has a header of more than the ${LONGEST_HEADER} bytes allowed`;
      throw new WeightsError(longest === handle.bytes ? "weights-truncated" : "weights-header", reason, { file });
    }
  }
}

class HeaderReader {
  readonly #view: DataView;
  readonly #file: string;
  #at = 0;

  constructor(bytes: Uint8Array, file: string) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
  }

  read(): Header {
    if (this.#unsigned(4) !== MAGIC) throw this.#broken("is not a GGUF file");
    const version = this.#unsigned(4);
    if (!VERSIONS.includes(version))
      throw this.#broken(`is GGUF of version ${version}; versions ${VERSIONS.join(" and ")} are read`);
    const tensors = this.#count(MOST_TENSORS, "tensors");
    const keys = this.#count(MOST_KEYS, "key-values");
    let alignment = ALIGNMENT;
    const shapes = new Map<string, readonly number[]>();
    for (let index = 0; index < keys; index++) {
      const key = this.#text(LONGEST_NAME, "a key");
      const value = this.#value();
      if (key === "general.alignment") alignment = typeof value === "number" ? value : 0;
      if (key.startsWith(ORIGINAL_SHAPE) && Array.isArray(value)) shapes.set(key.slice(ORIGINAL_SHAPE.length), value);
    }
    if (!(alignment > 0 && alignment <= LARGEST_ALIGNMENT && alignment % 8 === 0))
      throw this.#broken("has a general.alignment that is no multiple of 8");
    const places: Place[] = [];
    const names = new Set<string>();
    for (let index = 0; index < tensors; index++) {
      const place = this.#place(shapes, alignment);
      if (names.has(place.name)) throw this.#broken(`the name ${quoted(place.name)} occurs twice`);
      names.add(place.name);
      places.push(place);
    }
    const dataStart = Math.ceil(this.#at / alignment) * alignment;
    return { places: places.sort((a, b) => a.offset - b.offset), dataStart };
  }

  #broken(reason: string, tensor?: string): WeightsError {
    return new WeightsError("weights-header", reason, { file: this.#file, ...(tensor !== undefined && { tensor }) });
  }

  #place(shapes: ReadonlyMap<string, readonly number[]>, alignment: number): Place {
    const name = this.#text(LONGEST_NAME, "a tensor's name");
    const dimensions = this.#unsigned(4);
    if (dimensions > MOST_DIMENSIONS)
      throw this.#broken(`has ${dimensions} dimensions, more than ${MOST_DIMENSIONS}`, name);
    const shape = Array.from({ length: dimensions }, () => this.#size(name)).reverse();
    const number = this.#unsigned(4);
    const offset = this.#size(name);
    if (offset % alignment !== 0) throw this.#broken(`begins at byte ${offset}, no multiple of ${alignment}`, name);
    const type = PLAIN[number] ?? BLOCK_TYPES[number];
    if (type === undefined)
      throw new WeightsError("weights-dtype", `is of ggml's type ${number}, which is not supported`, {
        file: this.#file,
        tensor: name,
      });
    const count = shape.reduce((product, size) => product * size, 1);
    if (!Number.isSafeInteger(count * 8)) throw this.#broken("the product of the shape overflows", name);
    const original = shapes.get(name);
    const isSame = original?.reduce((product, size) => product * size, 1) === count;
    const bytes = bytesOf(type, count);
    if (!Number.isInteger(bytes) || (typeof type !== "string" && (shape.at(-1) ?? 1) % type.weights !== 0))
      throw this.#broken(`has rows of ${shape.at(-1)} weights, no whole number of blocks`, name);
    return { name, shape: original !== undefined && isSame ? original : shape, type, bytes, offset };
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#view.byteLength) throw new Unread();
    this.#at += length;
    return at;
  }

  #unsigned(length: 4 | 8): number {
    const at = this.#take(length);
    return length === 4 ? this.#view.getUint32(at, true) : Number(this.#view.getBigUint64(at, true));
  }

  #count(most: number, what: string): number {
    const count = this.#unsigned(8);
    if (count > most) throw this.#broken(`claims ${count} ${what}, more than the ${most} allowed`);
    return count;
  }

  #size(tensor: string): number {
    const size = this.#unsigned(8);
    if (!Number.isSafeInteger(size)) throw this.#broken("has a size that no file has", tensor);
    return size;
  }

  #text(longest: number, what: string): string {
    const length = this.#unsigned(8);
    if (length > longest) throw this.#broken(`has ${what} of ${length} bytes, more than the ${longest} allowed`);
    const at = this.#take(length);
    return new TextDecoder().decode(new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, length));
  }

  /** A number, or a list of whole numbers; undefined for values that nobody needs, which are passed over. */
  #value(): number | number[] | undefined {
    const kind = this.#unsigned(4);
    if (kind !== LIST) return this.#scalar(kind);
    const of = this.#unsigned(4);
    const length = this.#unsigned(8);
    if (of === LIST) throw this.#broken("has a list of lists");
    const isShape = (of === INT32 || of === UINT32) && length <= MOST_DIMENSIONS * 4;
    if (of !== TEXT && !isShape) {
      this.#take(this.#bytesOfKind(of) * length);
      return undefined;
    }
    if (length > LONGEST_HEADER / 8) throw this.#broken(`has a list of ${length} texts`);
    const values = Array.from({ length: isShape ? length : 0 }, () => this.#scalar(of) ?? 0);
    for (let index = 0; !isShape && index < length; index++) this.#text(LONGEST_HEADER, "a text");
    return isShape ? values : undefined;
  }

  #scalar(kind: number): number | undefined {
    if (kind === TEXT) {
      this.#text(LONGEST_HEADER, "a text");
      return undefined;
    }
    const at = this.#take(this.#bytesOfKind(kind));
    return kind === UINT32 || kind === INT32 ? this.#view.getUint32(at, true) : undefined;
  }

  #bytesOfKind(kind: number): number {
    const bytes = VALUE_BYTES[kind];
    if (bytes === undefined) throw this.#broken(`has a value of kind ${kind}, which GGUF does not have`);
    return bytes;
  }
}

function bytesOf(type: ElementType | BlockType, count: number): number {
  return typeof type === "string" ? count * ELEMENT_BYTES[type] : (count / type.weights) * type.bytes;
}

function checkPlaces(places: readonly Place[], dataBytes: number, file: string): void {
  let end = 0;
  for (const { name: tensor, offset, bytes } of places) {
    if (offset + bytes > dataBytes)
      throw new WeightsError(
        "weights-truncated",
        `lies at bytes ${offset} to ${offset + bytes} of the data, and the file has ${Math.max(dataBytes, 0)}`,
        { file, tensor },
      );
    if (offset < end)
      throw new WeightsError("weights-offsets", `overlaps the tensor before it, at byte ${offset}`, { file, tensor });
    end = offset + bytes;
  }
}
