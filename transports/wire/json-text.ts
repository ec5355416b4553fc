/**
 * JSON with pictures in it, as bytes for a connection.
 *
 * A picture stays the bytes that it was encoded to. It becomes base64 slice by slice while the answer leaves, so that an
 * answer of a hundred megabytes is neither made at once nor ever in memory as text. All of it is ASCII (`\uXXXX`): fal's
 * client decodes chunk by chunk and spoils a character that falls between two.
 */
import { randomBytes } from "node:crypto";
import { Base64Text } from "../../src/engine/base64-text.ts";

/** Bytes of a picture that become base64 at once; a multiple of three, so that nothing is padded within. */
const SLICE_BYTES = 48 * 1024;
/** Bytes of a text that is made as a whole. */
const SMALL = 64 * 1024;

const MARK = randomBytes(12).toString("hex");
const MARKS = new RegExp(`${MARK}(\\d+);`);

/** JSON of ASCII alone. A bigint (a seed beyond 2^53) becomes a decimal string. */
export function asciiJson(value: unknown): string {
  return ascii(JSON.stringify(value, (_, field) => (typeof field === "bigint" ? field.toString() : field)));
}

function ascii(text: string): string {
  return text.replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export class JsonText {
  /** Text as it goes out, and bytes that go out as base64. */
  readonly #pieces: (string | Uint8Array)[];

  private constructor(pieces: (string | Uint8Array)[]) {
    this.#pieces = pieces;
  }

  /** @param around the text before and after the JSON */
  static of(value: unknown, around: readonly [before: string, after: string] = ["", ""]): JsonText {
    const cut: Base64Text[] = [];
    const text = JSON.stringify(value, (_, field) => {
      if (field instanceof Base64Text) return `${MARK}${cut.push(field) - 1};`;
      return typeof field === "bigint" ? field.toString() : field;
    });
    if (cut.length === 0) return new JsonText([around[0] + ascii(text) + around[1]]);
    // A split by a pattern with a group gives text and index in turns.
    const parts = text.split(MARKS);
    const pieces = parts.flatMap((part, place): (string | Uint8Array)[] => {
      if (place % 2 === 0) return [ascii(part)];
      const { head, bytes } = cut[Number(part)]!;
      return [ascii(head), bytes];
    });
    return new JsonText([around[0], ...pieces, around[1]]);
  }

  /** Bytes that go out. */
  get byteLength(): number {
    return this.#sum((bytes) => 4 * Math.ceil(bytes / 3));
  }

  /** Bytes that it takes in memory. */
  get heldBytes(): number {
    return this.#sum((bytes) => bytes);
  }

  #sum(size: (pictureBytes: number) => number): number {
    return this.#pieces.reduce(
      (sum, piece) => sum + (typeof piece === "string" ? piece.length : size(piece.byteLength)),
      0,
    );
  }

  /** The bytes that go out, in chunks of 64 KiB at most (text of a run's own may be longer). */
  *[Symbol.iterator](): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
    if (this.byteLength <= SMALL) {
      yield this.toBuffer();
      return;
    }
    for (const piece of this.#pieces) {
      if (typeof piece === "string") {
        if (piece !== "") yield Buffer.from(piece, "latin1");
        continue;
      }
      for (let at = 0; at < piece.byteLength; at += SLICE_BYTES) {
        yield Buffer.from(base64(piece.subarray(at, at + SLICE_BYTES)), "latin1");
      }
    }
  }

  toBuffer(): Buffer<ArrayBuffer> {
    return Buffer.from(this.toString(), "latin1");
  }

  toString(): string {
    return this.#pieces.map((piece) => (typeof piece === "string" ? piece : base64(piece))).join("");
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
