/**
 * Files that were downloaded from other addresses than a hub's: a folder each in Daguerre's own cache, named after the
 * host and the address, with the file and `source.json`. This file loads nothing but Node.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Says where the file beside it comes from. */
export const SOURCE_FILE = "source.json";
export const INCOMPLETE = ".incomplete";

/** Where a file comes from. */
export interface Source {
  /** The address, without its query, which may hold a secret. */
  readonly url: string;
  /** Its `ETag`, by which a part of it is known to be of the same file; undefined: the server names none. */
  readonly version: string | undefined;
}

/** The folder of an address: `models.example-1f2e3d4c5b6a7988`. */
export function addressFolder(url: URL): string {
  const host = url.hostname.replaceAll(/[^\w.-]/g, "");
  return `${host}-${createHash("sha256").update(url.href).digest("hex").slice(0, 16)}`;
}

export async function readSource(folder: string): Promise<Source | undefined> {
  try {
    const { url, version } = JSON.parse(await readFile(join(folder, SOURCE_FILE), "utf8")) as Partial<Source>;
    return typeof url === "string" ? { url, version: typeof version === "string" ? version : undefined } : undefined;
  } catch {
    return undefined;
  }
}

/** The path of the file that was downloaded from an address; undefined if there is none, or a part of it. */
export async function findAddressFile(files: string, text: string): Promise<string | undefined> {
  if (!URL.canParse(text)) return undefined;
  const folder = join(files, addressFolder(new URL(text)));
  const names = await readdir(folder).catch(() => []);
  const found = names.find((name) => name !== SOURCE_FILE && !name.endsWith(INCOMPLETE));
  return found === undefined ? undefined : join(folder, found);
}
