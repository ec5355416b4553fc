/**
 * Texts in a PNG: `tEXt`, `zTXt` and `iTXt` chunks (https://www.w3.org/TR/png-3/, 11.3.3).
 *
 * The bytes are anybody's: chunks, texts and what they unpack to are bounded, and nothing is thrown.
 */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Chunks that are looked at: pictures of cameras have some hundreds. */
const MAX_CHUNKS = 4096;
/** Texts that are read, and their bytes together, unpacked. */
const MAX_TEXTS = 64;
const MAX_BYTES = 1024 * 1024;
/** Bytes of a keyword (PNG's own bound). */
const MAX_KEYWORD = 79;

interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
}

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, place) => bytes[place] === byte);
}

/** Bytes that may still be read; also those of a text that turns out to be too long, since to unpack it takes as long. */
interface Room {
  left: number;
}

/** The texts by their keywords; of two with the same keyword the first. Compressed ones that are damaged are left out. */
export async function pngTexts(bytes: Uint8Array): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>();
  const room: Room = { left: MAX_BYTES };
  let count = 0;
  for (const chunk of textChunks(bytes)) {
    if (++count > MAX_TEXTS || room.left <= 0) break;
    const { keyword, text } = (await readText(chunk, room)) ?? {};
    if (keyword !== undefined && text !== undefined && !texts.has(keyword)) texts.set(keyword, text);
  }
  return texts;
}

function* textChunks(bytes: Uint8Array): Generator<Chunk> {
  if (!isPng(bytes)) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = SIGNATURE.length;
  for (let count = 0; count < MAX_CHUNKS && at + 12 <= bytes.length; count++) {
    const length = view.getUint32(at);
    const type = latin1(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IEND" || data.length < length) return;
    if (type === "tEXt" || type === "zTXt" || type === "iTXt") yield { type, data };
    at += 12 + length;
  }
}

async function readText({ type, data }: Chunk, room: Room) {
  const end = data.subarray(0, MAX_KEYWORD + 1).indexOf(0);
  if (end < 1) return undefined;
  const keyword = latin1(data.subarray(0, end));
  if (type === "tEXt") return { keyword, text: latin1(cut(data.subarray(end + 1), room)) };
  if (type === "zTXt") {
    // The method is a byte, and there is one method.
    const text = await inflated(data.subarray(end + 2), room);
    return { keyword, text: text && latin1(text) };
  }
  const isCompressed = data[end + 1] === 1;
  // Behind them, each with a zero at its end: the language, and the keyword in it.
  const language = data.indexOf(0, end + 3);
  const translated = language < 0 ? -1 : data.indexOf(0, language + 1);
  if (translated < 0) return undefined;
  const rest = data.subarray(translated + 1);
  const text = isCompressed ? await inflated(rest, room) : cut(rest, room);
  return { keyword, text: text && new TextDecoder().decode(text) };
}

/** The bytes for which there is room. */
function cut(bytes: Uint8Array, room: Room): Uint8Array {
  const part = bytes.subarray(0, room.left);
  room.left -= part.length;
  return part;
}

/** The bytes that a zlib stream unpacks to; undefined if there is no room for them, or it is damaged. */
async function inflated(bytes: Uint8Array, room: Room): Promise<Uint8Array | undefined> {
  const reader = new Blob([new Uint8Array(bytes)]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const parts: Uint8Array[] = [];
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      room.left -= read.value.length;
      if (room.left < 0) {
        await reader.cancel();
        return undefined;
      }
      parts.push(read.value);
    }
  } catch {
    return undefined;
  }
  return new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}

/**
 * A PNG with one more text, before its pixels: `tEXt` where Latin-1 has all of its characters, else `iTXt`, as the web UI does.
 *
 * @param crc32 of PNG: a platform has a fast one
 * @throws RangeError if the bytes are no PNG
 */
export function withPngText(
  bytes: Uint8Array,
  keyword: string,
  text: string,
  crc32: (bytes: Uint8Array) => number,
): Uint8Array {
  if (!isPng(bytes)) throw new RangeError("not a PNG");
  // A zero would end the text.
  const clean = text.replaceAll("\0", "");
  const isLatin1 = [...clean].every((sign) => sign.codePointAt(0)! < 256);
  const head = isLatin1 ? `${keyword}\0` : `${keyword}\0\0\0\0\0`;
  const encoder = new TextEncoder();
  const body = isLatin1 ? Uint8Array.from(clean, (sign) => sign.charCodeAt(0)) : encoder.encode(clean);
  const data = new Uint8Array([...encoder.encode((isLatin1 ? "tEXt" : "iTXt") + head), ...body]);
  const chunk = new Uint8Array(data.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length - 4);
  chunk.set(data, 4);
  view.setUint32(chunk.length - 4, crc32(data));
  // Behind IHDR, which is always the first and has 13 bytes.
  const place = SIGNATURE.length + 12 + 13;
  const whole = new Uint8Array(bytes.length + chunk.length);
  whole.set(bytes.subarray(0, place));
  whole.set(chunk, place);
  whole.set(bytes.subarray(place), place + chunk.length);
  return whole;
}
