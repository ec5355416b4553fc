/**
 * The files of a model, wherever they lie: a folder on disk, memory, an archive, another machine.
 *
 * Paths are relative and separated by "/": "unet/config.json". Everything in the files is untrusted, and so is what they
 * are: an implementation opens regular files alone, and gives no more bytes than the file has.
 */

export interface ModelFiles {
  /** The last part of the folder's name, for a model that does not name itself. */
  readonly name: string;
  /**
   * Names of everything in a folder, sorted; the topmost folder if none is given.
   * @throws FileError if there is no such folder.
   */
  list(folder?: string): Promise<readonly string[]>;
  /**
   * Opens a file; the caller closes it.
   * @throws FileError "absent" if there is nothing of that name, "irregular" if it is no regular file, else "unreadable".
   */
  open(path: string): Promise<OpenFile>;
}

export interface OpenFile {
  /** Its length. */
  readonly bytes: number;
  /**
   * Fills `into` with the bytes from `offset` on, as far as one read goes.
   * @returns how many bytes were read; 0 at the end of the file.
   */
  read(into: Uint8Array, offset: number): Promise<number>;
  close(): Promise<void>;
}

export type FileErrorCode = "absent" | "irregular" | "too-long" | "unreadable";

/** A file that cannot be used. The message tells the reason without the path. */
export class FileError extends Error {
  override readonly name = "FileError";
  readonly code: FileErrorCode;

  constructor(code: FileErrorCode, reason: string, cause?: unknown) {
    super(reason, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** A file among others. */
export interface FileAt {
  readonly files: ModelFiles;
  readonly path: string;
}

/** The file `path` of `files`. */
export function fileAt(files: ModelFiles, path: string): FileAt {
  return { files, path };
}

/** The files of one folder of `files`. */
export function subfolder(files: ModelFiles, name: string): ModelFiles {
  return {
    name,
    list: (folder) => files.list(folder === undefined ? name : `${name}/${folder}`),
    open: (path) => files.open(`${name}/${path}`),
  };
}

/**
 * The whole content of a file.
 * @throws FileError as `open` does, and "too-long" if it has more than `longest` bytes.
 */
export async function readFile({ files, path }: FileAt, longest: number): Promise<Uint8Array> {
  const file = await files.open(path);
  try {
    const { bytes } = file;
    if (bytes > longest) throw new FileError("too-long", `is ${bytes} bytes long, more than the ${longest} allowed`);
    const content = new Uint8Array(bytes);
    let done = 0;
    while (done < bytes) {
      const read = await file.read(content.subarray(done), done);
      if (read === 0) break; // cut short meanwhile
      done += read;
    }
    return content.subarray(0, done);
  } finally {
    await file.close();
  }
}

// A byte order mark is part of the text, as for Node's own `toString`.
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Bytes as text in UTF-8. */
export function textOf(bytes: Uint8Array): string {
  return utf8.decode(bytes);
}
