/**
 * Named tensors on disk: what models are loaded from, whether they lie in one file or in many.
 */
import type { ElementType } from "./element-types.ts";

export interface TensorEntry {
  readonly name: string;
  readonly dtype: ElementType;
  /** The type in the file, if it is another than the one that `read` gives: `F8_E4M3`, `Q4_K`. */
  readonly storedAs?: string;
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

/** Sets of different names as one, which closes all of them. */
export function joinedSets(sets: readonly TensorSet[]): TensorSet {
  return {
    source: sets.map(({ source }) => source).join(" and "),
    totalBytes: sets.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
    names: () => sets.flatMap((set) => [...set.names()]),
    get: (name) => sets.map((set) => set.get(name)).find((entry) => entry !== undefined),
    close: async () => void (await Promise.all(sets.map((set) => set.close()))),
  };
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
