/**
 * Records a model as a list of operations. Model code calls these methods in the order of the paper's diagram; nothing
 * runs. Each method is the operation of the same name in `ops/`.
 */

import { Graph } from "./graph.ts";
import { addScaled } from "./ops/add-scaled.ts";
import { type AttentionOptions, attention } from "./ops/attention.ts";
import { averagePool } from "./ops/average-pool.ts";
import { concat } from "./ops/concatenate.ts";
import { type ConvolutionOptions, conv2d, type LinearOptions, linear } from "./ops/convolution.ts";
import { type AffineOptions, add, affine } from "./ops/elementwise.ts";
import { type EmbeddingSizes, embedding } from "./ops/embedding.ts";
import { gatherRows } from "./ops/gather-rows.ts";
import { geglu } from "./ops/geglu.ts";
import { groupNorm } from "./ops/group-norm.ts";
import { joinTokens } from "./ops/join-tokens.ts";
import { layerNorm } from "./ops/layer-norm.ts";
import { softmax } from "./ops/softmax.ts";
import type { Operation } from "./ops/table.ts";
import { upsampleNearest } from "./ops/upsample.ts";
import { type Activation, channelsOf, rowsOf, type Tensor, type View } from "./tensor.ts";

export { GraphError, TensorTooLargeError } from "./errors.ts";
export type { NormStatistics } from "./graph.ts";
export { headPadding } from "./ops/convolution.ts";

export class Recorder extends Graph {
  declare readonly operations: Operation[];

  /** `[n, h, w, c]` → `[n, h′, w′, outputs]`. Weight `<name>.weight` `[outputs, c, k, k]`. */
  conv2d(x: Tensor, name: string, options: ConvolutionOptions): Tensor {
    return conv2d(this, x, name, options);
  }

  /**
   * `[…, c]` → `[…, Σ outputs]`: one or several linear layers of the same input, side by side.
   * Weight `<name>.weight` `[outputs, c]`.
   */
  linear(x: Tensor, names: string | readonly string[], options: LinearOptions): Tensor {
    return linear(this, x, names, options);
  }

  /** Group normalisation over `[n, h, w, c]` or `[n, tokens, c]`; weights `<name>.weight`, `<name>.bias` `[c]`. */
  groupNorm(x: Tensor, name: string, options: { groups: number; eps: number }): Tensor {
    return groupNorm(this, x, name, options);
  }

  /** Layer normalisation over the last dimension; weights `<name>.weight`, `<name>.bias` `[c]`. */
  layerNorm(x: Tensor, name: string, options: { eps: number }): Tensor {
    return layerNorm(this, x, name, options);
  }

  /** Scaled dot-product attention: `[n, queries, …]`, `[n, keys, …]` → `[n, queries, heads · head.padded]`. */
  attention(name: string, views: { query: View; key: View; value: View }, options: AttentionOptions): Tensor {
    return attention(this, name, views, options);
  }

  /** `[…, 2c]` → `[…, c]`: the first half times the GELU of the second. */
  geglu(x: Tensor, name: string): Tensor {
    return geglu(this, x, name);
  }

  activation(x: Tensor, activation: Activation): Tensor {
    return affine(this, x, activation, { activation });
  }

  /** `activation(x · inputScale) · scale + shift` */
  affine(x: Tensor, name: string, options: AffineOptions): Tensor {
    return affine(this, x, name, options);
  }

  /** `x + y`; y has x's shape, or is one row an image: `[n, c]` or `[n, 1, c]`, or c channels of such rows. */
  add(x: Tensor, y: Tensor | View, name = "add"): Tensor {
    return add(this, x, y, name);
  }

  /** `x + factors[image, column] · y`; y has x's shape, or is one row an image. `factors`: f32 `[images, columns]`. */
  addScaled(x: Tensor, y: Tensor, factor: { tensor: Tensor; column: number }, name = "add"): Tensor {
    return addScaled(this, x, y, factor, name);
  }

  /** Means of the windows of `[n, h, w, c]`, of `window` × `window` pixels; without a window of each whole picture. */
  averagePool(x: Tensor, name: string, window?: number): Tensor {
    return averagePool(this, x, name, window);
  }

  /** `[n, a, c]` and `[n, b, c]` → `[n, a + b, c]` */
  joinTokens(x: Tensor, y: Tensor, name: string): Tensor {
    return joinTokens(this, x, y, name);
  }

  /** Nearest-neighbour resize of `[n, h, w, c]`. */
  upsampleNearest(x: Tensor, name: string, size: { height: number; width: number }): Tensor {
    return upsampleNearest(this, x, name, size);
  }

  /** Softmax over the last dimension. */
  softmax(x: Tensor, name: string): Tensor {
    return softmax(this, x, name);
  }

  /** Token plus position embedding: ids u32 `[n · tokens]` → `[n, tokens, channels]`. */
  embedding(ids: Tensor, names: { table: string; positions: string }, sizes: EmbeddingSizes, added?: Tensor): Tensor {
    return embedding(this, ids, names, sizes, added);
  }

  /** `[n, tokens, c]` (or `[1, tokens, c]`, for all images), rows u32 `[n]` → `[n, c]`. */
  gatherRows(x: Tensor, rows: Tensor, name: string): Tensor {
    return gatherRows(this, x, rows, name);
  }

  /** The same elements under another shape: of the same channels, or of whole quads before and after. */
  reshape(x: Tensor, shape: readonly number[]): Tensor {
    const reshaped = { ...x, shape: [...shape] };
    const [before, after] = [channelsOf(x), channelsOf(reshaped)];
    const fits = before === after || (before % 4 === 0 && after % 4 === 0 && x.concatenated === undefined);
    if (!fits || rowsOf(reshaped) * after !== rowsOf(x) * before) {
      throw this.error("reshape", `[${x.shape}] does not hold [${shape}]`);
    }
    return reshaped;
  }

  /** Two tensors as one along the channels; only group norm and convolutions read such a tensor. */
  concat(x: Tensor, y: Tensor): Tensor {
    return concat(this, x, y);
  }
}
