/**
 * Faults of a model on disk, as one type.
 *
 * A model folder is untrusted input: it came from a stranger. An error says which file, which tensor and why, in words
 * that may be shown to a client: `file` is a name inside the model folder ("unet/model.safetensors"), never a path of
 * this machine, and whatever text came out of the file is quoted and cut short.
 */

import { FileError, type FileErrorCode } from "../platform/model-files.ts";
import { quoted } from "../platform/quoted.ts";

/** Stable, one for each thing a caller might treat differently. */
export type WeightsErrorCode =
  /** A file or folder that must be there is not, or is not of the kind it must be. */
  | "weights-not-found"
  /** The operating system could not read or write. */
  | "weights-io"
  /** The file ends before what its header promises. */
  | "weights-truncated"
  /** The safetensors header is too long, or is not the JSON it must be. */
  | "weights-header"
  /** A tensor's bytes overlap another's, leave a hole, or lie outside of the file. */
  | "weights-offsets"
  /** A shape that is no shape, or does not fit its bytes or the model. */
  | "weights-shape"
  /** An element type that does not exist or does not serve here. */
  | "weights-dtype"
  /** Read after `close()`. */
  | "weights-closed"
  /** A sharded model's index file contradicts itself or its shards. */
  | "weights-index"
  /** Only pickles (`.bin`, `.ckpt`, …) are there. */
  | "weights-pickle"
  /** A file of another format: a pointer of Git LFS, a web page, an archive. */
  | "weights-format"
  /** A path that is no model's folder. */
  | "model-location"
  /** The wished variant ("fp16") is not there. */
  | "weights-variant"
  /** A tensor that holds NaN or infinity. */
  | "weights-not-finite"
  /** Missing, extra or ill-shaped tensors for a model. */
  | "weights-mismatch"
  /** `model_index.json` or a component's config is not what it must be. */
  | "model-config"
  /** A pipeline or component class that this server does not know. */
  | "model-class"
  /** A tensor that is no LoRA tensor, or of a kind of adapter that is not supported. */
  | "lora-format"
  /** A LoRA that changes modules which the model does not have. */
  | "lora-module";

export interface WeightsErrorDetails {
  /** Name inside the model folder, or base name. */
  readonly file?: string;
  readonly tensor?: string;
  readonly cause?: unknown;
}

export class WeightsError extends Error {
  readonly code: WeightsErrorCode;
  readonly file: string | undefined;
  readonly tensor: string | undefined;
  readonly reason: string;

  constructor(code: WeightsErrorCode, reason: string, details: WeightsErrorDetails = {}) {
    const place = [
      details.file === undefined ? undefined : printable(details.file),
      details.tensor === undefined ? undefined : `tensor ${quoted(details.tensor)}`,
    ].filter((part) => part !== undefined);
    super([...place, reason].join(": "), details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "WeightsError";
    this.code = code;
    this.file = details.file;
    this.tensor = details.tensor;
    this.reason = reason;
  }
}

function printable(name: string): string {
  return quoted(name).slice(1, -1);
}

const CODES: Readonly<Record<FileErrorCode, WeightsErrorCode>> = {
  absent: "weights-not-found",
  irregular: "weights-not-found",
  "too-long": "model-config",
  unreadable: "weights-io",
};

/** An error of opening or reading a file as ours. A path in its own message stays in `cause`, for the log. */
export function toWeightsError(error: unknown, file: string): WeightsError {
  if (error instanceof WeightsError) return error;
  if (error instanceof FileError) return new WeightsError(CODES[error.code], error.message, { file, cause: error });
  return new WeightsError("weights-io", "cannot be read", { file, cause: error });
}
