/**
 * The factors of adapters on the host. Those of plain LoRAs are brought into the order of the packed tiles, those of all changes
 * of one module one below the other, so that their sum is one product. Others stay in the order of their files.
 */

import { type HeadPadding, type MatrixParameter, quads } from "../graph/tensor.ts";
import { inTurns } from "../platform/turns.ts";
import { areFinite, type FloatType, toFloat32 } from "../weights/element-types.ts";
import { WeightsError } from "../weights/errors.ts";
import type { LoraDelta } from "../weights/lora.ts";
import type { ChannelAxis, Factor, MatrixDelta, ProductFactor } from "../weights/lora-changes.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";

/** A resolved change, and how strongly it counts. */
export interface WeightedDelta<Delta extends LoraDelta = LoraDelta> {
  readonly delta: Delta;
  readonly scale: number;
}

/** A change that is one product and nothing else. */
export type LowRankDelta = MatrixDelta & { readonly factors: readonly [ProductFactor]; readonly magnitude?: undefined };

export function isLowRank(weighted: WeightedDelta): weighted is WeightedDelta<LowRankDelta> {
  const { delta } = weighted;
  if (delta.kind !== "matrix" || delta.magnitude !== undefined) return false;
  return delta.factors.length === 1 && delta.factors[0].kind === "product";
}

/** The factors of all changes of one module, one below the other, in the order of the packed tiles. */
export interface StackedFactors {
  readonly rank: number;
  /** `[tap, rank, stored inputs]` */
  readonly down: Float32Array;
  /** `[rank, stored outputs]`, with the scales multiplied in. */
  readonly up: Float32Array;
}

export async function stackFactors(
  parameter: MatrixParameter,
  part: number,
  weighted: readonly WeightedDelta<LowRankDelta>[],
): Promise<StackedFactors> {
  const { taps, inputs, inputHead, outputHead } = parameter;
  const outputs = parameter.parts[part]!.shape[0]!;
  const storedInputs = parameter.inputQuads * 4;
  const storedOutputs = quads(parameter.partChannels[part]!) * 4;
  const total = weighted.reduce((sum, { delta }) => sum + delta.factors[0].rank, 0);
  const stacked = {
    rank: total,
    down: new Float32Array(taps * total * storedInputs),
    up: new Float32Array(total * storedOutputs),
  };
  let first = 0;
  for (const { delta, scale } of weighted) {
    const { rank, up, down } = await productValues(delta.factors[0]);
    const begin = first;
    function* stack(): Generator<void, void, void> {
      for (let r = 0; r < rank; r++) {
        for (let tap = 0; tap < taps; tap++) {
          const row = (tap * total + begin + r) * storedInputs;
          for (let i = 0; i < inputs; i++)
            stacked.down[row + stored(i, inputHead)] = down[(r * inputs + i) * taps + tap]!;
        }
        const row = (begin + r) * storedOutputs;
        for (let o = 0; o < outputs; o++)
          stacked.up[row + stored(o, outputHead)] = up[o * rank + r]! * delta.scale * scale;
        yield;
      }
    }
    // In turns: reads are served from blocks already there, and a file has hundreds of modules.
    await inTurns(stack());
    first += rank;
  }
  return stacked;
}

/** A factor's numbers: `down` alone, `[rows, columns, taps]`, if its rank is 0. */
export interface FactorValues {
  readonly rank: number;
  /** `[rows, rank]` */
  readonly up: Float32Array;
  /** `[rank, columns, taps]` */
  readonly down: Float32Array;
}

export async function factorValues(factor: Factor): Promise<FactorValues> {
  if (factor.kind === "product") return productValues(factor);
  return { rank: 0, up: new Float32Array(1), down: await valuesOf(factor.values) };
}

async function productValues(factor: ProductFactor): Promise<FactorValues> {
  const { rank, rows, isUpTransposed } = factor;
  const up = await valuesOf(factor.up);
  return { rank, up: isUpTransposed ? transposed(up, rank, rows) : up, down: await downOf(factor) };
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) turned[column * rows + row] = values[row * columns + column]!;
  return turned;
}

/** `down` with the kernel in it, `[rank, columns, taps]`: a core is multiplied into it. */
async function downOf({ down: entry, core, rank, columns, taps }: ProductFactor): Promise<Float32Array> {
  const down = await valuesOf(entry);
  if (!core) return down;
  return inTurns(throughKernel(await valuesOf(core), down, { rank, inputs: columns, taps }));
}

/** `core · down`: `[rank, rank, taps]` and `[rank, inputs]` to `[rank, inputs, taps]`. */
function* throughKernel(
  core: Float32Array,
  down: Float32Array,
  { rank, inputs, taps }: { readonly rank: number; readonly inputs: number; readonly taps: number },
): Generator<void, Float32Array, void> {
  const product = new Float32Array(rank * inputs * taps);
  for (let r = 0; r < rank; r++) {
    for (let i = 0; i < inputs; i++) {
      for (let tap = 0; tap < taps; tap++) {
        let sum = 0;
        for (let s = 0; s < rank; s++) sum += core[(r * rank + s) * taps + tap]! * down[s * inputs + i]!;
        product[(r * inputs + i) * taps + tap] = sum;
      }
      if ((i * rank) % 4096 < rank) yield;
    }
  }
  return product;
}

/** A number for each channel of a side of a matrix's part, as the channels are stored. */
export async function channelValues(
  parameter: MatrixParameter,
  part: number,
  axis: ChannelAxis,
  entry: TensorEntry,
): Promise<Float32Array> {
  const isOutputs = axis === "outputs";
  const count = isOutputs ? quads(parameter.partChannels[part]!) : parameter.inputQuads;
  return spread(await valuesOf(entry), isOutputs ? parameter.outputHead : parameter.inputHead, count * 4);
}

/** Values of channels as the channels are stored, zero between. */
export function spread(values: Float32Array, head: HeadPadding | undefined, count: number): Float32Array {
  const all = new Float32Array(count);
  for (const [channel, value] of values.entries()) all[stored(channel, head)] = value;
  return all;
}

/** The channel as stored: heads are widened to a multiple of four. */
function stored(channel: number, head: HeadPadding | undefined): number {
  return head ? Math.floor(channel / head.width) * head.padded + (channel % head.width) : channel;
}

export async function valuesOf(entry: TensorEntry): Promise<Float32Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  const values = toFloat32(bytes, entry.dtype as FloatType);
  if (areFinite(values)) return values;
  const reason = "holds NaN or infinity; the file is damaged, or its training has failed";
  throw new WeightsError("weights-not-finite", reason, { file: entry.file, tensor: entry.name });
}
