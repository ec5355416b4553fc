/**
 * Reading safetensors files, in pieces.
 *
 * Opening reads the header and nothing else. A tensor's bytes are then read into memory that the caller owns, from any
 * place in the tensor, so that a model of any size passes through one buffer. There is no mapping into memory and no
 * tensor object: what the bytes mean is the caller's business.
 *
 * The format, and what is refused: `safetensors-header.ts`.
 */
import { foreignKind, HEAD_BYTES } from "../platform/file-kind.ts";
import { fileOf } from "../platform/folder-files.ts";
import type { OpenFile } from "../platform/model-files.ts";
import { inTurns } from "../platform/turns.ts";
import { toWeightsError, WeightsError } from "./errors.ts";
import { type FileSource, openRegularFile } from "./regular-file.ts";
import { LONGEST_HEADER, parseHeader, type TensorPlace } from "./safetensors-header.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";

export type { TensorEntry, TensorSet } from "./tensor-set.ts";

/** An open file: a set of tensors, and the header's `__metadata__`. */
export interface SafetensorsFile extends TensorSet {
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Opens a safetensors file and checks its header against its length. The caller closes it.
 * @param options.name how messages call the file, such as "unet/model.safetensors"; its base name where not given.
 * @param options.longestHeader bytes; the format's own limit where not given.
 * @throws WeightsError where the file is missing or is not a sound safetensors file.
 */
export async function openSafetensors(
  source: FileSource,
  options: { name?: string; longestHeader?: number } = {},
): Promise<SafetensorsFile> {
  const at = fileOf(source);
  const file = options.name ?? at.path.slice(at.path.lastIndexOf("/") + 1);
  const handle = await openRegularFile(at, file);
  try {
    const fileBytes = handle.bytes;
    const headerBytes = await readHeaderLength(handle, fileBytes, file, options.longestHeader ?? LONGEST_HEADER);
    const json = new Uint8Array(headerBytes);
    await readExactly(handle, json, 8, file);
    const dataStart = 8 + headerBytes;
    const header = await inTurns(parseHeader(json, fileBytes - dataStart, file));
    return tensorsOf(handle, file, dataStart, header.tensors, header.metadata);
  } catch (error) {
    const better = await explained(handle, at.path, file, error);
    await handle.close();
    throw toWeightsError(better, file);
  }
}

/** Errors of a file that has no sound header, and may be of another kind altogether. */
const HEADLESS: ReadonlySet<string> = new Set(["weights-header", "weights-truncated"]);

/** The error of a header that cannot be read, in words about the file if it is recognised as something else. */
async function explained(handle: OpenFile, path: string, file: string, error: unknown): Promise<unknown> {
  if (!(error instanceof WeightsError && HEADLESS.has(error.code))) return error;
  const head = new Uint8Array(Math.min(HEAD_BYTES, handle.bytes));
  try {
    await readExactly(handle, head, 0, file);
  } catch {
    return error;
  }
  const foreign = foreignKind(head, path);
  if (foreign === undefined) return error;
  const code = foreign.kind === "pickle" ? "weights-pickle" : "weights-format";
  return new WeightsError(code, foreign.reason, { file, cause: error });
}

async function readHeaderLength(handle: OpenFile, fileBytes: number, file: string, longest: number): Promise<number> {
  if (fileBytes < 8)
    throw new WeightsError("weights-truncated", `is ${fileBytes} bytes long, too short for a safetensors file`, {
      file,
    });
  const prefix = new Uint8Array(8);
  await readExactly(handle, prefix, 0, file);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(longest))
    throw new WeightsError(
      "weights-header",
      `claims a header of ${length} bytes, more than the ${longest} allowed; is it a safetensors file?`,
      { file },
    );
  if (length > BigInt(fileBytes - 8))
    throw new WeightsError("weights-truncated", `claims a header of ${length} bytes, and is ${fileBytes} bytes long`, {
      file,
    });
  return Number(length);
}

function tensorsOf(
  handle: OpenFile,
  file: string,
  dataStart: number,
  places: readonly TensorPlace[],
  metadata: ReadonlyMap<string, string>,
): SafetensorsFile {
  let closed = false;
  const read = throughBlocks(
    handle,
    dataStart + places.reduce((end, place) => Math.max(end, place.start + place.byteLength), 0),
    file,
  );
  const entries = new Map<string, TensorEntry>();
  let totalBytes = 0;
  for (const { name, type, shape, start, byteLength } of places) {
    totalBytes += byteLength;
    entries.set(name, {
      name,
      dtype: type,
      shape,
      byteLength,
      file,
      async read(into, byteOffset = 0) {
        if (closed) throw new WeightsError("weights-closed", "was closed before it was read", { file, tensor: name });
        if (!(byteOffset >= 0 && byteOffset + into.byteLength <= byteLength))
          throw new RangeError(
            `${into.byteLength} bytes from ${byteOffset} on do not lie in the ${byteLength} of ${name}`,
          );
        await read(into, dataStart + start + byteOffset, name);
      },
    });
  }
  return {
    source: file,
    metadata,
    totalBytes,
    names: () => entries.keys(),
    get: (name) => entries.get(name),
    async close() {
      closed = true;
      await handle.close();
    },
  };
}

/** Reads shorter than this go by way of blocks of this size, in bytes. A read costs as much as copying a megabyte. */
const BLOCK_BYTES = 2 ** 20;
/** Blocks that are kept: a model's layers are not asked for quite in the order in which they lie. */
const MOST_BLOCKS = 4;

type Read = (into: Uint8Array, position: number, tensor: string) => Promise<void>;

/** A file up to `end`, of which a model has many tensors of a few hundred bytes, read a block at a time. */
function throughBlocks(handle: OpenFile, end: number, file: string): Read {
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

async function readExactly(
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
