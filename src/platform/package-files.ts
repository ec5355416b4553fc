/** Files that come with the package, wherever it lies: a checkout, `node_modules`, or the `dist` folder of either. */

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The path of a file or folder of the package, such as `models/landscapes`.
 * @throws Error if this module is no longer part of the package, as in somebody's bundle
 */
export function packagePath(...parts: readonly string[]): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (nameOf(folder) === "daguerre") return join(folder, ...parts);
    if (folder === dirname(folder)) throw new Error("the files of the package daguerre are not beside its code");
  }
}

/** The name in a folder's `package.json`, if it has one. */
function nameOf(folder: string): unknown {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).name;
  } catch {
    return undefined;
  }
}
