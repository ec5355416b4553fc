/**
 * A peer is a process of its own, kept alive, that is told over its standard input what to prepare and how often
 * to run it (a JSON message a line), and answers on its standard output (lines that begin with `REPLY`).
 *
 * So that one runtime's threads, device and crashes are not another's, and so that a peer in Python is like the others.
 */

import type { NetworkWork } from "../model/networks.ts";
import type { OpCase } from "../ops/cases.ts";

export const REPLY = "@@reply ";

/** A tensor in a file: f32 (ids: i32), little-endian, nothing else. */
export interface TensorFile {
  readonly file: string;
  readonly shape: readonly number[];
}

export interface OpWork {
  readonly kind: "op";
  readonly op: OpCase;
  readonly tensors: Readonly<Record<string, TensorFile>>;
  /** The same operation as ONNX models; a peer that reads ONNX takes the one that it runs fastest. */
  readonly onnx: readonly string[];
  /** How Daguerre stores what it computes with. */
  readonly storage?: StorageChoice;
}

/** `packed` weights are f16 pairs with f32 activations; `half` stores activations as f16 pairs as well. */
export type StorageChoice = "f32" | "packed" | "half";

export type Work = OpWork | NetworkWork;

/** Something that can be run again and again. */
export interface Prepared {
  /** Runs it so many times and waits until the last is done. */
  run(times: number): Promise<void>;
  /** The result of a run in canonical layout. */
  output(): Promise<Float32Array>;
  release(): Promise<void> | void;
  /** A remark, such as the variant of the operation that was taken. */
  readonly note?: string;
}

export interface Peer {
  /** Name, version and device, as the peer itself knows them. */
  readonly description: string;
  prepare(work: Work): Promise<Prepared>;
}

export type Request =
  | { readonly method: "prepare"; readonly work: Work }
  /** Writes the result to a file. */
  | { readonly method: "output"; readonly file: string }
  | { readonly method: "run"; readonly times: number }
  | { readonly method: "release" };

export type Reply =
  | { readonly ready: string }
  | { readonly ok: true; readonly milliseconds?: number; readonly cpuMilliseconds?: number; readonly note?: string }
  | { readonly error: string };
