/** The latents that a run starts from: noise, a picture's latents with noise, or latents as they are; and its masks. */

import { inTurns } from "../platform/turns.ts";
import { type LatentSize, latentCount, type Pixels, toNhwc } from "./latents.ts";
import { blank, latentMask, type Mask, type SlotMask, withoutMasked } from "./mask.ts";
import type { FamilyModel, StepShape } from "./model.ts";
import { type NoiseGenerator, PIECE } from "./noise.ts";
import type { Pictures } from "./pictures.ts";
import { PipelineError, type PipelineRequest } from "./request.ts";
import type { NoiseLevel, Schedule } from "./schedulers/schedule.ts";
import { draw, startNoise } from "./variation.ts";

/** The beginning of a run's pictures. */
export interface Start {
  /** `[n, c, h, w]` */
  readonly latents: Float32Array;
  /** The mask of each picture; none without. */
  readonly masks: readonly (SlotMask | undefined)[];
}

/** All that a start is made of. */
export interface StartParts {
  readonly family: FamilyModel;
  readonly pictures: Pictures;
  readonly noise: NoiseGenerator;
  readonly schedule: Schedule;
  readonly shape: StepShape;
}

/**
 * The start of a request, with draws in the reference's order: the picture's posterior, the noise of all pictures, the masked
 * picture's posterior.
 * @throws PipelineError for a mask without a picture, and for latents that are not those of its pictures
 */
export async function startOf(request: PipelineRequest, parts: StartParts): Promise<Start> {
  const { family, noise, schedule, shape } = parts;
  const { image, mask, strength = 1 } = request;
  if (mask && !image) throw new PipelineError("mask", "needs an image to draw into");
  const given = givenLatents(request, shape);
  const isWhole = given === undefined && strength === 1 && request.denoisingStart === undefined;
  // At full strength nothing is left of the picture under the mask.
  const isFromNoise = image === undefined || (mask !== undefined && isWhole);
  const isEncoded = image !== undefined && (shape.masked === true || (given === undefined && !isFromNoise));
  const original = isEncoded ? await sampleOf(image, parts) : undefined;
  const isDrawn = given === undefined || shape.masked === true;
  const drawn = isDrawn ? await drawnNoise(request, parts, isFromNoise && mask === undefined) : undefined;
  const latents =
    given ??
    (isFromNoise
      ? await scaled(drawn!, schedule.initNoiseSigma)
      : await noised(original!, drawn!, schedule.addNoise(0)));
  const masks = await masksOf(request, parts, { original, drawn });
  if (mask && !family.step.readsMask) await skipMaskedPicture(family, noise, shape);
  return { latents, masks };
}

/** The noise that a start is made with; of words alone, as the request varies it. */
function drawnNoise(
  request: PipelineRequest,
  { family, noise, shape }: StartParts,
  isVaried: boolean,
): Promise<Float32Array> {
  return isVaried ? startNoise(request, noise, shape, family.latent.downscale) : draw(noise, shape, shape.slots);
}

/** @throws PipelineError if they are not as many as the pictures' */
function givenLatents({ latents }: PipelineRequest, shape: StepShape): Float32Array | undefined {
  const { slots, channels, height, width } = shape;
  if (latents === undefined || latents.length === slots * latentCount(shape)) return latents;
  const reason = `are ${latents.length} numbers; [${[slots, channels, height, width]}] wants ${slots * latentCount(shape)}`;
  throw new PipelineError("latents", reason);
}

/** Clean latents of a picture, `[c, h, w]`: drawn from the encoder's posterior if it has one. */
async function sampleOf(image: Pixels, { family, pictures, noise }: StartParts): Promise<Float32Array> {
  const { shiftFactor, scalingFactor } = family.picture.full.autoencoder;
  const { mean, logVariance } = await pictures.encode(image);
  const drawn = logVariance && (await inTurns(noise.randnInPieces(mean.length)));
  return inTurns(
    mapped(new Float32Array(mean.length), (_, i) => {
      const sample = drawn ? mean[i]! + Math.exp(0.5 * logVariance[i]!) * drawn[i]! : mean[i]!;
      return (sample - shiftFactor) * scalingFactor;
    }),
  );
}

/** Text-to-image: noise at the level of the first step. A new array: masks keep the noise itself. */
function scaled(noise: Float32Array, sigma: number): Promise<Float32Array> {
  return inTurns(mapped(noise.slice(), (value) => value * sigma));
}

/** Latents of one picture with the noise of each of several, at a level: `[n, c, h, w]`. */
function noised(original: Float32Array, noise: Float32Array, level: NoiseLevel): Promise<Float32Array> {
  const at = (i: number) => level.original * original[i % original.length]! + level.noise * noise[i]!;
  return inTurns(mapped(new Float32Array(noise.length), (_, i) => at(i)));
}

/** The mask of each picture; an inpainting UNet has one in any case, without a picture all of it. */
async function masksOf(
  request: PipelineRequest,
  parts: StartParts,
  { original, drawn }: { readonly original?: Float32Array; readonly drawn?: Float32Array },
): Promise<(SlotMask | undefined)[]> {
  const { family, shape } = parts;
  const { downscale } = family.latent;
  const { slots, channels, height, width } = shape;
  const nhwc = (values: Float32Array) => inTurns(toNhwc(values, 1, channels, height * width));
  if (family.step.readsMask) {
    const { image, mask } = maskedPicture(request);
    const masked = await nhwc(await sampleOf(withoutMasked(image, mask), parts));
    const input = { mask: latentMask(mask, downscale), masked };
    return new Array<SlotMask>(slots).fill(input);
  }
  if (request.mask === undefined) return new Array<undefined>(slots).fill(undefined);
  const mask = latentMask(request.mask, downscale);
  const clean = await nhwc(original!);
  const each = latentCount(shape);
  const masks: SlotMask[] = [];
  for (let slot = 0; slot < slots; slot++) {
    masks.push({ mask, original: clean, noise: await nhwc(drawn!.subarray(slot * each, (slot + 1) * each)) });
  }
  return masks;
}

/** The picture and the mask that an inpainting UNet reads. Without a mask all of the picture is drawn anew. */
function maskedPicture({ image, mask, width, height }: PipelineRequest): {
  readonly image: Pixels;
  readonly mask: Mask;
} {
  const empty = blank(width, height);
  return { image: image ?? empty.image, mask: mask ?? empty.mask };
}

/** The reference encodes the masked picture for every UNet, so its draw is consumed. */
async function skipMaskedPicture({ picture }: FamilyModel, noise: NoiseGenerator, size: LatentSize): Promise<void> {
  if (picture.full.autoencoder.kind === "kl") await draw(noise, size, 1);
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
