import { describe, expect, it } from "vitest";
import { float16BitsToFloat32, float32ToFloat16Bits } from "../platform/float16.ts";
import { toFloat32 } from "./element-types.ts";

const bytesOf = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

describe("halves", () => {
  it.each([
    [0x0000, 0],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x0400, 2 ** -14],
    [0x03ff, 1023 * 2 ** -24],
    [0x0001, 2 ** -24],
    [0x8001, -(2 ** -24)],
    [0x7c00, Infinity],
    [0xfc00, -Infinity],
    [0x3555, 0.333251953125],
  ])("0x%s is %d", (bits, value) => {
    expect(float16BitsToFloat32(bits)).toBe(value);
    expect(float32ToFloat16Bits(value)).toBe(bits);
  });

  it("keeps the sign of zero", () => {
    expect(Object.is(float16BitsToFloat32(0x8000), -0)).toBe(true);
    expect(float32ToFloat16Bits(-0)).toBe(0x8000);
  });

  it("goes there and back for every half", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = float16BitsToFloat32(bits);
      if (Number.isNaN(value)) expect(float16BitsToFloat32(float32ToFloat16Bits(value))).toBeNaN();
      else if (float32ToFloat16Bits(value) !== bits) expect.fail(`0x${bits.toString(16)} came back changed`);
    }
  });

  it("rounds to the nearest, ties to even, between any two neighbours", () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const [low, high] = [float16BitsToFloat32(bits), float16BitsToFloat32(bits + 1)];
      const middle = (low + high) / 2;
      // The neighbours of the middle among float32: small enough to matter only to the rounding.
      const below = middle * (1 - 2 ** -23);
      const above = middle * (1 + 2 ** -23);
      const even = bits % 2 === 0 ? bits : bits + 1;
      const rounded = [below, middle, above, -middle].map(float32ToFloat16Bits);
      const right = [bits, even, bits + 1, even | 0x8000];
      if (rounded.some((value, i) => value !== right[i]))
        expect.fail(`between 0x${bits.toString(16)} and the next: ${rounded} where ${right} is right`);
    }
  });

  it("overflows to infinity half a step over the largest", () => {
    expect(float32ToFloat16Bits(65519.996)).toBe(0x7bff);
    expect(float32ToFloat16Bits(65520)).toBe(0x7c00);
    expect(float32ToFloat16Bits(-1e30)).toBe(0xfc00);
    expect(float32ToFloat16Bits(1e-30)).toBe(0);
  });
});

describe("toFloat32", () => {
  it("widens each type", () => {
    expect([...toFloat32(bytesOf(Float32Array.of(1.5, -0.1)), "F32")]).toEqual([1.5, Math.fround(-0.1)]);
    expect([...toFloat32(bytesOf(Uint16Array.of(0x3c00, 0x0001, 0xfc00)), "F16")]).toEqual([1, 2 ** -24, -Infinity]);
    expect([...toFloat32(bytesOf(Uint16Array.of(0x3f80, 0xc049, 0x7f80)), "BF16")]).toEqual([1, -3.140625, Infinity]);
  });

  it("reads bytes that are not aligned", () => {
    const shifted = new Uint8Array(9);
    shifted.set(bytesOf(Float32Array.of(7, -8)), 1);
    expect([...toFloat32(shifted.subarray(1), "F32")]).toEqual([7, -8]);
    expect(toFloat32(shifted.subarray(1), "BF16")).toHaveLength(4);
  });

  it("does not share memory with its input", () => {
    const bytes = bytesOf(Float32Array.of(1));
    const values = toFloat32(bytes, "F32");
    bytes.fill(0);
    expect(values[0]).toBe(1);
  });

  it("refuses half an element", () => {
    expect(() => toFloat32(new Uint8Array(6), "F32")).toThrow(RangeError);
    expect(() => toFloat32(new Uint8Array(3), "F16")).toThrow(RangeError);
  });
});
