/**
 * The factors of LoRAs on the host, brought into the order of the packed tiles: those of all changes of one module, one below
 * the other, so that their sum is one product.
 */

import { type HeadPadding, type MatrixParameter, quads } from "../graph/tensor.ts";
import { inTurns } from "../platform/turns.ts";
import { areFinite, type FloatType, toFloat32 } from "../weights/element-types.ts";
import { WeightsError } from "../weights/errors.ts";
import type { LoraDelta } from "../weights/lora.ts";
import type { TensorEntry } from "../weights/tensor-set.ts";

/** A resolved change, and how strongly it counts. */
export interface WeightedDelta {
  readonly delta: LoraDelta;
  readonly scale: number;
}

/** The factors of all changes of one module, one below the other, in the order of the packed tiles. */
export interface Factors {
  readonly rank: number;
  /** `[tap, rank, stored inputs]` */
  readonly down: Float32Array;
  /** `[rank, stored outputs]`, with the scales multiplied in. */
  readonly up: Float32Array;
}

export async function stackFactors(
  parameter: MatrixParameter,
  part: number,
  weighted: readonly WeightedDelta[],
): Promise<Factors> {
  const { taps, inputs, inputHead, outputHead } = parameter;
  const outputs = parameter.parts[part]!.shape[0]!;
  const storedInputs = parameter.inputQuads * 4;
  const storedOutputs = quads(parameter.partChannels[part]!) * 4;
  const total = weighted.reduce((sum, { delta }) => sum + delta.rank, 0);
  const stacked = {
    rank: total,
    down: new Float32Array(taps * total * storedInputs),
    up: new Float32Array(total * storedOutputs),
  };
  let first = 0;
  for (const { delta, scale } of weighted) {
    const { rank } = delta;
    const down = await downOf(delta, taps, inputs);
    const up = await valuesOf(delta.up);
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

/** `down` with the kernel in it, `[rank, inputs, taps]`: a `mid` between the 1 × 1 factors is multiplied into it. */
async function downOf(delta: LoraDelta, taps: number, inputs: number): Promise<Float32Array> {
  const down = await valuesOf(delta.down);
  if (!delta.mid) return down;
  return inTurns(throughKernel(await valuesOf(delta.mid), down, { rank: delta.rank, inputs, taps }));
}

/** `mid · down`: `[rank, rank, taps]` and `[rank, inputs]` to `[rank, inputs, taps]`. */
function* throughKernel(
  mid: Float32Array,
  down: Float32Array,
  { rank, inputs, taps }: { readonly rank: number; readonly inputs: number; readonly taps: number },
): Generator<void, Float32Array, void> {
  const product = new Float32Array(rank * inputs * taps);
  for (let r = 0; r < rank; r++) {
    for (let i = 0; i < inputs; i++) {
      for (let tap = 0; tap < taps; tap++) {
        let sum = 0;
        for (let s = 0; s < rank; s++) sum += mid[(r * rank + s) * taps + tap]! * down[s * inputs + i]!;
        product[(r * inputs + i) * taps + tap] = sum;
      }
      if ((i * rank) % 4096 < rank) yield;
    }
  }
  return product;
}

/** The channel as stored: heads are widened to a multiple of four. */
function stored(channel: number, head: HeadPadding | undefined): number {
  return head ? Math.floor(channel / head.width) * head.padded + (channel % head.width) : channel;
}

async function valuesOf(entry: TensorEntry): Promise<Float32Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  const values = toFloat32(bytes, entry.dtype as FloatType);
  if (areFinite(values)) return values;
  const reason = "holds NaN or infinity; the file is damaged, or its training has failed";
  throw new WeightsError("weights-not-finite", reason, { file: entry.file, tensor: entry.name });
}
