/**
 * msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md) as realtime sessions speak it: one value a frame.
 *
 * Writing: no msgpackr records, which no other library reads; `undefined` is nil; a bigint is its decimal text; binary data
 * as `Uint8Array` alone, because msgpackr writes other typed arrays wrongly. Reading: a frame is walked before it is decoded, so that nothing
 * is allocated on the word of a length that the frame cannot hold, values are counted (`MESSAGE_BOUNDS`), and nesting ends
 * before the stack does. Binary data are copies, since a view keeps its whole frame, unless they are most of it.
 */
import { Packr, Unpackr } from "msgpackr";
import {
  MESSAGE_BOUNDS,
  type MessageBounds,
  MessageError,
  NAME_BYTES,
  nameTooLong,
  tooDeep,
  tooManyValues,
} from "../http/message.ts";

/** Bytes before a text, at most: its kind and its length. */
const HEAD_BYTES = 5;
/** The extension type of timestamps, the only one that is taken. */
const TIMESTAMP = -1;

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "bigint" });

/** Throws TypeError for binary data that is not a `Uint8Array`. */
export function pack(value: unknown): Uint8Array<ArrayBuffer> {
  // msgpackr's result is a view of a buffer several times as large, which a frame that waits for its client would keep.
  return new Uint8Array(packr.pack(writable(value, MESSAGE_BOUNDS.depth)));
}

/**
 * @param bounds what the frame may hold; left out: `MESSAGE_BOUNDS`
 * @throws MessageError
 */
export function unpack(frame: Uint8Array, bounds?: Partial<MessageBounds>): unknown {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const walk: Walk = { view, values: 0, bounds: { ...MESSAGE_BOUNDS, ...bounds } };
  const end = skip(walk, 0, walk.bounds.depth);
  if (end !== frame.byteLength) throw new MessageError("a frame holds one msgpack value; this one holds more");
  try {
    return withoutFrame(unpackr.unpack(frame), frame.byteLength);
  } catch {
    throw new MessageError("the frame is not valid msgpack");
  }
}

/** The part of its frame that binary data may be views for. */
const MOST = 0.75;

/** The value with its binary data copied out of the frame. */
function withoutFrame(value: unknown, frameBytes: number): unknown {
  if (value instanceof Uint8Array) return value.byteLength < MOST * frameBytes ? Uint8Array.from(value) : value;
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  for (const [name, field] of Object.entries(value)) {
    if (typeof field !== "object" || field === null) continue;
    const own = withoutFrame(field, frameBytes);
    if (own !== field)
      Object.defineProperty(value, name, { value: own, writable: true, enumerable: true, configurable: true });
  }
  return value;
}

/** A frame that is looked through, and the values seen so far. */
interface Walk {
  readonly view: DataView;
  readonly bounds: MessageBounds;
  values: number;
}

/** The offset after the value at `at`. */
function skip(walk: Walk, at: number, depth: number): number {
  const { view, bounds } = walk;
  const size = view.byteLength;
  const need = (offset: number, bytes: number) => {
    if (offset + bytes > size) throw new MessageError("the frame ends in the middle of a value");
    return offset + bytes;
  };
  const items = (offset: number, count: number, map = false) => {
    if (depth === 0) throw tooDeep(bounds);
    // Every item takes a byte at least: a count that the frame cannot hold is a lie.
    need(offset, count);
    walk.values += count;
    if (walk.values > bounds.values) throw tooManyValues(bounds);
    let next = offset;
    for (let index = 0; index < count; index++) {
      const begin = next;
      next = skip(walk, begin, depth - 1);
      if (map && index % 2 === 0 && next - begin > NAME_BYTES + HEAD_BYTES) throw nameTooLong();
    }
    return next;
  };
  const unsigned = (offset: number, bytes: 1 | 2 | 4) => {
    need(offset, bytes);
    return bytes === 1 ? view.getUint8(offset) : bytes === 2 ? view.getUint16(offset) : view.getUint32(offset);
  };
  const extension = (offset: number, bytes: number) => {
    need(offset, 1 + bytes);
    const type = view.getInt8(offset);
    const stamp = type === TIMESTAMP && (bytes === 4 || bytes === 8 || bytes === 12);
    if (!stamp) throw new MessageError(`extension type ${type} is not taken`);
    return offset + 1 + bytes;
  };

  const head = unsigned(at, 1);
  const body = at + 1;
  if (head <= 0x7f || head >= 0xe0) return body;
  if (head <= 0x8f) return items(body, 2 * (head & 0x0f), true);
  if (head <= 0x9f) return items(body, head & 0x0f);
  if (head <= 0xbf) return need(body, head & 0x1f);
  switch (head) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return body;
    case 0xc4:
    case 0xd9:
      return need(body + 1, unsigned(body, 1));
    case 0xc5:
    case 0xda:
      return need(body + 2, unsigned(body, 2));
    case 0xc6:
    case 0xdb:
      return need(body + 4, unsigned(body, 4));
    case 0xc7:
      return extension(body + 1, unsigned(body, 1));
    case 0xc8:
      return extension(body + 2, unsigned(body, 2));
    case 0xc9:
      return extension(body + 4, unsigned(body, 4));
    case 0xcc:
    case 0xd0:
      return need(body, 1);
    case 0xcd:
    case 0xd1:
      return need(body, 2);
    case 0xca:
    case 0xce:
    case 0xd2:
      return need(body, 4);
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return need(body, 8);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
      return extension(body, 2 ** (head - 0xd4));
    case 0xdc:
      return items(body + 2, unsigned(body, 2));
    case 0xdd:
      return items(body + 4, unsigned(body, 4));
    case 0xde:
      return items(body + 2, 2 * unsigned(body, 2), true);
    case 0xdf:
      return items(body + 4, 2 * unsigned(body, 4), true);
    default:
      throw new MessageError("the frame is not valid msgpack");
  }
}

/**
 * The value as it is written. A bigint (a seed beyond 2^53) becomes a decimal text, as in JSON: readers in JavaScript round
 * a 64-bit integer.
 */
function writable(value: unknown, depth: number): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || value instanceof Date) return value;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    throw new TypeError("only Uint8Array can be sent as binary data");
  }
  if (depth === 0) throw new TypeError(`events may be nested ${MESSAGE_BOUNDS.depth} deep`);
  const inside = (item: unknown) => writable(item, depth - 1);
  if (Array.isArray(value)) return value.map(inside);
  if (value instanceof Map) return new Map([...value].map(([name, field]) => [inside(name), inside(field)]));
  if (value instanceof Set) return new Set([...value].map(inside));
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, inside(field)]));
}
