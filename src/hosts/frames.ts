/**
 * The codec of everything that crosses between processes: one value a frame, of any kind that `structuredClone` takes.
 *
 *     0  "DG"                       2 bytes
 *     2  version                    1 byte, 1
 *     3  number of parts            1 byte
 *     4  bytes of the head          u32, little-endian, as all numbers here
 *     8  bytes of each part         u32 each
 *        head                       the value as V8 writes a structured clone (`v8.Serializer`)
 *        parts                      raw bytes
 *
 * Binary data of `PART_BYTES` and more are parts: they are neither copied nor looked at when a frame is written, and a
 * frame that is read has each in memory of its own, so that a `Float32Array` is aligned. Smaller ones lie in the head. Of
 * a view, its own bytes alone are sent, not the buffer behind it.
 *
 * A thread needs none of this: `postMessage` clones by itself, and takes the same values.
 *
 * Lengths are checked against bounds before anything is allocated for them.
 */
import { Deserializer, Serializer } from "node:v8";

/** Bytes from which binary data are a part: a part costs a system call's entry, a copy of 4 KB costs less. */
export const PART_BYTES = 4096;
const MAGIC = [0x44, 0x47] as const;
const VERSION = 1;
const HEADER_BYTES = 8;
const MAX_PARTS = 255;

/** Bytes of a frame that is read, at most: pictures of 8192² in floats. */
export const MAX_FRAME_BYTES = 2 ** 30;

/** Bytes that came are no frame. There is no way to find the next one, so the connection is over. */
export class FrameError extends Error {
  readonly code = "frame-damaged";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "FrameError";
  }
}

type View = ArrayBufferView<ArrayBuffer>;
type ViewClass = new (buffer: ArrayBuffer, byteOffset: number, length: number) => View;

/** A number on the wire is a place in this list, so it may only grow at its end. */
const VIEWS: readonly (ViewClass & { readonly BYTES_PER_ELEMENT?: number })[] = [
  Uint8Array,
  Int8Array,
  Uint8ClampedArray,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
];

const bytesOf = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** Methods of V8's own that the types of Node leave out. */
interface HostObjects {
  _setTreatArrayBufferViewsAsHostObjects(on: boolean): void;
}

class FrameWriter extends Serializer {
  readonly parts: Uint8Array[] = [];

  constructor() {
    super();
    (this as unknown as HostObjects)._setTreatArrayBufferViewsAsHostObjects(true);
    this.writeHeader();
  }

  /** Called by V8 for each view: which class, how many bytes, and where they are. */
  _writeHostObject(view: unknown): void {
    if (!ArrayBuffer.isView(view)) throw new TypeError(`${Object.prototype.toString.call(view)} could not be cloned.`);
    // A `Buffer` arrives as its parent class.
    const kind = Math.max(0, VIEWS.indexOf(view.constructor as ViewClass));
    const isPart = view.byteLength >= PART_BYTES && this.parts.length < MAX_PARTS;
    this.writeUint32(kind);
    this.writeUint32(view.byteLength);
    this.writeUint32(isPart ? 1 : 0);
    if (isPart) this.parts.push(bytesOf(view));
    else this.writeRawBytes(bytesOf(view));
  }

  _getDataCloneError = TypeError;
}

/**
 * The pieces of a value's frame, in order. Parts are views of the value's own memory: it must not change until they are
 * written.
 * @throws TypeError for a function, a socket, and whatever else cannot be copied
 */
export function encodeFrame(value: unknown): Uint8Array[] {
  const writer = new FrameWriter();
  writer.writeValue(value);
  const head = writer.releaseBuffer();
  const { parts } = writer;
  const header = Buffer.allocUnsafe(HEADER_BYTES + 4 * parts.length);
  header.set([...MAGIC, VERSION, parts.length]);
  header.writeUInt32LE(head.byteLength, 4);
  for (const [index, part] of parts.entries()) header.writeUInt32LE(part.byteLength, HEADER_BYTES + 4 * index);
  return [header, head, ...parts];
}

class FrameValue extends Deserializer {
  readonly #parts: readonly Uint8Array<ArrayBuffer>[];
  #next = 0;

  constructor(head: Uint8Array, parts: readonly Uint8Array<ArrayBuffer>[]) {
    super(head);
    this.#parts = parts;
    this.readHeader();
  }

  _readHostObject(): View {
    const View = VIEWS[this.readUint32()];
    const byteLength = this.readUint32();
    const isPart = this.readUint32() === 1;
    if (View === undefined) throw new FrameError("a frame names a kind of binary data that does not exist");
    const bytes = isPart ? this.#parts[this.#next++] : Uint8Array.from(this.readRawBytes(byteLength));
    if (bytes?.byteLength !== byteLength) throw new FrameError("a frame names a part that it does not have");
    const size = View.BYTES_PER_ELEMENT ?? 1;
    if (byteLength % size !== 0) throw new FrameError("binary data of a frame end in the middle of a number");
    return new View(bytes.buffer, 0, byteLength / size);
  }

  /** The frame has no part that nobody asked for. */
  get isComplete(): boolean {
    return this.#next === this.#parts.length;
  }
}

function decode(head: Uint8Array, parts: readonly Uint8Array<ArrayBuffer>[]): unknown {
  try {
    const reader = new FrameValue(head, parts);
    const value = reader.readValue();
    if (!reader.isComplete) throw new FrameError("a frame has a part that its value does not name");
    return value;
  } catch (error) {
    if (error instanceof FrameError) throw error;
    throw new FrameError("a frame holds no value that can be read", { cause: error });
  }
}

/** Puts frames together from the chunks in which their bytes come. */
export class FrameReader {
  readonly #maxBytes: number;
  /** Sections of the frame under way: its header, its table, its head, its parts. */
  #sections: Uint8Array<ArrayBuffer>[] = [];
  #section = new Uint8Array(HEADER_BYTES);
  /** Bytes of the section that have come. */
  #filled = 0;
  /** Sizes of the sections to come, in order. */
  #sizes: number[] = [];

  constructor(maxBytes = MAX_FRAME_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** True if a frame has begun and is not whole. */
  get isInFrame(): boolean {
    return this.#filled > 0 || this.#sections.length > 0;
  }

  /**
   * The values of the frames that end in this chunk.
   * @throws FrameError for bytes that are no frame; the reader is then of no more use
   */
  *push(chunk: Uint8Array): Generator<unknown, void, undefined> {
    let at = 0;
    while (at < chunk.byteLength || this.#filled === this.#section.byteLength) {
      const piece = chunk.subarray(at, at + this.#section.byteLength - this.#filled);
      this.#section.set(piece, this.#filled);
      this.#filled += piece.byteLength;
      at += piece.byteLength;
      if (this.#filled < this.#section.byteLength) return;
      if (this.#endSection()) yield this.#endFrame();
    }
  }

  /** Begins the next section; true if this was the frame's last one. */
  #endSection(): boolean {
    const section = this.#section;
    this.#sections.push(section);
    if (this.#sections.length === 1) this.#sizes = headerSizes(section, this.#maxBytes);
    else if (this.#sections.length === 2) this.#sizes.push(...partSizes(section, this.#sizes[0]!, this.#maxBytes));
    const next = this.#sizes.shift();
    this.#filled = 0;
    this.#section = new Uint8Array(next ?? HEADER_BYTES);
    return next === undefined;
  }

  #endFrame(): unknown {
    const [, , head, ...parts] = this.#sections;
    this.#sections = [];
    return decode(head!, parts);
  }
}

/** The sizes of the table and of the head. */
function headerSizes(header: Uint8Array<ArrayBuffer>, maxBytes: number): number[] {
  const [first, second, version, parts] = header;
  if (first !== MAGIC[0] || second !== MAGIC[1]) throw new FrameError("these bytes are no frame");
  if (version !== VERSION) throw new FrameError(`a frame of version ${version}; this is version ${VERSION}`);
  const headBytes = new DataView(header.buffer).getUint32(4, true);
  if (headBytes > maxBytes) throw new FrameError(`a frame of ${headBytes} bytes; at most ${maxBytes} are taken`);
  return [4 * parts!, headBytes];
}

function partSizes(table: Uint8Array<ArrayBuffer>, headBytes: number, maxBytes: number): number[] {
  const view = new DataView(table.buffer);
  const sizes = Array.from({ length: table.byteLength / 4 }, (_, index) => view.getUint32(4 * index, true));
  const total = sizes.reduce((sum, size) => sum + size, headBytes);
  if (total > maxBytes) throw new FrameError(`a frame of ${total} bytes; at most ${maxBytes} are taken`);
  return sizes;
}
