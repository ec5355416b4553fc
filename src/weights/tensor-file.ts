/**
 * A file of tensors in any of the formats that models are shared in, told by its first bytes: safetensors, a file of
 * `torch.save`, GGUF.
 */

import { fileOf } from "../platform/folder-files.ts";
import { toWeightsError, WeightsError } from "./errors.ts";
import { openGguf } from "./gguf.ts";
import { readExactly } from "./placed-tensors.ts";
import { type FileSource, openRegularFile } from "./regular-file.ts";
import { openSafetensors } from "./safetensors.ts";
import type { TensorSet } from "./tensor-set.ts";
import { openTorchFile } from "./torch-file.ts";

export type TensorFormat = "safetensors" | "pickle" | "gguf";

/** An open file, and what it says of itself beside its tensors. */
export interface TensorFile extends TensorSet {
  readonly format: TensorFormat;
  /** `__metadata__` of safetensors. */
  readonly metadata: ReadonlyMap<string, string>;
}

const NOTHING: ReadonlyMap<string, string> = new Map();

/**
 * Opens a file of tensors and checks its header. The caller closes it.
 * @param options.name how messages call the file; its base name if left out
 * @param options.longestHeader bytes of a header of safetensors; the format's own limit if left out
 * @throws WeightsError if there is none, or it is none of these formats, or is not sound
 */
export async function openTensorFile(
  source: FileSource,
  options: { name?: string; longestHeader?: number } = {},
): Promise<TensorFile> {
  const at = fileOf(source);
  const name = options.name ?? at.path.slice(at.path.lastIndexOf("/") + 1);
  const handle = await openRegularFile(at, name);
  try {
    const head = new Uint8Array(Math.min(8, handle.bytes));
    await readExactly(handle, head, 0, name);
    const latin = String.fromCharCode(...head);
    if (latin.startsWith("GGUF")) return { ...(await openGguf(handle, name)), format: "gguf", metadata: NOTHING };
    const isArchive = latin.startsWith("PK\x03\x04");
    if (isArchive || (head[0] === 0x80 && head[1]! >= 1 && head[1]! <= 5 && !latin.endsWith("\0"))) {
      return { ...(await openTorchFile(handle, name, isArchive)), format: "pickle", metadata: NOTHING };
    }
  } catch (error) {
    await handle.close();
    throw toWeightsError(error, name);
  }
  await handle.close();
  try {
    return { ...(await openSafetensors(at, { ...options, name })), format: "safetensors" };
  } catch (error) {
    // Told by the ending alone: its first bytes are those of none.
    if (!(error instanceof WeightsError && error.code === "weights-pickle")) throw error;
    const reason = "is none of the formats that are read: safetensors, a file of torch.save, GGUF; download it again";
    throw new WeightsError("weights-format", reason, { file: name, cause: error });
  }
}
