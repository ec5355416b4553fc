/** Pictures decoded and encoded in bands, beside the same in one piece. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateParameters, normals } from "../../test/generated-weights.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { compile } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { LoadedParameters } from "../memory/load.ts";
import { type Autoencoder, autoencoder } from "../models/autoencoder.ts";
import { type BandOptions, bandsOf, decodeInBands, encodeInBands } from "./bands.ts";
import {
  encodePixels,
  type LatentSize,
  type Pixels,
  recordDecoder,
  recordEncoder,
  writeDecoderScale,
} from "./latents.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

// Channels in the proportions of the published models.
const kl = autoencoder({
  className: "AutoencoderKL",
  config: { block_out_channels: [16, 32, 64, 64], layers_per_block: 2, norm_num_groups: 8, scaling_factor: 1 },
});
const tiny = autoencoder({
  className: "AutoencoderTiny",
  config: {
    encoder_block_out_channels: [16, 16, 16, 16],
    decoder_block_out_channels: [16, 16, 16, 16],
    num_encoder_blocks: [1, 3, 3, 3],
    num_decoder_blocks: [3, 3, 3, 1],
  },
});

async function weightsOf(coder: Autoencoder): Promise<LoadedParameters> {
  const g = new Recorder();
  coder.decode(g, g.input("latents", [1, 8, 8, 4]));
  coder.encode(g, g.input("picture", [1, 64, 64, 3]));
  return generateParameters(gpu, g, "f32");
}

/** Latents that change over the picture, as those of a scene do, with some noise on them. */
function scene({ height, width, channels }: LatentSize): Float32Array {
  const noise = normals(height * width * channels, 5);
  return noise.map((value, i) => {
    const [x, y, c] = [Math.floor(i / channels) % width, Math.floor(i / channels / width), i % channels];
    return 0.3 * value + Math.sin((x / width) * 3 + c) + (y / height - 0.5) * (1 + (c % 3));
  });
}

async function wholePicture(coder: Autoencoder, size: LatentSize, options: BandOptions) {
  const plan = await compile(gpu, recordDecoder(coder, size), options);
  writeDecoderScale(plan, coder);
  plan.write("latents", scene(size));
  await plan.replay();
  const packed = (await plan.read("rgba")) as Uint32Array;
  plan.destroy();
  return new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
}

async function pictureInBands(coder: Autoencoder, size: LatentSize, options: BandOptions): Promise<Pixels> {
  const values = scene(size);
  const buffer = gpu.createBuffer("latents", values.byteLength);
  gpu.device.queue.writeBuffer(buffer, 0, values);
  try {
    return await decodeInBands(gpu, coder, { buffer, offset: 0, size: values.byteLength }, size, options);
  } finally {
    gpu.destroyBuffer(buffer);
  }
}

function compared(values: ArrayLike<number>, others: ArrayLike<number>) {
  let [sum, largest, spread] = [0, 0, 0];
  expect(values.length).toBe(others.length);
  for (let i = 0; i < values.length; i++) {
    const difference = Math.abs(values[i]! - others[i]!);
    sum += difference;
    largest = Math.max(largest, difference);
    spread = Math.max(spread, Math.abs(others[i]! - others[i % 3]!));
  }
  return { mean: sum / values.length, largest, spread };
}

/** Statistics settle, and without norms there is nothing to settle. */
function expectSettled(coder: Autoencoder, moves: readonly number[]): void {
  if (coder === tiny) expect(moves).toEqual([]);
  else expect(moves.at(-1)).toBeLessThan(0.02);
}

it("bands cover all rows once, and see what lies beside them", () => {
  for (const [height, count, before, after] of [
    [28, 2, 7, 7],
    [29, 4, 3, 2],
    [256, 8, 7, 7],
    [9, 3, 9, 9],
  ] as const) {
    const bands = bandsOf(height, count, { before, after });
    expect(bands[0]!.first).toBe(0);
    expect(bands.at(-1)!.end).toBe(height);
    for (const [i, { start, rows, first, end }] of bands.entries()) {
      expect(first).toBe(bands[i - 1]?.end ?? 0);
      expect(rows).toBe(bands[0]!.rows);
      expect(start).toBeLessThanOrEqual(Math.max(0, first - before));
      expect(start + rows).toBeGreaterThanOrEqual(Math.min(height, end + after));
      expect(start).toBeGreaterThanOrEqual(0);
      expect(start + rows).toBeLessThanOrEqual(height);
    }
  }
});

describe.each([
  // Measured: 1 level, 0.09 on average; 1e-5 of the latents' range.
  { name: "with group norms and attention", coder: kl, bounds: { largest: 2, mean: 0.3, encoded: 1e-4 } },
  { name: "without", coder: tiny, bounds: { largest: 0, mean: 0, encoded: 1e-6 } },
])("an autoencoder $name", ({ coder, bounds }) => {
  const size: LatentSize = { height: 40, width: 12, channels: 4 };
  let parameters: LoadedParameters;
  let options: BandOptions;
  const moves: number[] = [];
  beforeAll(async () => {
    parameters = await weightsOf(coder);
    options = { label: "vae", storage: "f32", parameters, onPass: (moved) => moves.push(moved) };
  });
  afterAll(() => parameters.destroy());

  it("decodes", async () => {
    const reference = await wholePicture(coder, size, options);
    for (const bands of [3]) {
      moves.length = 0;
      const picture = await pictureInBands(coder, size, { ...options, bands });
      expect([picture.width, picture.height]).toEqual([12 * 8, 40 * 8]);
      const { mean, largest, spread } = compared(picture.rgba, reference);
      expect(spread).toBeGreaterThan(100); // it is a picture with contrast
      expect(largest).toBeLessThanOrEqual(bounds.largest);
      expect(mean).toBeLessThanOrEqual(bounds.mean);
      expectSettled(coder, moves);
    }
  });

  it("encodes", async () => {
    const rgba = await wholePicture(coder, size, options);
    const pixels = { width: 12 * 8, height: 40 * 8, rgba };
    const plan = await compile(gpu, recordEncoder(coder, pixels), options);
    const reference = await encodePixels(plan, coder, pixels);
    plan.destroy();
    for (const bands of [3]) {
      moves.length = 0;
      const encoded = await encodeInBands(gpu, coder, pixels, { ...options, bands });
      for (const [values, others] of [
        [encoded.mean, reference.mean],
        [encoded.logVariance ?? [], reference.logVariance ?? []],
      ] as const) {
        const { largest, spread } = compared(values, others);
        expect(largest).toBeLessThanOrEqual(bounds.encoded * spread);
      }
      expectSettled(coder, moves);
    }
  });
});
