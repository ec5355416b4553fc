/** Kernels that make each element from a few others: arithmetic, resizing, gathering, pictures. */

import concatenate from "../../../shaders/concatenate.wgsl" with { type: "text" };
import elementwise from "../../../shaders/elementwise.wgsl" with { type: "text" };
import embedding from "../../../shaders/embedding.wgsl" with { type: "text" };
import gatherRows from "../../../shaders/gather_rows.wgsl" with { type: "text" };
import geglu from "../../../shaders/geglu.wgsl" with { type: "text" };
import latentToRgb from "../../../shaders/latent_to_rgb.wgsl" with { type: "text" };
import packPicture from "../../../shaders/pack_picture.wgsl" with { type: "text" };
import upsampleNearest from "../../../shaders/upsample_nearest.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel, params, type Target } from "../dispatch.ts";
import {
  activationCode,
  addsPerImage,
  type Concatenate,
  channelsOf,
  type Elementwise,
  type Embedding,
  type GatherRows,
  type Geglu,
  type LatentToRgb,
  type PackPicture,
  partsOf,
  quads,
  rowsOf,
  type Upsample,
} from "../tensor.ts";
import { tablePieces } from "../weights.ts";

export function lowerElementwise(operation: Elementwise, target: Target): Dispatch[] {
  const { input, addend } = operation;
  const quadCount = quads(channelsOf(input));
  const count = rowsOf(input) * quadCount;
  const mode = addend === undefined ? 0 : addsPerImage(operation) ? 2 : 1;
  const { workgroups, width } = grid(count);
  return [
    {
      kernel: kernel("elementwise", elementwise, target.storage),
      label: operation.name,
      params: params(
        ...[count, quadCount, count / input.shape[0]!, mode],
        activationCode[operation.activation],
        ...[{ f32: operation.inputScale }, { f32: operation.scale }, { f32: operation.shift }],
        ...[channelsOf(input), addend ? quads(channelsOf(addend)) : 0, operation.firstAddendQuad, width],
      ),
      bindings: [{ tensor: input }, addend ? { tensor: addend } : "blank", { tensor: operation.output }],
      workgroups,
    },
  ];
}

export function lowerGeglu(operation: Geglu, target: Target): Dispatch[] {
  const { value, gate } = operation;
  const rows = rowsOf(operation.output);
  const outQuads = quads(channelsOf(operation.output));
  const { workgroups, width } = grid(rows * outQuads);
  return [
    {
      kernel: kernel("geglu", geglu, target.storage),
      label: operation.name,
      params: params(
        ...[rows, outQuads, quads(channelsOf(value.tensor)), value.offset / 4],
        ...[quads(channelsOf(gate.tensor)), gate.offset / 4, width],
      ),
      bindings: [{ tensor: value.tensor }, { tensor: gate.tensor }, { tensor: operation.output }],
      workgroups,
    },
  ];
}

export function lowerUpsample(operation: Upsample, target: Target): Dispatch[] {
  const { input, output, firstQuad } = operation;
  const [images, inHeight, inWidth] = input.shape as [number, number, number];
  const [, outHeight, outWidth] = output.shape as [number, number, number];
  const outQuads = quads(channelsOf(output));
  const dispatches: Dispatch[] = [];
  let partStart = 0;
  for (const part of partsOf(input)) {
    // The channels that this part of the input and the output have in common.
    const inQuads = quads(channelsOf(part));
    const begin = Math.max(partStart, firstQuad);
    const count = Math.min(partStart + inQuads, firstQuad + outQuads) - begin;
    if (count > 0) {
      const { workgroups, width } = grid(rowsOf(output) * count);
      dispatches.push({
        kernel: kernel("upsample_nearest", upsampleNearest, target.storage),
        label: operation.name,
        params: params(
          ...[images, inHeight, inWidth, outHeight, outWidth],
          ...[count, inQuads, begin - partStart, outQuads, begin - firstQuad, width],
        ),
        bindings: [{ tensor: part }, { tensor: output }],
        workgroups,
      });
    }
    partStart += inQuads;
  }
  return dispatches;
}

export function lowerEmbedding(operation: Embedding, target: Target): Dispatch[] {
  const { ids, table, positions, output } = operation;
  const tokens = ids.shape[0]!;
  const quadCount = quads(table.channels);
  const { workgroups, width } = grid(tokens * quadCount);
  return tablePieces(table, target).map(({ firstRow, endRow }, piece) => ({
    kernel: kernel("embedding", embedding, target.storage, { weights: target.weights }),
    label: operation.name,
    params: params(tokens, output.shape[1]!, quadCount, firstRow, endRow, width),
    bindings: [{ tensor: ids }, { parameter: table, piece }, { parameter: positions }, { tensor: output }],
    workgroups,
  }));
}

export function lowerConcatenate(operation: Concatenate, target: Target): Dispatch[] {
  const { first, second, output } = operation;
  const { workgroups, width } = grid(rowsOf(output) * quads(channelsOf(output)));
  return [
    {
      kernel: kernel("concatenate", concatenate, target.storage),
      label: operation.name,
      params: params(rowsOf(output), channelsOf(first), channelsOf(second), width),
      bindings: [{ tensor: first }, { tensor: second }, { tensor: output }],
      workgroups,
    },
  ];
}

export function lowerGatherRows(operation: GatherRows, target: Target): Dispatch[] {
  const [tables, tokens, channels] = operation.input.shape as [number, number, number];
  const images = operation.output.shape[0]!;
  return [
    {
      kernel: kernel("gather_rows", gatherRows, target.storage),
      label: operation.name,
      params: params(images, tokens, quads(channels), tables === images ? tokens : 0),
      bindings: [{ tensor: operation.input }, { tensor: operation.rows }, { tensor: operation.output }],
      workgroups: [Math.ceil((images * quads(channels)) / 64), 1, 1],
    },
  ];
}

export function lowerPackPicture(operation: PackPicture, target: Target): Dispatch[] {
  const pixels = rowsOf(operation.input);
  const { workgroups, width } = grid(pixels);
  return [
    {
      kernel: kernel("pack_picture", packPicture, target.storage),
      label: operation.name,
      params: params(pixels, quads(channelsOf(operation.input)), width),
      bindings: [{ tensor: operation.input }, { tensor: operation.output }],
      workgroups,
    },
  ];
}

export function lowerLatentToRgb(operation: LatentToRgb, target: Target): Dispatch[] {
  const pixels = rowsOf(operation.input);
  const { workgroups, width } = grid(pixels);
  return [
    {
      kernel: kernel("latent_to_rgb", latentToRgb, target.storage),
      label: operation.name,
      params: params(pixels, quads(channelsOf(operation.input)), width),
      bindings: [{ tensor: operation.input }, { tensor: operation.matrix }, { tensor: operation.output }],
      workgroups,
    },
  ];
}
