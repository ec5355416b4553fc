import { FileError, type ModelFiles } from "./model-files.ts";

/** Files in memory, by their paths: those of a test, or of a program that has unpacked or fetched them by itself. */
export function memoryFiles(contents: Readonly<Record<string, Uint8Array | string>>, name = "memory"): ModelFiles {
  const encoder = new TextEncoder();
  const files = new Map(
    Object.entries(contents).map(([path, content]) => [
      path,
      typeof content === "string" ? encoder.encode(content) : content,
    ]),
  );
  const isFolder = (path: string) => [...files.keys()].some((other) => other.startsWith(`${path}/`));
  return {
    name,
    async list(folder = "") {
      if (folder !== "" && !isFolder(folder)) throw new FileError("absent", "no such file");
      const prefix = folder === "" ? "" : `${folder}/`;
      const inside = [...files.keys()].filter((path) => path.startsWith(prefix));
      return [...new Set(inside.map((path) => path.slice(prefix.length).split("/")[0]!))].sort();
    },
    async open(path) {
      const content = files.get(path);
      if (content === undefined) {
        throw isFolder(path)
          ? new FileError("irregular", "is not a regular file")
          : new FileError("absent", "no such file");
      }
      return {
        bytes: content.byteLength,
        async read(into, offset) {
          const piece = content.subarray(offset, offset + into.byteLength);
          into.set(piece);
          return piece.byteLength;
        },
        async close() {},
      };
    },
  };
}
