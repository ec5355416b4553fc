/** The latents that a run starts from: noise, or a picture's latents with noise. */

import { inTurns } from "../platform/turns.ts";
import { type LatentSize, latentCount, type Pixels } from "./latents.ts";
import type { PictureModel } from "./model.ts";
import { type NoiseGenerator, PIECE } from "./noise.ts";
import type { Pictures } from "./pictures.ts";
import type { Schedule } from "./schedulers/schedule.ts";

/** Draws noise for all of a run's pictures as one tensor, `[n, c, h, w]`, as the reference does. */
export function draw(noise: NoiseGenerator, size: LatentSize, images: number): Promise<Float32Array> {
  return inTurns(noise.randnInPieces(images * latentCount(size)));
}

/** Text-to-image: noise `[n, c, h, w]` at the level of the first step. It is changed in place. */
export function fromNoise(noise: Float32Array, schedule: Schedule): Promise<Float32Array> {
  return inTurns(mapped(noise, (value) => value * schedule.initNoiseSigma));
}

/** Image-to-image: the picture's latents, noised to the level of the first step, `[n, c, h, w]`. */
export async function fromPicture(
  image: Pixels,
  { model, pictures }: { readonly model: PictureModel; readonly pictures: Pictures },
  noise: NoiseGenerator,
  schedule: Schedule,
  size: LatentSize,
  images: number,
): Promise<Float32Array> {
  const { shiftFactor, scalingFactor } = model.full.autoencoder;
  const { mean, logVariance } = await pictures.encode(image);
  const count = mean.length;
  // The reference samples the posterior before it draws the noise.
  const drawn = logVariance && (await inTurns(noise.randnInPieces(count)));
  const latents = await inTurns(
    mapped(new Float32Array(images * latentCount(size)), (_, i) => {
      const at = i % count;
      const sample = drawn ? mean[at]! + Math.exp(0.5 * logVariance[at]!) * drawn[at]! : mean[at]!;
      return (sample - shiftFactor) * scalingFactor;
    }),
  );
  const mix = schedule.addNoise(0);
  const added = await draw(noise, size, images);
  return inTurns(mapped(latents, (value, i) => mix.original * value + mix.noise * added[i]!));
}

/** `values`, each replaced by its image under `map`. */
function* mapped(
  values: Float32Array,
  map: (value: number, index: number) => number,
): Generator<void, Float32Array, void> {
  for (let i = 0; i < values.length; i++) {
    values[i] = map(values[i]!, i);
    if (i % PIECE === PIECE - 1) yield;
  }
  return values;
}
