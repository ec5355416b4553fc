/**
 * Native libraries that come with the package, compressed: those of all platforms would be 140 MB, of which one machine
 * needs 20. A set is a folder `native/NAME-VERSION`; names of compressed files in it end in `.br`. It is unpacked once,
 * into the user's cache folder.
 */
import { createReadStream, createWriteStream, existsSync, readdirSync, rmSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { cacheDirectory } from "./cache-directory.ts";
import { packagePath } from "./package-files.ts";

/** The libraries that lie compressed in the package. */
export interface PackedSet {
  readonly version: string;
  readonly folder: string;
}

/**
 * @param name such as `dawn-linux-x64`
 * @returns undefined if the package has no such set: a checkout before `npm run native`, or another platform's
 */
export function packedSet(name: string): PackedSet | undefined {
  try {
    const native = packagePath("native");
    const found = readdirSync(native).find((folder) => folder.startsWith(`${name}-`));
    if (found === undefined) return undefined;
    return { version: found.slice(name.length + 1), folder: join(native, found) };
  } catch {
    return undefined;
  }
}

const unpacked = new Map<string, Promise<string>>();

/**
 * Unpacks a set, unless that was done before.
 * @returns the folder of its files
 * @throws the system's error if there is no room, or the set is damaged
 */
export function unpack({ folder }: PackedSet): Promise<string> {
  const known = unpacked.get(folder);
  if (known !== undefined) return known;
  const unpacking = unpackOnce(folder).catch((error: unknown) => {
    unpacked.delete(folder); // a full disk may be empty the next time
    throw error;
  });
  unpacked.set(folder, unpacking);
  return unpacking;
}

async function unpackOnce(folder: string): Promise<string> {
  const cache = cacheDirectory();
  const home = join(cache, basename(folder));
  if (existsSync(home)) return home;
  try {
    await mkdir(cache, { recursive: true });
    const fresh = await extract(folder, join(cache, ".unpacking-"));
    try {
      await rename(fresh, home);
    } catch (error) {
      // Another process may have been faster: its copy is as good.
      await rm(fresh, { recursive: true, force: true });
      if (!existsSync(home)) throw error;
    }
    return home;
  } catch (error) {
    if (!isReadOnly(error)) throw error;
    // A container with a read-only home: a private folder for the life of this process. Never a fixed name under /tmp,
    // where somebody else could have put libraries for us to open.
    const fresh = await extract(folder, join(tmpdir(), "daguerre-native-"));
    process.once("exit", () => rmSync(fresh, { recursive: true, force: true }));
    return fresh;
  }
}

function isReadOnly(error: unknown): boolean {
  return ["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
}

/** Extracts all files into a new folder whose name begins with `prefix`. */
async function extract(set: string, prefix: string): Promise<string> {
  const folder = await mkdtemp(prefix);
  try {
    for (const entry of await readdir(set, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const from = join(entry.parentPath, entry.name);
      const to = join(folder, from.slice(set.length + 1).replace(/\.br$/, ""));
      await mkdir(dirname(to), { recursive: true });
      if (!from.endsWith(".br")) await copyFile(from, to);
      else await pipeline(createReadStream(from), createBrotliDecompress(), createWriteStream(to, { mode: 0o755 }));
    }
    return folder;
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}
