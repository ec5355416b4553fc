import { describe, expect, test } from "vitest";
import { A100, cudaGenerator, launchThreads, philox4x32, philoxNormal } from "./philox.ts";

describe("Philox4x32-10", () => {
  // Known answers published with Random123 (Salmon et al. 2011).
  test.each([
    {
      counter: [0, 0, 0, 0],
      key: [0, 0],
      words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    },
    {
      counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    },
    {
      counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      key: [0xa4093822, 0x299f31d0],
      words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    },
  ] as const)("counter $counter", ({ counter, key, words }) => {
    expect(philox4x32(counter, key)).toEqual(words);
  });
});

describe("torch.randn on CUDA", () => {
  // Printed by PyTorch on GPUs, in public notebooks and documentation; four decimals.
  test.each([
    {
      seed: 0,
      values: [
        -0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655,
      ],
    },
    {
      seed: 42,
      values: [0.194, 2.1614, -0.1721, 0.8491, -1.9244, 0.653, -0.6494, -0.8175, 0.528, -1.2753, -1.6621, -0.3033],
    },
  ])("seed $seed", ({ seed, values }) => {
    const drawn = cudaGenerator(seed).randn(values.length);
    values.forEach((value, i) => {
      expect(Math.abs(drawn[i]! - value), `element ${i}`).toBeLessThan(6e-5);
    });
  });

  test("the second draw continues the counter, the seed's high word matters", () => {
    const generator = cudaGenerator(42);
    const first = generator.randn(1000);
    const second = generator.randn(1000);
    expect(second).not.toEqual(first);
    const draw = { key: [42, 0], call: [1, 0], threads: 1024 } as const;
    expect(second[7]).toBe(philoxNormal(draw, 7));
    expect(cudaGenerator(42n + (1n << 32n)).randn(4)).not.toEqual(cudaGenerator(42).randn(4));
  });
});

describe("layout", () => {
  test("one element a thread, whatever the device, until its threads run out", () => {
    const t4 = { multiprocessors: 40, threadsPerMultiprocessor: 1024 };
    expect(launchThreads(1, A100)).toBe(256);
    expect(launchThreads(16384, A100)).toBe(16384);
    expect(launchThreads(40960, t4)).toBe(40960);
    expect(launchThreads(40961, t4)).toBe(40960);
    expect(launchThreads(1e7, A100)).toBe(221184);
    expect(cudaGenerator(1, t4).randn(40960)).toEqual(cudaGenerator(1).randn(40960));
    expect(cudaGenerator(1, t4).randn(40961)).not.toEqual(cudaGenerator(1).randn(40961));
  });

  test("beyond that, threads make four elements a turn, a grid apart", () => {
    const small = { multiprocessors: 1, threadsPerMultiprocessor: 256 };
    const count = 256 * 4 + 300;
    const drawn = cudaGenerator(9, small).randn(count);
    const wide = cudaGenerator(9).draw(1);
    // Lane 0 of turn 0 is what a one-element-a-thread launch gives; turn 1 is that of the generator's next call.
    expect(drawn[17]).toBe(philoxNormal({ ...wide, threads: 256 }, 17));
    expect(drawn[256 * 4 + 17]).toBe(philoxNormal({ ...wide, call: [1, 0], threads: 256 }, 17));
    // Lanes 0 and 1 share their two words: together they give the radius back.
    const [x] = philox4x32([0, 0, 17, 0], [9, 0]);
    const squared = drawn[17]! ** 2 + drawn[17 + 256]! ** 2;
    expect(squared).toBeCloseTo(-2 * Math.log((x + 0.5) / 2 ** 32), 4);
    // Two turns were taken, so the next draw starts two counters on.
    const generator = cudaGenerator(9, small);
    generator.draw(count);
    expect(generator.draw(1).call).toEqual([2, 0]);
  });

  test("values are standard normal", () => {
    const drawn = cudaGenerator(3, { multiprocessors: 4, threadsPerMultiprocessor: 1024 }).randn(100_000);
    const mean = drawn.reduce((sum, value) => sum + value, 0) / drawn.length;
    const variance = drawn.reduce((sum, value) => sum + (value - mean) ** 2, 0) / drawn.length;
    expect(Math.abs(mean)).toBeLessThan(0.015);
    expect(Math.abs(variance - 1)).toBeLessThan(0.02);
  });
});
