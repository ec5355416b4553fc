/**
 * The faults of a GPU, as types that a caller can tell apart.
 *
 * WebGPU reports most faults late and elsewhere: a bad dispatch surfaces as an "uncaptured error" event, a dead driver
 * as a resolved promise. `faults.ts` collects them; this file only says what they are. The labels that Dawn prints in its
 * messages (`[ComputePipeline "unet 64x64: mid_block.resnets.0.conv1"]`) are the one thing that leads from such a late
 * message back to the plan and kernel that caused it, so they are read out of the message and kept beside it.
 */

export type GpuErrorCode = "gpu-adapter" | "gpu-validation" | "gpu-out-of-memory" | "gpu-internal" | "gpu-device-lost";

/** A label as Dawn prints it: the kind of object (`ComputePipeline`, `CommandEncoder`, …) and its label. */
export interface ObjectLabel {
  readonly object: string;
  readonly label: string;
}

/** Base of every error of `gpu/`. `code` is stable and safe to show to a client; `message` is for logs. */
export class GpuError extends Error {
  readonly code: GpuErrorCode;
  /** Labels named by the message, in its order, without repeats. Empty where it names none. */
  readonly labels: readonly ObjectLabel[];

  constructor(code: GpuErrorCode, message: string, options: { labels?: readonly ObjectLabel[]; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.labels = options.labels ?? labelsIn(message);
  }
}

/** No adapter of the wished kind: the message says what was found and what to do. */
export class AdapterError extends GpuError {
  /** Names of the adapters that were found but did not fit. */
  readonly adapterNames: readonly string[];

  constructor(message: string, found: readonly string[] = [], cause?: unknown) {
    super("gpu-adapter", message, { labels: [], cause });
    this.adapterNames = found;
  }
}

/** A call broke WebGPU's rules: a bug in this program, never the user's fault. `labels` name plan and kernel. */
export class GpuValidationError extends GpuError {
  constructor(message: string, options: { labels?: readonly ObjectLabel[]; cause?: unknown } = {}) {
    super("gpu-validation", message, options);
  }
}

/** The device could not give the memory that was asked for. */
export class GpuOutOfMemoryError extends GpuError {
  constructor(message: string, options: { labels?: readonly ObjectLabel[]; cause?: unknown } = {}) {
    super("gpu-out-of-memory", message, options);
  }
}

/** It would have been more than this program was told to use: nothing was allocated. */
export class MemoryLimitError extends GpuOutOfMemoryError {
  /** Bytes that were asked for, and that may be used in all. */
  readonly requestedBytes: number;
  readonly limitBytes: number;

  constructor(message: string, wanted: number, limit: number) {
    super(message, { labels: [] });
    this.requestedBytes = wanted;
    this.limitBytes = limit;
  }
}

/** The driver gave up on something valid, such as a shader it cannot compile. */
export class GpuInternalError extends GpuError {
  constructor(message: string, options: { labels?: readonly ObjectLabel[]; cause?: unknown } = {}) {
    super("gpu-internal", message, options);
  }
}

/** The device is gone. `reason` is "destroyed" where this program destroyed it, "unknown" for a crash, hang or reset. */
export class DeviceLostError extends GpuError {
  readonly reason: "destroyed" | "unknown";

  constructor(reason: "destroyed" | "unknown", message: string, options: { cause?: unknown } = {}) {
    super("gpu-device-lost", message, { labels: [], cause: options.cause });
    this.reason = reason;
  }
}

// `[Buffer "x"]`, `[Invalid ShaderModule "x"]`, `[BufferDescriptor ""x""]` (descriptors are quoted twice) and
// `[CommandBuffer "x" from CommandEncoder "y"]`: a type name, then a quoted label.
const LABEL = /\b([A-Z][A-Za-z]+) (?:""(.*?)""|"(.*?)")(?=\]| from )/g;

// A device's own label says nothing about which kernel failed.
const UNINFORMATIVE = new Set(["Device", "Queue"]);

/** The labels in a message of Dawn's, in its order and without repeats. */
export function labelsIn(message: string): ObjectLabel[] {
  const seen = new Map<string, ObjectLabel>();
  for (const [, type = "", twice, once] of message.matchAll(LABEL)) {
    const object = type.replace(/Descriptor$/, "");
    const label = twice ?? once ?? "";
    if (label === "" || UNINFORMATIVE.has(object)) continue;
    seen.set(`${object}\n${label}`, { object, label });
  }
  return [...seen.values()];
}

function isNamed(error: unknown, name: string): boolean {
  return typeof error === "object" && error !== null && error.constructor.name === name;
}

function messageOf(error: unknown): string {
  const message = (error as { message?: unknown } | null)?.message;
  return (typeof message === "string" && message !== "" ? message : String(error)).trimEnd();
}

/**
 * A WebGPU error (from an event, an error scope or a rejected promise) as one of ours.
 *
 * The name of its class decides, since dawn.node's classes are not globals. `context` names the work ("unet 64x64:
 * mid_block.attn") and becomes a label for the messages in which Dawn names nothing. Errors that are ours already are
 * returned as they are.
 */
export function toGpuError(error: unknown, context?: string): GpuError {
  if (error instanceof GpuError) return error;
  const text = messageOf(error);
  const message = context === undefined ? text : `${context}: ${text}`;
  const named = labelsIn(text);
  const labels =
    context === undefined || named.some((l) => l.label === context)
      ? named
      : [{ object: "Context", label: context }, ...named];
  const options = { labels, cause: error };
  if (isNamed(error, "GPUValidationError")) return new GpuValidationError(message, options);
  if (isNamed(error, "GPUOutOfMemoryError")) return new GpuOutOfMemoryError(message, options);
  if (isNamed(error, "GPUPipelineError")) {
    return (error as { reason?: string }).reason === "validation"
      ? new GpuValidationError(message, options)
      : new GpuInternalError(message, options);
  }
  return new GpuInternalError(message, options);
}
