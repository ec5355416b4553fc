/**
 * Opening a file of a model or LoRA folder: a regular file, or a link to one, and nothing else.
 *
 * A folder is untrusted. Opening a pipe waits for a writer, a device may do anything when it is opened, `/dev/zero` never
 * ends, and a file's length may be a lie (a sparse file holds terabytes, and those of `/proc` say 0). So: asked what it is
 * before it is opened, opened without waiting, asked again, and read up to a bound, whatever follows.
 */
import { constants, type Stats } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { toWeightsError, WeightsError } from "./errors.ts";

/** Whoever swaps the file for a pipe between question and opening does not hold us either. Windows has no such flag. */
const WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/**
 * Opens a regular file for reading; the caller closes it.
 * @param name how messages call the file, such as "unet/config.json".
 * @throws WeightsError "weights-not-found" where there is none or it is something else, "weights-io" where it cannot be
 *   opened.
 */
export async function openRegularFile(path: string, name: string): Promise<{ handle: FileHandle; bytes: number }> {
  let handle: FileHandle | undefined;
  try {
    checkRegular(await stat(path), name);
    handle = await open(path, WITHOUT_WAITING);
    const stats = await handle.stat();
    checkRegular(stats, name);
    return { handle, bytes: stats.size };
  } catch (error) {
    await handle?.close();
    throw toWeightsError(error, name);
  }
}

/**
 * The whole content of a regular file.
 * @throws WeightsError as `openRegularFile` does, and "model-config" where it is longer than `longest` bytes.
 */
export async function readRegularFile(path: string, name: string, longest: number): Promise<Buffer> {
  const { handle, bytes } = await openRegularFile(path, name);
  try {
    if (bytes > longest)
      throw new WeightsError("model-config", `is ${bytes} bytes long, more than the ${longest} allowed`, {
        file: name,
      });
    const content = Buffer.alloc(bytes);
    let read = 0;
    while (read < bytes) {
      const { bytesRead } = await handle.read(content, read, bytes - read, read);
      if (bytesRead === 0) break; // cut short meanwhile
      read += bytesRead;
    }
    return content.subarray(0, read);
  } catch (error) {
    throw toWeightsError(error, name);
  } finally {
    await handle.close();
  }
}

/** The same, or undefined where there is no file of that name. */
export async function readOptionalFile(path: string, name: string, longest: number): Promise<Buffer | undefined> {
  try {
    return await readRegularFile(path, name, longest);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/**
 * Whether there is a file of that name.
 * @throws WeightsError where there is something else of that name.
 */
export async function hasRegularFile(path: string, name: string): Promise<boolean> {
  try {
    checkRegular(await stat(path), name);
    return true;
  } catch (error) {
    const told = toWeightsError(error, name);
    if (isAbsent(told)) return false;
    throw told;
  }
}

function checkRegular(stats: Stats, file: string): void {
  if (!stats.isFile()) throw new WeightsError("weights-not-found", "is not a regular file", { file });
}

/** There is nothing of that name, as against something that is no file. */
function isAbsent(error: unknown): boolean {
  return error instanceof WeightsError && error.code === "weights-not-found" && error.cause !== undefined;
}
