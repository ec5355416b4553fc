import source from "../../../../shaders/finite_check.wgsl" with { type: "text" };
import { kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import type { Storage, Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";
import { imageQuads } from "./rows.ts";

/** Looks for NaN and infinity in the prediction of a step and in the latents that it has left. */
export interface FiniteCheck extends OperationBase {
  readonly kind: "finite-check";
  readonly prediction: Tensor;
  readonly latents: Tensor;
}

/**
 * True if the network's prediction and the latents as they are now hold NaN or infinity.
 * @param prediction `[branches · n, h, w, channels]`
 * @param latents f32 `[n, h, w, channels]`
 * @returns u32 `[n]`: 1 for an image that does, else 0
 */
export function finiteCheck(g: Graph, prediction: Tensor, latents: Tensor, name: string): Tensor {
  const output = g.tensor(g.path(name), [latents.shape[0]!], { element: "u32" });
  return g.push<FiniteCheck>({ kind: "finite-check", name: g.path(name), prediction, latents, output }).output;
}

/**
 * The bits, as f32, of the least magnitude that counts as infinite. Stored as f16, numbers saturate at 65504. In f32 it is
 * 2^64, whose square is infinite: no norm comes back from there, and infinity would be found a network too late.
 */
export function infinityBits(storage: Storage): number {
  return storage === "f16" ? 0x477fe000 : 0x5f800000;
}

/** The same in f32, as a number. */
export const INFINITE_FROM = 2 ** 64;

export const finiteCheckKind: OperationKind<FiniteCheck> = {
  reads: ({ prediction, latents }) => [prediction, latents],
  lower({ name, prediction, latents, output }, { storage }) {
    const images = latents.shape[0]!;
    return [
      {
        kernel: kernel("finite_check", source, storage),
        label: name,
        params: {
          images,
          image_quads: imageQuads(latents),
          branches: prediction.shape[0]! / images,
          prediction_limit: infinityBits(storage),
          latents_limit: infinityBits("f32"),
        },
        bindings: [prediction, latents, output].map((tensor) => ({ tensor })),
        workgroups: [images, 1, 1],
      },
    ];
  },
};
