/**
 * Kinds of files that are often given in the place of another, told by their first bytes: a pointer of Git LFS, the page
 * that a download was answered with, a pickle. Nothing is parsed; a file that claims to be one of them is an error anyway.
 */

/** Bytes from the beginning of a file that `foreignKind` looks at. */
export const HEAD_BYTES = 512;

export interface ForeignKind {
  readonly kind: "pointer" | "web page" | "pickle" | "gguf" | "archive" | "format" | "text" | "unfinished";
  /** The rest of a sentence that begins with the file's name: what it is, and what to do. */
  readonly reason: string;
}

export const PICKLE_REASON =
  "is a pickle (PyTorch's .bin, .ckpt or .pt), which is not read here; get it as .safetensors";

const POINTER_REASON =
  'is a Git LFS pointer, not the file itself; run "git lfs pull" in its repository, or download the file itself';
const PAGE_REASON =
  "is a web page, not the file itself: the download was answered by a page, such as one to log in or to accept a licence; " +
  "download it again";

/** Files that begin with these bytes, as Latin-1 text. */
const MAGIC: readonly (readonly [string, string, ForeignKind["kind"]])[] = [
  ["GGUF", "a GGUF file", "gguf"],
  ["lmgg", "a GGML file", "format"],
  ["tjgg", "a GGML file", "format"],
  ["fmgg", "a GGML file", "format"],
  ["\x89HDF\r\n", "an HDF5 file", "format"],
  ["\x93NUMPY", "a NumPy file", "format"],
  ["\x89PNG", "a picture (PNG)", "format"],
  ["\xff\xd8\xff", "a picture (JPEG)", "format"],
  ["GIF8", "a picture (GIF)", "format"],
  ["RIFF", "a picture or sound (RIFF)", "format"],
  ["%PDF", "a PDF document", "format"],
  ["\x7fELF", "a program", "format"],
  ["MZ\x90", "a program", "format"],
  ["\x00\x05\x16\x07", "a file of macOS's metadata", "format"],
  ["PK\x03\x04", "a zip archive", "archive"],
  ["PK\x05\x06", "a zip archive", "archive"],
  ["\x1f\x8b", "a gzip archive", "archive"],
  ["BZh", "a bzip2 archive", "archive"],
  ["\xfd7zXZ", "an xz archive", "archive"],
  ["7z\xbc\xaf\x27\x1c", "a 7z archive", "archive"],
  ["Rar!", "a RAR archive", "archive"],
  ["\x28\xb5\x2f\xfd", "a zstd archive", "archive"],
];

/** Bytes; fewer say nothing. */
const SHORTEST_TEXT = 8;

/** Where a tar archive has its magic. */
const TAR = { at: 257, magic: "ustar" };

/** Endings of pickles, whose oldest have no magic. */
const PICKLE_NAME = /\.(?:bin|ckpt|pt|pth|pkl|pickle)$/i;

/**
 * The kind of a file that begins with `head` and is not what it should be; undefined for one that is none of these.
 * @param name its name, whose ending counts if the bytes say nothing
 */
export function foreignKind(head: Uint8Array, name = ""): ForeignKind | undefined {
  const latin = Array.from(head.subarray(0, HEAD_BYTES), (byte) => String.fromCharCode(byte)).join("");
  if (isPickle(head, latin)) return { kind: "pickle", reason: PICKLE_REASON };
  const magic = MAGIC.find(([bytes]) => latin.startsWith(bytes));
  if (magic) return { kind: magic[2], reason: reasonOf(magic[1], magic[2]) };
  if (latin.startsWith(TAR.magic, TAR.at)) return { kind: "archive", reason: reasonOf("a tar archive", "archive") };
  if (latin.length >= 8 && /^\0+$/.test(latin)) {
    const reason = "begins with nothing but zeros: its download was not finished; download it again";
    return { kind: "unfinished", reason };
  }
  const words = latin.replace(/^\xef\xbb\xbf/, "").trimStart();
  if (/^version https:\/\/(?:git-lfs|hawser)\b|^# xet version/.test(words)) {
    return { kind: "pointer", reason: POINTER_REASON };
  }
  if (/^<(?:!doctype html|html|head|body|\?xml|!--|script|meta)\b|^<!--/i.test(words)) {
    return { kind: "web page", reason: PAGE_REASON };
  }
  if (PICKLE_NAME.test(name)) return { kind: "pickle", reason: PICKLE_REASON };
  if (head.byteLength >= SHORTEST_TEXT && isText(head.subarray(0, HEAD_BYTES))) {
    const what = /^[{[]/.test(words) ? "JSON text" : "text";
    return { kind: "text", reason: `is ${what}, perhaps the error message of a download; download it again` };
  }
  return undefined;
}

function reasonOf(what: string, kind: ForeignKind["kind"]): string {
  return kind === "archive"
    ? `is ${what}: unpack it first`
    : `is ${what}, which is not supported; get it as .safetensors`;
}

/** UTF-8 without control characters; the cut may have gone through a character. */
function isText(head: Uint8Array): boolean {
  const text = new TextDecoder().decode(head);
  return !/[^\P{Cc}\t\n\v\f\r]/u.test(text) && !text.slice(0, -1).includes("\ufffd");
}

/** PyTorch's zip archives hold a pickle, and name it first. */
function isPickle(head: Uint8Array, latin: string): boolean {
  if (head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5) return true;
  return (
    latin.startsWith("PK\x03\x04") && /\/(?:data\.pkl|\.format_version|byteorder|version)/.test(latin.slice(30, 230))
  );
}
