/** Whole networks that are measured. */

import type { StorageChoice, TensorFile } from "../peers/peer.ts";

export interface NetworkWork {
  readonly kind: "network";
  readonly network: string;
  readonly tensors: Readonly<Record<string, TensorFile>>;
  readonly onnx: readonly string[];
  readonly storage?: StorageChoice;
}
