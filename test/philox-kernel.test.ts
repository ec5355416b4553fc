/** The noise kernel (shaders/philox_normal.wgsl) against the definition of its noise (src/diffusion/philox.ts). */

import { afterAll, describe, expect, test } from "vitest";
import { type CudaDevice, cudaGenerator, type PhiloxDraw, philox4x32, philoxNormal } from "../src/diffusion/philox.ts";
import type { Gpu } from "../src/gpu/device.ts";
import { philoxNormals } from "../src/graph/ops/diffusion/philox-normals.ts";
import { compile } from "../src/graph/plan.ts";
import { Recorder } from "../src/graph/recorder.ts";
import { closeAll, openAdapters } from "../src/graph/testing/devices.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

/** The limit for noise. */
const LIMIT = 5e-6;

interface ImageDraw {
  readonly draw: PhiloxDraw;
  /** The draw's element that is the image's first. */
  readonly first: number;
}

async function noise(
  gpu: Gpu,
  shape: [number, number, number, number],
  images: readonly ImageDraw[],
): Promise<Float32Array> {
  const recorder = new Recorder();
  const draws = recorder.input("draws", [shape[0] * 6], { element: "u32" });
  recorder.output("noise", philoxNormals(recorder, draws, shape, "noise"));
  const plan = await compile(gpu, recorder, {
    label: "noise",
    storage: "f16",
    parameters: { storage: "f32", get: () => [] },
  });
  try {
    plan.write(
      "draws",
      Uint32Array.from(images.flatMap(({ draw, first }) => [...draw.key, ...draw.call, draw.threads, first])),
    );
    plan.run();
    return (await plan.read("noise")) as Float32Array;
  } finally {
    plan.destroy();
  }
}

/** The largest difference from the definition. */
function worst(
  got: Float32Array,
  [n, h, w, c]: [number, number, number, number],
  images: readonly ImageDraw[],
): number {
  let off = 0;
  for (let i = 0; i < n * h * w * c; i++) {
    const channel = i % c;
    const pixel = Math.floor(i / c) % (h * w);
    const { draw, first } = images[Math.floor(i / c / h / w)]!;
    off = Math.max(off, Math.abs(got[i]! - philoxNormal(draw, first + channel * h * w + pixel)));
  }
  return off;
}

describe.each(devices)("$name", ({ gpu }) => {
  test("images drawn by generators of their own, with keys and calls of 64 bits", async () => {
    const shape: [number, number, number, number] = [3, 16, 17, 4];
    const count = 16 * 17 * 4;
    const images = [
      { draw: cudaGenerator(42).draw(count), first: 0 },
      { draw: cudaGenerator(0xfedcba9876543210n).draw(count), first: 0 },
      { draw: { key: [7, 9] as const, call: [0xffffffff, 5] as const, threads: 256 }, first: 0 }, // the low word overflows
    ];
    const got = await noise(gpu, shape, images);
    expect(got.length).toBe(3 * count);
    expect(worst(got, shape, images)).toBeLessThan(LIMIT);
  });

  test("a batch drawn in one call on a small GPU, whose threads take all four lanes and several turns", async () => {
    const small: CudaDevice = { multiprocessors: 1, threadsPerMultiprocessor: 512 };
    const shape: [number, number, number, number] = [2, 53, 41, 6]; // a last quad of two
    const size = 53 * 41 * 6;
    const draw = cudaGenerator(1234, small).draw(2 * size);
    expect(size / draw.threads).toBeGreaterThan(16);
    const images = [
      { draw, first: 0 },
      { draw, first: size },
    ];
    expect(worst(await noise(gpu, shape, images), shape, images)).toBeLessThan(LIMIT);
  });

  test("values are standard normal, and the words at both ends are drawn finitely", async () => {
    const shape: [number, number, number, number] = [1, 256, 256, 4];
    const images = [{ draw: cudaGenerator(3).draw(4 * 256 * 256), first: 0 }];
    const got = await noise(gpu, shape, images);
    const mean = got.reduce((sum, value) => sum + value, 0) / got.length;
    const variance = got.reduce((sum, value) => sum + (value - mean) ** 2, 0) / got.length;
    // Four standard errors of 262,144 samples.
    expect(Math.abs(mean)).toBeLessThan(4 / 512);
    expect(Math.abs(variance - 1)).toBeLessThan((4 * Math.SQRT2) / 512);
    expect(worst(got, shape, images)).toBeLessThan(LIMIT);
    expect(got.every(Number.isFinite)).toBe(true);
  });

  test("where the radius nearly vanishes, it keeps its digits", async () => {
    // Threads of this key whose first word lies within 1000 of 2³², found by trying 14 million. −2 ln u is then under 10⁻⁶:
    // WGSL's log may be off by as much near 1, and SwiftShader's conversion of the word to a float is.
    const key = [2024, 0] as const;
    const threads = [3272268, 4684430, 5231646, 13869543];
    for (const thread of threads) {
      expect(philox4x32([0, 0, thread, 0], key)[0]).toBeGreaterThan(2 ** 32 - 1000);
      const images = [{ draw: { key, call: [0, 0] as const, threads: 2 ** 24 }, first: thread }];
      expect(worst(await noise(gpu, [1, 1, 1, 1], images), [1, 1, 1, 1], images)).toBeLessThan(LIMIT);
    }
  });
});
