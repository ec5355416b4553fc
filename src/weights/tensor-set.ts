/**
 * Named tensors on disk: what models are loaded from, whether they lie in one file or in many.
 */
import type { ElementType } from "./element-types.ts";

export interface TensorEntry {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Name of the file within the model folder, for messages. */
  readonly file: string;
  /**
   * Fills `into` with the tensor's bytes from `byteOffset` (0 where not given) on.
   * @throws RangeError where that is not within the tensor; WeightsError where the file cannot be read.
   */
  read(into: Uint8Array, byteOffset?: number): Promise<void>;
}

export interface TensorSet {
  /** The set's name in messages: a file's or an index file's name within the model folder. */
  readonly source: string;
  /** Bytes of all tensors together. */
  readonly totalBytes: number;
  /** In the order in which they lie on disk, so that reading them in turn reads straight through. */
  names(): Iterable<string>;
  get(name: string): TensorEntry | undefined;
  /** Closes the files. Entries can no longer be read. */
  close(): Promise<void>;
}
