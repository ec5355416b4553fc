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
import { PlacedFile, readExactly } from "./placed-tensors.ts";
import { type FileSource, openRegularFile } from "./regular-file.ts";
import { LONGEST_HEADER, parseHeader } from "./safetensors-header.ts";
import type { TensorSet } from "./tensor-set.ts";

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
    const placed = new PlacedFile(handle, file, fileBytes);
    const entries = header.tensors.map((place) => placed.entry({ ...place, start: dataStart + place.start }));
    return { ...placed.set(entries), metadata: header.metadata };
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
