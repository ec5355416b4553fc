/** Both halves of group norm in one dispatch: `shaders/group_norm.wgsl`. */

import source from "../../../../shaders/group_norm.wgsl" with { type: "text" };
import { kernel } from "../../dispatch.ts";
import { activationCode, channelsOf, partsOf, rowsOf, tensorBytes } from "../../tensor.ts";
import type { KernelVariant } from "../variant.ts";
import type { GroupNormApply } from "./operation.ts";
import { sources } from "./sources.ts";

// Invocations of a workgroup on hardware: as many as WebGPU guarantees.
const INVOCATIONS = 256;
// The part that a workgroup goes over three times has to stay in the cache of a core.
const MAX_UNIT_BYTES = 2 ** 19;

/** Channels of the fewest whole groups that are whole quads: the part of a workgroup. */
function unitOf({ groupChannels }: GroupNormApply): number {
  return [1, 2, 4].map((groups) => groups * groupChannels).find((channels) => channels % 4 === 0)!;
}

export const joined = {
  name: "joined",
  can({ input, statistics }, { lanes }) {
    const isWhole = channelsOf(input) === channelsOf(statistics.input) && partsOf(input).length <= 2;
    return lanes !== undefined && isWhole;
  },
  cost(operation, { storage }) {
    const { input } = operation;
    const imageBytes = tensorBytes(input, storage) / input.shape[0]!;
    return (imageBytes * (unitOf(operation) / channelsOf(input))) / MAX_UNIT_BYTES;
  },
  lower(operation, { storage, lanes, hardware }) {
    const { input, groupChannels, eps, activation, gamma, beta, output } = operation;
    const images = input.shape[0]!;
    const channels = channelsOf(input);
    const unit = unitOf(operation);
    const [first, second] = partsOf(input);
    const pair = sources(first!, second);
    return [
      {
        kernel: kernel("group_norm", source, storage, {
          subgroups: lanes,
          constants: { SUBGROUPS: hardware ? Math.max(1, INVOCATIONS / lanes!) : 1 },
        }),
        label: operation.name,
        params: {
          pixels: rowsOf(input) / images,
          quads: pair.quads,
          first_source_quads: pair.firstQuads,
          unit_quads: unit / 4,
          channels,
          group_channels: groupChannels,
          eps: { f32: eps },
          activation: activationCode[activation],
        },
        bindings: [...pair.bindings, { parameter: gamma }, { parameter: beta }, { tensor: output }],
        workgroups: [Math.ceil(channels / unit), images, 1],
      },
    ];
  },
} as const satisfies KernelVariant<GroupNormApply>;
