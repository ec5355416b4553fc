import { stat } from "node:fs/promises";

/** The kind of thing at a path of this machine. Links are followed. */
export type PathKind = "file" | "folder" | "other" | "absent" | "forbidden";

export async function pathKind(path: string): Promise<PathKind> {
  try {
    const facts = await stat(path);
    return facts.isFile() ? "file" : facts.isDirectory() ? "folder" : "other";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "EACCES" || code === "EPERM" ? "forbidden" : "absent";
  }
}
