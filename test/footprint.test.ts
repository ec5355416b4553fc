/** A plan's footprint is the memory that the device is asked for, counted where it is asked. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Gpu, openGpu } from "../src/gpu/device.ts";
import { MemoryLimitError } from "../src/gpu/errors.ts";
import { compile, footprint } from "../src/graph/plan.ts";
import { Recorder } from "../src/graph/recorder.ts";
import { autoencoder } from "../src/models/autoencoder.ts";
import { unet } from "../src/models/unet.ts";
import { parseUnetConfig } from "../src/models/unet-config.ts";
import { timeProjections } from "../src/models/unet-time.ts";
import { generateParameters } from "./generated-weights.ts";

/** Bytes of the device's buffers and textures, counted at the device and not by `Gpu`. */
function countBytes(gpu: Gpu) {
  const count = { now: 0, most: 0 };
  const watch = <T extends { destroy(): undefined }>(made: T, bytes: number): T => {
    count.now += bytes;
    count.most = Math.max(count.most, count.now);
    const destroy = made.destroy.bind(made);
    let gone = false;
    made.destroy = () => {
      if (!gone) count.now -= bytes;
      gone = true;
      return destroy();
    };
    return made;
  };
  const { device } = gpu;
  const [createBuffer, createTexture] = [device.createBuffer.bind(device), device.createTexture.bind(device)];
  device.createBuffer = (descriptor) => watch(createBuffer(descriptor), descriptor.size);
  device.createTexture = (descriptor) => {
    const { width, height = 1 } = descriptor.size as GPUExtent3DDict;
    return watch(createTexture(descriptor), width * height * 16); // every format in use has 16 bytes a texel
  };
  return count;
}

let gpu: Gpu;
let count: ReturnType<typeof countBytes>;
beforeAll(async () => {
  gpu = await openGpu();
  count = countBytes(gpu);
});
afterAll(() => gpu.close());

const vae = autoencoder({
  className: "AutoencoderKL",
  config: { block_out_channels: [32, 64], layers_per_block: 1, norm_num_groups: 8 },
});
const denoiser = parseUnetConfig({
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [64, 128],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
  attention_head_dim: [2, 4],
  cross_attention_dim: 24,
  norm_num_groups: 8,
});

const networks = [
  {
    name: "a decoder",
    record() {
      const g = new Recorder();
      g.output("out", vae.decode(g, g.input("latents", [1, 24, 20, 4])));
      return g;
    },
  },
  {
    name: "a denoiser",
    record() {
      const g = new Recorder();
      const sample = g.input("sample", [2, 16, 16, 4]);
      const text = g.input("text", [2, 7, 24], { constant: true });
      const timesteps = g.input("timesteps", [1, 5, 64], { constant: true });
      const time = timeProjections(g, denoiser, { timesteps });
      const step = g.input("step", [2], { element: "u32" });
      g.output("out", unet(g, denoiser, { sample, time: g.gatherRows(time, step, "time"), text }));
      return g;
    },
  },
];

describe.each(networks)("$name", ({ record }) => {
  it.each([
    { storage: "f32", weightStorage: "f32", transformed: true },
    { storage: "f32", weightStorage: "f16", transformed: true },
    { storage: "f32", weightStorage: "f16", transformed: false },
    { storage: "f16", weightStorage: "f16", transformed: true },
  ] as const)(
    "takes what is foretold, $storage with $weightStorage weights, transformed $transformed",
    async (options) => {
      const foretold = footprint(gpu, record(), { ...options, reads: ["out"] });
      const parameters = await generateParameters(gpu, record(), options.weightStorage);
      const before = count.now;
      count.most = before;
      const plan = await compile(gpu, record(), { label: "counted", parameters, reads: ["out"], ...options });
      expect(count.now - before).toBe(foretold.bytes + foretold.transformed);
      expect(count.most - before).toBe(foretold.peak);
      expect(plan.bytes).toBe(foretold.bytes);
      expect(plan.arenaBytes).toBe(foretold.arenas);
      await plan.read("out");
      expect(count.now - before).toBe(foretold.bytes + foretold.transformed); // what reads need was there

      // Transformed weights are shared: a second plan of the same takes no more than what it owns.
      const second = await compile(gpu, record(), { label: "counted again", parameters, reads: ["out"], ...options });
      expect(count.now - before).toBe(2 * foretold.bytes + foretold.transformed);
      second.destroy();
      plan.destroy();
      expect(count.now - before).toBe(foretold.transformed);
      parameters.destroy();
      expect(count.now).toBe(0);
    },
  );
});

it("counts what transformed weights take, where there are any", () => {
  const of = (transformed: boolean) =>
    footprint(gpu, networks[0]!.record(), { storage: "f32", weightStorage: "f16", transformed });
  expect(of(true).transformed).toBeGreaterThan(0);
  expect(of(false).transformed).toBe(0);
  expect(of(true).scratch).toBeGreaterThan(0);
});

it("a plan over the limit is refused before anything is made, and one at the limit is made", async () => {
  const { record } = networks[0]!;
  const loaded = await generateParameters(gpu, record(), "f32");
  const exact = loaded.bytes + footprint(gpu, record(), { storage: "f32", weightStorage: "f32" }).peak;
  expect(exact).toBeGreaterThan(loaded.loadingBytes);
  loaded.destroy();
  for (const spare of [0, -1]) {
    const limited = await openGpu({ maxBytes: exact + spare });
    const parameters = await generateParameters(limited, record(), "f32");
    const held = limited.memory.bytes;
    const making = compile(limited, record(), { label: "tight", storage: "f32", parameters });
    if (spare === 0) expect((await making).bytes).toBeGreaterThan(0);
    else await expect(making).rejects.toThrow(MemoryLimitError);
    expect(limited.memory.peakBytes).toBeLessThanOrEqual(exact);
    if (spare < 0) expect(limited.memory.bytes).toBe(held);
    limited.close();
  }
});

it("weights take what is foretold while they are loaded under a limit", async () => {
  for (const storage of ["f32", "f16"] as const) {
    const limited = await openGpu({ maxBytes: 2 ** 40 });
    const parameters = await generateParameters(limited, networks[1]!.record(), storage);
    expect(limited.memory.bytes).toBe(parameters.bytes);
    expect(limited.memory.peakBytes).toBe(parameters.loadingBytes);
    limited.close();
  }
});
