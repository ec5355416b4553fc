/** Group norm, layer norm and softmax. */

import groupNorm from "../../../shaders/group_norm.wgsl" with { type: "text" };
import groupNormApply from "../../../shaders/group_norm_apply.wgsl" with { type: "text" };
import groupNormStats from "../../../shaders/group_norm_stats.wgsl" with { type: "text" };
import layerNorm from "../../../shaders/layer_norm.wgsl" with { type: "text" };
import layerNormSubgroup from "../../../shaders/layer_norm_subgroup.wgsl" with { type: "text" };
import softmax from "../../../shaders/softmax.wgsl" with { type: "text" };
import { type Binding, type Dispatch, grid, kernel, params, type Target } from "../dispatch.ts";
import {
  activationCode,
  channelsOf,
  type GroupNormApply,
  type GroupNormStats,
  type LayerNorm,
  partsOf,
  quads,
  rowsOf,
  type Softmax,
  type Tensor,
} from "../tensor.ts";
import { groupNormUnit } from "../variants.ts";

// Pixels that one invocation normalises: enough to pay for merging the statistics, few enough to fill the adapter. A
// software adapter (narrow subgroups, a few cores) is full with few; there 256 take 13 to 45% less CPU time than 64.
const RUN_PIXELS = { wide: 64, narrow: 256 };
const NARROW_LANES = 16;
// Of a workgroup whose subgroups have a row each.
const LAYER_NORM_INVOCATIONS = 64;
// Of a workgroup of the joined form on hardware: as many as WebGPU guarantees.
const JOINED_INVOCATIONS = 256;

/** One or two sources, as the group norm kernels read them. */
function sources(
  first: Tensor,
  second: Tensor | undefined,
): { bindings: Binding[]; quads: number; firstQuads: number } {
  const firstQuads = quads(channelsOf(first));
  return {
    bindings: [{ tensor: first }, second ? { tensor: second } : "blank"],
    quads: firstQuads + (second ? quads(channelsOf(second)) : 0),
    firstQuads,
  };
}

export function lowerGroupNormStats(operation: GroupNormStats, target: Target): Dispatch[] {
  const { input, chunks, chunkPixels } = operation;
  const images = input.shape[0]!;
  const parts = partsOf(input);
  const dispatches: Dispatch[] = [];
  let firstQuad = 0;
  for (let part = 0; part < parts.length; part += 2) {
    const pair = sources(parts[part]!, parts[part + 1]);
    const { workgroups, width } = grid(images * chunks * pair.quads);
    dispatches.push({
      kernel: kernel("group_norm_stats", groupNormStats, target.storage),
      label: operation.name,
      params: params(
        ...[images, rowsOf(input) / images, pair.quads, pair.firstQuads],
        ...[chunks, chunkPixels, firstQuad, quads(channelsOf(input)), width],
      ),
      bindings: [...pair.bindings, { tensor: operation.output }],
      workgroups,
    });
    firstQuad += pair.quads;
  }
  return dispatches;
}

/** Both halves of group norm in one dispatch. */
function lowerJoinedGroupNorm(operation: GroupNormApply, target: Target): Dispatch {
  const { input, groupChannels, eps, activation } = operation;
  const images = input.shape[0]!;
  const channels = channelsOf(input);
  const unit = groupNormUnit(operation);
  const [first, second] = partsOf(input);
  const pair = sources(first!, second);
  return {
    kernel: kernel("group_norm", groupNorm, target.storage, {
      subgroups: target.lanes,
      constants: { SUBGROUPS: target.hardware ? Math.max(1, JOINED_INVOCATIONS / target.lanes!) : 1 },
    }),
    label: operation.name,
    params: params(
      ...[rowsOf(input) / images, pair.quads, pair.firstQuads, unit / 4],
      ...[channels, groupChannels, { f32: eps }, activationCode[activation]],
    ),
    bindings: [
      ...pair.bindings,
      { parameter: operation.gamma },
      { parameter: operation.beta },
      { tensor: operation.output },
    ],
    workgroups: [Math.ceil(channels / unit), images, 1],
  };
}

export function lowerGroupNormApply(operation: GroupNormApply, target: Target): Dispatch[] {
  if (operation.joined) return [lowerJoinedGroupNorm(operation, target)];
  const { input, statistics } = operation;
  const images = input.shape[0]!;
  const pixels = rowsOf(input) / images;
  const layerChannels = channelsOf(statistics.input);
  const [first, second] = partsOf(input);
  const pair = sources(first!, second);
  const narrow = target.lanes !== undefined && target.lanes <= NARROW_LANES;
  const runPixels = narrow ? RUN_PIXELS.narrow : RUN_PIXELS.wide;
  const runs = Math.ceil(pixels / runPixels);
  const { workgroups, width } = grid(images * runs * pair.quads);
  return [
    {
      kernel: kernel("group_norm_apply", groupNormApply, target.storage),
      label: operation.name,
      params: params(
        ...[images, pixels, pair.quads, pair.firstQuads],
        ...[statistics.chunks, statistics.chunkPixels, runPixels, runs],
        ...[layerChannels, operation.groupChannels, { f32: operation.eps }, activationCode[operation.activation]],
        ...[operation.firstQuad, quads(layerChannels), width],
      ),
      bindings: [
        ...pair.bindings,
        { tensor: statistics.output },
        { parameter: operation.gamma },
        { parameter: operation.beta },
        { tensor: operation.output },
      ],
      workgroups,
    },
  ];
}

export function lowerLayerNorm(operation: LayerNorm, target: Target): Dispatch[] {
  const channels = channelsOf(operation.input);
  const rows = rowsOf(operation.input);
  const { lanes, hardware } = target;
  const subgroups = hardware && lanes ? Math.max(1, LAYER_NORM_INVOCATIONS / lanes) : undefined;
  const { workgroups, width } = grid(subgroups ? Math.ceil(rows / subgroups) * 64 : rows);
  return [
    {
      kernel: subgroups
        ? kernel("layer_norm_subgroup", layerNormSubgroup, target.storage, {
            subgroups: lanes,
            constants: { SUBGROUPS: subgroups },
          })
        : kernel("layer_norm", layerNorm, target.storage),
      label: operation.name,
      params: params(rows, quads(channels), channels, { f32: operation.eps }, width),
      bindings: [
        { tensor: operation.input },
        { parameter: operation.gamma },
        { parameter: operation.beta },
        { tensor: operation.output },
      ],
      workgroups,
    },
  ];
}

export function lowerSoftmax(operation: Softmax, target: Target): Dispatch[] {
  const channels = channelsOf(operation.input);
  const rows = rowsOf(operation.input);
  const { workgroups, width } = grid(rows);
  return [
    {
      kernel: kernel("softmax", softmax, target.storage),
      label: operation.name,
      params: params(rows, quads(channels), channels, width),
      bindings: [{ tensor: operation.input }, { tensor: operation.output }],
      workgroups,
    },
  ];
}
