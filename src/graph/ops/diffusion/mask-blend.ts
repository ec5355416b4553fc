import source from "../../../../shaders/mask_blend.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { channelsOf, quads, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";
import { imageQuads } from "./rows.ts";

export interface MaskBlendOperands {
  /** f32 `[n, h, w, c]`, advanced by the step. */
  readonly latents: Tensor;
  /** Clean latents of the picture, f32 `[n, h, w, c]`. */
  readonly original: Tensor;
  /** The noise that the run began with, f32 `[n, h, w, c]`. */
  readonly noise: Tensor;
  /** f32 `[n, h, w, 1]`: 1 where the picture is drawn anew, else 0. */
  readonly mask: Tensor;
  /** f32 `[n, 4]`: the shares of `original` and `noise` at the level that each image has reached; the rest is not read. */
  readonly known: Tensor;
}

/** The latents outside a mask put back to the picture's, in place; `output` is what they are then. */
export interface MaskBlend extends OperationBase, MaskBlendOperands {
  readonly kind: "mask-blend";
}

/** Puts the latents outside the mask back to the picture's, noised to the step's level; gives the latents, f32. */
export function maskBlend(g: Graph, operands: MaskBlendOperands, name: string): Tensor {
  const output = g.tensor(`${g.path(name)} blended`, operands.latents.shape, { element: "f32" });
  return g.push<MaskBlend>({ kind: "mask-blend", name: g.path(name), ...operands, output }).output;
}

export const maskBlendKind: OperationKind<MaskBlend> = {
  reads: ({ latents, original, noise, mask, known }) => [latents, original, noise, mask, known],
  changesState: true,
  lower({ name, latents, original, noise, mask, known, output }, { storage }) {
    const images = latents.shape[0]!;
    const { workgroups, width } = grid(images * imageQuads(latents));
    return [
      {
        kernel: kernel("mask_blend", source, storage),
        label: name,
        params: {
          images,
          image_quads: imageQuads(latents),
          channel_quads: quads(channelsOf(latents)),
          grid_width: width,
        },
        bindings: [latents, original, noise, mask, known, output].map((tensor) => ({ tensor })),
        workgroups,
      },
    ];
  },
};
