/** Opening a file of a model or a LoRA: a regular file, and errors that name it as messages do, never by its path on disk. */

import { fileOf } from "../platform/folder-files.ts";
import { type FileAt, FileError, type OpenFile, readFile } from "../platform/model-files.ts";
import { toWeightsError } from "./errors.ts";

/** A file of a model; as a text, a path on this machine. */
export type FileSource = FileAt | string;

/**
 * Opens a regular file for reading; the caller closes it.
 * @param name how messages call the file, such as "unet/config.json".
 * @throws WeightsError "weights-not-found" if there is none or it is something else, "weights-io" if it cannot be opened.
 */
export async function openRegularFile(source: FileSource, name: string): Promise<OpenFile> {
  const { files, path } = fileOf(source);
  try {
    return await files.open(path);
  } catch (error) {
    throw toWeightsError(error, name);
  }
}

/**
 * The whole content of a regular file.
 * @throws WeightsError as `openRegularFile` does, and "model-config" if it is longer than `longest` bytes.
 */
export async function readRegularFile(source: FileSource, name: string, longest: number): Promise<Uint8Array> {
  try {
    return await readFile(fileOf(source), longest);
  } catch (error) {
    throw toWeightsError(error, name);
  }
}

/** The same, or undefined if there is no file of that name. */
export async function readOptionalFile(
  source: FileSource,
  name: string,
  longest: number,
): Promise<Uint8Array | undefined> {
  try {
    return await readFile(fileOf(source), longest);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw toWeightsError(error, name);
  }
}

/**
 * True if there is a file of that name.
 * @throws WeightsError if there is something else of that name, or it cannot be opened.
 */
export async function hasRegularFile(source: FileSource, name: string): Promise<boolean> {
  const { files, path } = fileOf(source);
  try {
    await (await files.open(path)).close();
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw toWeightsError(error, name);
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof FileError && error.code === "absent";
}
