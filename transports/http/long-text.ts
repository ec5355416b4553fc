/** A long JSON text as it arrives: base64 becomes bytes, anything else a string. See `json-reader.ts`. */
import { StringDecoder } from "node:string_decoder";
import { Base64Text } from "../../src/engine/base64-text.ts";
import { ByteCollector } from "./byte-collector.ts";

const DATA_URI = /^data:[^,\s]{0,100};base64,/;

/** Characters of a text that are kept where nothing but base64 may be long. */
const KEPT_CHARACTERS = 2 ** 20;

export class LongText {
  #kind: "unknown" | "base64" | "text" = "unknown";
  // Base64: the bytes so far, and the characters that do not make three bytes yet.
  #head = "";
  #bytes: ByteCollector;
  #rest = "";
  #padding = 0;
  // Text. Characters that are too many to mean anything are counted and not kept.
  readonly #onlyBase64: boolean;
  #text = "";
  #unkept = 0;
  readonly #decoder = new StringDecoder("utf8");

  /**
   * @param expectedBytes bytes of JSON that are still to come, or a guess: all of it may be this text
   * @param onlyBase64 whether nothing but base64 may be so long: other texts are kept up to a megabyte
   */
  constructor(expectedBytes: number, onlyBase64: boolean) {
    this.#onlyBase64 = onlyBase64;
    this.#bytes = new ByteCollector(Math.ceil(expectedBytes * 0.75));
  }

  /**
   * @param piece a part of the text between its quotes that ends behind a whole escape
   * @throws SyntaxError for what JSON does not allow in a text
   */
  add(piece: Uint8Array): void {
    if (this.#kind === "text" || !this.#addBase64(piece)) this.#addText(piece);
  }

  /** @throws SyntaxError */
  end(piece: Uint8Array): string | Base64Text {
    if (this.#kind !== "base64" || !this.#addBase64(piece)) {
      // A value that ends within its first piece stays a text: it is short; a long prompt of one word is no picture.
      this.#addText(piece);
      return this.#unkept === 0 ? this.#text : "x".repeat(this.#text.length + this.#unkept);
    }
    if (!this.#endBase64()) return this.#restored();
    const padded = this.#padding > 0 || this.#bytes.size % 3 === 0;
    return new Base64Text(this.#head, this.#bytes.bytes(), padded);
  }

  /** False where the text turns out not to be base64. */
  #addBase64(piece: Uint8Array): boolean {
    let text = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).toString("latin1");
    if (text.includes("\\")) text = text.replaceAll("\\/", "/");
    if (this.#kind === "unknown") {
      this.#head = DATA_URI.exec(text.slice(0, 128))?.[0] ?? "";
      text = text.slice(this.#head.length);
    }
    if (this.#head !== "") {
      // Some encoders break lines.
      if (text.includes("\\") || text.includes(" ")) text = text.replace(/\\[nrt]| /g, "");
    } else if (!this.#onlyBase64 && (text.includes("-") || text.includes("_"))) return false;
    const core = text.replace(/={1,2}$/, "");
    if (this.#padding > 0 && core !== "") return false;
    const chars = this.#rest + core;
    const whole = chars.length - (chars.length % 4);
    const rest = chars.slice(whole);
    if (!/^[\w+/]*$/.test(rest)) return false;
    const size = (whole / 4) * 3;
    // Characters that are not base64 are skipped, and fewer bytes come of it.
    const written = this.#bytes.room(size).write(chars.slice(0, whole), this.#bytes.size, "base64");
    if (written !== size) return false;
    this.#bytes.size += written;
    this.#rest = rest;
    this.#padding += text.length - core.length;
    this.#kind = "base64";
    return true;
  }

  /** Decodes the last two or three characters. */
  #endBase64(): boolean {
    const last = Buffer.from(this.#rest, "base64");
    const complete = this.#padding === 0 || (this.#rest.length + this.#padding) % 4 === 0;
    if (!complete || last.toString("base64").replace(/=+$/, "") !== this.#rest) return false;
    this.#bytes.add(last);
    return true;
  }

  /** The value that looked like base64 up to here, as the text that it was. */
  #restored(): string {
    const whole = this.#bytes.room(0).toString("base64", 0, this.#bytes.size);
    return `${this.#head}${whole}${this.#rest}${"=".repeat(this.#padding)}`;
  }

  #addText(piece: Uint8Array): void {
    if (this.#kind === "base64") {
      this.#text = this.#restored();
      this.#bytes = new ByteCollector(0);
    }
    this.#kind = "text";
    if (this.#onlyBase64 && this.#text.length > KEPT_CHARACTERS) {
      this.#unkept += piece.length;
      return;
    }
    this.#text += JSON.parse(`"${this.#decoder.write(Buffer.from(piece))}"`);
  }
}
