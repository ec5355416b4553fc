/**
 * The changes of a matrix that are more than products of thin matrices (LoHa, LoKr, whole differences, DoRA, IA³), made in f32
 * in a copy of its weights. Each is computed from the weights as they were, so that their order makes no difference.
 */

import loraApplyGains from "../../shaders/lora_apply_gains.wgsl" with { type: "text" };
import loraGains from "../../shaders/lora_gains.wgsl" with { type: "text" };
import loraProduct from "../../shaders/lora_product.wgsl" with { type: "text" };
import storedChannels from "../../shaders/prelude/stored_channels.wgsl" with { type: "text" };
import { grid, type Kernel, kernel, type Params } from "../graph/dispatch.ts";
import { type MatrixParameter, quads, type Storage } from "../graph/tensor.ts";
import { weightQuadBytes } from "../graph/weights.ts";
import type { Factor, GainDelta, MatrixDelta } from "../weights/lora-changes.ts";
import { channelValues, type FactorValues, factorValues, type WeightedDelta } from "./lora-factors.ts";
import type { Merging } from "./merging.ts";

/** Packed weights that changes are computed from. */
export interface PackedWeights {
  readonly buffer: GPUBuffer;
  readonly storage: Storage;
}

/** The place of a part's output quads among those of the packed matrix. */
export function packedPlace({ taps, inputQuads, outputQuads, partChannels }: MatrixParameter, part: number) {
  return {
    taps,
    in_quads: inputQuads,
    out_quads: outputQuads,
    first_packed_quad: partChannels.slice(0, part).reduce((sum, channels) => sum + quads(channels), 0),
    packed_quads: quads(partChannels[part]!),
  };
}

/** One number, by which a product is what it was. */
export const ONE = { rows: 1, columns: 1, taps: 1, rank: 0 };
const ONE_VALUES: FactorValues = { rank: 0, up: new Float32Array(1), down: Float32Array.of(1) };

type FactorSize = Factor | typeof ONE;

/** The kernel that adds a change of one or two factors. */
export function productKernel(): Kernel {
  return kernel("lora_product", loraProduct, "f32", { preludes: [storedChannels] });
}

/** The parameters of `productKernel`. */
export function productParams(
  parameter: MatrixParameter,
  part: number,
  of: { factors: readonly FactorSize[]; coefficient: number; gridWidth: number },
): Params {
  const { taps, inputs, outputHead, inputHead, parts } = parameter;
  const [first = ONE, second = ONE] = of.factors;
  const outputs = parts[part]!.shape[0]!;
  const place = packedPlace(parameter, part);
  return {
    outputs,
    inputs,
    taps,
    coefficient: { f32: of.coefficient },
    in_quads: place.in_quads,
    out_quads: place.out_quads,
    first_packed_quad: place.first_packed_quad,
    packed_quads: place.packed_quads,
    out_head: outputHead?.width ?? 0,
    out_head_padded: outputHead?.padded ?? 0,
    in_head: inputHead?.width ?? 0,
    in_head_padded: inputHead?.padded ?? 0,
    first_rank: rankOf(first),
    first_columns: first.columns,
    first_taps: first.taps,
    row_block: outputs / first.rows,
    column_block: inputs / first.columns,
    second_rank: rankOf(second),
    second_rows: second.rows,
    second_columns: second.columns,
    second_taps: second.taps,
    grid_width: of.gridWidth,
  };
}

function rankOf(factor: FactorSize): number {
  return "rank" in factor ? factor.rank : 0;
}

/** The kernel that finds what DoRA multiplies each channel by. */
export function gainsKernel(): Kernel {
  return kernel("lora_gains", loraGains, "f32");
}

export function gainsParams(
  parameter: MatrixParameter,
  part: number,
  { ofOutputs, strength }: { ofOutputs: boolean; strength: number },
): Params {
  return { ...packedPlace(parameter, part), of_outputs: ofOutputs, strength: { f32: strength } };
}

/** The kernel that adds the change that gains make to weights that were stored so. */
export function applyGainsKernel(before: Storage): Kernel {
  return kernel("lora_apply_gains", loraApplyGains, "f32", { weightStorage: before });
}

export function applyGainsParams(
  parameter: MatrixParameter,
  part: number,
  { ofOutputs, gridWidth }: { ofOutputs: boolean; gridWidth: number },
): Params {
  return { ...packedPlace(parameter, part), of_outputs: ofOutputs, grid_width: gridWidth };
}

/** A matrix whose changes are being made. */
export class ChangedWeights {
  readonly #merging: Merging;
  readonly #label: string;
  readonly #parameter: MatrixParameter;
  readonly #before: PackedWeights;
  /** A buffer of the caller's: the weights in f32, that is, and what was added so far. */
  readonly #changed: GPUBuffer;
  readonly #widen: (label: string) => Promise<GPUBuffer>;

  /** @param widen makes a buffer of `before` in f32, which is then the receiver's */
  private constructor(
    merging: Merging,
    label: string,
    parameter: MatrixParameter,
    weights: { before: PackedWeights; changed: GPUBuffer; widen: (label: string) => Promise<GPUBuffer> },
  ) {
    this.#merging = merging;
    this.#label = label;
    this.#parameter = parameter;
    this.#before = weights.before;
    this.#changed = weights.changed;
    this.#widen = weights.widen;
  }

  static async begin(
    merging: Merging,
    label: string,
    parameter: MatrixParameter,
    before: PackedWeights,
    widen: (label: string) => Promise<GPUBuffer>,
  ): Promise<ChangedWeights> {
    return new ChangedWeights(merging, label, parameter, { before, widen, changed: await widen(`${label} changed`) });
  }

  /** The weights with all changes so far, in f32. */
  get result(): PackedWeights {
    return { buffer: this.#changed, storage: "f32" };
  }

  async add(part: number, { delta, scale }: WeightedDelta<MatrixDelta | GainDelta>): Promise<void> {
    if (delta.kind === "gain") {
      const gains = await channelValues(this.#parameter, part, delta.axis, delta.values);
      const strength = scale * delta.scale;
      await this.#multiplied(part, delta.axis === "outputs", async () => gains.map((gain) => gain * strength));
      return;
    }
    const { magnitude } = delta;
    if (magnitude === undefined) return this.#addProduct(part, delta, scale * delta.scale, this.#changed);
    const isPeft = magnitude.rule === "peft";
    const ofOutputs = magnitude.axis === "outputs";
    await this.#multiplied(part, ofOutputs, async (weights, gains) => {
      await this.#addProduct(part, delta, isPeft ? scale * delta.scale : delta.scale, weights);
      const values = await channelValues(this.#parameter, part, magnitude.axis, magnitude.values);
      await this.#merging.run(this.#label, {
        kernel: gainsKernel(),
        params: gainsParams(this.#parameter, part, { ofOutputs, strength: isPeft ? 1 : scale }),
        buffers: [weights, values, gains],
        workgroups: [values.length / 4, 1, 1],
      });
      return gains;
    });
  }

  /**
   * Adds the change from a copy of the weights that `find` may change, multiplied by 1 and the gains that it finds.
   * @param find is given a buffer that has room for them
   */
  async #multiplied(
    part: number,
    ofOutputs: boolean,
    find: (weights: GPUBuffer, gains: GPUBuffer) => Promise<GPUBuffer | Float32Array>,
  ): Promise<void> {
    const { gpu } = this.#merging;
    const parameter = this.#parameter;
    const place = packedPlace(parameter, part);
    const owned: GPUBuffer[] = [];
    try {
      const weights = await this.#widen(`${this.#label} scaled`);
      owned.push(weights);
      const count = ofOutputs ? place.packed_quads : place.in_quads;
      const room = gpu.createBuffer(`${this.#label} gains`, count * 16);
      owned.push(room);
      const gains = await find(weights, room);
      const { workgroups, width } = grid(place.taps * place.in_quads * place.packed_quads * 4);
      await this.#merging.run(this.#label, {
        kernel: applyGainsKernel(this.#before.storage),
        params: applyGainsParams(parameter, part, { ofOutputs, gridWidth: width }),
        buffers: [weights, gains, this.#before.buffer, this.#changed],
        workgroups,
      });
    } finally {
      for (const buffer of owned) gpu.destroyBuffer(buffer); // the queue keeps what it still has to read
    }
  }

  async #addProduct(part: number, delta: MatrixDelta, coefficient: number, target: GPUBuffer): Promise<void> {
    const [first, second] = delta.factors;
    const values = [await factorValues(first), second ? await factorValues(second) : ONE_VALUES];
    const place = packedPlace(this.#parameter, part);
    const { workgroups, width } = grid(place.taps * place.in_quads * place.packed_quads * 4);
    await this.#merging.run(this.#label, {
      kernel: productKernel(),
      params: productParams(this.#parameter, part, { factors: delta.factors, coefficient, gridWidth: width }),
      buffers: [...values.flatMap(({ up, down }) => [up, down]), target],
      workgroups,
    });
  }

  destroy(): void {
    this.#merging.gpu.destroyBuffer(this.#changed);
  }
}

/** Bytes of a matrix's tiles in f32. */
export function widenedBytes({ taps, inputQuads, outputQuads }: MatrixParameter): number {
  return taps * inputQuads * outputQuads * 4 * weightQuadBytes("f32");
}
