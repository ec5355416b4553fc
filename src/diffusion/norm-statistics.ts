/** Mean and deviation of each channel of a layer, put together from parts of a picture. */

import { quads } from "../graph/tensor.ts";

/** A layer's mean and squared deviations by channel, of so many pixels. */
export interface Statistics {
  count: number;
  readonly mean: Float64Array;
  readonly squares: Float64Array;
}

export function createStatistics(channels: number): Statistics {
  return { count: 0, mean: new Float64Array(channels), squares: new Float64Array(channels) };
}

/** Adds a row of `width` pixels to a layer's, by the formula of Chan, Golub & LeVeque 1979. */
export function addRow(layer: Statistics, partial: Float32Array, row: number, width: number): void {
  const channels = layer.mean.length;
  const total = layer.count + width;
  for (let channel = 0; channel < channels; channel++) {
    const at = (row * quads(channels) + Math.floor(channel / 4)) * 8 + (channel % 4);
    const delta = partial[at]! - layer.mean[channel]!;
    layer.mean[channel]! += (delta * width) / total;
    layer.squares[channel]! += partial[at + 4]! + (delta * delta * layer.count * width) / total;
  }
  layer.count = total;
}

/** The statistics of the whole as those of one chunk of a band's pixels. */
export function asOneChunk(
  { count, mean, squares }: Statistics,
  band: { height: number; width: number },
): Float32Array {
  const out = new Float32Array(quads(mean.length) * 8);
  for (let channel = 0; channel < mean.length; channel++) {
    const at = Math.floor(channel / 4) * 8 + (channel % 4);
    out[at] = mean[channel]!;
    out[at + 4] = (squares[channel]! * band.height * band.width) / count;
  }
  return out;
}

/** The largest change of a channel's mean, in deviations, or of its deviation, since the statistics `before`. */
export function movement(now: Statistics, before: Statistics): number {
  let largest = 0;
  // The spread is the whole layer's, because a quiet channel is measured by its group's other channels.
  const spread = Math.sqrt(now.squares.reduce((sum, value) => sum + value, 0) / now.count / now.mean.length);
  for (const channel of now.mean.keys()) {
    const deviation = (of: Statistics) => Math.sqrt(of.squares[channel]! / of.count);
    const moved = Math.max(
      Math.abs(now.mean[channel]! - before.mean[channel]!),
      Math.abs(deviation(now) - deviation(before)),
    );
    largest = Math.max(largest, moved / spread);
  }
  return largest;
}
