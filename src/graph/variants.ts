/**
 * The kernel variants of the heavy families by name. Adding one is a file in its family's folder, a line in the family's
 * list and a shader.
 */

import type { Choose, Varied } from "./choice.ts";
import type { Target } from "./dispatch.ts";
import { ATTENTIONS } from "./kernels/attention/variants.ts";
import type { Convolution } from "./kernels/convolution/operation.ts";
import { CONVOLUTIONS } from "./kernels/convolution/variants.ts";
import type { GroupNormApply } from "./kernels/norm/operation.ts";
import { GROUP_NORMS } from "./kernels/norm/variants.ts";
import { chooseVariant, type KernelVariant, ranked } from "./kernels/variant.ts";

export type ConvolutionVariant = (typeof CONVOLUTIONS)[number]["name"];
export type AttentionVariant = (typeof ATTENTIONS)[number]["name"];
export type GroupNormVariant = (typeof GROUP_NORMS)[number]["name"];
export type Variant = ConvolutionVariant | AttentionVariant | GroupNormVariant;

export const CONVOLUTION_VARIANTS: readonly ConvolutionVariant[] = CONVOLUTIONS.map(({ name }) => name);
export const ATTENTION_VARIANTS: readonly AttentionVariant[] = ATTENTIONS.map(({ name }) => name);
export const GROUP_NORM_VARIANTS: readonly GroupNormVariant[] = GROUP_NORMS.map(({ name }) => name);

const FAMILIES = {
  convolution: CONVOLUTIONS,
  attention: ATTENTIONS,
  "group-norm-apply": GROUP_NORMS,
} satisfies { [K in Varied["kind"]]: readonly KernelVariant<Extract<Varied, { kind: K }>, Variant>[] };

/** All names, of whatever family. */
export const VARIANTS: readonly Variant[] = [
  ...new Set([...CONVOLUTION_VARIANTS, ...ATTENTION_VARIANTS, ...GROUP_NORM_VARIANTS]),
];

/** The names of variants that run on a matrix unit. */
const MATRIX_UNIT_VARIANTS: ReadonlySet<string> = new Set(
  Object.values(FAMILIES).flatMap((family: readonly Pick<KernelVariant<never>, "name" | "onMatrixUnit">[]) =>
    family.filter(({ onMatrixUnit }) => onMatrixUnit).map(({ name }) => name),
  ),
);

export function isVaried(operation: { readonly kind: string }): operation is Varied {
  return Object.hasOwn(FAMILIES, operation.kind);
}

/** The names of the variants that can compute an operation on this adapter, by rule the best first. Never empty. */
export function variantsOf<T extends Varied>(operation: T, target: Target): Variant[] {
  const family = FAMILIES[operation.kind] as readonly KernelVariant<Varied>[] as readonly KernelVariant<T, Variant>[];
  return ranked(family, operation, target).map(({ name }) => name);
}

export function isOnMatrixUnit(variant: string): boolean {
  return MATRIX_UNIT_VARIANTS.has(variant);
}

/** Always the variant of this name, if it can compute the operation. */
export function always(name: Variant): Choose {
  return (_, candidates) => candidates.find((candidate) => candidate === name);
}

/** True if a layer should be one with the gate after it: not if a matrix unit could do it, whose kernel cannot gate. */
export function shouldGate(layer: Convolution, target: Target): boolean {
  const hasMatrixUnit = CONVOLUTIONS.some(
    (variant: KernelVariant<Convolution>) => variant.onMatrixUnit && variant.can(layer, target),
  );
  if (hasMatrixUnit) return false;
  const choice: KernelVariant<Convolution> = chooseVariant(CONVOLUTIONS, layer, target);
  return choice.can({ ...layer, gated: true }, target);
}

/** True if a group norm should make its statistics itself. */
export function shouldJoin(norm: GroupNormApply, target: Target): boolean {
  return chooseVariant(GROUP_NORMS, norm, target).name === "joined";
}
