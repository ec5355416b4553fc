/**
 * JSON (RFC 8259) of a stranger, as it arrives.
 *
 * Two things are done to the bytes, slice by slice, before `JSON.parse` gets the rest:
 *
 * - *Counting.* Values and levels are bounded (`MESSAGE_BOUNDS`) while the text goes by, so that a text of brackets ends at
 *   the first ones too many and not after ten seconds.
 * - *Cutting out.* Texts of more than 256 bytes do not go through `JSON.parse`. A picture, which is base64 with or without
 *   `data:…;base64,` before it, is decoded as it comes, so that it is in memory once, as bytes; other texts are decoded in
 *   pieces. The rest, the *skeleton*, is at most 4 MiB.
 *
 * The grammar is `JSON.parse`'s business: a text that is not JSON leaves a skeleton that is not.
 */
import { randomBytes } from "node:crypto";
import type { Base64Text } from "../../src/engine/base64-text.ts";
import { LongText } from "./long-text.ts";
import {
  MESSAGE_BOUNDS,
  type MessageBounds,
  MessageError,
  NAME_BYTES,
  nameTooLong,
  tooDeep,
  tooManyValues,
} from "./message.ts";

/** Bytes of a text that stays in the skeleton; a name always does. */
const SHORT = NAME_BYTES;
/** Bytes of a text that are decoded at once. */
const PIECE = 64 * 1024;
/** Bytes of the skeleton, at most. */
const MAX_SKELETON = 4 * 2 ** 20;
/** Bytes of a text that are looked through one by one before the next quote is searched for. */
const STEP = 64;

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const LOWER_U = 0x75;

/** Marks where a text was cut out; nobody outside can write it. */
const MARK = `\0${randomBytes(12).toString("base64url")}:`;
const MARKED = JSON.stringify(MARK);

const notJson = () => new MessageError("The body is not valid JSON");

export interface JsonOptions {
  /**
   * True if pictures, and other base64 of 64 KiB and more, are given as `Base64Text` rather than as text; of other
   * texts of more than a megabyte the length alone is kept then.
   */
  readonly keepBase64?: boolean;
  /** The bounds of the text; left out: `MESSAGE_BOUNDS`. */
  readonly bounds?: Partial<MessageBounds>;
}

export class JsonReader {
  /** Bytes of the whole text, or a guess; pictures are given room by it. */
  readonly #expected: number;
  readonly #keepBase64: boolean;
  readonly #bounds: MessageBounds;
  #read = 0;
  /** Bytes of a byte order mark that the text begins with. */
  #mark = 0;
  #skeleton: Buffer = Buffer.allocUnsafe(1024);
  #length = 0;
  #values = 0;
  #depth = 0;
  /** Within a number, `true`, `false` or `null`. */
  #literal = false;
  /** A space is owed to the skeleton if a literal follows: `1 2` must not become `12`. */
  #spaced = false;

  /** Within a text, and what of it is not decoded yet. */
  #inText = false;
  #text: Buffer = Buffer.allocUnsafe(SHORT);
  #filled = 0;
  /** The byte to come belongs to an escape. */
  #escaped = false;
  /** The text, once it is longer than a short one. */
  #long: LongText | undefined;
  readonly #cut: (string | Base64Text)[] = [];
  /** The text that ended last was cut out: it may not be a name. */
  #lastWasLong = false;

  /** @param expectedBytes bytes of the whole text, or a guess */
  constructor(expectedBytes: number, { keepBase64 = false, bounds }: JsonOptions = {}) {
    this.#expected = expectedBytes;
    this.#keepBase64 = keepBase64;
    this.#bounds = { ...MESSAGE_BOUNDS, ...bounds };
  }

  /**
   * Takes the next bytes.
   * @throws MessageError when there is too much of something
   */
  write(chunk: Uint8Array): void {
    // A Buffer searches as fast as memory is read, another Uint8Array does not.
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let at = this.#passMark(bytes);
    while (at < bytes.length) at = this.#inText ? this.#readText(bytes, at) : this.#readStructure(bytes, at);
  }

  /** @throws MessageError when it is not JSON */
  end(): unknown {
    if (this.#inText || this.#mark % BYTE_ORDER_MARK.length !== 0) throw notJson();
    const cut = this.#keepBase64 ? this.#cut : this.#cut.map(String);
    const replaced = (_: string, field: unknown) =>
      typeof field === "string" && field.startsWith(MARK) ? cut[Number(field.slice(MARK.length))] : field;
    const text = this.#skeleton.toString("utf8", 0, this.#length);
    return inJson(() => JSON.parse(text, cut.length === 0 ? undefined : replaced));
  }

  /** Passes over a byte order mark (RFC 8259, 8.1), in however many chunks it comes; gives the place behind it. */
  #passMark(bytes: Buffer): number {
    if (this.#read === 0 && (bytes[0] === 0xff || bytes[0] === 0xfe)) {
      throw new MessageError("The body must be JSON in UTF-8; this one begins as UTF-16 does");
    }
    let at = 0;
    while (this.#mark === this.#read && at < bytes.length && bytes[at] === BYTE_ORDER_MARK[this.#mark]) {
      this.#mark++;
      this.#read++;
      at++;
    }
    this.#read += bytes.length - at;
    return at;
  }

  #readStructure(chunk: Buffer, start: number): number {
    for (let at = start; at < chunk.length; at++) {
      const byte = chunk[at]!;
      switch (byte) {
        case QUOTE:
          this.#count();
          this.#literal = false;
          this.#spaced = false;
          this.#inText = true;
          return at + 1;
        case 0x7b: // {
        case 0x5b: // [
          this.#count();
          if (++this.#depth > this.#bounds.depth) throw tooDeep(this.#bounds);
          break;
        case 0x7d: // }
        case 0x5d: // ]
          this.#depth--;
          break;
        case 0x2c: // ,
          break;
        case 0x3a: // :
          if (this.#lastWasLong) throw nameTooLong();
          break;
        case SPACE:
        case 0x09:
        case 0x0a:
        case 0x0d:
          this.#spaced ||= this.#literal;
          continue;
        default:
          if (!this.#literal) this.#count();
          else if (this.#spaced) this.#put(SPACE);
          this.#literal = true;
          this.#spaced = false;
          this.#put(byte);
          continue;
      }
      this.#literal = false;
      this.#spaced = false;
      this.#lastWasLong = false;
      this.#put(byte);
    }
    return chunk.length;
  }

  /** Collects a text up to its closing quote. */
  #readText(chunk: Buffer, start: number): number {
    let at = start;
    /** The next quote, once it has been searched for. */
    let quote = -1;
    while (at < chunk.length) {
      // One by one first: most texts are short, and one full of escapes would be searched through again and again.
      let from = at;
      const near = Math.min(chunk.length, at + STEP);
      for (; at < near; at++) {
        const byte = chunk[at]!;
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) {
          this.#collect(chunk, from, at);
          this.#endText();
          return at + 1;
        }
      }
      this.#collect(chunk, from, at);
      if (this.#escaped) continue;
      // Then as far as there is neither a quote nor a backslash.
      from = at;
      if (quote < at) quote = placeOf(chunk, QUOTE, at);
      const backslash = placeOf(chunk, BACKSLASH, at);
      at = Math.min(quote, backslash);
      this.#collect(chunk, from, at);
    }
    return at;
  }

  #collect(chunk: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; ) {
      if (this.#filled === this.#text.length) this.#makeRoom();
      const taken = Math.min(to - at, this.#text.length - this.#filled);
      this.#text.set(chunk.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
    }
  }

  /** The text is longer than what was collected. */
  #makeRoom(): void {
    if (this.#text.length < PIECE) {
      const grown = Buffer.allocUnsafe(PIECE);
      this.#text.copy(grown, 0, 0, this.#filled);
      this.#text = grown;
      return;
    }
    this.#long ??= new LongText(Math.max(this.#expected - this.#read, 0), this.#keepBase64);
    const long = this.#long;
    const end = endOfEscapes(this.#text, this.#filled);
    inJson(() => long.add(this.#text.subarray(0, end)));
    this.#text.copy(this.#text, 0, end, this.#filled);
    this.#filled -= end;
  }

  #endText(): void {
    this.#inText = false;
    const last = this.#text.subarray(0, this.#filled);
    const long = this.#long ?? (this.#filled > SHORT ? new LongText(0, this.#keepBase64) : undefined);
    this.#lastWasLong = long !== undefined;
    if (long === undefined) {
      this.#put(QUOTE);
      this.#putAll(last);
      this.#put(QUOTE);
    } else {
      const index = this.#cut.push(inJson(() => long.end(last))) - 1;
      this.#putAll(Buffer.from(`${MARKED.slice(0, -1)}${index}"`));
    }
    this.#long = undefined;
    this.#filled = 0;
  }

  #count(): void {
    if (++this.#values > this.#bounds.values) throw tooManyValues(this.#bounds);
  }

  #put(byte: number): void {
    if (this.#length === this.#skeleton.length) this.#grow(1);
    this.#skeleton[this.#length++] = byte;
  }

  #putAll(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#skeleton.length) this.#grow(bytes.length);
    this.#skeleton.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #grow(more: number): void {
    if (this.#length + more > MAX_SKELETON) {
      throw new MessageError(`names, numbers and short texts may take ${MAX_SKELETON} bytes together`, 413);
    }
    const grown = Buffer.allocUnsafe(Math.min(MAX_SKELETON, Math.max(2 * this.#skeleton.length, this.#length + more)));
    this.#skeleton.copy(grown, 0, 0, this.#length);
    this.#skeleton = grown;
  }
}

/** Where a byte is found from `start` on; the end where it is not. */
function placeOf(bytes: Buffer, byte: number, start: number): number {
  const at = bytes.indexOf(byte, start);
  return at < 0 ? bytes.length : at;
}

function inJson<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw error instanceof SyntaxError ? notJson() : error;
  }
}

/** The place behind the last whole escape among `length` bytes: the last one may not be complete. */
function endOfEscapes(bytes: Buffer, length: number): number {
  const last = bytes.lastIndexOf(BACKSLASH, length - 1);
  if (last < length - 5) return length;
  let first = last;
  while (first > 0 && bytes[first - 1] === BACKSLASH) first--;
  // In a row of backslashes, each second one is itself escaped.
  if ((last - first) % 2 === 1) return length;
  if (last === length - 1 || bytes[last + 1] === LOWER_U) return last;
  return length;
}
