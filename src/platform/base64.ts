/** Base64 to bytes and back. The types are stated here, so that whoever imports this needs no types of Node. */
interface Base64 {
  from(text: string, encoding: "base64"): Uint8Array<ArrayBuffer>;
  from(bytes: ArrayBufferLike, byteOffset: number, length: number): { toString(encoding: "base64"): string };
}

const { Buffer } = globalThis as unknown as { readonly Buffer: Base64 };

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Buffer.from(text, "base64");
}

/** Padded. */
export function toBase64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}
