/**
 * Variations of a seed, as AUTOMATIC1111's web UI makes them (`modules/rng.py`): the start noise of another seed is mixed in,
 * and the noise of another size may be pasted into the middle of a picture's own.
 */

import { inTurns } from "../platform/turns.ts";
import { type LatentSize, latentCount } from "./latents.ts";
import type { StepShape } from "./model.ts";
import { cpuGenerator, type NoiseGenerator } from "./noise.ts";
import { cudaGenerator } from "./philox.ts";
import type { PipelineRequest } from "./request.ts";

/** Noises that are more alike than this are mixed linearly. */
const ALIKE = 0.9995;

/** Mixes two noises `[c, h, w]` spherically, each column (one channel, all rows) by its own angle. */
export function mixNoise(noise: Float32Array, other: Float32Array, share: number, size: LatentSize): Float32Array {
  const { channels, height, width } = size;
  const columns = channels * width;
  const cosines = new Float64Array(columns);
  const at = (column: number, row: number) => (Math.floor(column / width) * height + row) * width + (column % width);
  for (let column = 0; column < columns; column++) {
    let [dot, own, others] = [0, 0, 0];
    for (let row = 0; row < height; row++) {
      const [a, b] = [noise[at(column, row)]!, other[at(column, row)]!];
      dot += a * b;
      own += a * a;
      others += b * b;
    }
    cosines[column] = Math.min(Math.max(dot / Math.sqrt(own * others), -1), 1);
  }
  const mean = cosines.reduce((sum, cosine) => sum + cosine, 0) / columns;
  // So it is in the web UI: here the shares are the other way round.
  if (mean > ALIKE) return noise.map((value, i) => value * share + other[i]! * (1 - share));
  const mixed = new Float32Array(noise.length);
  for (let column = 0; column < columns; column++) {
    const angle = Math.acos(cosines[column]!);
    const sine = Math.sin(angle);
    // Columns that point the same way or opposite ways have no arc between them.
    const [first, second] =
      sine < 1e-6 ? [1 - share, share] : [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
    for (let row = 0; row < height; row++) {
      const i = at(column, row);
      mixed[i] = first * noise[i]! + second * other[i]!;
    }
  }
  return mixed;
}

/** Pastes noise of one size into the middle of noise of another; what does not fit is cut off on both sides. */
export function pasteNoise(into: Float32Array, size: LatentSize, from: Float32Array, own: LatentSize): Float32Array {
  const result = into.slice();
  const place = (whole: number, part: number) => {
    const offset = Math.floor((whole - part) / 2);
    const count = offset >= 0 ? part : part + 2 * offset;
    return { to: Math.max(offset, 0), from: Math.max(-offset, 0), count };
  };
  const [down, across] = [place(size.height, own.height), place(size.width, own.width)];
  for (let channel = 0; channel < size.channels; channel++) {
    for (let row = 0; row < down.count; row++) {
      const source = (channel * own.height + down.from + row) * own.width + across.from;
      const target = (channel * size.height + down.to + row) * size.width + across.to;
      result.set(from.subarray(source, source + across.count), target);
    }
  }
  return result;
}

/** The generator of a seed's noise. */
export function generatorOf({ generator }: Pick<PipelineRequest, "generator">, seed: number | bigint): NoiseGenerator {
  if (typeof generator === "object") return generator;
  return generator === "cuda" ? cudaGenerator(seed) : cpuGenerator(seed);
}

/** Draws noise for all of a run's pictures as one tensor, `[n, c, h, w]`, as the reference does. */
export function draw(noise: NoiseGenerator, size: LatentSize, images: number): Promise<Float32Array> {
  return inTurns(noise.randnInPieces(images * latentCount(size)));
}

/** The noise that a text-to-image run starts from, `[n, c, h, w]`; `noise` is left after the draw of the picture's size. */
export async function startNoise(
  request: PipelineRequest,
  noise: NoiseGenerator,
  shape: StepShape,
  downscale: number,
): Promise<Float32Array> {
  const { seedResizeFrom } = request;
  const images = shape.slots;
  if (seedResizeFrom === undefined) return mixed(request, await draw(noise, shape, images), shape, images);
  const [height, width] = seedResizeFrom.map((side) => Math.floor(side / downscale)) as [number, number];
  const own = { channels: shape.channels, height, width };
  const small = await mixed(request, await draw(generatorOf(request, request.seed), own, images), own, images);
  const whole = await draw(noise, shape, images);
  const [from, to] = [latentCount(own), latentCount(shape)];
  for (let image = 0; image < images; image++) {
    const part = small.subarray(image * from, (image + 1) * from);
    whole.set(pasteNoise(whole.subarray(image * to, (image + 1) * to), shape, part, own), image * to);
  }
  return whole;
}

/** The noise of `images` pictures with that of another seed mixed in, if the request names one. */
async function mixed(
  request: PipelineRequest,
  noise: Float32Array,
  size: LatentSize,
  images: number,
): Promise<Float32Array> {
  const { subseed, subseedStrength: share = 0 } = request;
  if (subseed === undefined || share === 0) return noise;
  const other = await draw(generatorOf(request, subseed), size, images);
  const each = latentCount(size);
  const result = new Float32Array(noise.length);
  for (let at = 0; at < noise.length; at += each) {
    result.set(mixNoise(noise.subarray(at, at + each), other.subarray(at, at + each), share, size), at);
  }
  return result;
}
