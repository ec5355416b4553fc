/**
 * The variants of the heavy families of kernels, and which one does an operation.
 *
 * What *can* do an operation follows from the operation and the adapter; what *should* is a rule, namely the first of the
 * candidates, which whoever has timed them on this adapter overrules with `Target.choose` (a tuner, or a test that forces
 * one variant after the other). All candidates give the same result, within the rounding of f32.
 */

import type { Target } from "./dispatch.ts";
import type { Attention, Convolution } from "./tensor.ts";

/** Of convolutions, and of linear layers, which are convolutions too. */
export const CONVOLUTION_VARIANTS = ["subgroup", "tiled"] as const;
export const ATTENTION_VARIANTS = ["subgroup", "tiled"] as const;

export type ConvolutionVariant = (typeof CONVOLUTION_VARIANTS)[number];
export type AttentionVariant = (typeof ATTENTION_VARIANTS)[number];
export type Variant = ConvolutionVariant | AttentionVariant;

/** All names, of whatever family. */
export const VARIANTS: readonly Variant[] = [...new Set([...CONVOLUTION_VARIANTS, ...ATTENTION_VARIANTS])];

/** The operations that have variants. */
export type Varied = Convolution | Attention;

/** Picks one of `candidates`, of which the first is the rule's own choice; that stays where anything else is given. */
export type Choose = (operation: Varied, candidates: readonly Variant[], target: Target) => Variant | undefined;

/** Always the variant of this name, where it can do the operation. */
export function always(name: Variant): Choose {
  return (_, candidates) => candidates.find((candidate) => candidate === name);
}

/** The variants that can do a convolution on this adapter, by rule the best first. Never empty. */
export function convolutionVariants(_: Convolution, { lanes }: Target): readonly ConvolutionVariant[] {
  return lanes === undefined ? ["tiled"] : ["subgroup", "tiled"];
}

/** The variants that can do an attention on this adapter, by rule the best first. Never empty. */
export function attentionVariants(_: Attention, { lanes }: Target): readonly AttentionVariant[] {
  return lanes === undefined ? ["tiled"] : ["subgroup", "tiled"];
}

export function convolutionVariant(operation: Convolution, target: Target): ConvolutionVariant {
  return chosen(operation, convolutionVariants(operation, target), target);
}

export function attentionVariant(operation: Attention, target: Target): AttentionVariant {
  return chosen(operation, attentionVariants(operation, target), target);
}

function chosen<V extends Variant>(operation: Varied, candidates: readonly V[], target: Target): V {
  const choice = target.choose?.(operation, candidates, target);
  return candidates.find((candidate) => candidate === choice) ?? candidates[0]!;
}
