/**
 * The variants of the heavy families of kernels, and which one does an operation.
 *
 * What *can* do an operation follows from the operation and the adapter; what *should* is a rule, namely the first of the
 * candidates, which whoever has timed them on this adapter overrules with `Target.choose` (a tuner, or a test that forces
 * one variant after the other). All candidates give the same result, within the rounding of f32.
 */

import type { Target } from "./dispatch.ts";
import {
  type Attention,
  type Convolution,
  channelsOf,
  type GroupNormApply,
  partsOf,
  rowsOf,
  tensorBytes,
} from "./tensor.ts";
import { transformedTexture, WINOGRAD_FREQUENCIES, WINOGRAD_SIDE } from "./weights.ts";

/** Of convolutions, and of linear layers, which are convolutions too. */
export const CONVOLUTION_VARIANTS = ["winograd", "subgroup", "tiled", "matrix"] as const;
export const ATTENTION_VARIANTS = ["textured", "subgroup", "tiled"] as const;
/** One dispatch, or one for the statistics and one for the rest. */
export const GROUP_NORM_VARIANTS = ["joined", "apart"] as const;

export type ConvolutionVariant = (typeof CONVOLUTION_VARIANTS)[number];
export type AttentionVariant = (typeof ATTENTION_VARIANTS)[number];
export type GroupNormVariant = (typeof GROUP_NORM_VARIANTS)[number];
export type Variant = ConvolutionVariant | AttentionVariant | GroupNormVariant;

/** All names, of whatever family. */
export const VARIANTS: readonly Variant[] = [
  ...new Set([...CONVOLUTION_VARIANTS, ...ATTENTION_VARIANTS, ...GROUP_NORM_VARIANTS]),
];

/** The operations that have variants. */
export type Varied = Convolution | Attention | GroupNormApply;

/** What a choice may depend on besides the operation; of weights, where it has a matrix. */
export type ChoiceTarget = Pick<Target, "storage"> & Partial<Pick<Target, "weights" | "textured">>;

/** Picks one of `candidates`, of which the first is the rule's own choice; that stays where anything else is given. */
export type Choose = (operation: Varied, candidates: readonly Variant[], target: ChoiceTarget) => Variant | undefined;

/** Always the variant of this name, where it can do the operation. */
export function always(name: Variant): Choose {
  return (_, candidates) => candidates.find((candidate) => candidate === name);
}

/** The variants that can do a convolution on this adapter, by rule the best first. Never empty. */
export function convolutionVariants(operation: Convolution, target: Target): readonly ConvolutionVariant[] {
  if (target.lanes === undefined) return ["tiled"];
  // Last: it takes a tuner that has seen it be right and quick.
  const rest: readonly ConvolutionVariant[] = canMatrix(target) ? ["tiled", "matrix"] : ["tiled"];
  if (!canWinograd(operation, target)) return ["subgroup", ...rest];
  return savesByWinograd(operation) ? ["winograd", "subgroup", ...rest] : ["subgroup", "winograd", ...rest];
}

/** Its operands are halves: activations and weights that are stored as such lose nothing. */
function canMatrix({ matrixUnit, storage, weights }: Target): boolean {
  return matrixUnit !== undefined && storage === "f16" && weights === "f16";
}

function canWinograd({ weight, kernel }: Convolution, target: Target): boolean {
  const square = kernel.height === 3 && kernel.width === 3 && kernel.stride === 1;
  const wide = Math.min(weight.inputQuads, weight.outputQuads) >= WINOGRAD_MIN_QUADS;
  return target.winograd === true && square && wide && transformedTexture(weight, target) !== undefined;
}

// With fewer channels than 32 the transforms always cost more than they save.
const WINOGRAD_MIN_QUADS = 8;
// Rows of tiles that a product takes at a time, whether or not there are as many.
const WINOGRAD_ROWS = 16;
// What the transforms cost for each channel of a pixel, in products of the direct form. From lavapipe: about 105 by two
// shapes of 128 and 320 channels, about 160 by one of 64.
const TRANSFORM_COST = 110;

/** Whether fewer products pay for the transforms: where there are many channels, and enough pixels to fill the tiles. */
function savesByWinograd({ weight, picture }: Convolution): boolean {
  const [inputs, outputs] = [weight.inputQuads * 4, weight.outputQuads * 4];
  const pixels = picture.images * picture.outHeight * picture.outWidth;
  const tiles =
    picture.images * Math.ceil(picture.outHeight / WINOGRAD_SIDE) * Math.ceil(picture.outWidth / WINOGRAD_SIDE);
  const rows = Math.ceil(tiles / WINOGRAD_ROWS) * WINOGRAD_ROWS;
  const direct = pixels * 9 * inputs * outputs;
  const transformed = rows * WINOGRAD_FREQUENCIES * inputs * outputs + pixels * (inputs + outputs) * TRANSFORM_COST;
  return transformed < direct;
}

/** The variants that can do an attention on this adapter, by rule the best first. Never empty. */
export function attentionVariants(operation: Attention, target: Target): readonly AttentionVariant[] {
  const { lanes, maxTextureDimension } = target;
  if (lanes === undefined) return ["tiled"];
  const { query, key, heads, head } = operation;
  const images = query.tensor.shape[0]!;
  const rows = Math.max(rowsOf(query.tensor), rowsOf(key.tensor));
  const fits = rows <= maxTextureDimension && (3 * heads * head.padded) / 4 <= maxTextureDimension;
  if (!fits || head.padded / 4 > MAX_HEAD_QUADS_A_LANE * lanes) return ["subgroup", "tiled"];
  const many = rowsOf(key.tensor) / images >= MANY_KEYS && lanes >= MANY_LANES;
  return many ? ["textured", "subgroup", "tiled"] : ["subgroup", "textured", "tiled"];
}

// Of a head, in attention_textured.wgsl.
const MAX_HEAD_QUADS_A_LANE = 3;
// With fewer, a dispatch that copies the operands first does not pay.
const MANY_KEYS = 256;
// With the four of SwiftShader it never does.
const MANY_LANES = 8;

/** The variants that can do a group norm on this adapter, by rule the best first. Never empty. */
export function groupNormVariants(
  operation: GroupNormApply,
  { lanes, storage }: Pick<Target, "lanes" | "storage">,
): readonly GroupNormVariant[] {
  const { input, statistics } = operation;
  const isWhole = channelsOf(input) === channelsOf(statistics.input) && partsOf(input).length <= 2;
  if (lanes === undefined || !isWhole) return ["apart"];
  const unitBytes = (tensorBytes(input, storage) / input.shape[0]!) * (groupNormUnit(operation) / channelsOf(input));
  return unitBytes <= MAX_UNIT_BYTES ? ["joined", "apart"] : ["apart", "joined"];
}

// What a workgroup of the joined form goes over three times has to stay in the cache of a core.
const MAX_UNIT_BYTES = 2 ** 19;

/** Channels of the fewest whole groups that are whole quads. */
export function groupNormUnit({ groupChannels }: GroupNormApply): number {
  return [1, 2, 4].map((groups) => groups * groupChannels).find((channels) => channels % 4 === 0)!;
}

export function groupNormVariant(
  operation: GroupNormApply,
  target: Pick<Target, "lanes" | "storage" | "choose">,
): GroupNormVariant {
  return chosen(operation, groupNormVariants(operation, target), target);
}

export function convolutionVariant(operation: Convolution, target: Target): ConvolutionVariant {
  return chosen(operation, convolutionVariants(operation, target), target);
}

export function attentionVariant(operation: Attention, target: Target): AttentionVariant {
  return chosen(operation, attentionVariants(operation, target), target);
}

function chosen<V extends Variant>(
  operation: Varied,
  candidates: readonly V[],
  target: ChoiceTarget & Pick<Target, "choose">,
): V {
  const choice = target.choose?.(operation, candidates, target);
  return candidates.find((candidate) => candidate === choice) ?? candidates[0]!;
}
