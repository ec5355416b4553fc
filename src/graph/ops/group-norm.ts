/** Group normalisation: the statistics of chunks of pixels, then the pixels normalised by them. */

import groupNormStats from "../../../shaders/group_norm_stats.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import { apart } from "../kernels/norm/apart.ts";
import { joined } from "../kernels/norm/joined.ts";
import type { GroupNormApply, GroupNormStats } from "../kernels/norm/operation.ts";
import { sources } from "../kernels/norm/sources.ts";
import { channelsOf, partsOf, quads, rowsOf, type Tensor } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

export type { GroupNormApply, GroupNormStats } from "../kernels/norm/operation.ts";

// A chunk this long keeps one lane busy for a while, and 16 chunks keep the merge short.
const MIN_CHUNK_PIXELS = 64;
const MAX_CHUNKS = 16;

/** Group normalisation over `[n, h, w, c]` or `[n, tokens, c]`; weights `<name>.weight`, `<name>.bias` `[c]`. */
export function groupNorm(g: Graph, x: Tensor, name: string, options: { groups: number; eps: number }): Tensor {
  const c = channelsOf(x);
  if (c % options.groups !== 0) throw g.error(name, `${c} channels do not divide into ${options.groups} groups`);
  const statistics = g.statistics.input ? givenStatistics(g, x, name) : ownStatistics(g, x, name);
  if (g.statistics.output) measureRows(g, x, name);
  return g.push<GroupNormApply>({
    kind: "group-norm-apply",
    name: g.path(name),
    input: x,
    statistics,
    groupChannels: c / options.groups,
    firstQuad: 0,
    eps: options.eps,
    gamma: g.vector(name, "weight", c),
    beta: g.vector(name, "bias", c),
    activation: "none",
    output: g.tensor(g.path(name), x.shape),
  }).output;
}

function ownStatistics(g: Graph, x: Tensor, name: string): GroupNormStats {
  const pixels = rowsOf(x) / x.shape[0]!;
  return pushStatistics(g, x, name, Math.max(MIN_CHUNK_PIXELS, Math.ceil(pixels / MAX_CHUNKS)));
}

function pushStatistics(g: Graph, x: Tensor, name: string, chunkPixels: number): GroupNormStats {
  const images = x.shape[0]!;
  const chunks = Math.ceil(rowsOf(x) / images / chunkPixels);
  const shape = [images * chunks * quads(channelsOf(x)), 8];
  return g.push<GroupNormStats>({
    kind: "group-norm-stats",
    name: g.path(name),
    input: x,
    chunks,
    chunkPixels,
    output: g.tensor(`${g.path(name)} statistics`, shape, { element: "f32" }),
  });
}

function measureRows(g: Graph, x: Tensor, name: string): void {
  const [, height, width, channels] = g.picture(x, name);
  g.norms.set(g.path(name), { height, width, channels });
  g.output(`statistics out ${g.path(name)}`, pushStatistics(g, x, name, width).output);
}

function givenStatistics(g: Graph, x: Tensor, name: string): GroupNormStats {
  const [images, height, width, channels] = g.picture(x, name);
  const chunkPixels = height * width;
  g.norms.set(g.path(name), { height, width, channels });
  const output = g.input(`statistics in ${g.path(name)}`, [images * quads(channels), 8], { element: "f32" });
  return { kind: "group-norm-stats", name: g.path(name), input: x, chunks: 1, chunkPixels, output };
}

export const groupNormStatsKind: OperationKind<GroupNormStats> = {
  reads: ({ input }) => partsOf(input),
  split: (operation, slicing) => [{ ...operation, input: slicing.stored(operation.input) }],
  lower(operation, { storage }) {
    const { input, chunks, chunkPixels } = operation;
    const images = input.shape[0]!;
    const parts = partsOf(input);
    const dispatches: Dispatch[] = [];
    let firstQuad = 0;
    for (let part = 0; part < parts.length; part += 2) {
      const pair = sources(parts[part]!, parts[part + 1]);
      const { workgroups, width } = grid(images * chunks * pair.quads);
      dispatches.push({
        kernel: kernel("group_norm_stats", groupNormStats, storage),
        label: operation.name,
        params: {
          images,
          pixels: rowsOf(input) / images,
          quads: pair.quads,
          first_source_quads: pair.firstQuads,
          chunks,
          chunk_pixels: chunkPixels,
          first_quad: firstQuad,
          layer_quads: quads(channelsOf(input)),
          grid_width: width,
        },
        bindings: [...pair.bindings, { tensor: operation.output }],
        workgroups,
      });
      firstQuad += pair.quads;
    }
    return dispatches;
  },
};

export const groupNormApplyKind: OperationKind<GroupNormApply> = {
  reads: ({ input, joined, statistics }) => [...partsOf(input), ...(joined ? [] : [statistics.output])],
  parameters: ({ gamma, beta }) => [gamma, beta],
  /** Slices need only the statistics of all. */
  split(operation, slicing) {
    const input = slicing.stored(operation.input);
    const parts = partsOf(input);
    // The kernel reads two parts at a time.
    if (slicing.fits(operation.output) && parts.length <= 2) return [{ ...operation, input }];
    return slicing.sliceInto(operation, parts.map(channelsOf)).map(({ tensor, firstQuad }, i) => ({
      ...operation,
      input: parts[i]!,
      firstQuad,
      output: tensor,
    }));
  },
  // Which of the two was chosen when the operations were arranged: the statistics are an operation of their own, or are not.
  lower: (operation, target) => (operation.joined ? joined : apart).lower(operation, target),
};
