/** The codec of frames: whatever goes in comes out, in whatever chunks it travels; other bytes are a `FrameError`. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { encodeFrame, FrameError, FrameReader, PART_BYTES } from "./frames.ts";

const bytesOf = (value: unknown) => Buffer.concat(encodeFrame(value));

/** Reads bytes in chunks of the sizes given, over and over. */
function read(bytes: Uint8Array, sizes: readonly number[] = [bytes.byteLength], maxBytes?: number): unknown[] {
  const reader = new FrameReader(maxBytes);
  const values: unknown[] = [];
  for (let at = 0, turn = 0; at < bytes.byteLength; turn++) {
    const size = sizes[turn % sizes.length]!;
    values.push(...reader.push(bytes.subarray(at, at + size)));
    at += size;
  }
  expect(reader.isInFrame).toBe(false);
  return values;
}

const big = (fill: number) => new Uint8Array(PART_BYTES).fill(fill);
const VALUES: readonly unknown[] = [
  undefined,
  null,
  -0,
  Number.NaN,
  2n ** 80n,
  "ü🙂\ud800",
  new Date(7),
  new Map<unknown, unknown>([[{ a: 1 }, new Set([1, "x"])]]),
  Object.assign(new Array(3), { 0: 1, 2: 3 }),
  { a: undefined, ["__proto__"]: 1 },
  new Float32Array([1.5, Number.NaN]),
  new Float64Array(PART_BYTES).fill(0.1),
  new BigInt64Array([-1n]),
  new Uint8ClampedArray(PART_BYTES),
  new DataView(new ArrayBuffer(3)),
  new ArrayBuffer(5),
  [big(1), new Uint8Array(0), big(2)],
];

it("every value that can be cloned comes out as it went in, in chunks of any size", () => {
  const bytes = Buffer.concat(VALUES.map(bytesOf));
  for (const sizes of [[bytes.byteLength], [1000, 7], [65_536]]) expect(read(bytes, sizes)).toEqual(VALUES);
  const few = VALUES.slice(0, 11);
  expect(read(Buffer.concat(few.map(bytesOf)), [1])).toEqual(few);
});

it("more large parts than a frame has room for", () => {
  const parts = Array.from({ length: 300 }, (_, index) => big(index));
  const [arrived] = read(bytesOf(parts), [65_536]) as [Uint8Array[]];
  expect(arrived.map((part, index) => Buffer.compare(part, parts[index]!))).toEqual(parts.map(() => 0));
});

it("values of any structure (seeded)", () => {
  const value = fc.anything({ withBigInt: true, withDate: true, withMap: true, withSet: true, withTypedArray: true });
  fc.assert(
    fc.property(value, fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 }), (one, sizes) => {
      expect(read(bytesOf(one), sizes)).toEqual([structuredClone(one)]);
    }),
    { seed: 1, numRuns: 300 },
  );
});

it("of a view its own bytes alone are sent, large ones without a copy, and each arrives in memory of its own", () => {
  const whole = new Uint8Array(2 ** 20).fill(7);
  const view = whole.subarray(3, 3 + PART_BYTES);
  const pieces = encodeFrame({ view });
  expect(pieces.at(-1)!.buffer).toBe(whole.buffer);
  expect(pieces.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThan(PART_BYTES + 200);
  const [{ view: arrived }] = read(Buffer.concat(pieces)) as [{ view: Uint8Array }];
  expect(arrived.buffer.byteLength).toBe(PART_BYTES);
  // A Buffer is a view of a pool.
  const [buffer] = read(bytesOf(Buffer.from("words"))) as [Uint8Array];
  expect([buffer.constructor, buffer.buffer.byteLength]).toEqual([Uint8Array, 5]);
});

it.each([
  ["a function", () => () => {}],
  ["a symbol", () => Symbol("x")],
  ["a promise", () => ({ deep: [Promise.resolve()] })],
  ["shared memory", () => new SharedArrayBuffer(8)],
  ["nesting without end", () => Array.from({ length: 1e5 }).reduce((inside) => [inside], 0)],
])("%s is refused before a byte is written", (_, make) => {
  expect(() => encodeFrame(make())).toThrow(/could not be cloned|call stack/);
});

const header = (parts: number, headBytes: number, ...sizes: number[]) => {
  const bytes = Buffer.alloc(8 + 4 * sizes.length);
  bytes.set([0x44, 0x47, 1, parts]);
  bytes.writeUInt32LE(headBytes, 4);
  for (const [index, size] of sizes.entries()) bytes.writeUInt32LE(size, 8 + 4 * index);
  return bytes;
};

it.each([
  ["other bytes", Buffer.from("GET / HTTP/1.1\r\n"), /no frame/],
  ["another version", Buffer.from([0x44, 0x47, 2, 0, 0, 0, 0, 0]), /version 2/],
  ["a head that is too long", header(0, 2 ** 32 - 1), /4294967295 bytes; at most 1000000/],
  ["parts that are too long together", header(2, 10, 600_000, 600_000), /1200010 bytes/],
  ["a head that is empty", header(0, 0), /no value/],
  ["a part that nobody names", Buffer.concat([header(1, 3, 1), Buffer.from([0xff, 0x0f, 0x30, 1])]), /does not name/],
])("%s: a FrameError, and nothing is allocated for it", (_, bytes, message) => {
  const before = process.memoryUsage().arrayBuffers;
  expect(() => read(bytes, undefined, 1_000_000)).toThrow(message);
  expect(() => read(bytes, undefined, 1_000_000)).toThrow(FrameError);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(3_000_000);
});

it("8,000 damaged frames: a value or a FrameError, and little memory (seeded)", () => {
  const whole = VALUES.slice(0, 11).map(bytesOf);
  let state = 1;
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let errors = 0;
  const before = process.memoryUsage().rss;
  for (let turn = 0; turn < 8_000; turn++) {
    const bytes = Buffer.from(whole[random(whole.length)]!);
    // Mostly in what the decoder looks at; sometimes it is cut.
    for (let count = 1 + random(3); count > 0; count--) bytes[random(Math.min(bytes.byteLength, 64))] = random(256);
    const cut = random(4) === 0 ? bytes.subarray(0, random(bytes.byteLength)) : bytes;
    try {
      for (const _ of new FrameReader(1_000_000).push(cut));
    } catch (error) {
      expect(error).toBeInstanceOf(FrameError);
      errors++;
    }
  }
  expect(errors).toBeGreaterThan(2_500);
  expect(process.memoryUsage().rss - before).toBeLessThan(300e6);
});
