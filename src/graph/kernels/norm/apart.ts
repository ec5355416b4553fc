/**
 * Group norm in two dispatches, one for the statistics and one for the rest: `shaders/group_norm_apply.wgsl` after
 * `shaders/group_norm_stats.wgsl`, which is an operation of its own.
 */

import source from "../../../../shaders/group_norm_apply.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import { activationCode, channelsOf, partsOf, quads, rowsOf } from "../../tensor.ts";
import type { KernelVariant } from "../variant.ts";
import type { GroupNormApply } from "./operation.ts";
import { sources } from "./sources.ts";

// Pixels that one invocation normalises: enough to pay for merging the statistics, few enough to fill the adapter. A
// software adapter (narrow subgroups, a few cores) is full with few; there 256 take 13 to 45% less CPU time than 64.
const RUN_PIXELS = { wide: 64, narrow: 256 };
const NARROW_LANES = 16;

export const apart = {
  name: "apart",
  can: () => true,
  cost: () => 1,
  lower(operation, { storage, lanes }) {
    const { input, statistics, gamma, beta, output } = operation;
    const images = input.shape[0]!;
    const pixels = rowsOf(input) / images;
    const layerChannels = channelsOf(statistics.input);
    const [first, second] = partsOf(input);
    const pair = sources(first!, second);
    const runPixels = lanes !== undefined && lanes <= NARROW_LANES ? RUN_PIXELS.narrow : RUN_PIXELS.wide;
    const runs = Math.ceil(pixels / runPixels);
    const { workgroups, width } = grid(images * runs * pair.quads);
    return [
      {
        kernel: kernel("group_norm_apply", source, storage),
        label: operation.name,
        params: {
          images,
          pixels,
          quads: pair.quads,
          first_source_quads: pair.firstQuads,
          chunks: statistics.chunks,
          chunk_pixels: statistics.chunkPixels,
          run_pixels: runPixels,
          runs,
          layer_channels: layerChannels,
          group_channels: operation.groupChannels,
          eps: { f32: operation.eps },
          activation: activationCode[operation.activation],
          first_quad: operation.firstQuad,
          layer_quads: quads(layerChannels),
          grid_width: width,
        },
        bindings: [
          ...pair.bindings,
          { tensor: statistics.output },
          { parameter: gamma },
          { parameter: beta },
          { tensor: output },
        ],
        workgroups,
      },
    ];
  },
} as const satisfies KernelVariant<GroupNormApply>;
