import { afterAll, beforeAll, expect, it } from "vitest";
import { BufferUsage, type Gpu, openGpu } from "./device.ts";
import { GpuOutOfMemoryError } from "./errors.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

it("refuses a storage buffer that no kernel could see whole, and names it", () => {
  const size = gpu.maxBindingBytes + 16;
  const before = gpu.memory;
  const make = () => gpu.createBuffer("unet: conv_in.weight", size);
  expect(make).toThrow(GpuOutOfMemoryError);
  // Where buffers themselves may not be larger, that is said instead.
  expect(make).toThrow(
    new RegExp(`^unet: conv_in.weight: a (storage )?buffer of ${size} bytes is over .*${gpu.maxBindingBytes}`),
  );
  expect(gpu.memory).toEqual(before);
});

it("makes a buffer of just that size, and accounts for the largest there was", () => {
  const size = Math.floor(gpu.maxBindingBytes / 2 ** 20 > 256 ? 2 ** 20 : gpu.maxBindingBytes / 16) * 16;
  const buffer = gpu.createBuffer("arena", size, BufferUsage.STORAGE);
  expect(gpu.memory).toMatchObject({ bytes: size, largestBytes: size });
  gpu.destroyBuffer(buffer);
  expect(gpu.memory).toMatchObject({ bytes: 0, largestBytes: size });
});
