/**
 * Files of a folder on this machine's disk.
 *
 * A folder is untrusted. Opening a pipe waits for a writer, a device may do anything when it is opened, `/dev/zero` never
 * ends, and a file's length may be a lie (a sparse file holds terabytes, and those of `/proc` say 0). So: asked what it is
 * before it is opened, opened without waiting, asked again, and read up to a bound, whatever follows.
 *
 * A symbolic link is followed, wherever it leads: hub caches are made of links to `../../blobs`, and a link was put there
 * by whoever may write to the disk, not by the author of the model.
 */

import { constants, type Stats } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { type FileAt, FileError, type ModelFiles, type OpenFile } from "./model-files.ts";

/** A file swapped for a pipe between question and opening does not block the open either. Windows has no such flag. */
const WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** One read call takes at most 2 GiB. */
const MOST_AT_ONCE = 2 ** 30;

/** The files below a folder of this machine. */
export function folderFiles(folder: string): ModelFiles {
  return {
    name: folderName(folder),
    async list(inside = "") {
      try {
        return (await readdir(inside === "" ? folder : join(folder, checked(inside)))).sort();
      } catch (error) {
        throw toFileError(error);
      }
    },
    open: async (path) => openRegularFile(join(folder, checked(path))),
  };
}

/** The last part of a folder's path; of a snapshot in a hub cache the repository's name, since its own is a hash. */
function folderName(folder: string): string {
  const [, repository] = /(?:^|\/)models--([^/]+)\/snapshots\/[^/]+$/.exec(resolve(folder).replaceAll("\\", "/")) ?? [];
  return repository === undefined ? basename(resolve(folder)) : repository.replaceAll("--", "/");
}

/** A folder of this machine by its path, or files as they are. */
export function filesOf(source: ModelFiles | string): ModelFiles {
  return typeof source === "string" ? folderFiles(source) : source;
}

/** A file of this machine by its path, or a file as it is. */
export function fileOf(source: FileAt | string): FileAt {
  return typeof source === "string" ? { files: folderFiles(dirname(source)), path: basename(source) } : source;
}

/** No path leads out of the folder. */
function checked(path: string): string {
  const parts = path.split("/");
  if (parts.every((part) => part !== "" && part !== "." && part !== "..")) return path;
  throw new FileError("absent", "is no path within a folder");
}

async function openRegularFile(path: string): Promise<OpenFile> {
  let handle: FileHandle | undefined;
  try {
    checkRegular(await stat(path));
    handle = await open(path, WITHOUT_WAITING);
    const stats = await handle.stat();
    checkRegular(stats);
    return new OnDisk(handle, stats.size);
  } catch (error) {
    await handle?.close();
    throw toFileError(error);
  }
}

class OnDisk implements OpenFile {
  readonly bytes: number;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, bytes: number) {
    this.#handle = handle;
    this.bytes = bytes;
  }

  async read(into: Uint8Array, offset: number): Promise<number> {
    try {
      return (await this.#handle.read(into, 0, Math.min(into.byteLength, MOST_AT_ONCE), offset)).bytesRead;
    } catch (error) {
      throw toFileError(error);
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

function checkRegular(stats: Stats): void {
  if (!stats.isFile()) throw new FileError("irregular", "is not a regular file");
}

/** An error of node:fs as ours. The path in its message stays in `cause`, for the log. */
function toFileError(error: unknown): FileError {
  if (error instanceof FileError) return error;
  const code = (error as { code?: unknown } | null)?.code;
  if (code === "ENOENT" || code === "ENOTDIR") return new FileError("absent", "no such file", error);
  return new FileError("unreadable", `cannot be read (${typeof code === "string" ? code : "unknown"})`, error);
}
