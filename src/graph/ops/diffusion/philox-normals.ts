import source from "../../../../shaders/philox_normal.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import { channelsOf, quads, rowsOf, type Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";

/** Noise as `torch.randn` draws it on CUDA, by six u32 of `draws` an image (`shaders/philox_normal.wgsl`). */
export interface PhiloxNormals extends OperationBase {
  readonly kind: "philox-normals";
  readonly draws: Tensor;
}

// Words of one image's draw, as `shaders/philox_normal.wgsl` lists them.
const DRAW_WORDS = 6;

/**
 * f32 noise `[n, h, w, c]` as `torch.randn` draws it on CUDA. draws, u32 `[n · 6]`, for each image: the key's low and
 * high word, the call's, the launch's threads (`PhiloxDraw`), and which element of the draw (NCHW) is the image's first.
 */
export function philoxNormals(
  g: Graph,
  draws: Tensor,
  shape: readonly [number, number, number, number],
  name: string,
): Tensor {
  if (draws.element !== "u32" || draws.shape[0] !== shape[0] * DRAW_WORDS) {
    throw g.error(name, `wants u32 [${shape[0] * DRAW_WORDS}], not ${draws.element} [${draws.shape}]`);
  }
  const output = g.tensor(g.path(name), shape, { element: "f32" });
  return g.push<PhiloxNormals>({ kind: "philox-normals", name: g.path(name), draws, output }).output;
}

export const philoxNormalsKind: OperationKind<PhiloxNormals> = {
  reads: ({ draws }) => [draws],
  lower({ name, draws, output }, { storage }) {
    const images = output.shape[0]!;
    const pixels = rowsOf(output) / images;
    const channels = channelsOf(output);
    const { workgroups, width } = grid(rowsOf(output) * quads(channels));
    return [
      {
        kernel: kernel("philox_normal", source, storage),
        label: name,
        params: { images, pixels, channels, quads: quads(channels), grid_width: width },
        bindings: [{ tensor: draws }, { tensor: output }],
        workgroups,
      },
    ];
  },
};
