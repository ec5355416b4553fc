/** Bytes that values keep in memory. */

/** Bytes of an entry and its event's own fields besides their contents; an estimate. */
export const ENTRY_BYTES = 256;
/** Levels of an event that are counted; a message of a client has no more. */
const COUNTED_DEPTH = 32;
/** Bytes of an object and of a field of it, without the contents: V8's, rounded up. */
const OBJECT_BYTES = 64;
const FIELD_BYTES = 24;

/** Bytes that an event keeps in memory: its binary data and strings, and an estimate for the rest. */
export function bytesOf(event: unknown): number {
  return ENTRY_BYTES + sizeOf(event, COUNTED_DEPTH);
}

function sizeOf(value: unknown, depth: number): number {
  if (typeof value === "string") return value.length * 2;
  if (typeof value !== "object" || value === null) return 8;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength;
  if (depth === 0) return ENTRY_BYTES;
  let sum = OBJECT_BYTES;
  for (const [name, field] of Object.entries(value)) sum += FIELD_BYTES + name.length + sizeOf(field, depth - 1);
  return sum;
}
