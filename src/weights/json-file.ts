/**
 * JSON files of a model folder: bounded in length, an object at the top, and errors that do not show where they lie.
 */
import { foreignKind } from "../platform/file-kind.ts";
import { textOf } from "../platform/model-files.ts";
import { WeightsError } from "./errors.ts";
import { type FileSource, readOptionalFile, readRegularFile } from "./regular-file.ts";

/** Config files are a few kilobytes. */
export const LONGEST_CONFIG = 2 ** 20;

/**
 * The object in a JSON file.
 * @param name the file's name in messages.
 * @throws WeightsError "weights-not-found" where it is missing, "model-config" where it is too long or no JSON object.
 */
export async function readJson(
  file: FileSource,
  name: string,
  longest = LONGEST_CONFIG,
): Promise<Record<string, unknown>> {
  return parseJsonObject(await readRegularFile(file, name, longest), name);
}

/** The same, or undefined where there is no such file. */
export async function readOptionalJson(
  file: FileSource,
  name: string,
  longest = LONGEST_CONFIG,
): Promise<Record<string, unknown> | undefined> {
  const content = await readOptionalFile(file, name, longest);
  return content && parseJsonObject(content, name);
}

function parseJsonObject(content: Uint8Array, name: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(textOf(content));
  } catch (cause) {
    const foreign = foreignKind(content);
    const reason =
      foreign === undefined || foreign.kind === "text" ? "is not JSON" : `is not JSON: it ${foreign.reason}`;
    throw new WeightsError("model-config", reason, { file: name, cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new WeightsError("model-config", "is not a JSON object", { file: name });
  return value as Record<string, unknown>;
}
