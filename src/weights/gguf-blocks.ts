/**
 * Quantised blocks of GGUF as float32: each block has some scales and, for each weight, a few bits.
 *
 * Layouts and formulas are those of ggml (`ggml-common.h`, `dequantize_row_*` in `ggml-quants.c`). Products are rounded to
 * float32 in its order: `(d · scale) · q − (dmin · min)`.
 */

import { float16BitsToFloat32 } from "../platform/float16.ts";
import type { Conversion } from "./converted.ts";

/** A kind of block, by ggml's name. */
export interface BlockType {
  readonly name: string;
  /** Weights of a block. */
  readonly weights: number;
  readonly bytes: number;
  /** Writes a block's weights from `at` on. */
  readonly widen: (block: DataView, out: Float32Array, at: number) => void;
}

const f32 = Math.fround;
/** Weights of a block, and of a K-quant's. */
const [SMALL, LARGE] = [32, 256];

const half = (block: DataView, at: number) => float16BitsToFloat32(block.getUint16(at, true));

/** Nibbles at `from`: the low ones are the first 16 weights, the high ones the others. */
function nibble(block: DataView, from: number, index: number): number {
  return index < 16 ? block.getUint8(from + index) & 15 : block.getUint8(from + index - 16) >> 4;
}

/** The fifth bits of a block's weights are a word. */
function fifthBit(block: DataView, at: number, index: number): number {
  return ((block.getUint32(at, true) >>> index) & 1) << 4;
}

/** A type whose weights are `d · (q − zero)`, or `d · q + m` with a minimum. */
function simple(
  name: string,
  bytes: number,
  { zero, hasMinimum, quant }: { zero: number; hasMinimum: boolean; quant: (block: DataView, index: number) => number },
): BlockType {
  return {
    name,
    weights: SMALL,
    bytes,
    widen(block, out, at) {
      const d = half(block, 0);
      const m = hasMinimum ? half(block, 2) : 0;
      for (let i = 0; i < SMALL; i++) out[at + i] = f32(d * (quant(block, i) - zero)) + m;
    },
  };
}

/** Scale and minimum of a run of 32 weights, six bits each, of the twelve bytes at `from` (`get_scale_min_k4`). */
function scaleAndMinimum(block: DataView, from: number, run: number): [scale: number, minimum: number] {
  const byte = (index: number) => block.getUint8(from + index);
  if (run < 4) return [byte(run) & 63, byte(run + 4) & 63];
  return [(byte(run + 4) & 15) | ((byte(run - 4) >> 6) << 4), (byte(run + 4) >> 4) | ((byte(run) >> 6) << 4)];
}

/** Q4_K and Q5_K: runs of 32 weights, each with a scale and a minimum; Q5_K's fifth bits lie at `high`. */
function widenRuns(block: DataView, out: Float32Array, at: number, quants: number, high?: number): void {
  const [d, dmin] = [half(block, 0), half(block, 2)];
  for (let run = 0; run < 8; run++) {
    const [scale, minimum] = scaleAndMinimum(block, 4, run);
    const [step, offset] = [f32(d * scale), f32(dmin * minimum)];
    for (let i = 0; i < 32; i++) {
      const byte = block.getUint8(quants + (run >> 1) * 32 + i);
      let q = run % 2 === 0 ? byte & 15 : byte >> 4;
      if (high !== undefined) q += ((block.getUint8(high + i) >> run) & 1) << 4;
      out[at + run * 32 + i] = f32(step * q) - offset;
    }
  }
}

/** Runs of 16 weights, two bits each; a byte of scales has a scale and a minimum. */
function widenQ2(block: DataView, out: Float32Array, at: number): void {
  const [d, dmin] = [half(block, 80), half(block, 82)];
  for (let run = 0; run < 16; run++) {
    const scales = block.getUint8(run);
    const [step, offset] = [f32(d * (scales & 15)), f32(dmin * (scales >> 4))];
    // 128 weights share 32 bytes: two runs for each pair of bits.
    const [half128, pair] = [run >> 3, (run >> 1) & 3];
    for (let i = 0; i < 16; i++) {
      const byte = block.getUint8(16 + half128 * 32 + (run & 1) * 16 + i);
      out[at + run * 16 + i] = f32(step * ((byte >> (2 * pair)) & 3)) - offset;
    }
  }
}

/** The scale of a run of Q3_K, six bits: four in the first eight bytes, two in the last four. */
function scaleOfQ3(block: DataView, run: number): number {
  const low = block.getUint8(96 + (run & 7));
  const high = block.getUint8(96 + 8 + (run & 3));
  return (run < 8 ? low & 15 : low >> 4) | (((high >> (2 * (run >> 2))) & 3) << 4);
}

/** Runs of 16 weights of three bits: two among the quants, the third in the mask, where 0 means minus four. */
function widenQ3(block: DataView, out: Float32Array, at: number): void {
  const d = half(block, 108);
  for (let run = 0; run < 16; run++) {
    const step = f32(d * (scaleOfQ3(block, run) - 32));
    const [half128, pair] = [run >> 3, (run >> 1) & 3];
    for (let i = 0; i < 16; i++) {
      const column = (run & 1) * 16 + i;
      const low = (block.getUint8(32 + half128 * 32 + column) >> (2 * pair)) & 3;
      const isSet = (block.getUint8(column) >> (half128 * 4 + pair)) & 1;
      out[at + run * 16 + i] = step * (low - (isSet ? 0 : 4));
    }
  }
}

/** Runs of 16 weights of six bits, four of them among `ql` and two among `qh`, with a signed scale each. */
function widenQ6(block: DataView, out: Float32Array, at: number): void {
  const d = half(block, 208);
  for (let i = 0; i < LARGE; i++) {
    const [half128, rest] = [i >> 7, i & 127];
    const [quarter, column] = [rest >> 5, rest & 31];
    const low = block.getUint8(half128 * 64 + (quarter & 1) * 32 + column);
    const high = (block.getUint8(128 + half128 * 32 + column) >> (2 * quarter)) & 3;
    const q = (quarter < 2 ? low & 15 : low >> 4) | (high << 4);
    const scale = block.getInt8(192 + half128 * 8 + quarter * 2 + (column >> 4));
    out[at + i] = f32(d * scale) * (q - 32);
  }
}

/** By ggml's number of the type (`enum ggml_type`). */
export const BLOCK_TYPES: Readonly<Record<number, BlockType>> = {
  2: simple("Q4_0", 18, { zero: 8, hasMinimum: false, quant: (block, i) => nibble(block, 2, i) }),
  3: simple("Q4_1", 20, { zero: 0, hasMinimum: true, quant: (block, i) => nibble(block, 4, i) }),
  6: simple("Q5_0", 22, { zero: 16, hasMinimum: false, quant: (b, i) => nibble(b, 6, i) | fifthBit(b, 2, i) }),
  7: simple("Q5_1", 24, { zero: 0, hasMinimum: true, quant: (b, i) => nibble(b, 8, i) | fifthBit(b, 4, i) }),
  8: simple("Q8_0", 34, { zero: 0, hasMinimum: false, quant: (block, i) => block.getInt8(2 + i) }),
  10: { name: "Q2_K", weights: LARGE, bytes: 84, widen: widenQ2 },
  11: { name: "Q3_K", weights: LARGE, bytes: 110, widen: widenQ3 },
  12: { name: "Q4_K", weights: LARGE, bytes: 144, widen: (block, out, at) => widenRuns(block, out, at, 16) },
  13: { name: "Q5_K", weights: LARGE, bytes: 176, widen: (block, out, at) => widenRuns(block, out, at, 48, 16) },
  14: { name: "Q6_K", weights: LARGE, bytes: 210, widen: widenQ6 },
};

/** Blocks to float32. */
export function blockConversion({ weights, bytes, widen }: BlockType): Conversion {
  return {
    from: bytes,
    to: weights * 4,
    convert(source, target) {
      const count = source.byteLength / bytes;
      const out = new Float32Array(count * weights);
      for (let index = 0; index < count; index++) {
        widen(new DataView(source.buffer, source.byteOffset + index * bytes, bytes), out, index * weights);
      }
      target.set(new Uint8Array(out.buffer));
    },
  };
}
