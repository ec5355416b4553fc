/**
 * Decoding pictures that do not fit in one piece, tile by tile.
 *
 * Two things could leave seams. A tile's edge is padded with zeros where the picture goes on: tiles overlap, and are laid
 * over each other with weights that fall to nothing towards the edge. And group norm takes mean and variance of the whole
 * picture: so all tiles are decoded twice, first to measure these statistics (each layer's, merged over the tiles), then
 * with the merged ones, which are then the same in every tile. What remains of a difference to the picture decoded whole is
 * that the first pass measured with each tile's own statistics, and that attention in the decoder's middle sees one tile.
 */

import type { Gpu } from "../gpu/device.ts";
import { GpuOutOfMemoryError } from "../gpu/errors.ts";
import { compile, type Plan } from "../graph/plan.ts";
import { GraphError } from "../graph/recorder.ts";
import { quads, type Storage } from "../graph/tensor.ts";
import type { Choose } from "../graph/variants.ts";
import type { ParameterBuffers } from "../graph/weights.ts";
import type { Autoencoder } from "../models/autoencoder.ts";
import { type LatentSize, type Pixels, recordDecoder, writeDecoderScale } from "./latents.ts";

/** A tile's side in latents, the largest that fits being taken. */
const TILE_SIDES = [128, 96, 64, 48, 32, 24];
/** Latents that neighbouring tiles share at least; a part of a small tile. */
const OVERLAP = 16;
/** The part of the overlap next to a tile's edge that counts for nothing: zeros beyond the edge reach into it. */
const MARGIN = 0.25;

export interface TileOptions {
  readonly label: string;
  readonly storage: Storage;
  readonly parameters: ParameterBuffers;
  /** A tile's side in latents, for tests; else the largest that fits. */
  readonly side?: number;
}

/** Whether an error says that something is too large, and smaller parts of it may do. */
export function isTooLarge(error: unknown): boolean {
  return error instanceof GpuOutOfMemoryError || error instanceof GraphError;
}

/**
 * A picture of latents `[h, w, c]` (without padding), whose size is `size`.
 * Throws the error of the smallest tile where none fits.
 */
export async function decodeTiled(
  gpu: Gpu,
  decoder: Autoencoder,
  latents: Float32Array,
  size: LatentSize,
  options: TileOptions,
): Promise<Pixels> {
  const longer = Math.max(size.height, size.width);
  const sides = options.side ? [options.side] : TILE_SIDES.filter((side) => side < longer);
  for (const [index, side] of sides.entries()) {
    try {
      return await decodeBySide(gpu, decoder, latents, size, side, options);
    } catch (error) {
      if (!isTooLarge(error) || index === sides.length - 1) throw error;
    }
  }
  throw new GraphError(`${options.label}: latents of ${size.height}×${size.width} are too small for tiles`);
}

async function decodeBySide(
  gpu: Gpu,
  decoder: Autoencoder,
  latents: Float32Array,
  size: LatentSize,
  side: number,
  options: TileOptions,
): Promise<Pixels> {
  const tile: LatentSize = {
    height: Math.min(side, size.height),
    width: Math.min(side, size.width),
    channels: size.channels,
  };
  const overlap = Math.min(OVERLAP, Math.floor(side / 2));
  const places = tileStarts(size.height, tile.height, overlap).flatMap((y) =>
    tileStarts(size.width, tile.width, overlap).map((x) => ({ y, x })),
  );
  const cut = ({ y, x }: Place) => cutTile(latents, size, tile, y, x);

  const measuring = recordDecoder(decoder, tile, { statistics: "kept" });
  const norms = [...measuring.outputs].filter(([name]) => name.startsWith("statistics "));
  const merged = new Map<string, MergedStatistics>();
  if (norms.length > 0) {
    await withPlan(gpu, decoder, measuring, options, async (plan) => {
      for (const place of places) {
        plan.write("latents", cut(place));
        await plan.replay();
        for (const [name, { shape }] of norms) {
          const pixels = measuring.normPixels.get(name)!;
          const partial = (await plan.read(name)) as Float32Array;
          const layer = merged.get(name) ?? createMerged(shape[0]! / pixels.chunks);
          merged.set(name, layer);
          mergeTile(layer, partial, pixels);
        }
      }
    });
  }

  const canvas = createCanvas(size, decoder.downscale);
  const recorder = recordDecoder(decoder, tile, { statistics: "given" });
  await withPlan(gpu, decoder, recorder, options, async (plan) => {
    for (const [name, layer] of merged) plan.write(name, given(layer, recorder.normPixels.get(name)!.pixels));
    for (const place of places) {
      plan.write("latents", cut(place));
      await plan.replay();
      const packed = (await plan.read("rgba")) as Uint32Array;
      lay(canvas, new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength), tile, place, overlap);
    }
  });
  return finished(canvas);
}

interface Place {
  readonly y: number;
  readonly x: number;
}

/** Group norms of a tile must not be joined with statistics of their own. */
const apart: Choose = (operation) => (operation.kind === "group-norm-apply" ? "apart" : undefined);

async function withPlan(
  gpu: Gpu,
  decoder: Autoencoder,
  recorder: ReturnType<typeof recordDecoder>,
  { label, storage, parameters }: TileOptions,
  use: (plan: Plan) => Promise<void>,
): Promise<void> {
  const plan = await compile(gpu, recorder, { label: `${label}, a tile`, storage, parameters, choose: apart });
  try {
    writeDecoderScale(plan, decoder);
    await use(plan);
  } finally {
    plan.destroy();
  }
}

/** Where tiles begin so that they cover `length` evenly and share `overlap` at least. */
export function tileStarts(length: number, tile: number, overlap: number): number[] {
  if (tile >= length) return [0];
  const count = Math.ceil((length - overlap) / (tile - overlap));
  return Array.from({ length: count }, (_, i) => Math.round((i * (length - tile)) / (count - 1)));
}

function cutTile(latents: Float32Array, size: LatentSize, tile: LatentSize, y: number, x: number): Float32Array {
  const { channels } = size;
  const out = new Float32Array(tile.height * tile.width * channels);
  for (let row = 0; row < tile.height; row++) {
    const from = ((y + row) * size.width + x) * channels;
    out.set(latents.subarray(from, from + tile.width * channels), row * tile.width * channels);
  }
  return out;
}

/** A layer's mean and squared deviations by channel, over the tiles so far. */
interface MergedStatistics {
  count: number;
  readonly mean: Float64Array;
  readonly squares: Float64Array;
}

function createMerged(layerQuads: number): MergedStatistics {
  return { count: 0, mean: new Float64Array(layerQuads * 4), squares: new Float64Array(layerQuads * 4) };
}

/** Adds a tile's partial statistics `[chunk, quad, mean[4] and squares[4]]` by Chan's formula. */
function mergeTile(
  layer: MergedStatistics,
  partial: Float32Array,
  { pixels, chunks, chunkPixels }: { pixels: number; chunks: number; chunkPixels: number },
): void {
  const layerQuads = layer.mean.length / 4;
  for (let chunk = 0; chunk < chunks; chunk++) {
    const count = Math.min(chunkPixels, pixels - chunk * chunkPixels);
    if (count <= 0) continue;
    const total = layer.count + count;
    for (let channel = 0; channel < layer.mean.length; channel++) {
      const at = (chunk * layerQuads + Math.floor(channel / 4)) * 8 + (channel % 4);
      const delta = partial[at]! - layer.mean[channel]!;
      layer.mean[channel]! += (delta * count) / total;
      layer.squares[channel]! += partial[at + 4]! + (delta * delta * layer.count * count) / total;
    }
    layer.count = total;
  }
}

/** The merged statistics as those of one chunk of a tile's `pixels`. */
function given({ count, mean, squares }: MergedStatistics, pixels: number): Float32Array {
  const out = new Float32Array(mean.length * 2);
  for (let channel = 0; channel < mean.length; channel++) {
    const at = Math.floor(channel / 4) * 8 + (channel % 4);
    out[at] = mean[channel]!;
    out[at + 4] = (squares[channel]! * pixels) / count;
  }
  return out;
}

interface Canvas {
  readonly width: number;
  readonly height: number;
  readonly scale: number;
  readonly colour: Float32Array;
  readonly weight: Float32Array;
}

function createCanvas({ height, width }: LatentSize, scale: number): Canvas {
  const pixels = height * width * scale * scale;
  return {
    ...{ width: width * scale, height: height * scale, scale },
    colour: new Float32Array(pixels * 3),
    weight: new Float32Array(pixels),
  };
}

/** Weights along one side of a tile: full, but for the sides on which the picture goes on. */
function ramp(start: number, tile: number, length: number, overlap: number, scale: number): Float32Array {
  const pixels = tile * scale;
  const full = overlap * scale;
  // Never nothing: beyond the last tile's ramp there is no other.
  const rise = (distance: number) => Math.min(1, Math.max(1e-4, (distance / full - MARGIN) / (1 - 2 * MARGIN)));
  return Float32Array.from({ length: pixels }, (_, i) => {
    const before = start > 0 ? rise(i + 0.5) : 1;
    const after = start + tile < length ? rise(pixels - i - 0.5) : 1;
    return Math.min(before, after);
  });
}

function lay(canvas: Canvas, rgba: Uint8Array, tile: LatentSize, { y, x }: Place, overlap: number): void {
  const { scale, width, colour, weight } = canvas;
  const rows = ramp(y, tile.height, canvas.height / scale, overlap, scale);
  const columns = ramp(x, tile.width, width / scale, overlap, scale);
  for (let row = 0; row < rows.length; row++) {
    for (let column = 0; column < columns.length; column++) {
      const share = rows[row]! * columns[column]!;
      const at = (y * scale + row) * width + x * scale + column;
      const from = (row * columns.length + column) * 4;
      for (let c = 0; c < 3; c++) colour[at * 3 + c]! += share * rgba[from + c]!;
      weight[at]! += share;
    }
  }
}

function finished({ width, height, colour, weight }: Canvas): Pixels {
  const rgba = new Uint8Array(width * height * 4);
  for (let pixel = 0; pixel < weight.length; pixel++) {
    for (let c = 0; c < 3; c++) rgba[pixel * 4 + c] = Math.round(colour[pixel * 3 + c]! / weight[pixel]!);
    rgba[pixel * 4 + 3] = 255;
  }
  return { width, height, rgba };
}

/** `[pixels, quads of c]` as it lies on the device → `[pixels, c]`. */
export function withoutPadding(padded: Float32Array, channels: number): Float32Array {
  const stride = quads(channels) * 4;
  const pixels = padded.length / stride;
  const out = new Float32Array(pixels * channels);
  for (let pixel = 0; pixel < pixels; pixel++) {
    out.set(padded.subarray(pixel * stride, pixel * stride + channels), pixel * channels);
  }
  return out;
}
