import source from "../../../../shaders/guidance_rescale.wgsl" with { type: "text" };
import { kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { channelsOf, quads, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";
import { imageQuads, ROW_QUADS } from "./rows.ts";

/** Both branches' predictions to a guided one whose deviation is partly that of the positive one. */
export interface GuidanceRescale extends OperationBase {
  readonly kind: "guidance-rescale";
  readonly prediction: Tensor;
  readonly rows: Tensor;
}

/**
 * Applies classifier-free guidance and rescales its result, by the guidance scale and the share in each image's row.
 * @param prediction `[2 · n, h, w, channels]`: negative, then positive
 * @returns `[n, h, w, channels]`
 */
export function guidanceRescale(g: Graph, prediction: Tensor, rows: Tensor, name: string): Tensor {
  const output = g.tensor(g.path(name), [prediction.shape[0]! / 2, ...prediction.shape.slice(1)]);
  return g.push<GuidanceRescale>({ kind: "guidance-rescale", name: g.path(name), prediction, rows, output }).output;
}

export const guidanceRescaleKind: OperationKind<GuidanceRescale> = {
  reads: ({ prediction, rows }) => [prediction, rows],
  lower({ name, prediction, rows, output }, { storage }) {
    const [images = 1, height = 1, width = 1] = output.shape;
    const channels = channelsOf(output);
    return [
      {
        kernel: kernel("guidance_rescale", source, storage),
        label: name,
        params: {
          images,
          image_quads: imageQuads(output),
          row_quads: ROW_QUADS,
          pixel_quads: quads(channels),
          channels,
          count: height * width * channels,
        },
        bindings: [prediction, rows, output].map((tensor) => ({ tensor })),
        workgroups: [images, 1, 1],
      },
    ];
  },
};
