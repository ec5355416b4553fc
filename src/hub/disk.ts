/** The disk that downloads go to: its room, and its errors in words. */
import { stat, statfs } from "node:fs/promises";
import { bytesText } from "./bytes-text.ts";
import { HubError } from "./errors.ts";

/** Bytes that stay free. */
const SPARE = 64 * 2 ** 20;

/** Looks whether `missing` bytes fit on the disk of `folder`. @throws HubError "disk" */
export async function checkRoom(folder: string, name: string, missing: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const room = bavail * bsize;
  if (missing <= 0 || missing + SPARE <= room) return;
  throw new HubError(
    "disk",
    `${name} needs ${bytesText(missing)}, and the disk of the cache has ${bytesText(room)} free: ` +
      "free some (daguerre models lists what is there), or set HF_HUB_CACHE to a folder on another disk",
  );
}

/** An error of the disk in words. */
export function diskError(error: unknown): HubError {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new HubError("disk", "the disk is full: free some room; the same command then goes on from here", error);
  }
  const reason = `the cache's folder cannot be written (${code ?? "unknown"}): set HF_HUB_CACHE to another`;
  return new HubError("disk", reason, error);
}

/** Bytes of a file; 0 if there is none. */
export async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (facts) => (facts.isFile() ? facts.size : 0),
    () => 0,
  );
}
