/**
 * JSON files of a model folder: bounded in length, an object at the top, and errors that do not show where they lie.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { toWeightsError, WeightsError } from "./errors.ts";

/** Config files are a few kilobytes. */
export const LONGEST_CONFIG = 2 ** 20;

/**
 * The object in a JSON file.
 * @param name the file's name in messages.
 * @throws WeightsError "weights-not-found" where it is missing, "model-config" where it is too long or no JSON object.
 */
export async function readJson(path: string, name: string, longest = LONGEST_CONFIG): Promise<Record<string, unknown>> {
  let handle: FileHandle | undefined;
  let text: string;
  try {
    // Asked before opening: opening a pipe would wait for a writer.
    if (!(await stat(path)).isFile())
      throw new WeightsError("weights-not-found", "is not a regular file", { file: name });
    handle = await open(path, "r");
    const { size } = await handle.stat();
    if (size > longest)
      throw new WeightsError("model-config", `is ${size} bytes long, more than the ${longest} allowed`, { file: name });
    text = await handle.readFile("utf8");
  } catch (error) {
    throw toWeightsError(error, name);
  } finally {
    await handle?.close();
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new WeightsError("model-config", "is not JSON", { file: name, cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new WeightsError("model-config", "is not a JSON object", { file: name });
  return value as Record<string, unknown>;
}
