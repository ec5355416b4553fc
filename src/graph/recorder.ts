/**
 * Records a model as a list of operations. Model code calls these methods in the order of the paper's diagram; nothing
 * runs. Shapes are checked here, so that a mistake names the layer and not a buffer.
 *
 * The recorder also collects the parameters that the model wants, with their names and shapes in the checkpoint: that
 * list is the one truth that a weight file is checked against.
 */

import {
  type Activation,
  type Attention,
  type Convolution,
  channelsOf,
  type Element,
  type Elementwise,
  type GroupNormStats,
  type HeadPadding,
  type MatrixParameter,
  type Operation,
  type Parameter,
  type ParameterPart,
  quads,
  rowsOf,
  type TableParameter,
  type Tensor,
  type VectorParameter,
  type View,
} from "./tensor.ts";

/** A model asked for something its tensors do not allow. */
export class GraphError extends Error {
  override readonly name: string = "GraphError";
}

/** A tensor is larger than the adapter binds; a smaller picture, or part of one, may fit. */
export class TensorTooLargeError extends GraphError {
  override readonly name = "TensorTooLargeError";
}

export interface ConvolutionOptions {
  outputs: number;
  kernel?: number;
  stride?: number;
  /** Rows and columns of zeros added above and left, below and right. Default: none. */
  padding?: number | { before: number; after: number };
  bias?: boolean;
}

export interface LinearOptions {
  /** Output channels of each of the named layers. */
  outputs: number | readonly number[];
  bias?: boolean;
  /** The outputs are heads of this width, stored padded. */
  outputHead?: HeadPadding;
  /** The inputs are heads of this width, stored padded. */
  inputHead?: HeadPadding;
  /** What the operation is called, where the names of all layers together would be too long. */
  name?: string;
  /** Other names that old files give the layer, and the layer as a 1 × 1 convolution where the file has it so. */
  aliases?: readonly string[];
  /** The checkpoint stores the weight as `[out, in, 1, 1]`. */
  asConvolution?: boolean;
}

/** Width of a head and the multiple of four that it is stored with. */
export function headPadding(width: number): HeadPadding {
  return { width, padded: quads(width) * 4 };
}

// Words of one image's draw, as `shaders/philox_normal.wgsl` lists them.
const PHILOX_DRAW_WORDS = 6;

// A chunk this long keeps one lane busy for a while, and 16 chunks keep the merge short.
const MIN_CHUNK_PIXELS = 64;
const MAX_CHUNKS = 16;

/**
 * What of group norms' statistics leaves or enters the plan, as `shaders/group_norm_stats.wgsl` lays them out: partial
 * means and squared deviations. By default they are neither.
 */
export interface NormStatistics {
  /** Those of each row of pixels, as outputs `measured <layer>`. */
  readonly measured?: boolean;
  /** Those to normalise with, of all pixels as one chunk, as inputs `given <layer>`. */
  readonly given?: boolean;
}

export class Recorder {
  readonly operations: Operation[] = [];
  readonly parameters = new Map<string, Parameter>();
  readonly inputs = new Map<string, Tensor>();
  readonly states = new Map<string, Tensor>();
  readonly outputs = new Map<string, Tensor>();
  /** Of group norms whose statistics are measured or given, by layer: the picture's size, and channels. */
  readonly norms = new Map<string, { height: number; width: number; channels: number }>();
  readonly #statistics: NormStatistics;
  readonly #scopes: string[] = [];
  #nextId = 0;

  constructor(options: { statistics?: NormStatistics } = {}) {
    this.#statistics = options.statistics ?? {};
  }

  /** Runs `build` with `name` added to the layers' names. */
  scope<T>(name: string, build: () => T): T {
    this.#scopes.push(name);
    try {
      return build();
    } finally {
      this.#scopes.pop();
    }
  }

  /** A tensor that the caller writes before a replay. `constant`: it changes with the prompt, not with the step. */
  input(name: string, shape: readonly number[], options: { element?: Element; constant?: boolean } = {}): Tensor {
    const tensor = this.#tensor(name, shape, { role: "input", ...options });
    this.inputs.set(name, tensor);
    return tensor;
  }

  /** An f32 tensor that lives from one replay to the next. */
  state(name: string, shape: readonly number[]): Tensor {
    const tensor = this.#tensor(name, shape, { role: "state", element: "f32" });
    this.states.set(name, tensor);
    return tensor;
  }

  /** Names a tensor as a result of the plan, to be read after a replay. */
  output(name: string, tensor: Tensor): void {
    this.outputs.set(name, tensor);
  }

  /** `[n, h, w, c]` → `[n, h′, w′, outputs]`. Weight `<name>.weight` `[outputs, c, k, k]`. */
  conv2d(x: Tensor, name: string, options: ConvolutionOptions): Tensor {
    const { outputs, kernel = 3, stride = 1, padding = 0, bias = true } = options;
    const [n, h, w, c] = this.#picture(x, name);
    const before = typeof padding === "number" ? padding : padding.before;
    const after = typeof padding === "number" ? padding : padding.after;
    const outHeight = Math.floor((h + before + after - kernel) / stride) + 1;
    const outWidth = Math.floor((w + before + after - kernel) / stride) + 1;
    if (outHeight < 1 || outWidth < 1) throw this.#error(name, `a picture of ${h} × ${w} is too small`);
    const weight = this.#matrix({
      parts: [{ name: this.#path(name, "weight"), shape: [outputs, c, kernel, kernel] }],
      partChannels: [outputs],
      taps: kernel * kernel,
      inputs: c,
    });
    return this.#convolution(x, name, weight, bias ? this.#vector(name, "bias", outputs) : undefined, {
      shape: [n, outHeight, outWidth, outputs],
      picture: { images: n, inHeight: h, inWidth: w, outHeight, outWidth },
      kernel: { height: kernel, width: kernel, stride, top: before, left: before },
    });
  }

  /**
   * `[…, c]` → `[…, Σ outputs]`: one or several linear layers of the same input, side by side.
   * Weight `<name>.weight` `[outputs, c]`.
   */
  linear(x: Tensor, names: string | readonly string[], options: LinearOptions): Tensor {
    const layers = typeof names === "string" ? [names] : names;
    const outputs = typeof options.outputs === "number" ? layers.map(() => options.outputs as number) : options.outputs;
    const { bias = true, outputHead, inputHead, aliases } = options;
    const stored = outputs.map((size) => (outputHead ? (size / outputHead.width) * outputHead.padded : size));
    const c = channelsOf(x);
    const inputs = inputHead ? (c / inputHead.padded) * inputHead.width : c;
    const total = stored.reduce((sum, size) => sum + size, 0);
    if (layers.length > 1 && stored.slice(0, -1).some((size) => size % 4 !== 0)) {
      throw this.#error(layers[0]!, `layers side by side need multiples of four channels, not ${outputs}`);
    }
    const suffix = options.asConvolution ? [1, 1] : [];
    const weight = this.#matrix({
      parts: layers.map((name, i) => ({
        name: this.#path(name, "weight"),
        shape: [outputs[i]!, inputs, ...suffix],
        ...(aliases ? { aliases: aliases.map((alias) => this.#path(alias, "weight")) } : {}),
      })),
      partChannels: stored,
      taps: 1,
      inputs,
      outputHead: paddedOnly(outputHead),
      inputHead: paddedOnly(inputHead),
    });
    const biasParameter = bias
      ? this.#register<VectorParameter>({
          kind: "vector",
          key: layers.map((name) => this.#path(name, "bias")).join("+"),
          parts: layers.map((name, i) => ({
            name: this.#path(name, "bias"),
            shape: [outputs[i]!],
            ...(aliases ? { aliases: aliases.map((alias) => this.#path(alias, "bias")) } : {}),
          })),
          partChannels: stored,
          quads: quads(total),
          head: paddedOnly(outputHead),
        })
      : undefined;
    const rows = rowsOf(x);
    const images = x.shape.length > 1 ? x.shape[0]! : 1;
    return this.#convolution(x, options.name ?? layers.join("+"), weight, biasParameter, {
      shape: [...x.shape.slice(0, -1), total],
      picture: { images, inHeight: 1, inWidth: rows / images, outHeight: 1, outWidth: rows / images },
      kernel: { height: 1, width: 1, stride: 1, top: 0, left: 0 },
    });
  }

  /** Group normalisation over `[n, h, w, c]` or `[n, tokens, c]`; weights `<name>.weight`, `<name>.bias` `[c]`. */
  groupNorm(x: Tensor, name: string, options: { groups: number; eps: number }): Tensor {
    const c = channelsOf(x);
    if (c % options.groups !== 0) throw this.#error(name, `${c} channels do not divide into ${options.groups} groups`);
    const statistics = this.#statistics.given ? this.#givenStatistics(x, name) : this.#ownStatistics(x, name);
    if (this.#statistics.measured) this.#measureRows(x, name);
    return this.#push({
      kind: "group-norm-apply",
      name: this.#path(name),
      input: x,
      statistics,
      groupChannels: c / options.groups,
      firstQuad: 0,
      eps: options.eps,
      gamma: this.#vector(name, "weight", c),
      beta: this.#vector(name, "bias", c),
      activation: "none",
      output: this.#tensor(this.#path(name), x.shape),
    }).output;
  }

  #ownStatistics(x: Tensor, name: string): GroupNormStats {
    const pixels = rowsOf(x) / x.shape[0]!;
    return this.#pushStatistics(x, name, Math.max(MIN_CHUNK_PIXELS, Math.ceil(pixels / MAX_CHUNKS)));
  }

  #pushStatistics(x: Tensor, name: string, chunkPixels: number): GroupNormStats {
    const images = x.shape[0]!;
    const chunks = Math.ceil(rowsOf(x) / images / chunkPixels);
    const shape = [images * chunks * quads(channelsOf(x)), 8];
    return this.#push<GroupNormStats>({
      kind: "group-norm-stats",
      name: this.#path(name),
      input: x,
      chunks,
      chunkPixels,
      output: this.#tensor(`${this.#path(name)} statistics`, shape, { element: "f32" }),
    });
  }

  #measureRows(x: Tensor, name: string): void {
    const [, height, width, channels] = this.#picture(x, name);
    this.norms.set(this.#path(name), { height, width, channels });
    this.output(`measured ${this.#path(name)}`, this.#pushStatistics(x, name, width).output);
  }

  #givenStatistics(x: Tensor, name: string): GroupNormStats {
    const [images, height, width, channels] = this.#picture(x, name);
    const chunkPixels = height * width;
    this.norms.set(this.#path(name), { height, width, channels });
    const output = this.input(`given ${this.#path(name)}`, [images * quads(channels), 8], { element: "f32" });
    return { kind: "group-norm-stats", name: this.#path(name), input: x, chunks: 1, chunkPixels, output };
  }

  /** Layer normalisation over the last dimension; weights `<name>.weight`, `<name>.bias` `[c]`. */
  layerNorm(x: Tensor, name: string, options: { eps: number }): Tensor {
    const c = channelsOf(x);
    return this.#push({
      kind: "layer-norm",
      name: this.#path(name),
      input: x,
      eps: options.eps,
      gamma: this.#vector(name, "weight", c),
      beta: this.#vector(name, "bias", c),
      output: this.#tensor(this.#path(name), x.shape),
    }).output;
  }

  /** Scaled dot-product attention: `[n, queries, …]`, `[n, keys, …]` → `[n, queries, heads · head.padded]`. */
  attention(
    name: string,
    views: { query: View; key: View; value: View },
    options: { heads: number; head: HeadPadding; causal?: boolean },
  ): Tensor {
    const { query, key, value } = views;
    const images = query.tensor.shape[0]!;
    if (
      key.tensor.shape[0] !== images ||
      value.tensor.shape[0] !== images ||
      rowsOf(key.tensor) !== rowsOf(value.tensor)
    ) {
      throw this.#error(name, `keys ${key.tensor.shape} do not fit queries ${query.tensor.shape}`);
    }
    const channels = options.heads * options.head.padded;
    return this.#push<Attention>({
      kind: "attention",
      name: this.#path(name),
      query,
      key,
      value,
      heads: options.heads,
      head: options.head,
      causal: options.causal ?? false,
      output: this.#tensor(this.#path(name), [images, rowsOf(query.tensor) / images, channels]),
    }).output;
  }

  /** `[…, 2c]` → `[…, c]`: the first half times the GELU of the second. */
  geglu(x: Tensor, name: string): Tensor {
    const channels = channelsOf(x) / 2;
    if (channels % 4 !== 0) throw this.#error(name, `${channels * 2} channels do not split into two halves of quads`);
    const output = this.#tensor(this.#path(name), [...x.shape.slice(0, -1), channels]);
    const [value, gate] = [
      { tensor: x, offset: 0 },
      { tensor: x, offset: channels },
    ];
    return this.#push({ kind: "geglu", name: this.#path(name), value, gate, output }).output;
  }

  activation(x: Tensor, activation: Activation): Tensor {
    return this.#elementwise(x, activation, { activation });
  }

  /** `activation(x · inputScale) · scale + shift` */
  affine(
    x: Tensor,
    name: string,
    options: { inputScale?: number; activation?: Activation; scale?: number; shift?: number },
  ): Tensor {
    return this.#elementwise(x, name, options);
  }

  /** `x + y`; y has x's shape, or is one row an image: `[n, c]` or `[n, 1, c]`, or c channels of such rows. */
  add(x: Tensor, y: Tensor | View, name = "add"): Tensor {
    const { tensor, offset } = "tensor" in y ? y : { tensor: y, offset: 0 };
    const [wanted, given] = [channelsOf(x), channelsOf(tensor)];
    const fits = given === wanted || ("tensor" in y && offset % 4 === 0 && offset + wanted <= given);
    const perImage = fits && rowsOf(tensor) === x.shape[0];
    if (!perImage && (rowsOf(tensor) !== rowsOf(x) || given !== wanted)) {
      throw this.#error(name, `shapes ${x.shape} and ${tensor.shape} do not add`);
    }
    return this.#elementwise(x, name, { addend: tensor, firstAddendQuad: offset / 4 });
  }

  /** Nearest-neighbour resize of `[n, h, w, c]`. */
  upsampleNearest(x: Tensor, name: string, size: { height: number; width: number }): Tensor {
    const [n, , , c] = this.#picture(x, name);
    const output = this.#tensor(this.#path(name), [n, size.height, size.width, c]);
    return this.#push({ kind: "upsample-nearest", name: this.#path(name), input: x, firstQuad: 0, output }).output;
  }

  softmax(x: Tensor, name: string): Tensor {
    return this.#push({
      kind: "softmax",
      name: this.#path(name),
      input: x,
      output: this.#tensor(this.#path(name), x.shape),
    }).output;
  }

  /** Token plus position embedding: ids u32 `[n · tokens]` → `[n, tokens, channels]`. */
  embedding(
    ids: Tensor,
    names: { table: string; positions: string },
    sizes: { images: number; tokens: number; vocabulary: number; positions: number; channels: number },
  ): Tensor {
    const table = (name: string, rows: number): TableParameter =>
      this.#register({
        kind: "table",
        key: this.#path(name, "weight"),
        parts: [{ name: this.#path(name, "weight"), shape: [rows, sizes.channels] }],
        rows,
        channels: sizes.channels,
      });
    if (sizes.tokens > sizes.positions) {
      throw this.#error(names.positions, `${sizes.tokens} tokens, but only ${sizes.positions} positions`);
    }
    return this.#push({
      kind: "embedding",
      name: this.#path(names.table),
      ids,
      table: table(names.table, sizes.vocabulary),
      positions: table(names.positions, sizes.positions),
      output: this.#tensor(this.#path(names.table), [sizes.images, sizes.tokens, sizes.channels]),
    }).output;
  }

  /** `[n, tokens, c]` (or `[1, tokens, c]`, for all images), rows u32 `[n]` → `[n, c]`. */
  gatherRows(x: Tensor, rows: Tensor, name: string): Tensor {
    const [images] = rows.shape as [number];
    if (x.shape.length !== 3 || (x.shape[0] !== images && x.shape[0] !== 1)) {
      throw this.#error(name, `wants [${images} or 1, tokens, c], not [${x.shape}]`);
    }
    const output = this.#tensor(this.#path(name), [images, channelsOf(x)]);
    return this.#push({ kind: "gather-rows", name: this.#path(name), input: x, rows, output }).output;
  }

  /** The same elements under another shape with the same channels. */
  reshape(x: Tensor, shape: readonly number[]): Tensor {
    const reshaped = { ...x, shape: [...shape] };
    if (rowsOf(reshaped) !== rowsOf(x) || channelsOf(reshaped) !== channelsOf(x)) {
      throw this.#error("reshape", `[${x.shape}] does not hold [${shape}]`);
    }
    return reshaped;
  }

  /** Two tensors as one along the channels; only group norm and convolutions read such a tensor. */
  concat(x: Tensor, y: Tensor): Tensor {
    const shape = [...x.shape.slice(0, -1), channelsOf(x) + channelsOf(y)];
    if (rowsOf(x) !== rowsOf(y)) {
      throw this.#error("concat", `shapes ${x.shape} and ${y.shape} do not stand side by side`);
    }
    if (channelsOf(x) % 4 !== 0) {
      const output = this.#tensor(this.#path("concat"), shape);
      return this.#push({ kind: "concatenate", name: this.#path("concat"), first: x, second: y, output }).output;
    }
    return { ...this.#tensor(this.#path("concat"), shape), concatenated: [x, y] };
  }

  /** `[n, h, w, ≥3]` in [-1, 1] → RGBA8, u32 `[n · h · w]`. */
  packPicture(x: Tensor, name: string): Tensor {
    const output = this.#tensor(this.#path(name), [rowsOf(x)], { element: "u32" });
    return this.#push({ kind: "pack-picture", name: this.#path(name), input: x, output }).output;
  }

  /** f32 latents `[n, h, w, c]` and matrix `[4 · ⌈c/4⌉ + 1, 4]` → `[n, h, w, 3]`. */
  latentToRgb(latents: Tensor, matrix: Tensor, name: string): Tensor {
    const output = this.#tensor(this.#path(name), [...latents.shape.slice(0, -1), 3]);
    return this.#push({ kind: "latent-to-rgb", name: this.#path(name), input: latents, matrix, output }).output;
  }

  /** f32 latents `[n, h, w, c]` → the model's input `[n · branches, h, w, c]`, scaled by each image's row. */
  modelInput(latents: Tensor, rows: Tensor, branches: number, name: string): Tensor {
    const shape = [latents.shape[0]! * branches, ...latents.shape.slice(1)];
    const output = this.#tensor(this.#path(name), shape);
    return this.#push({ kind: "model-input", name: this.#path(name), latents, rows, output }).output;
  }

  /**
   * f32 noise `[n, h, w, c]` as `torch.randn` draws it on CUDA. draws, u32 `[n · 6]`, for each image: the key's low and
   * high word, the call's, the launch's threads (`PhiloxDraw`), and which element of the draw (NCHW) is the image's first.
   */
  philoxNormals(draws: Tensor, shape: readonly [number, number, number, number], name: string): Tensor {
    if (draws.element !== "u32" || draws.shape[0] !== shape[0] * PHILOX_DRAW_WORDS) {
      throw this.#error(name, `wants u32 [${shape[0] * PHILOX_DRAW_WORDS}], not ${draws.element} [${draws.shape}]`);
    }
    const output = this.#tensor(this.#path(name), shape, { element: "f32" });
    return this.#push({ kind: "philox-normals", name: this.#path(name), draws, output }).output;
  }

  /** Advances the latents in place by one row of a scheduler's table; gives the denoised prediction, f32. */
  schedulerStep(
    operands: { latents: Tensor; model: Tensor; noise: Tensor; history: Tensor; rows: Tensor },
    name: string,
  ): Tensor {
    const output = this.#tensor(`${this.#path(name)} denoised`, operands.latents.shape, { element: "f32" });
    return this.#push({ kind: "scheduler-step", name: this.#path(name), ...operands, output }).output;
  }

  #convolution(
    x: Tensor,
    name: string,
    weight: MatrixParameter,
    bias: VectorParameter | undefined,
    geometry: { shape: readonly number[]; picture: Convolution["picture"]; kernel: Convolution["kernel"] },
  ): Tensor {
    const { picture, kernel, shape } = geometry;
    return this.#push<Convolution>({
      kind: "convolution",
      name: this.#path(name),
      input: x,
      weight,
      bias,
      picture,
      virtual: { height: picture.inHeight, width: picture.inWidth },
      kernel,
      firstOutputQuad: 0,
      activation: "none",
      activationAfterResidual: true,
      output: this.#tensor(this.#path(name), shape),
    }).output;
  }

  #elementwise(
    x: Tensor,
    name: string,
    options: Partial<Pick<Elementwise, "activation" | "inputScale" | "scale" | "shift" | "addend" | "firstAddendQuad">>,
  ): Tensor {
    return this.#push({
      kind: "elementwise",
      name: this.#path(name),
      input: x,
      addend: options.addend,
      firstAddendQuad: options.firstAddendQuad ?? 0,
      activation: options.activation ?? "none",
      inputScale: options.inputScale ?? 1,
      scale: options.scale ?? 1,
      shift: options.shift ?? 0,
      output: this.#tensor(this.#path(name), x.shape),
    }).output;
  }

  #matrix(options: {
    parts: ParameterPart[];
    partChannels: number[];
    taps: number;
    inputs: number;
    outputHead?: HeadPadding | undefined;
    inputHead?: HeadPadding | undefined;
  }): MatrixParameter {
    const { inputs, inputHead, partChannels } = options;
    const storedInputs = inputHead ? (inputs / inputHead.width) * inputHead.padded : inputs;
    return this.#register({
      kind: "matrix",
      key: options.parts.map((part) => part.name).join("+"),
      ...options,
      inputQuads: quads(storedInputs),
      outputQuads: quads(partChannels.reduce((sum, size) => sum + size, 0)),
    });
  }

  #vector(name: string, suffix: string, channels: number): VectorParameter {
    const path = this.#path(name, suffix);
    return this.#register({
      kind: "vector",
      key: path,
      parts: [{ name: path, shape: [channels] }],
      partChannels: [channels],
      quads: quads(channels),
    });
  }

  #register<T extends Parameter>(parameter: T): T {
    const known = this.parameters.get(parameter.key);
    if (known) return known as T;
    this.parameters.set(parameter.key, parameter);
    return parameter;
  }

  #tensor(
    name: string,
    shape: readonly number[],
    options: Partial<Pick<Tensor, "element" | "role" | "constant">> = {},
  ): Tensor {
    if (shape.some((size) => !Number.isInteger(size) || size < 1))
      throw this.#error(name, `impossible shape [${shape}]`);
    const { element = "stored", role = "computed", constant = false } = options;
    return { id: this.#nextId++, name, shape: [...shape], element, role, constant };
  }

  #push<T extends Operation>(operation: T): T {
    this.operations.push(operation);
    return operation;
  }

  #picture(x: Tensor, name: string): [number, number, number, number] {
    if (x.shape.length !== 4) throw this.#error(name, `wants [n, h, w, c], not [${x.shape}]`);
    return x.shape as unknown as [number, number, number, number];
  }

  #path(...names: string[]): string {
    return [...this.#scopes, ...names].filter((name) => name !== "").join(".");
  }

  #error(name: string, reason: string): GraphError {
    return new GraphError(`${this.#path(name)}: ${reason}`);
  }
}

/** Heads that are a multiple of four wide need no padding, and their layers no special packing. */
function paddedOnly(head: HeadPadding | undefined): HeadPadding | undefined {
  return head && head.width !== head.padded ? head : undefined;
}
