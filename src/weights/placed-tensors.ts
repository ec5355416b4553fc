/**
 * Tensors that lie in one file as runs of bytes, whatever the format that says where.
 *
 * A model has many tensors of a few hundred bytes; those are read a block at a time.
 */
import type { OpenFile } from "../platform/model-files.ts";
import type { ElementType } from "./element-types.ts";
import { toWeightsError, WeightsError } from "./errors.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";
import { widened } from "./widened.ts";

/** A tensor of a file, whose place is given in bytes from the beginning of the file. */
export interface PlacedTensor {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly start: number;
  readonly byteLength: number;
}

/** Bytes of a file from `position` on, read for a tensor that messages name. */
export type ReadAt = (into: Uint8Array, position: number, tensor: string) => Promise<void>;

/** An open file whose tensors are read through blocks until it is closed. */
export class PlacedFile {
  readonly #handle: OpenFile;
  readonly #file: string;
  readonly #read: ReadAt;
  #closed = false;

  /**
   * @param file its name in messages
   * @param end bytes up to which it has tensors
   */
  constructor(handle: OpenFile, file: string, end: number) {
    this.#handle = handle;
    this.#file = file;
    this.#read = throughBlocks(handle, end, file);
  }

  /** An entry whose bytes lie at one place. */
  entry({ name, type, shape, start, byteLength }: PlacedTensor): TensorEntry {
    const read = this.reader({ name, start, byteLength });
    return widened({ name, dtype: type, shape, byteLength, file: this.#file, read });
  }

  /** Reads bytes of a tensor as they are in the file. */
  reader(place: Pick<PlacedTensor, "name" | "start" | "byteLength">): TensorEntry["read"] {
    const { name, start, byteLength } = place;
    return async (into, byteOffset = 0) => {
      if (this.#closed)
        throw new WeightsError("weights-closed", "was closed before it was read", { file: this.#file, tensor: name });
      if (!(byteOffset >= 0 && byteOffset + into.byteLength <= byteLength))
        throw new RangeError(
          `${into.byteLength} bytes from ${byteOffset} on do not lie in the ${byteLength} of ${name}`,
        );
      await this.#read(into, start + byteOffset, name);
    };
  }

  /** @param entries in the order in which they lie in the file */
  set(entries: Iterable<TensorEntry>): TensorSet {
    const byName = new Map(Array.from(entries, (entry) => [entry.name, entry]));
    return {
      source: this.#file,
      totalBytes: [...byName.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
      names: () => byName.keys(),
      get: (name) => byName.get(name),
      close: async () => {
        this.#closed = true;
        await this.#handle.close();
      },
    };
  }
}

/** Reads shorter than this go by way of blocks of this size, in bytes. A read costs as much as copying a megabyte. */
const BLOCK_BYTES = 2 ** 20;
/** Blocks that are kept: a model's layers are not asked for quite in the order in which they lie. */
const MOST_BLOCKS = 4;

/** A file up to `end`, of which a model has many tensors of a few hundred bytes, read a block at a time. */
function throughBlocks(handle: OpenFile, end: number, file: string): ReadAt {
  const blocks = new Map<number, Promise<Uint8Array>>();
  const block = (index: number, tensor: string): Promise<Uint8Array> => {
    const bytes = blocks.get(index) ?? load(index, tensor);
    blocks.delete(index);
    blocks.set(index, bytes); // newest last
    const [oldest] = blocks.keys();
    if (blocks.size > MOST_BLOCKS) blocks.delete(oldest!);
    return bytes;
  };
  const load = async (index: number, tensor: string): Promise<Uint8Array> => {
    const position = index * BLOCK_BYTES;
    const bytes = new Uint8Array(Math.min(BLOCK_BYTES, end - position));
    await readExactly(handle, bytes, position, file, tensor);
    return bytes;
  };
  return async (into, position, tensor) => {
    if (into.byteLength >= BLOCK_BYTES) return readExactly(handle, into, position, file, tensor);
    for (let done = 0; done < into.byteLength; ) {
      const index = Math.floor((position + done) / BLOCK_BYTES);
      const from = position + done - index * BLOCK_BYTES;
      const wanted = block(index, tensor);
      // Read while whoever asked works on this one. Should it fail, that is told when it is asked for.
      if ((index + 1) * BLOCK_BYTES < end && !blocks.has(index + 1)) block(index + 1, tensor).catch(() => {});
      const piece = (await wanted).subarray(from, from + into.byteLength - done);
      into.set(piece, done);
      done += piece.byteLength;
    }
  };
}

/**
 * Fills `into` with the bytes from `position` on.
 * @throws WeightsError if the file ends before, or cannot be read
 */
export async function readExactly(
  handle: OpenFile,
  into: Uint8Array,
  position: number,
  file: string,
  tensor?: string,
): Promise<void> {
  let done = 0;
  while (done < into.byteLength) {
    let bytesRead: number;
    try {
      bytesRead = await handle.read(done === 0 ? into : into.subarray(done), position + done);
    } catch (error) {
      throw toWeightsError(error, file);
    }
    if (bytesRead === 0)
      throw new WeightsError("weights-truncated", `ends at byte ${position + done}, while it is being read`, {
        file,
        tensor,
      });
    done += bytesRead;
  }
}
