import { stat } from "node:fs/promises";

/** A file's size in bytes and the time of its last change, in ms since the epoch: one changes if the file does. */
export async function fileVersion(path: string): Promise<{ readonly bytes: number; readonly writtenAt: number }> {
  const { size, mtimeMs } = await stat(path);
  return { bytes: size, writtenAt: mtimeMs };
}
