/** Pictures decoded in tiles, beside the same pictures decoded whole. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateParameters, normals } from "../../test/generated-weights.ts";
import { builtInModel } from "../engine/runtime.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import type { Autoencoder } from "../models/autoencoder.ts";
import { decodeKl, encodeKl, parseAutoencoderKlConfig } from "../models/autoencoder-kl.ts";
import { type DiffusionModel, loadDiffusionModel } from "./diffusion-model.ts";
import { compileDecoder, type LatentSize, type Pixels, recordDecoder } from "./latents.ts";
import { decodeTiled, type TileOptions, tileStarts } from "./tiles.ts";

let gpu: Gpu;
let model: DiffusionModel;
beforeAll(async () => {
  gpu = await openGpu();
  model = await loadDiffusionModel(gpu, builtInModel(), { precision: "f32" });
});
afterAll(() => {
  model.destroy();
  gpu.close();
});

/** Latents that change slowly over the picture, as those of a scene do, with some noise on them. */
function scene({ height, width, channels }: LatentSize): Float32Array {
  const noise = normals(height * width * channels, 5);
  return noise.map((value, i) => {
    const [x, y, c] = [Math.floor(i / channels) % width, Math.floor(i / channels / width), i % channels];
    return 0.3 * value + Math.sin((x / width) * 3 + c) + (y / height - 0.5) * (1 + (c % 3));
  });
}

/** The latents of `part`, from column `x` on. */
function columnsOf(latents: Float32Array, size: LatentSize, x: number, part: LatentSize): Float32Array {
  const { width, channels } = size;
  const out = new Float32Array(part.height * part.width * channels);
  for (let row = 0; row < part.height; row++) {
    const from = (row * width + x) * channels;
    out.set(latents.subarray(from, from + part.width * channels), row * part.width * channels);
  }
  return out;
}

async function whole(decoder: Autoencoder, latents: Float32Array, size: LatentSize, options: TileOptions) {
  const plan = await compileDecoder(gpu, decoder, size, options);
  plan.write("latents", latents);
  await plan.replay();
  const packed = (await plan.read("rgba")) as Uint32Array;
  plan.destroy();
  return new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
}

/** Pixels along the picture's edge. */
const EDGE = 24;

/**
 * Differences of two pictures in levels of 255; and how much the line between two columns or rows on which the difference
 * jumps most stands out from the usual one. A seam is a line that stands out; lines along the picture's own edge are none.
 */
function compared({ rgba, width, height }: Pixels, other: Uint8Array) {
  const difference = Float32Array.from(rgba, (value, i) => value - other[i]!);
  const columns = new Float64Array(width - 1);
  const rows = new Float64Array(height - 1);
  let [sum, largest] = [0, 0];
  for (const [i, value] of difference.entries()) {
    sum += Math.abs(value);
    largest = Math.max(largest, Math.abs(value));
    const [x, y] = [Math.floor(i / 4) % width, Math.floor(i / 4 / width)];
    if (x < width - 1) columns[x]! += Math.abs(difference[i + 4]! - value) / height;
    if (y < height - 1) rows[y]! += Math.abs(difference[i + width * 4]! - value) / width;
  }
  const standsOut = (lines: Float64Array) => {
    const inner = [...lines.slice(EDGE, -EDGE)].sort((a, b) => a - b);
    return inner.at(-1)! / inner[inner.length >> 1]!;
  };
  return { mean: sum / difference.length, largest, seam: Math.max(standsOut(columns), standsOut(rows)) };
}

it("tiles cover a length evenly, and share as much as they must", () => {
  expect(tileStarts(40, 40, 8)).toEqual([0]);
  expect(tileStarts(41, 40, 8)).toEqual([0, 1]);
  for (const [length, tile, overlap] of [
    [256, 64, 16],
    [100, 24, 12],
    [65, 64, 16],
  ] as const) {
    const starts = tileStarts(length, tile, overlap);
    expect(starts[0]).toBe(0);
    expect(starts.at(-1)! + tile).toBe(length);
    for (const [i, start] of starts.slice(1).entries())
      expect(starts[i]! + tile - start).toBeGreaterThanOrEqual(overlap);
  }
});

it("a decoder without norms gives the picture that it gives whole", async () => {
  const { vae } = model;
  const size: LatentSize = { height: 24, width: 29, channels: vae.latentChannels };
  const latents = scene(size);
  const options = { label: "tiny", storage: "f32", parameters: vae.weights } as const;
  const tiled = await decodeTiled(gpu, vae, latents, size, { ...options, side: 16 });
  expect([tiled.width, tiled.height]).toEqual([29 * vae.downscale, 24 * vae.downscale]);
  const { largest } = compared(tiled, await whole(vae, latents, size, options));
  expect(largest).toBeLessThanOrEqual(1); // rounded twice
});

describe("a decoder with group norms and attention", () => {
  const config = parseAutoencoderKlConfig({
    block_out_channels: [16, 32, 64, 64],
    layers_per_block: 2,
    norm_num_groups: 8,
  });
  const decoder: Autoencoder = {
    ...{ kind: "kl", latentChannels: 4, downscale: 8, scalingFactor: 1, shiftFactor: 0, forceUpcast: true },
    decode: (g, x) => decodeKl(g, config, x),
    encode: (g, x) => encodeKl(g, config, x),
  };
  const size: LatentSize = { height: 28, width: 36, channels: 4 };

  it("gives it without a seam, and nearly the same", async () => {
    const parameters = await generateParameters(gpu, recordDecoder(decoder, size), "f32");
    const options = { label: "kl", storage: "f32", parameters } as const;
    const latents = scene(size);
    const reference = await whole(decoder, latents, size, options);
    const tiled = await decodeTiled(gpu, decoder, latents, size, { ...options, side: 20 });
    const { mean, seam } = compared(tiled, reference);
    const spread = reference.reduce((most, value, i) => Math.max(most, Math.abs(value - reference[i % 3]!)), 0);
    expect(spread).toBeGreaterThan(100); // it is a picture with contrast
    // With these random weights: 2.6 levels, most of it at the picture's own edge, and 1.6.
    expect(mean).toBeLessThan(5);
    expect(seam).toBeLessThan(3);

    // Two halves side by side, each with its own statistics and its own edge: 78.
    const half: LatentSize = { ...size, width: size.width / 2 };
    const halves = await Promise.all(
      [0, half.width].map((x) => whole(decoder, columnsOf(latents, size, x, half), half, options)),
    );
    const joined = new Uint8Array(reference.length);
    for (let row = 0; row < size.height * 8; row++) {
      for (const [side, picture] of halves.entries()) {
        const bytes = half.width * 8 * 4;
        joined.set(picture.subarray(row * bytes, (row + 1) * bytes), (2 * row + side) * bytes);
      }
    }
    const naive = compared({ rgba: joined, width: size.width * 8, height: size.height * 8 }, reference);
    expect(naive.seam).toBeGreaterThan(5);
    parameters.destroy();
  });
});
