/**
 * The user comment of EXIF in a JPEG or a WebP, where the web UI and others put a picture's settings.
 *
 * Formats: CIPA DC-008 (EXIF 2.32), 4.6.5 and tag 37510; RFC 9649 (WebP), 2.7. The bytes that are read are anybody's: nothing
 * is thrown, and no more than one block of 64 KiB is looked through.
 */

/** Bytes of a block: a JPEG's segment holds no more. */
const MAX_BLOCK = 65_000;
/** The beginning of a JPEG's segment. */
const HEAD = "Exif\0\0";
const EXIF_IFD = 0x8769;
const USER_COMMENT = 0x9286;
const LONG = 4;
const UNDEFINED = 7;
/** Segments and chunks that are looked at. */
const MAX_PARTS = 256;
const MAX_ENTRIES = 256;

/** The comment; undefined if there is none. */
export function exifComment(bytes: Uint8Array): string | undefined {
  const block = exifBlock(bytes)?.subarray(0, MAX_BLOCK);
  if (block === undefined) return undefined;
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const isLittle = startsWith(block, "II");
  if ((!isLittle && !startsWith(block, "MM")) || block.length < 8) return undefined;
  const inner = entryOf(view, view.getUint32(4, isLittle), EXIF_IFD, isLittle);
  const comment = inner && entryOf(view, inner.value, USER_COMMENT, isLittle);
  if (comment === undefined || comment.count < 8) return undefined;
  return decoded(block.subarray(comment.value, comment.value + comment.count), isLittle);
}

function entryOf(view: DataView, at: number, tag: number, isLittle: boolean) {
  if (at + 2 > view.byteLength) return undefined;
  const count = Math.min(view.getUint16(at, isLittle), MAX_ENTRIES);
  for (let place = at + 2; place < at + 2 + count * 12 && place + 12 <= view.byteLength; place += 12) {
    if (view.getUint16(place, isLittle) !== tag) continue;
    return { count: view.getUint32(place + 4, isLittle), value: view.getUint32(place + 8, isLittle) };
  }
  return undefined;
}

/** A comment begins with eight bytes that name its characters. */
function decoded(comment: Uint8Array, isLittle: boolean): string {
  const text = comment.subarray(8);
  if (!startsWith(comment, "UNICODE")) return new TextDecoder().decode(text).replace(/\0+$/, "");
  // Some write UTF-16 in the order of the block, others always the big end first: of most texts, that has the zeros first.
  const zeros = [0, 0];
  for (let at = 0; at < text.length; at++) if (text[at] === 0) zeros[at % 2]!++;
  const order = zeros[0] === zeros[1] ? isLittle : zeros[1]! > zeros[0]!;
  return new TextDecoder(order ? "utf-16le" : "utf-16be").decode(text).replace(/\0+$/, "");
}

/** The block of EXIF, from its byte order on. */
function exifBlock(bytes: Uint8Array): Uint8Array | undefined {
  if (isWebp(bytes)) {
    const data = [...webpChunks(bytes)].find(({ type }) => type === "EXIF")?.data;
    // libvips keeps the head of a JPEG's segment.
    return data && startsWith(data, HEAD) ? data.subarray(HEAD.length) : data;
  }
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return undefined;
  let at = 2;
  for (let count = 0; count < MAX_PARTS && bytes[at] === 0xff; count++) {
    const length = (bytes[at + 2]! << 8) | bytes[at + 3]!;
    const data = bytes.subarray(at + 4, at + 2 + length);
    if (bytes[at + 1] === 0xe1 && startsWith(data, HEAD)) return data.subarray(HEAD.length);
    // Pixels begin.
    if (bytes[at + 1] === 0xda) return undefined;
    at += 2 + length;
  }
  return undefined;
}

/** A JPEG or a WebP with a comment; the rest of a text that is too long is cut off. */
export function withExifComment(bytes: Uint8Array, text: string, look: WebpLook): Uint8Array {
  const block = blockOf(text);
  if (isWebp(bytes)) return webpWith(bytes, block, look);
  const head = new Uint8Array([0xff, 0xe1, 0, 0, ...new TextEncoder().encode(HEAD)]);
  // The length counts itself, not the marker.
  new DataView(head.buffer).setUint16(2, head.length - 2 + block.length);
  return joined([bytes.subarray(0, 2), head, block, bytes.subarray(2)]);
}

/** A directory with one entry, the directory of EXIF with one entry, and the comment. */
function blockOf(text: string): Uint8Array {
  const clean = text.slice(0, (MAX_BLOCK - 64) / 2);
  const [outer, inner, comment] = [8, 26, 44];
  const view = new DataView(new ArrayBuffer(comment + 8 + clean.length * 2));
  const entry = (at: number, tag: number, type: number, count: number, value: number) => {
    view.setUint16(at, 1);
    view.setUint16(at + 2, tag);
    view.setUint16(at + 4, type);
    view.setUint32(at + 6, count);
    view.setUint32(at + 10, value);
  };
  view.setUint32(0, 0x4d4d002a);
  view.setUint32(4, outer);
  entry(outer, EXIF_IFD, LONG, 1, inner);
  entry(inner, USER_COMMENT, UNDEFINED, 8 + clean.length * 2, comment);
  new TextEncoder().encodeInto("UNICODE\0", new Uint8Array(view.buffer, comment, 8));
  for (let at = 0; at < clean.length; at++) view.setUint16(comment + 8 + at * 2, clean.charCodeAt(at));
  return new Uint8Array(view.buffer);
}

/** The facts that the head of an extended WebP repeats. */
export interface WebpLook {
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly hasAlpha: boolean;
}

const HAS_EXIF = 0x08;
const HAS_ALPHA = 0x10;

function webpWith(bytes: Uint8Array, block: Uint8Array, { width, height, hasAlpha }: WebpLook): Uint8Array {
  const chunks = [...webpChunks(bytes)].filter(({ type }) => type !== "EXIF");
  let head = chunks.find(({ type }) => type === "VP8X")?.data.slice();
  if (head === undefined) {
    head = new Uint8Array(10);
    if (hasAlpha) head[0] = HAS_ALPHA;
    // Three bytes each, from the fifth on.
    for (const [place, side] of [width - 1, height - 1].entries()) {
      head.set([side & 255, (side >> 8) & 255, side >> 16], 4 + place * 3);
    }
  }
  head[0]! |= HAS_EXIF;
  const rest = chunks.filter(({ type }) => type !== "VP8X");
  const all = [{ type: "VP8X", data: head }, ...rest, { type: "EXIF", data: block }].map(webpChunk);
  const size = all.reduce((sum, { length }) => sum + length, 4);
  const riff = joined([new TextEncoder().encode("RIFF\0\0\0\0WEBP"), ...all]);
  new DataView(riff.buffer).setUint32(4, size, true);
  return riff;
}

function isWebp(bytes: Uint8Array): boolean {
  return startsWith(bytes, "RIFF") && startsWith(bytes.subarray(8), "WEBP");
}

interface WebpChunk {
  readonly type: string;
  readonly data: Uint8Array;
}

function* webpChunks(bytes: Uint8Array): Generator<WebpChunk> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 12;
  for (let count = 0; count < MAX_PARTS && at + 8 <= bytes.length; count++) {
    const length = view.getUint32(at + 4, true);
    const type = String.fromCharCode(...bytes.subarray(at, at + 4));
    yield { type, data: bytes.subarray(at + 8, at + 8 + length) };
    at += 8 + length + (length % 2);
  }
}

function webpChunk({ type, data }: WebpChunk): Uint8Array {
  const chunk = new Uint8Array(8 + data.length + (data.length % 2));
  new TextEncoder().encodeInto(type, chunk);
  new DataView(chunk.buffer).setUint32(4, data.length, true);
  chunk.set(data, 8);
  return chunk;
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  for (let at = 0; at < text.length; at++) if (bytes[at] !== text.charCodeAt(at)) return false;
  return true;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
