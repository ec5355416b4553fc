/**
 * Pictures whose activations no binding could hold: whole networks give the same with their tensors split as without.
 * The limit is made small instead of the picture large.
 */

import { afterAll, beforeAll, expect, it } from "vitest";
import { type Gpu, openGpu } from "../src/gpu/device.ts";
import { compile, footprint } from "../src/graph/plan.ts";
import { Recorder } from "../src/graph/recorder.ts";
import type { Tensor } from "../src/graph/tensor.ts";
import { decodeKl, encodeKl, parseAutoencoderKlConfig } from "../src/models/autoencoder-kl.ts";
import { decodeTiny, parseAutoencoderTinyConfig } from "../src/models/autoencoder-tiny.ts";
import { unet } from "../src/models/unet.ts";
import { parseUnetConfig } from "../src/models/unet-config.ts";
import { timeProjections } from "../src/models/unet-time.ts";
import { generateParameters, normals } from "./generated-weights.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

// Channels in the proportions of the published models; groups of 2, 4 and 8 channels.
const vae = parseAutoencoderKlConfig({ block_out_channels: [16, 32, 64, 64], layers_per_block: 2, norm_num_groups: 8 });
const tiny = parseAutoencoderTinyConfig({
  encoder_block_out_channels: [16, 16],
  decoder_block_out_channels: [16, 16],
  num_encoder_blocks: [1, 1],
  num_decoder_blocks: [2, 1],
});
const denoiser = parseUnetConfig({
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [32, 64],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
  attention_head_dim: [2, 4],
  cross_attention_dim: 24,
  norm_num_groups: 8,
  use_linear_projection: true,
});

interface Network {
  readonly name: string;
  readonly inputs: Readonly<Record<string, readonly number[]>>;
  readonly build: (g: Recorder, inputs: Record<string, Tensor>) => Tensor;
  /** Bytes in f32: less than the largest tensors, enough for those that attention reads. */
  readonly maxTensorBytes: number;
}

const networks: Network[] = [
  {
    name: "the full decoder",
    inputs: { x: [1, 5, 7, 4] },
    build: (g, { x }) => decodeKl(g, vae, x!),
    // A picture of 40 × 56 in 12 channels; the largest tensor has 32.
    maxTensorBytes: 40 * 56 * 12 * 4,
  },
  {
    name: "the encoder",
    inputs: { x: [2, 40, 24, 3] },
    build: (g, { x }) => encodeKl(g, vae, x!),
    maxTensorBytes: 2 * 40 * 24 * 8 * 4,
  },
  {
    name: "the tiny decoder",
    inputs: { x: [1, 9, 8, 4] },
    build: (g, { x }) => decodeTiny(g, tiny, x!),
    maxTensorBytes: 18 * 16 * 8 * 4,
  },
  {
    name: "a denoiser, gates and skips included",
    inputs: { x: [2, 12, 10, 4], timesteps: [2, 32], text: [2, 7, 24] },
    build: (g, { x, timesteps, text }) =>
      unet(g, denoiser, { sample: x!, time: timeProjections(g, denoiser, { timesteps: timesteps! }), text: text! }),
    // Queries, keys and values of the second level need 2 · 6 · 5 rows of 192 channels in one piece; its gate reads 512.
    maxTensorBytes: 2 * 6 * 5 * 192 * 4,
  },
];

it.each(networks)("splits $name", async ({ inputs, build, maxTensorBytes }) => {
  const run = async (storage: "f32" | "f16", limit?: number) => {
    const g = new Recorder();
    const tensors = Object.entries(inputs).map(([name, shape]) => [name, g.input(name, shape)] as const);
    g.output("out", build(g, Object.fromEntries(tensors)));
    const parameters = await generateParameters(gpu, g, storage);
    const plan = await compile(gpu, g, { label: "large", storage, parameters, maxTensorBytes: limit });
    try {
      // It takes the memory that was foretold.
      if (!limit) expect(plan.arenaBytes).toBe(footprint(gpu, g, { storage, weightStorage: storage }).arenas);
      for (const [index, [name, shape]] of Object.entries(inputs).entries()) {
        const count = shape.reduce((product, size) => product * size, 1);
        plan.write(name, normals(count, index + 1));
      }
      plan.run();
      return { values: (await plan.read("out")) as Float32Array, dispatches: plan.dispatches };
    } finally {
      plan.destroy();
      parameters.destroy();
    }
  };
  for (const storage of ["f32", "f16"] as const) {
    const whole = await run(storage);
    const sliced = await run(storage, storage === "f32" ? maxTensorBytes : maxTensorBytes / 2);
    expect(sliced.dispatches).toBeGreaterThan(whole.dispatches);
    const largest = whole.values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    expect(largest).toBeGreaterThan(0.1);
    const error = whole.values.reduce((max, value, i) => Math.max(max, Math.abs(value - sliced.values[i]!)), 0);
    // Sums in another order. The limit that networks have against the reference is 1e-4, and 2e-2 in f16.
    expect(error / largest).toBeLessThan(storage === "f32" ? 1e-5 : 1e-2);
  }
});
