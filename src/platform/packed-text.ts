import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { textOf } from "./model-files.ts";
import { packagePath } from "./package-files.ts";

/** The content of a gzipped text of the package, such as `models/clip/merges.txt.gz`. */
export async function packedText(...parts: readonly string[]): Promise<string> {
  return textOf(await promisify(gunzip)(await readFile(packagePath(...parts))));
}
