/**
 * The variants of the heavy families of kernels, and which one does an operation.
 *
 * What *can* do an operation follows from the operation and the adapter; what *should* is a rule, namely the first of the
 * candidates, which whoever has timed them on this adapter overrules with `Target.choose` (a tuner, or a test that forces
 * one variant after the other). All candidates give the same result, within the rounding of f32.
 */

import type { Target } from "./dispatch.ts";
import {
  costOf,
  fitsForm,
  MATRIX_FORMS,
  MATRIX_VARIANTS,
  type MatrixVariant,
  matrixAttention,
} from "./kernels/matrix.ts";
import {
  type Attention,
  type Convolution,
  channelsOf,
  type GroupNormApply,
  type MatrixParameter,
  partsOf,
  rowsOf,
  tensorBytes,
} from "./tensor.ts";
import { TRANSFORMED_TAPS, type TransformedForm, transformedTexture, WINOGRAD_SIDE } from "./weights.ts";

/** Of convolutions, and of linear layers, which are convolutions too. */
export const CONVOLUTION_VARIANTS = [
  "winograd",
  "subpixel",
  "narrow",
  "subgroup",
  "tiled",
  ...MATRIX_VARIANTS,
] as const;
export const ATTENTION_VARIANTS = ["textured", "subgroup", "tiled", "matrix"] as const;
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
  const variants = plainVariants(operation, target);
  return operation.gated ? variants.filter((variant) => canGate(variant, operation, target)) : variants;
}

/** Whether a layer should be one with the gate that follows it: not where a matrix unit could do it, whose kernel cannot gate. */
export function shouldGate(layer: Convolution, target: Target): boolean {
  return matrixVariants(layer, target).length === 0 && canGate(convolutionVariant(layer, target), layer, target);
}

/** Whether a kernel should multiply the halves of a layer: where an invocation has, or is given, both. */
function canGate(variant: ConvolutionVariant, { weight }: Convolution, target: Target): boolean {
  if (variant === "tiled") return true;
  const hasBoth = target.lanes === QUAD_LANES || target.textured?.(weight) === true;
  return variant === "subgroup" && hasBoth && weight.outputQuads <= MAX_GATED_QUADS;
}

// A line of a wider matrix is pages long, and its halves lie on pages of their own: from lavapipe, 0.82× of two dispatches at
// 10240 channels, 1.06× at 5120.
const MAX_GATED_QUADS = 1536;

/** Subgroups of so few lanes have a form of the subgroup variant of their own: conv2d_subgroup_quad.wgsl. */
export const QUAD_LANES = 4;

function plainVariants(operation: Convolution, target: Target): readonly ConvolutionVariant[] {
  const { lanes, hardware = false } = target;
  if (lanes === undefined) return ["tiled"];
  const narrow = canNarrow(operation, target) ? (["narrow"] as const) : [];
  const winograd = canWinograd(operation, target) ? (["winograd"] as const) : [];
  const subpixel = canSubpixel(operation, target) ? (["subpixel"] as const) : [];
  const matrix = matrixVariants(operation, target);
  const saving = [
    ...(savesByNarrow(operation, lanes) ? narrow : []),
    ...(hardware ? [] : savingProducts(operation, lanes, [...subpixel, ...winograd])),
  ];
  const general = hardware ? (["tiled", "subgroup"] as const) : (["subgroup", "tiled"] as const);
  return [...new Set([...matrix, ...saving, general[0], ...narrow, ...subpixel, ...winograd, general[1]])];
}

// What WebGPU guarantees of workgroup memory, and of invocations of a workgroup.
const WORKGROUP_BYTES = 16384;
const WORKGROUP_SIZE = 256;

/** Of an adapter with subgroups. */
export function workgroupLimits({ lanes, maxWorkgroupBytes = WORKGROUP_BYTES }: Target) {
  return { lanes: lanes!, maxWorkgroupBytes };
}

/** Operands are halves: activations and weights that are stored as such lose nothing. */
function matrixVariants(operation: Convolution, target: Target): readonly MatrixVariant[] {
  const { weight, picture, output } = operation;
  const { lanes, matrixUnit, storage, weights, textured } = target;
  if (!matrixUnit || !lanes || storage !== "f16" || weights !== "f16" || textured?.(weight)) return [];
  const limits = { ...workgroupLimits(target), maxWorkgroupSize: WORKGROUP_SIZE };
  const rows = picture.images * picture.outHeight * picture.outWidth;
  return MATRIX_VARIANTS.filter((variant) => fitsForm(MATRIX_FORMS[variant], matrixUnit, limits))
    .map((variant) => ({ variant, cost: costOf(MATRIX_FORMS[variant], rows, channelsOf(output)) }))
    .sort((a, b) => a.cost - b.cost)
    .map(({ variant }) => variant);
}

// Lanes of a subgroup that load weights in conv2d_narrow.wgsl.
const NARROW_LANES = 3;
// A pixel of it costs so much for each output quad, beside one of conv2d_subgroup.wgsl for as many as there are lanes.
const NARROW_COST = 0.25;

function canNarrow(operation: Convolution, target: Target): boolean {
  const { weight } = operation;
  const few = target.lanes !== undefined && target.lanes >= NARROW_LANES && weight.outputQuads < target.lanes;
  return few && isSquare(operation) && target.textured?.(weight) !== true;
}

/** Whether so few of the lanes would have channels of their own that it is better to give them pixels: not of four lanes. */
function savesByNarrow({ weight }: Convolution, lanes: number): boolean {
  return lanes > 4 && weight.outputQuads * NARROW_COST < Math.ceil(weight.outputQuads / lanes);
}

function isSquare({ kernel }: Convolution): boolean {
  return kernel.height === 3 && kernel.width === 3 && kernel.stride === 1;
}

function canWinograd(operation: Convolution, target: Target): boolean {
  const { weight } = operation;
  const wide = Math.min(weight.inputQuads, weight.outputQuads) >= WINOGRAD_MIN_QUADS;
  return isSquare(operation) && wide && canTransform(weight, "winograd", target);
}

/** Whether the input is resized to exactly twice its size, and then padded by one pixel all around. */
function canSubpixel(operation: Convolution, target: Target): boolean {
  const { picture, virtual, kernel, weight } = operation;
  const [height, width] = [2 * picture.inHeight, 2 * picture.inWidth];
  const isDoubled = virtual.height === height && virtual.width === width;
  const isPadded = kernel.top === 1 && kernel.left === 1 && picture.outHeight === height && picture.outWidth === width;
  return isSquare(operation) && isDoubled && isPadded && canTransform(weight, "subpixel", target);
}

function canTransform(weight: MatrixParameter, form: TransformedForm, target: Target): boolean {
  return target.transformed === true && transformedTexture(weight, form, target) !== undefined;
}

// With fewer channels than 32 the transforms always cost more than they save.
const WINOGRAD_MIN_QUADS = 8;
// What a subgroup of winograd_product.wgsl owns: so many tiles × so many quads of output channels a lane. `cost` is CPU time
// on lavapipe where no lane is without a channel, beside the best.
const WINOGRAD_TILES = [
  { rows: 16, quads: 2, cost: 1 },
  { rows: 32, quads: 1, cost: 1.2 },
] as const;
// Costs in products of the direct form: of Winograd's products and, for each channel of a pixel, of its transforms, and of a
// dispatch more (50 µs). From lavapipe (transforms 75 to 105 by shapes of 32 to 320 channels) and, with subgroups of four,
// from SwiftShader.
const SAVING_COSTS = { product: 1, transform: 90, dispatch: 1.4e6 };
const SAVING_COSTS_OF_QUADS = { product: 1.85, transform: 210, dispatch: 0.3e6 };

/** The tile that costs least for so many output quads, and the quads that they take then, those without a channel too. */
export function winogradTile(outQuads: number, lanes: number) {
  const tiles = WINOGRAD_TILES.map((tile) => {
    const unit = tile.quads * lanes;
    return { ...tile, productQuads: Math.ceil(outQuads / unit) * unit };
  });
  return tiles.reduce((best, next) => (next.productQuads * next.cost < best.productQuads * best.cost ? next : best));
}

/** Of the forms of fewer products those that cost less than all of them would, the cheapest first. */
function savingProducts<V extends "subpixel" | "winograd">(
  { weight, picture }: Convolution,
  lanes: number,
  forms: readonly V[],
): V[] {
  const [inputs, outputs] = [weight.inputQuads * 4, weight.outputQuads * 4];
  const pixels = picture.images * picture.outHeight * picture.outWidth;
  const tiles =
    picture.images * Math.ceil(picture.outHeight / WINOGRAD_SIDE) * Math.ceil(picture.outWidth / WINOGRAD_SIDE);
  const atOnce = winogradTile(weight.outputQuads, lanes).rows;
  const rows = Math.ceil(tiles / atOnce) * atOnce;
  const cost = lanes === QUAD_LANES ? SAVING_COSTS_OF_QUADS : SAVING_COSTS;
  const direct = pixels * 9 * inputs * outputs;
  const costs = {
    subpixel: pixels * 4 * inputs * outputs + 3 * cost.dispatch,
    // The transforms pay where there are many channels, and enough pixels to fill the tiles.
    winograd:
      rows * TRANSFORMED_TAPS.winograd * inputs * outputs * cost.product +
      pixels * (inputs + outputs) * cost.transform +
      2 * cost.dispatch,
  };
  return forms.filter((form) => costs[form] < direct).sort((a, b) => costs[a] - costs[b]);
}

/** The variants that can do an attention on this adapter, by rule the best first. Never empty. */
export function attentionVariants(operation: Attention, target: Target): readonly AttentionVariant[] {
  const { lanes, maxTextureDimension } = target;
  if (lanes === undefined) return ["tiled"];
  const { query, key, heads, head } = operation;
  const matrix = canMatrixAttention(operation, target) ? (["matrix"] as const) : [];
  const ordered = (...rest: AttentionVariant[]) => [...matrix, ...rest];
  const images = query.tensor.shape[0]!;
  const rows = Math.max(rowsOf(query.tensor), rowsOf(key.tensor));
  const fits = rows <= maxTextureDimension && (3 * heads * head.padded) / 4 <= maxTextureDimension;
  if (!fits || head.padded / 4 > MAX_HEAD_QUADS_A_LANE * lanes) return ordered("subgroup", "tiled");
  const many = rowsOf(key.tensor) / images >= MANY_KEYS && lanes >= MANY_LANES;
  return many ? ordered("textured", "subgroup", "tiled") : ordered("subgroup", "textured", "tiled");
}

function canMatrixAttention({ head }: Attention, target: Target): boolean {
  const { lanes, matrixUnit, storage } = target;
  if (!matrixUnit || !lanes || storage !== "f16") return false;
  return matrixAttention(head.padded, matrixUnit, workgroupLimits(target)) !== undefined;
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
