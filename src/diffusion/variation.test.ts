import { expect, test } from "vitest";
import { cpuGenerator } from "./noise.ts";
import { mixNoise, pasteNoise, startNoise } from "./variation.ts";

const SIZE = { channels: 4, height: 8, width: 6 };
const COUNT = 4 * 8 * 6;
const noise = (seed: number, count = COUNT) => Float32Array.from(cpuGenerator(seed).randn(count));

/** Length of one channel's column. */
function columnLength(values: Float32Array, channel: number, x: number): number {
  let sum = 0;
  for (let row = 0; row < SIZE.height; row++) sum += values[(channel * SIZE.height + row) * SIZE.width + x]! ** 2;
  return Math.sqrt(sum);
}

test("the ends are the two noises, and between them columns keep their length", () => {
  const [one, other] = [noise(1), noise(2)];
  const close = (a: Float32Array, b: Float32Array) => a.every((value, i) => Math.abs(value - b[i]!) < 1e-5);
  expect(close(mixNoise(one, other, 0, SIZE), one)).toBe(true);
  expect(close(mixNoise(one, other, 1, SIZE), other)).toBe(true);
  // Two columns of one length and a right angle: the arc's middle has that length too, a line's middle has not.
  const [up, down] = [new Float32Array(COUNT), new Float32Array(COUNT)];
  for (let i = 0; i < COUNT; i++) {
    const row = Math.floor(i / SIZE.width) % SIZE.height;
    up[i] = row % 2 === 0 ? 1 : 0;
    down[i] = row % 2 === 0 ? 0 : 1;
  }
  expect(columnLength(mixNoise(up, down, 0.5, SIZE), 2, 3)).toBeCloseTo(2, 5);
  expect(
    mixNoise(
      one,
      one.map((value) => -value),
      0.3,
      SIZE,
    ).every(Number.isFinite),
  ).toBe(true);
});

test("noise of another size stands in the middle, cut if it is larger", () => {
  const into = new Float32Array(COUNT);
  const small = { channels: 4, height: 4, width: 4 };
  const pasted = pasteNoise(into, SIZE, new Float32Array(4 * 16).fill(1), small);
  expect(
    [...pasted.subarray(0, 48)].map((value, i) => [value, i] as const).filter(([value]) => value === 1),
  ).toHaveLength(16);
  expect(pasted[2 * 6 + 1]).toBe(1);
  expect(pasted[1 * 6 + 1]).toBe(0);
  const large = { channels: 4, height: 10, width: 10 };
  const rows = Float32Array.from({ length: 400 }, (_, i) => i % 100);
  expect(pasteNoise(into, SIZE, rows, large)[0]).toBe(12);
});

test("the seed's own noise without a strength; each picture of several has its own mix", async () => {
  const request = { prompt: "", width: 48, height: 64, steps: 1, guidanceScale: 1, seed: 1, images: 2 } as const;
  const shape = { ...SIZE, slots: 2, branches: 1 };
  const plain = noise(1, 2 * COUNT);
  const start = (changes: object) => startNoise({ ...request, ...changes }, cpuGenerator(1), shape, 8);
  expect(await start({})).toEqual(plain);
  expect(await start({ subseed: 2, subseedStrength: 0 })).toEqual(plain);
  const mixed = await start({ subseed: 2, subseedStrength: 0.4 });
  const others = noise(2, 2 * COUNT);
  const second = mixNoise(plain.subarray(COUNT), others.subarray(COUNT), 0.4, SIZE);
  expect(mixed.subarray(COUNT)).toEqual(second);
  const resized = await start({ seedResizeFrom: [64, 48] });
  expect(resized).toEqual(plain); // the same size: the same noise again
  expect(await start({ seedResizeFrom: [32, 32] })).not.toEqual(plain);
});
