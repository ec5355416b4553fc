import { expect, it } from "vitest";
import { atOnce } from "../platform/turns.ts";
import { extended, extendedMask, pasted } from "./canvas.ts";
import { croppedTo } from "./crop-region.ts";
import { blurred, boundsOf, grown } from "./mask.ts";

const SIZE = { width: 23, height: 17 };

/** Seeded bytes, most of them 0. */
function sparse(seed: number, { width, height } = SIZE): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length: width * height }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % 11 === 0 ? state >>> 24 : 0;
  });
}

it.each([1, 2, 5, 30])("a mask grows by %d pixels to the largest value of the square around", (radius) => {
  const values = sparse(radius);
  const { values: actual } = atOnce(grown({ ...SIZE, values }, radius));
  const { width, height } = SIZE;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let largest = 0;
      for (let row = Math.max(y - radius, 0); row <= Math.min(y + radius, height - 1); row++) {
        for (let column = Math.max(x - radius, 0); column <= Math.min(x + radius, width - 1); column++) {
          largest = Math.max(largest, values[row * width + column]!);
        }
      }
      expect(actual[y * width + x]).toBe(largest);
    }
  }
});

it("bounds hold all that is marked, and nothing has none", () => {
  const values = new Uint8Array(SIZE.width * SIZE.height);
  expect(atOnce(boundsOf({ ...SIZE, values }))).toBeUndefined();
  values[4 * SIZE.width + 7] = 1;
  values[9 * SIZE.width + 5] = 255;
  expect(atOnce(boundsOf({ ...SIZE, values }))).toEqual({ left: 5, top: 4, width: 3, height: 6 });
});

it("a blur fades over its deviation and ends at three times as many pixels", async () => {
  const size = { width: 120, height: 9 };
  const values = new Uint8Array(120 * 9).map((_, i) => (i % 120 < 60 ? 255 : 0));
  const row = (await blurred({ ...size, values }, 8)).values.subarray(4 * 120, 5 * 120);
  expect(row[60]).toBeGreaterThan(100);
  expect(row[60]).toBeLessThan(140);
  expect(row[68]).toBeGreaterThan(20); // 16 % at one deviation
  expect(row[68]).toBeLessThan(60);
  expect([...row.subarray(60 + 25)].every((value) => value === 0)).toBe(true);
  expect([...row.subarray(0, 60 - 25)].every((value) => value === 255)).toBe(true);
});

it.each([
  // bounds, padding, ratio → region of a picture of 100 × 60
  [[40, 20, 10, 10], 5, undefined, [35, 15, 20, 20]],
  [[40, 20, 10, 10], 5, 2, [25, 15, 40, 20]],
  [[0, 0, 10, 10], 8, 1, [0, 0, 18, 18]],
  [[90, 50, 10, 10], 0, 2, [80, 50, 20, 10]],
  [[10, 0, 80, 60], 20, 1, [0, 0, 100, 60]],
  [[50, 30, 1, 1], 0, 0.5, [50, 30, 1, 2]],
] as const)("bounds %j with %d pixels around and ratio %s are the region %j", (bounds, padding, ratio, region) => {
  const [left, top, width, height] = bounds;
  const made = croppedTo({ left, top, width, height }, padding, { width: 100, height: 60 }, ratio);
  expect([made.left, made.top, made.width, made.height]).toEqual(region);
});

it("a picture is pasted as far as the mask has it, and nothing else changes", async () => {
  const canvas = { width: 6, height: 4, rgba: Uint8Array.from({ length: 96 }, (_, i) => (i * 37) % 256) };
  const mask = { width: 6, height: 4, values: new Uint8Array(24) };
  mask.values.set([255, 128, 1], 2 * 6 + 2);
  const drawn = { width: 3, height: 2, rgba: new Uint8Array(24).fill(255) };
  const before = canvas.rgba.slice();
  const { rgba } = await pasted(canvas, mask, { left: 2, top: 1, width: 3, height: 2 }, drawn);
  expect(canvas.rgba).toEqual(before);
  const at = (pixel: number, of = rgba) => [...of.subarray(pixel * 4, pixel * 4 + 4)];
  for (let pixel = 0; pixel < 24; pixel++) {
    if (mask.values[pixel] === 0) expect(at(pixel)).toEqual(at(pixel, before));
  }
  expect(at(14)).toEqual([255, 255, 255, 255]);
  const [red, , , alpha] = at(15, before) as [number, number, number, number];
  const under = ((1 - 128 / 255) * alpha) / 255;
  const whole = 128 / 255 + under;
  expect(at(15)[0]).toBe(Math.round((128 + under * red) / whole));
  expect(at(15)[3]).toBe(Math.round(whole * 255));
});

it("margins mirror the picture and are to be drawn", async () => {
  const rgba = Uint8Array.from({ length: 3 * 2 * 4 }, (_, i) => i);
  const margins = { left: 5, top: 1, right: 0, bottom: 2 };
  const larger = await extended({ width: 3, height: 2, rgba }, margins);
  expect([larger.width, larger.height]).toEqual([8, 5]);
  for (let row = 0; row < 2; row++) {
    const from = ((1 + row) * 8 + 5) * 4;
    expect(larger.rgba.subarray(from, from + 12)).toEqual(rgba.subarray(row * 12, row * 12 + 12));
  }
  const { values } = await extendedMask({ width: 3, height: 2, values: new Uint8Array(6) }, margins);
  expect(values.filter((value) => value === 0)).toHaveLength(6);
  expect(values[8 + 5]).toBe(0);
  expect(values[8 + 4]).toBe(255);
});
