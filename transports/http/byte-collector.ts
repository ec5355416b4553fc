/** Bytes that come in pieces, in one buffer that grows. */

const FIRST_ROOM = 64 * 1024;
/** Bytes that must have come before it is believed how many are said to come. */
const BELIEVED = 2 ** 20;

export class ByteCollector {
  /** Bytes that are said to come, or a guess. Room for them is taken at once, so that nothing is copied often. */
  readonly #expected: number;
  #buffer: Buffer = Buffer.alloc(0);
  size = 0;

  constructor(expectedBytes: number) {
    this.#expected = expectedBytes;
  }

  /** A buffer in which `bytes` more fit behind `size`; who writes them adds to `size`. */
  room(bytes: number): Buffer {
    const needed = this.size + bytes;
    if (needed > this.#buffer.length) {
      const guess = needed < BELIEVED ? Math.min(4 * needed, this.#expected) : this.#expected;
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, guess, 2 * this.#buffer.length, FIRST_ROOM));
      this.#buffer.copy(larger, 0, 0, this.size);
      this.#buffer = larger;
    }
    return this.#buffer;
  }

  add(piece: Uint8Array): void {
    this.room(piece.byteLength).set(piece, this.size);
    this.size += piece.byteLength;
  }

  /** All of them. Room that was taken for many more is given back. */
  bytes(): Uint8Array<ArrayBuffer> {
    const all = this.#buffer.subarray(0, this.size) as Buffer<ArrayBuffer>;
    return this.size < 0.75 * this.#buffer.length ? Uint8Array.from(all) : new Uint8Array(all.buffer, 0, this.size);
  }
}
