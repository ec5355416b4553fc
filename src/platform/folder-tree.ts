/** The files below a folder of this machine, found without following anything out of it. */

import type { Dirent } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { pathKind } from "./path-kind.ts";

export interface TreeBounds {
  /** Levels of folders. */
  readonly depth: number;
  /** Entries that are looked at. */
  readonly entries: number;
}

export interface FileTree {
  /** Paths of regular files, relative and separated by "/", sorted. */
  readonly files: readonly string[];
  /** Links that lead out of the folder, or nowhere; they are not among the files. */
  readonly strays: readonly string[];
  /** There is more than the bounds allow. */
  readonly isCut: boolean;
}

/**
 * Walks a folder. Hidden entries are passed over; a link counts as the file or folder that it leads to, if that lies within.
 * @throws the system's error if the folder cannot be read
 */
export async function fileTree(folder: string, bounds: TreeBounds): Promise<FileTree> {
  const walk = new Walk(await homeOf(folder), bounds);
  await walk.into(folder, "", 0);
  return { files: walk.files.sort(), strays: walk.strays.sort(), isCut: walk.isCut };
}

/** A snapshot in a hub's cache is made of links into the folder of its model. */
async function homeOf(folder: string): Promise<string> {
  const real = await realpath(folder);
  const model = dirname(dirname(real));
  return basename(dirname(real)) === "snapshots" && basename(model).startsWith("models--") ? model : real;
}

class Walk {
  readonly files: string[] = [];
  readonly strays: string[] = [];
  isCut = false;
  readonly #home: string;
  readonly #bounds: TreeBounds;
  readonly #seen = new Set<string>();
  #entries = 0;

  constructor(home: string, bounds: TreeBounds) {
    this.#home = home;
    this.#bounds = bounds;
  }

  async into(folder: string, prefix: string, depth: number): Promise<void> {
    const real = await realpath(folder);
    if (this.#seen.has(real)) return; // a link to a folder above
    this.#seen.add(real);
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.name.startsWith(".")) continue;
      if (++this.#entries > this.#bounds.entries) {
        this.isCut = true;
        return;
      }
      const [path, name] = [join(folder, entry.name), prefix + entry.name];
      const kind = await this.#kindOf(entry, path);
      if (kind === "stray") this.strays.push(name);
      if (kind === "file") this.files.push(name);
      if (kind !== "folder") continue;
      if (depth + 1 >= this.#bounds.depth) this.isCut = true;
      else await this.into(path, `${name}/`, depth + 1).catch(() => {}); // a folder that may not be read has nothing to offer
    }
  }

  async #kindOf(entry: Dirent, path: string): Promise<"file" | "folder" | "stray" | "other"> {
    if (entry.isFile()) return "file";
    if (entry.isDirectory()) return "folder";
    if (!entry.isSymbolicLink()) return "other";
    try {
      const target = await realpath(path);
      if (target !== this.#home && !target.startsWith(this.#home + sep)) return "stray";
      const facts = await stat(target);
      return facts.isFile() ? "file" : facts.isDirectory() ? "folder" : "other";
    } catch {
      return "stray";
    }
  }
}

/**
 * The path as it is on disk if nothing is at `path` itself, but at the same name in another normalization of Unicode:
 * macOS writes an accent apart from its letter, others write one character.
 */
export async function existingPath(path: string): Promise<string> {
  if ((await pathKind(path)) !== "absent") return path;
  const parent = dirname(path);
  if (parent === path) return path;
  const folder = await existingPath(parent);
  const names = await readdir(folder).catch(() => []);
  const found = names.find((name) => name.normalize("NFC") === basename(path).normalize("NFC"));
  return found === undefined ? path : join(folder, found);
}
