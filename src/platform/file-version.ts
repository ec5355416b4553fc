import { stat } from "node:fs/promises";

/** What changes if a file does: its size in bytes, and when it was last written, in ms since the epoch. */
export async function fileVersion(path: string): Promise<{ readonly bytes: number; readonly writtenAt: number }> {
  const { size, mtimeMs } = await stat(path);
  return { bytes: size, writtenAt: mtimeMs };
}
