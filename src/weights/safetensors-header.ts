/**
 * The header of a safetensors file: JSON that names each tensor's type, shape and place.
 *
 *     u64 n (little-endian) | n bytes of JSON | data
 *     {"__metadata__": {"format": "pt"}, "conv_in.weight": {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 23040]}}
 *
 * Rules are those of the reference implementation (huggingface/safetensors, `tensor.rs`, `Metadata::validate`): tensors
 * sorted by place follow each other without hole or overlap and end with the file; the bytes of each are exactly its
 * shape's. Two more, because the file may be hostile: names may not repeat (the format says so; the reference lets the
 * last one win), and the JSON may not hold many times the values of any model, which would take gigabytes of heap and
 * seconds of time before any of them is looked at.
 */

import { quoted } from "../platform/quoted.ts";
import { ELEMENT_BYTES, type ElementType, isElementType } from "./element-types.ts";
import { WeightsError } from "./errors.ts";

/** `MAX_HEADER_SIZE` of the reference implementation. */
export const LONGEST_HEADER = 100_000_000;

/** A tensor needs some ten values; the largest models have a few thousand tensors a file. */
const MOST_VALUES = 500_000;

/** NumPy's own limit. */
const MOST_DIMENSIONS = 64;

export interface TensorPlace {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Bytes from the beginning of the data, which follows the header. */
  readonly start: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** Ordered by place in the file. */
  readonly tensors: readonly TensorPlace[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Parses and checks a header, in pieces, all but `JSON.parse` itself: a LoRA file is opened while others are served.
 * @param bytes the JSON, without its length.
 * @param dataBytes bytes of the file after the header.
 * @param file name for messages.
 * @throws WeightsError for anything the format does not allow.
 */
export function* parseHeader(
  bytes: Uint8Array,
  dataBytes: number,
  file: string,
): Generator<void, SafetensorsHeader, void> {
  const metadata = new Map<string, string>();
  const tensors: TensorPlace[] = [];
  for (const [name, value] of Object.entries(yield* parseJson(bytes, file))) {
    if (tensors.length % 256 === 255) yield;
    if (name !== "__metadata__") {
      tensors.push(readPlace(name, value, file));
    } else if (value !== null) {
      if (!isRecord(value) || !Object.values(value).every((text) => typeof text === "string"))
        throw new WeightsError("weights-header", "__metadata__ must map names to text", { file });
      for (const [key, text] of Object.entries(value)) metadata.set(key, text as string);
    }
  }
  tensors.sort((a, b) => a.start - b.start || a.byteLength - b.byteLength);
  checkPlaces(tensors, dataBytes, file);
  return { tensors, metadata };
}

function* parseJson(bytes: Uint8Array, file: string): Generator<void, Record<string, unknown>, void> {
  const broken = (reason: string, cause?: unknown) => new WeightsError("weights-header", reason, { file, cause });
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw broken("the header is not UTF-8", cause);
  }
  yield* scan(text, broken);
  yield;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw broken("the header is not JSON", cause);
  }
  if (!isRecord(value)) throw broken("the header is not a JSON object");
  yield;
  return value;
}

/** Two checks that `JSON.parse` cannot make: the amount, before it is built, and names that repeat within an object. */
function* scan(text: string, broken: (reason: string) => WeightsError): Generator<void, void, void> {
  const open: (Set<string> | undefined)[] = [];
  let values = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "{" || char === "[" || char === ",") {
      if (++values > MOST_VALUES) throw broken(`the header holds more than ${MOST_VALUES} values`);
      if (values % 1024 === 0) yield;
      if (char !== ",") open.push(char === "{" ? new Set() : undefined);
    } else if (char === "}" || char === "]") {
      open.pop();
    } else if (char === '"') {
      const end = endOfString(text, i);
      if (end === -1) throw broken("the header is not JSON: a string does not end");
      const names = open.at(-1);
      if (names !== undefined && nextVisible(text, end + 1) === ":") {
        const name = unescaped(text.slice(i, end + 1));
        if (names.has(name)) throw broken(`the name ${quoted(name)} occurs twice`);
        names.add(name);
      }
      i = end;
    }
  }
}

function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let first = end;
    while (text[first - 1] === "\\") first--;
    if ((end - first) % 2 === 0) return end;
  }
  return -1;
}

function nextVisible(text: string, from: number): string | undefined {
  let i = from;
  while (text[i] === " " || text[i] === "\n" || text[i] === "\r" || text[i] === "\t") i++;
  return text[i];
}

function unescaped(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    // Not JSON; parsing the whole will say so.
    return literal;
  }
}

function readPlace(name: string, value: unknown, file: string): TensorPlace {
  const details = { file, tensor: name };
  if (!isRecord(value)) throw new WeightsError("weights-header", "its entry in the header is not an object", details);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string") throw new WeightsError("weights-header", "has no dtype", details);
  if (!isElementType(dtype)) throw new WeightsError("weights-dtype", `unknown dtype ${quoted(dtype)}`, details);
  if (!Array.isArray(shape)) throw new WeightsError("weights-header", "has no shape", details);
  if (shape.length > MOST_DIMENSIONS)
    throw new WeightsError("weights-shape", `has ${shape.length} dimensions, more than ${MOST_DIMENSIONS}`, details);
  if (!shape.every(isCount))
    throw new WeightsError("weights-shape", "a dimension is not a whole number of 0 to 2^53 - 1", details);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw new WeightsError("weights-offsets", "data_offsets is not a pair of whole numbers of 0 to 2^53 - 1", details);
  const [start, end] = offsets as [number, number];
  if (end < start) throw new WeightsError("weights-offsets", `data_offsets end (${end}) before they start`, details);
  let bytes = ELEMENT_BYTES[dtype] as number;
  for (const size of shape as number[]) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes))
      throw new WeightsError("weights-shape", "the product of the shape overflows", details);
  }
  if (end - start !== bytes)
    throw new WeightsError(
      "weights-shape",
      `has ${end - start} bytes where ${dtype} [${shape.slice(0, 8).join(", ")}] takes ${bytes}`,
      details,
    );
  return { name, type: dtype, shape: shape as number[], start, byteLength: bytes };
}

function checkPlaces(tensors: readonly TensorPlace[], dataBytes: number, file: string): void {
  let end = 0;
  for (const { name: tensor, start, byteLength } of tensors) {
    const details = { file, tensor };
    if (start + byteLength > dataBytes)
      throw new WeightsError(
        "weights-truncated",
        `lies at bytes ${start} to ${start + byteLength} of the data, and the file has ${dataBytes}`,
        details,
      );
    if (start < end)
      throw new WeightsError("weights-offsets", `overlaps the tensor before it, at byte ${start}`, details);
    if (start > end)
      throw new WeightsError("weights-offsets", `bytes ${end} to ${start}, before it, belong to no tensor`, details);
    end = start + byteLength;
  }
  if (end !== dataBytes)
    throw new WeightsError("weights-offsets", `the last ${dataBytes - end} bytes belong to no tensor`, { file });
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
