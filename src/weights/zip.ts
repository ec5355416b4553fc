/**
 * The files within a zip archive as PyTorch writes it: stored, never compressed, so that a range of one is a range of the
 * archive (APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3).
 *
 * Nothing is unpacked and no name becomes a path. An entry that is compressed, encrypted or split over disks is refused when
 * it is asked for.
 */

import type { OpenFile } from "../platform/model-files.ts";
import { quoted } from "../platform/quoted.ts";
import { WeightsError } from "./errors.ts";
import { readExactly } from "./placed-tensors.ts";

const END = { magic: 0x06054b50, bytes: 22, longestComment: 0xffff };
const END64_LOCATOR = { magic: 0x07064b50, bytes: 20 };
const END64 = { magic: 0x06064b50, bytes: 56 };
const ENTRY = { magic: 0x02014b50, bytes: 46 };
const LOCAL = { magic: 0x04034b50, bytes: 30 };
/** The tag of an entry's field with sizes of 64 bits. */
const ZIP64 = 1;
const IN_ZIP64 = 0xffffffff;

/** A checkpoint has one entry a tensor, a few thousand, of some hundred bytes in the directory. */
const MOST_ENTRIES = 100_000;
const LONGEST_DIRECTORY = 32 * 2 ** 20;

interface Entry {
  readonly method: number;
  readonly flags: number;
  readonly bytes: number;
  /** The place of its local header. */
  readonly header: number;
}

/** A run of bytes in the archive. */
export interface StoredFile {
  readonly start: number;
  readonly bytes: number;
}

export interface ZipArchive {
  names(): Iterable<string>;
  /**
   * The place of an entry's content; undefined if there is none of that name.
   * @throws WeightsError if it is not stored as it is, or does not lie in the archive
   */
  stored(name: string): Promise<StoredFile | undefined>;
}

/**
 * Reads an archive's directory.
 * @param file its name in messages
 * @throws WeightsError "weights-format" if it is no sound archive
 */
export async function openZip(handle: OpenFile, file: string): Promise<ZipArchive> {
  const broken = (reason: string, cause?: unknown) => new WeightsError("weights-format", reason, { file, cause });
  const bytesAt = async (position: number, length: number): Promise<DataView> => {
    if (!(position >= 0 && position + length <= handle.bytes))
      throw broken(`is a zip archive whose directory points to byte ${position}, beyond its ${handle.bytes} bytes`);
    const bytes = new Uint8Array(length);
    await readExactly(handle, bytes, position, file);
    return new DataView(bytes.buffer);
  };
  const directory = await findDirectory(handle, bytesAt, broken);
  const entries = readEntries(await bytesAt(directory.start, directory.bytes), directory.entries, broken);
  return {
    names: () => entries.keys(),
    async stored(name) {
      const entry = entries.get(name);
      if (entry === undefined) return undefined;
      const shown = `is a zip archive whose entry ${quoted(name)}`;
      if (entry.flags & 1) throw broken(`${shown} is encrypted`);
      if (entry.method !== 0)
        throw broken(`${shown} is compressed, which PyTorch never does; unpack it, and save it anew with torch.save`);
      const local = await bytesAt(entry.header, LOCAL.bytes);
      if (local.getUint32(0, true) !== LOCAL.magic) throw broken(`${shown} is not where the directory has it`);
      const start = entry.header + LOCAL.bytes + local.getUint16(26, true) + local.getUint16(28, true);
      if (start + entry.bytes > handle.bytes) throw broken(`${shown} ends beyond the archive`);
      return { start, bytes: entry.bytes };
    },
  };
}

type BytesAt = (position: number, length: number) => Promise<DataView>;
type Broken = (reason: string) => WeightsError;

interface Directory {
  readonly start: number;
  readonly bytes: number;
  readonly entries: number;
}

async function findDirectory(handle: OpenFile, bytesAt: BytesAt, broken: Broken): Promise<Directory> {
  const tailBytes = Math.min(handle.bytes, END.bytes + END.longestComment);
  if (tailBytes < END.bytes) throw broken("is too short for a zip archive");
  const tailStart = handle.bytes - tailBytes;
  const tail = await bytesAt(tailStart, tailBytes);
  let at = tailBytes - END.bytes;
  while (at >= 0 && tail.getUint32(at, true) !== END.magic) at--;
  if (at < 0) throw broken("is a zip archive without an end; its download was not finished: download it again");
  let found: Directory = {
    entries: tail.getUint16(at + 10, true),
    bytes: tail.getUint32(at + 12, true),
    start: tail.getUint32(at + 16, true),
  };
  const locatorAt = at - END64_LOCATOR.bytes;
  if (locatorAt >= 0 && tail.getUint32(locatorAt, true) === END64_LOCATOR.magic) {
    const end = await bytesAt(sized(tail, locatorAt + 8, broken), END64.bytes);
    if (end.getUint32(0, true) !== END64.magic) throw broken("is a zip archive whose end is damaged");
    found = { entries: sized(end, 32, broken), bytes: sized(end, 40, broken), start: sized(end, 48, broken) };
  }
  if (found.entries > MOST_ENTRIES)
    throw broken(`is a zip archive of ${found.entries} entries, more than the ${MOST_ENTRIES} allowed`);
  if (found.bytes > LONGEST_DIRECTORY)
    throw broken(
      `is a zip archive with a directory of ${found.bytes} bytes, more than the ${LONGEST_DIRECTORY} allowed`,
    );
  return found;
}

function readEntries(view: DataView, count: number, broken: Broken): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const text = new TextDecoder();
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (at + ENTRY.bytes > view.byteLength || view.getUint32(at, true) !== ENTRY.magic)
      throw broken(`is a zip archive whose directory ends after ${index} of ${count} entries`);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [
      number,
      number,
      number,
    ];
    const end = at + ENTRY.bytes + nameBytes + extraBytes + commentBytes;
    if (end > view.byteLength) throw broken(`is a zip archive whose directory ends after ${index} of ${count} entries`);
    const name = text.decode(new Uint8Array(view.buffer, at + ENTRY.bytes, nameBytes));
    const sizes = { bytes: view.getUint32(at + 24, true), header: view.getUint32(at + 42, true) };
    const extra = new DataView(view.buffer, at + ENTRY.bytes + nameBytes, extraBytes);
    if (entries.has(name)) throw broken(`is a zip archive with two entries ${quoted(name)}`);
    entries.set(name, {
      flags: view.getUint16(at + 8, true),
      method: view.getUint16(at + 10, true),
      ...inZip64(sizes, view.getUint32(at + 20, true), extra, broken),
    });
    at = end;
  }
  return entries;
}

/** Sizes of an entry, those that have no room in 32 bits from its further fields: size, compressed size, place. */
function inZip64(
  sizes: { readonly bytes: number; readonly header: number },
  compressed: number,
  extra: DataView,
  broken: Broken,
): { bytes: number; header: number } {
  let { bytes, header } = sizes;
  if (bytes !== IN_ZIP64 && header !== IN_ZIP64) return { bytes, header };
  for (let at = 0; at + 4 <= extra.byteLength; at += 4 + extra.getUint16(at + 2, true)) {
    if (extra.getUint16(at, true) !== ZIP64) continue;
    const end = Math.min(extra.byteLength, at + 4 + extra.getUint16(at + 2, true));
    let field = at + 4;
    const next = (): number => {
      if (field + 8 > end) throw broken("is a zip archive with an entry whose size is missing");
      field += 8;
      return sized(extra, field - 8, broken);
    };
    if (bytes === IN_ZIP64) bytes = next();
    if (compressed === IN_ZIP64) next();
    if (header === IN_ZIP64) header = next();
    return { bytes, header };
  }
  return { bytes, header };
}

function sized(view: DataView, at: number, broken: Broken): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken("is a zip archive with a size that no file has");
  return Number(value);
}
