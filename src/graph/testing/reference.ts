/**
 * Every operation of the graph in float64, in plain loops: what the kernels are measured against.
 *
 * Beside each value stands a **bound** on how far float32 arithmetic may land from it. Inputs are taken as exact. With
 * u = 2⁻²⁴ (half a unit in the last place, relative):
 *
 * - A sum of n products is off by at most γₙ Σ|aᵢbᵢ|, γₙ = nu / (1 − nu), in any order, fused or not (Higham, "Accuracy
 *   and Stability of Numerical Algorithms", 2nd ed., §3.1). That is a proof, not an estimate, so it suits every adapter.
 * - A mean of n numbers is off by about ⅓√n·u times their size if roundings are independent (ibid. §2.8); the worst case,
 *   n·u, would let every mistake pass. √n·u is granted: three times what is expected.
 * - exp is granted (3 + 2|x|) units in the last place, division 2.5, inverseSqrt 2, tanh 10⁻⁵ absolutely: WGSL's own
 *   accuracy table ("15.7.4.1 Accuracy of Concrete Floating Point Expressions").
 * - Results under 2⁻¹⁰⁰ may be flushed to zero (WGSL lets subnormals be; a margin is for what leads to them).
 *
 * Arrays are `[rows, channels]` without padding, one after the other.
 */

import type { Activation } from "../tensor.ts";

/** An operation's result, and how far a float32 kernel may be from each element. */
export interface Reference {
  readonly values: Float64Array;
  readonly bound: Float64Array;
}

type Numbers = Float32Array | Float64Array;

export const U = 2 ** -24;
const ULP = 2 * U;
const TINY = 2 ** -100;

export function gamma(n: number): number {
  return (n * U) / (1 - n * U);
}

function blank(count: number): { values: Float64Array; bound: Float64Array } {
  return { values: new Float64Array(count), bound: new Float64Array(count) };
}

const expError = (x: number) => (3 + 2 * Math.abs(x)) * ULP;

/** Complementary error function: Maclaurin series of erf below 2, Lentz's continued fraction (DLMF 7.9.2) above. */
export function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 60; n++) {
      term *= -(x * x) / n;
      sum += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

/** An activation's value, and its bound where `x` itself is off by `error`. Slopes are below 1.13 for all of them. */
function activated(x: number, error: number, activation: Activation): [value: number, bound: number] {
  const moved = 1.13 * error;
  switch (activation) {
    case "none":
      return [x, error];
    case "relu":
      return [Math.max(x, 0), error];
    case "tanh":
      return [Math.tanh(x), moved + 1e-5];
    case "silu":
    case "quick_gelu": {
      const z = activation === "silu" ? x : 1.702 * x;
      const sigmoid = 1 / (1 + Math.exp(-z));
      // The effect of exp's error and z's own rounding on the sigmoid, then its addition, division and product.
      const relative = (1 - sigmoid) * (expError(z) + Math.abs(z) * ULP) + 4 * ULP;
      return [x * sigmoid, moved + Math.abs(x * sigmoid) * relative + TINY];
    }
    case "gelu": {
      const tail = erfc(Math.abs(x) / Math.SQRT2) / 2;
      const half = (x * x) / 2;
      // The kernel's formula is good to 1.2·10⁻⁷ (its own source); its exponent is rounded some eight times.
      const relative = 1.2e-7 + expError(half + 1.3) + 8 * U * (half + 1.3) + 4 * ULP;
      const value = x * (x < 0 ? tail : 1 - tail);
      const granted = x < 0 ? Math.abs(value) * relative : x * (tail * relative + 2 * ULP);
      return [value, moved + granted + TINY];
    }
    default:
      return activation satisfies never;
  }
}

export interface Convolution {
  /** `[n, h, w, c]` */
  readonly input: Numbers;
  readonly shape: readonly [number, number, number, number];
  /** `[outputs, c, k, k]` */
  readonly weight: Numbers;
  readonly outputs: number;
  readonly kernel: { readonly height: number; readonly width: number };
  readonly stride: number;
  /** Zeros above and left; those below and right follow from `output`. */
  readonly before: { readonly top: number; readonly left: number };
  readonly output: { readonly height: number; readonly width: number };
  /** The input is first resized to this, by nearest neighbour. */
  readonly resized?: { readonly height: number; readonly width: number };
  readonly bias?: Numbers | undefined;
  /** `[n, outputs]` */
  readonly perImage?: Numbers | undefined;
  readonly residual?: Numbers | undefined;
  readonly activation?: Activation;
  readonly activationAfterResidual?: boolean;
}

export function convolution(of: Convolution): Reference {
  const { input, weight, outputs, kernel, stride, before, output, bias, perImage, residual } = of;
  const { activation = "none", activationAfterResidual = true } = of;
  const [n, h, w, c] = of.shape;
  const view = of.resized ?? { height: h, width: w };
  const result = blank(n * output.height * output.width * outputs);
  const terms = c * kernel.height * kernel.width + 4;
  let at = 0;
  for (let image = 0; image < n; image++) {
    for (let oy = 0; oy < output.height; oy++) {
      for (let ox = 0; ox < output.width; ox++) {
        for (let o = 0; o < outputs; o++, at++) {
          let sum = 0;
          let size = 0;
          const add = (term: number) => {
            sum += term;
            size += Math.abs(term);
          };
          for (let ky = 0; ky < kernel.height; ky++) {
            for (let kx = 0; kx < kernel.width; kx++) {
              const y = oy * stride + ky - before.top;
              const x = ox * stride + kx - before.left;
              if (y < 0 || x < 0 || y >= view.height || x >= view.width) continue;
              const row = (image * h + Math.floor((y * h) / view.height)) * w + Math.floor((x * w) / view.width);
              for (let i = 0; i < c; i++) {
                add(input[row * c + i]! * weight[((o * c + i) * kernel.height + ky) * kernel.width + kx]!);
              }
            }
          }
          if (bias) add(bias[o]!);
          if (perImage) add(perImage[image * outputs + o]!);
          const other = residual ? residual[at]! : 0;
          const bound = gamma(terms) * (size + Math.abs(other));
          if (activationAfterResidual) {
            [result.values[at], result.bound[at]] = activated(sum + other, bound, activation);
          } else {
            const [value, error] = activated(sum, bound, activation);
            result.values[at] = value + other;
            result.bound[at] = error + U * Math.abs(value + other);
          }
        }
      }
    }
  }
  return result;
}

/**
 * Group normalisation of `[images, pixels, channels]`; layer normalisation is that of pictures of one pixel in one group.
 */
export function groupNorm(
  x: Numbers,
  shape: { images: number; pixels: number; channels: number; groups: number },
  layer: { eps: number; gamma: Numbers; beta: Numbers; activation?: Activation },
): Reference {
  const { images, pixels, channels, groups } = shape;
  const width = channels / groups;
  const count = pixels * width;
  const result = blank(x.length);
  for (let image = 0; image < images; image++) {
    for (let group = 0; group < groups; group++) {
      const each = (visit: (index: number, channel: number) => void) => {
        for (let p = 0; p < pixels; p++) {
          for (let i = 0; i < width; i++) visit((image * pixels + p) * channels + group * width + i, group * width + i);
        }
      };
      let sum = 0;
      let size = 0;
      each((index) => {
        sum += x[index]!;
        size += Math.abs(x[index]!);
      });
      const mean = sum / count;
      let squares = 0;
      each((index) => {
        squares += (x[index]! - mean) ** 2;
      });
      const variance = squares / count;
      const scale = 1 / Math.sqrt(variance + layer.eps);
      const meanError = (Math.sqrt(count) + 4) * U * (size / count);
      // Σ(x − mean)² where the mean is off by δ: 2δσ (a channel's own mean, taken out first and put back) + δ², each n times.
      const varianceError =
        2 * meanError * Math.sqrt(variance) + meanError ** 2 + (Math.sqrt(count) + 8) * U * variance;
      const scaleError = varianceError / (variance + layer.eps) / 2 + 3 * ULP;
      each((index, channel) => {
        const normal = (x[index]! - mean) * scale * layer.gamma[channel]!;
        const value = normal + layer.beta[channel]!;
        const bound =
          Math.abs(scale * layer.gamma[channel]!) * meanError * (1 + scaleError) +
          Math.abs(normal) * (scaleError + 4 * U) +
          Math.abs(value) * U;
        [result.values[index], result.bound[index]] = activated(value, bound, layer.activation ?? "none");
      });
    }
  }
  return result;
}

/** Softmax of each row's channels. */
export function softmax(x: Numbers, channels: number): Reference {
  const result = blank(x.length);
  for (let row = 0; row < x.length; row += channels) {
    let maximum = -Infinity;
    for (let i = 0; i < channels; i++) maximum = Math.max(maximum, x[row + i]!);
    let total = 0;
    let spread = 0;
    for (let i = 0; i < channels; i++) {
      const distance = x[row + i]! - maximum;
      const weight = Math.exp(distance);
      total += weight;
      spread += weight * (Math.abs(distance) * U + expError(distance));
    }
    for (let i = 0; i < channels; i++) {
      const distance = x[row + i]! - maximum;
      const value = Math.exp(distance) / total;
      const relative = Math.abs(distance) * U + expError(distance) + spread / total + gamma(channels) + 4 * ULP;
      result.values[row + i] = value;
      result.bound[row + i] = value * relative + TINY;
    }
  }
  return result;
}

/** Channels of a tensor `[images, tokens, row]`, from `offset` on. */
export interface Heads {
  readonly values: Numbers;
  readonly row: number;
  readonly offset: number;
}

/**
 * Scaled dot-product attention; heads are `width` wide, stored `padded` wide. → `[images, queries, heads · padded]`, zero
 * between the heads.
 */
export function attention(
  of: { query: Heads; key: Heads; value: Heads },
  shape: {
    images: number;
    heads: number;
    queries: number;
    keys: number;
    width: number;
    padded: number;
    causal?: boolean;
  },
): Reference {
  const { query, key, value } = of;
  const { images, heads, queries, keys, width, padded, causal = false } = shape;
  const result = blank(images * queries * heads * padded);
  const scale = 1 / Math.sqrt(width);
  for (let image = 0; image < images; image++) {
    for (let head = 0; head < heads; head++) {
      const at = (of: Heads, token: number, d: number) => of.values[token * of.row + of.offset + head * padded + d]!;
      for (let q = 0; q < queries; q++) {
        const seen = causal ? Math.min(q + 1, keys) : keys;
        const scores = new Float64Array(seen);
        let off = 0; // of any score, absolutely
        for (let k = 0; k < seen; k++) {
          let size = 0;
          for (let d = 0; d < width; d++) {
            const term = at(query, image * queries + q, d) * at(key, image * keys + k, d);
            scores[k]! += term * scale;
            size += Math.abs(term) * scale;
          }
          off = Math.max(off, gamma(width + 3) * size);
        }
        const maximum = scores.reduce((a, b) => Math.max(a, b), -Infinity);
        const probabilities = scores.map((score) => Math.exp(score - maximum));
        const total = probabilities.reduce((a, b) => a + b, 0);
        for (let d = 0; d < width; d++) {
          let sum = 0;
          let size = 0;
          for (let k = 0; k < seen; k++) {
            sum += probabilities[k]! * at(value, image * keys + k, d);
            size += probabilities[k]! * Math.abs(at(value, image * keys + k, d));
          }
          const mean = sum / total;
          let bound = (size / total) * (gamma(keys + 8) + 6 * ULP) + TINY;
          for (let k = 0; k < seen; k++) {
            // A weight that is off by a factor moves the mean towards or away from its value. Online, the exponent is
            // taken in two steps, to the running maximum and from it to the last.
            const distance = scores[k]! - maximum;
            const relative = Math.expm1(2 * off + 2 * Math.abs(distance) * U + 2 * expError(distance));
            bound +=
              (probabilities[k]! / total) *
              relative *
              (Math.abs(at(value, image * keys + k, d) - mean) + Math.abs(mean) * U);
          }
          const index = ((image * queries + q) * heads + head) * padded + d;
          result.values[index] = mean;
          result.bound[index] = bound;
        }
      }
    }
  }
  return result;
}

/** `activation(x · inputScale) · scale + shift + addend`, element by element. */
export function elementwise(
  x: Numbers,
  of: {
    activation?: Activation;
    inputScale?: number;
    scale?: number;
    shift?: number;
    /** The addend of an element. */
    addend?: ((index: number) => number) | undefined;
  },
): Reference {
  const { activation = "none", inputScale = 1, scale = 1, shift = 0, addend } = of;
  const result = blank(x.length);
  x.forEach((element: number, index: number) => {
    const [value, error] = activated(element * inputScale, Math.abs(element * inputScale) * ULP, activation);
    const other = addend?.(index) ?? 0;
    result.values[index] = value * scale + shift + other;
    result.bound[index] =
      error * Math.abs(scale) + gamma(4) * (Math.abs(value * scale) + Math.abs(shift) + Math.abs(other));
  });
  return result;
}

/** `[…, value ‖ gate]` → `value · GELU(gate)` */
export function geglu(x: Numbers, channels: number): Reference {
  const result = blank(x.length / 2);
  result.values.forEach((_, index) => {
    const at = Math.floor(index / channels) * 2 * channels + (index % channels);
    const [gate, error] = activated(x[at + channels]!, 0, "gelu");
    result.values[index] = x[at]! * gate;
    result.bound[index] = Math.abs(x[at]!) * error + Math.abs(x[at]! * gate) * U + TINY;
  });
  return result;
}

/** Values that are only moved. */
export function exact(values: Numbers): Reference {
  return { values: Float64Array.from(values), bound: new Float64Array(values.length) };
}

/** Nearest-neighbour resize of `[n, h, w, c]`. */
export function upsampleNearest(
  x: Numbers,
  [n, h, w, c]: readonly [number, number, number, number],
  size: { height: number; width: number },
): Reference {
  const values = new Float64Array(n * size.height * size.width * c);
  values.forEach((_, index) => {
    const channel = index % c;
    const column = Math.floor(index / c) % size.width;
    const row = Math.floor(index / c / size.width) % size.height;
    const image = Math.floor(index / c / size.width / size.height);
    const from = (image * h + Math.floor((row * h) / size.height)) * w + Math.floor((column * w) / size.width);
    values[index] = x[from * c + channel]!;
  });
  return exact(values);
}

/** Means of the windows of `[n, h, w, c]`; those at the edge have the pixels that there are. */
export function averagePool(
  x: Numbers,
  [n, h, w, c]: readonly [number, number, number, number],
  window: { readonly height: number; readonly width: number },
): Reference {
  const [height, width] = [Math.ceil(h / window.height), Math.ceil(w / window.width)];
  const values = new Float64Array(n * height * width * c);
  const counts = new Float64Array(values.length);
  for (let from = 0; from < x.length; from++) {
    const column = Math.floor((Math.floor(from / c) % w) / window.width);
    const row = Math.floor((Math.floor(from / c / w) % h) / window.height);
    const image = Math.floor(from / c / w / h);
    const to = ((image * height + row) * width + column) * c + (from % c);
    values[to]! += x[from]!;
    counts[to]! += 1;
  }
  return exact(values.map((sum, at) => sum / counts[at]!));
}

/** Token plus position embedding. */
export function embedding(
  ids: Uint32Array,
  table: Numbers,
  positions: Numbers,
  shape: { channels: number; length: number },
): Reference {
  const { channels, length } = shape;
  const result = blank(ids.length * channels);
  ids.forEach((id, token) => {
    for (let i = 0; i < channels; i++) {
      const value = table[id * channels + i]! + positions[(token % length) * channels + i]!;
      result.values[token * channels + i] = value;
      result.bound[token * channels + i] = Math.abs(value) * U;
    }
  });
  return result;
}

/** One row of a scheduler's table, by the names of `shaders/scheduler_step.wgsl`. */
/** Classifier-free guidance with part of the positive prediction's deviation (Lin et al. 2023, section 3.4), of one image. */
export function rescaledGuidance(negative: Numbers, positive: Numbers, guidance: number, rescale: number): Reference {
  const count = negative.length;
  const guided = Array.from({ length: count }, (_, i) => negative[i]! + guidance * (positive[i]! - negative[i]!));
  const deviation = (values: ArrayLike<number>) => {
    const list = Array.from(values);
    const mean = list.reduce((sum, value) => sum + value, 0) / count;
    return Math.sqrt(list.reduce((sum, value) => sum + (value - mean) ** 2, 0));
  };
  const factor = (rescale * deviation(positive)) / deviation(guided) + 1 - rescale;
  const result = blank(count);
  for (let i = 0; i < count; i++) {
    const size = Math.abs(negative[i]!) + Math.abs(guidance) * (Math.abs(positive[i]!) + Math.abs(negative[i]!));
    result.values[i] = guided[i]! * factor;
    // Three roundings of the guidance, and those of two sums of squares.
    result.bound[i] = gamma(3) * size * factor + gamma(2 * Math.ceil(Math.log2(count + 1)) + 16) * Math.abs(guided[i]!);
  }
  return result;
}

export interface SchedulerRow {
  readonly inputScale: number;
  readonly guidance: number;
  readonly x0: { readonly sample: number; readonly model: number; readonly clamp: number };
  readonly next: readonly [sample: number, model: number, x0: number];
  readonly noise: number;
  readonly history: readonly number[];
  readonly denoised: readonly [sample: number, model: number, x0: number];
  readonly keep: readonly [sample: number, model: number, x0: number];
  /** History slot that `keep` goes to; −1 for none. */
  readonly slot: number;
  /** History slot that the sample goes to, as it was before the step; −1 for none. */
  readonly sampleSlot: number;
}

/** One image's scheduler step: the next latents, the denoised prediction, and what the history is told. */
export function schedulerStep(
  row: SchedulerRow,
  of: { latents: Numbers; model: Numbers; positive?: Numbers | undefined; noise: Numbers; history: readonly Numbers[] },
): { next: Reference; denoised: Reference; kept: Reference } {
  const count = of.latents.length;
  const [next, denoised, kept] = [blank(count), blank(count), blank(count)];
  for (let i = 0; i < count; i++) {
    const sample = of.latents[i]!;
    const negative = of.model[i]!;
    const positive = of.positive?.[i];
    const model = positive === undefined ? negative : negative + row.guidance * (positive - negative);
    const modelError =
      positive === undefined
        ? 0
        : gamma(3) * (Math.abs(negative) + Math.abs(row.guidance) * (Math.abs(positive) + Math.abs(negative)));
    const open = row.x0.sample * sample + row.x0.model * model;
    const x0 = Math.max(-row.x0.clamp, Math.min(row.x0.clamp, open));
    const x0Error =
      gamma(2) * (Math.abs(row.x0.sample * sample) + Math.abs(row.x0.model * model)) +
      Math.abs(row.x0.model) * modelError;
    const mix = (
      weights: readonly [number, number, number],
      into: { values: Float64Array; bound: Float64Array },
      extra: number[],
    ) => {
      const terms = [weights[0] * sample, weights[1] * model, weights[2] * x0, ...extra];
      into.values[i] = terms.reduce((a, b) => a + b, 0);
      into.bound[i] =
        gamma(terms.length) * terms.reduce((a, b) => a + Math.abs(b), 0) +
        Math.abs(weights[1]) * modelError +
        Math.abs(weights[2]) * x0Error;
    };
    const past = row.history.map((h, k) => (h === 0 ? 0 : h * of.history[k]![i]!));
    mix(row.next, next, [...past, row.noise === 0 ? 0 : row.noise * of.noise[i]!]);
    mix(row.denoised, denoised, []);
    mix(row.keep, kept, []);
  }
  return { next, denoised, kept };
}

/** `[pixels, channels]` latents to `[pixels, 3]` by `matrix` `[channels, 3]` and `bias` `[3]`. */
export function latentToRgb(latents: Numbers, channels: number, matrix: Numbers, bias: Numbers): Reference {
  const pixels = latents.length / channels;
  const result = blank(pixels * 3);
  for (let p = 0; p < pixels; p++) {
    for (let i = 0; i < 3; i++) {
      let sum = bias[i]!;
      let size = Math.abs(bias[i]!);
      for (let c = 0; c < channels; c++) {
        const term = latents[p * channels + c]! * matrix[c * 3 + i]!;
        sum += term;
        size += Math.abs(term);
      }
      result.values[p * 3 + i] = sum;
      result.bound[p * 3 + i] = gamma(channels + 2) * size;
    }
  }
  return result;
}

/** `[-1, 1]` to a byte, as a real number before rounding. */
export function byteOf(x: number): number {
  return 255 * Math.max(0, Math.min(1, x / 2 + 0.5));
}

/** A reference of attention for kernels that round the weights of `values` to halves, by up to 2⁻¹¹ of each. */
export function halfWeights(reference: Reference, values: Numbers): Reference {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return { ...reference, bound: reference.bound.map((bound) => bound + largest * 2 ** -11) };
}
