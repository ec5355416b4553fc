/** Tensors from the files that a work names. */

import { readFileSync } from "node:fs";
import type { TensorFile } from "./peer.ts";

export function readTensor({ file }: TensorFile): Float32Array {
  const bytes = readFileSync(file);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}
