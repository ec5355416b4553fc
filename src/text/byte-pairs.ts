// Byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units") of one word:
// its bytes are joined pair by pair, the pair of the lowest rank first, and of equal ranks the one furthest left.
//
// It is our own because a prompt may be one word of ten thousand letters, or ten thousand words: `@huggingface/tokenizers`
// spells out each pair as JSON to look it up, and takes up to a quarter of a second for such a prompt, in one piece. Here
// pieces are numbers, and it takes a tenth of that. The tests hold it against the library's and against the paper's.

import type { ClipTokenizerFiles } from "./tokenizer-files.ts";

/** The end of a word's last piece. */
const END_OF_WORD = "</w>";

/** Bytes of UTF-8 that one unit of a JavaScript string may take. */
const MOST_BYTES = 3;

/** The byte pairs of a vocabulary. */
export class BytePairs {
  /** Text of each piece: the letters of single bytes, within a word and at its end, and what merges make. */
  readonly #texts: readonly string[];
  /** Pieces of single bytes. */
  readonly #inner: Uint32Array;
  readonly #last: Uint32Array;
  /** Rank by pair, left piece · pieces + right piece. */
  readonly #ranks: ReadonlyMap<number, number>;
  /** The joined piece by rank. */
  readonly #joined: Uint32Array;
  readonly #encoder = new TextEncoder();
  // These fields serve one word after the other: most are short, and new fields would take longer than their use.
  readonly #heap: Heap = new Heap();
  #length = 0;
  #bytes = new Uint8Array(0);
  /** A list of pieces by the place of their first byte; the word's length is its end. */
  #piece = new Uint32Array(0);
  #next = new Uint32Array(0);
  #before = new Int32Array(0);

  constructor({ merges }: Pick<ClipTokenizerFiles, "merges">) {
    const numbers = new Map<string, number>();
    const numberOf = (text: string): number => {
      const number = numbers.get(text) ?? numbers.size;
      numbers.set(text, number);
      return number;
    };
    this.#inner = Uint32Array.from(BYTE_LETTERS, numberOf);
    this.#last = Uint32Array.from(BYTE_LETTERS, (letter) => numberOf(letter + END_OF_WORD));
    const numbered = merges.map(([left, right]) => [numberOf(left), numberOf(right), numberOf(left + right)] as const);
    this.#texts = [...numbers.keys()];
    this.#joined = Uint32Array.from(numbered, ([, , joined]) => joined);
    // A pair that is listed twice has its last rank.
    this.#ranks = new Map(numbered.map(([left, right], rank) => [left * this.#texts.length + right, rank]));
  }

  /** Text by the numbers that `encode` gives; the last piece of a word ends in `</w>`. */
  get texts(): readonly string[] {
    return this.#texts;
  }

  /** Adds the pieces of a word to `into`, by number. */
  encode(word: string, into: number[]): void {
    this.#read(word);
    for (let at = 0; at < this.#length; at++) this.#enter(at);
    for (let entry = this.#heap.pop(); entry !== undefined; entry = this.#heap.pop()) {
      const at = entry % this.#length;
      const rank = (entry - at) / this.#length;
      // Entries of pairs that have changed meanwhile are left behind. A piece that was joined has no next one.
      if (this.#rankAt(at) === rank) this.#join(at, rank);
    }
    for (let at = 0; at < this.#length; at = this.#next[at]!) into.push(this.#piece[at]!);
  }

  #read(word: string): void {
    if (word.length * MOST_BYTES > this.#bytes.length) {
      const room = 2 * word.length * MOST_BYTES;
      this.#bytes = new Uint8Array(room);
      this.#piece = new Uint32Array(room);
      this.#next = new Uint32Array(room);
      this.#before = new Int32Array(room);
    }
    this.#length = this.#encoder.encodeInto(word, this.#bytes).written;
    for (let at = 0; at < this.#length; at++) {
      const pieces = at === this.#length - 1 ? this.#last : this.#inner;
      this.#piece[at] = pieces[this.#bytes[at]!]!;
      this.#next[at] = at + 1;
      this.#before[at] = at - 1;
    }
  }

  /** The rank of the piece at this place joined with the next one. */
  #rankAt(at: number): number | undefined {
    const next = this.#next[at]!;
    if (next >= this.#length) return undefined;
    return this.#ranks.get(this.#piece[at]! * this.#texts.length + this.#piece[next]!);
  }

  /** Has the pair at this place wait for its turn. Rank and place are one number, which is exact in a double. */
  #enter(at: number): void {
    const rank = this.#rankAt(at);
    if (rank !== undefined) this.#heap.push(rank * this.#length + at);
  }

  #join(at: number, rank: number): void {
    const right = this.#next[at]!;
    const next = this.#next[right]!;
    this.#piece[at] = this.#joined[rank]!;
    this.#next[at] = next;
    this.#next[right] = this.#length;
    if (next < this.#length) this.#before[next] = at;
    if (at > 0) this.#enter(this.#before[at]!);
    this.#enter(at);
  }
}

/** The letters that stand for bytes (GPT-2's `bytes_to_unicode`): printable ones for themselves, others from 256 on. */
export const BYTE_LETTERS: readonly string[] = (() => {
  let other = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : other++);
  });
})();

/** A binary heap of numbers, the least first. */
class Heap {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(value);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= value) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const least = heap[0];
    const value = heap.pop();
    if (heap.length === 0 || value === undefined) return least;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= value) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = value;
    return least;
  }
}
