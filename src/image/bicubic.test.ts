import { expect, test } from "vitest";
import { bicubic } from "./bicubic.ts";

const gradient = (width: number, height: number) =>
  Uint8Array.from({ length: width * height * 3 }, (_, at) => (at * 37 + Math.floor(at / 11) * 5) % 256);

test("a size that stays gives the same bytes, and a picture of one colour keeps it", () => {
  const bytes = gradient(7, 5);
  expect(bicubic(bytes, { width: 7, height: 5 }, { width: 7, height: 5 })).toEqual(bytes);
  const grey = new Uint8Array(9 * 13 * 3).fill(77);
  const resized = bicubic(grey, { width: 9, height: 13 }, { width: 31, height: 4 });
  expect(new Set(resized)).toEqual(new Set([77]));
  expect(resized).toHaveLength(31 * 4 * 3);
});

test("an edge overshoots no byte, and pixels mirror", () => {
  const edge = Uint8Array.from({ length: 8 * 3 }, (_, at) => (at < 12 ? 0 : 255));
  const resized = bicubic(edge, { width: 8, height: 1 }, { width: 16, height: 1 });
  expect([...resized].every((value) => value >= 0 && value <= 255)).toBe(true);
  const reds = Array.from({ length: 16 }, (_, at) => resized[at * 3]!);
  // Weights of −9/128 to 111/128 at quarter pixels, a = −0.5.
  expect(reds[7]! + reds[8]!).toBe(255);
  expect(reds).toEqual(reds.map((_, at) => 255 - reds[15 - at]!));
});
