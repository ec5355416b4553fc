import { toBase64 } from "../platform/base64.ts";

/**
 * A long text of base64, such as a picture in JSON, as the bytes that it stands for. `toString` is the text as it came, so
 * that whoever expects a text gets the very one.
 */
export class Base64Text {
  /** `data:image/png;base64,`, or nothing. */
  readonly head: string;
  readonly bytes: Uint8Array;
  readonly #padded: boolean;

  constructor(head: string, bytes: Uint8Array, padded: boolean) {
    this.head = head;
    this.bytes = bytes;
    this.#padded = padded;
  }

  /** Characters of the text. */
  get length(): number {
    const { byteLength } = this.bytes;
    return this.head.length + (this.#padded ? 4 * Math.ceil(byteLength / 3) : Math.ceil((4 * byteLength) / 3));
  }

  toString(): string {
    const base64 = toBase64(this.bytes);
    return this.head + (this.#padded ? base64 : base64.replace(/=+$/, ""));
  }
}

/** Characters that no field takes but a picture. */
const OVERLONG = 2 ** 20;

/**
 * The value of a field that is no picture. Only a picture may come as base64, and of a text that is longer than any may be the
 * first characters are enough to refuse it: to count all of a body's takes 30 ms.
 */
export function withoutPicture(field: unknown): unknown {
  if (field instanceof Base64Text) return "x".repeat(Math.min(field.length, OVERLONG));
  return typeof field === "string" && field.length > OVERLONG ? field.slice(0, OVERLONG) : field;
}
