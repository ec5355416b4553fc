/**
 * Autoencoders on pictures that do not fit in one piece: the inner half, at the latents' size, at once; the outer half in
 * bands, as wide as the picture, one after the other through one plan.
 *
 * The picture comes out as in one piece. A band has as many rows more than are taken from it as its convolutions look
 * beyond them (`receptiveRows`). Attention is in the inner half. And group norm takes mean and variance of the whole
 * picture: each band measures the rows that are taken from it, and all bands are gone through again with the statistics of
 * all, until those that are measured are those that were given: those of the first layers are right from the second time
 * on, and so on (`TOLERANCE`).
 */

import type { Gpu } from "../gpu/device.ts";
import { GpuOutOfMemoryError } from "../gpu/errors.ts";
import type { Choose } from "../graph/choice.ts";
import { align } from "../graph/compile/memory.ts";
import { packPicture } from "../graph/ops/diffusion/pack-picture.ts";
import { compile, footprint, type Plan, type Range } from "../graph/plan.ts";
import { receptiveRows } from "../graph/receptive-rows.ts";
import { type NormStatistics, Recorder, TensorTooLargeError } from "../graph/recorder.ts";
import { channelsOf, type Storage, tensorBytes } from "../graph/tensor.ts";
import type { ParameterBuffers } from "../graph/weights.ts";
import type { Autoencoder } from "../models/autoencoder.ts";
import { inTurns } from "../platform/turns.ts";
import type { InTurn } from "./device-turns.ts";
import {
  type Encoded,
  type EncoderPicture,
  encodedOf,
  type LatentSize,
  type Pixels,
  recordLatentInput,
  signedRows,
  writeDecoderScale,
} from "./latents.ts";
import { addRow, asOneChunk, createStatistics, movement, type Statistics } from "./norm-statistics.ts";

/** Into how many bands, the fewest that fit being taken. */
const BAND_COUNTS = [2, 3, 4, 6, 8, 12, 16, 24, 32];
/** With fewer rows of latents a band is mostly what it looks at beyond them. */
const MIN_BAND_ROWS = 4;
/**
 * The most that a mean or deviation may still move by, in deviations of its layer. Pictures are then within one level of 255
 * (bands.test.ts, random weights): 0.06 to 0.09 on average, 0.005 with a tolerance of 1e-3 and two passes more.
 */
const TOLERANCE = 0.02;

export interface BandOptions {
  readonly label: string;
  readonly storage: Storage;
  readonly parameters: ParameterBuffers;
  readonly transformed?: boolean;
  readonly choose?: Choose;
  /** Has each piece of work on the device done in a turn. Default: at once. */
  readonly inTurn?: InTurn;
  /** Into so many bands, for tests; else the fewest that fit. */
  readonly bands?: number;
  /** Called each time that all bands are done, with the distance by which statistics still moved. */
  readonly onPass?: (moved: number) => void;
}

/**
 * Slices of a tensor beyond which a picture is gone through in bands even where there is room for it: convolutions of
 * slices are many small dispatches, since each slice of the output reads every slice of the input. In eight, TAESD at
 * 2048² on lavapipe took 56,829 dispatches and 22 minutes in one piece, and 3 minutes in bands.
 */
const MAX_SLICES = 4;

const atOnce: InTurn = (work) => work();

/** True if the recorded graph would be cut into too many slices on this adapter. */
export function isTooSliced(gpu: Gpu, recorder: Recorder, storage: Storage): boolean {
  const sizes = recorder.operations.map(({ output }) => tensorBytes(output, storage));
  return Math.max(...sizes) > MAX_SLICES * gpu.maxBindingBytes;
}

/** True if an error says that something is too large, and smaller parts of it may do. */
export function isTooLarge(error: unknown): boolean {
  return error instanceof GpuOutOfMemoryError || error instanceof TensorTooLargeError;
}

/**
 * The picture of one image's latents, which lie on the device.
 * Throws `TensorTooLargeError` or `GpuOutOfMemoryError` where not even the smallest bands fit.
 */
export async function decodeInBands(
  gpu: Gpu,
  decoder: Autoencoder,
  latents: Range,
  size: LatentSize,
  options: BandOptions,
): Promise<Pixels> {
  const inner = await compile(gpu, recordInnerDecoder(decoder, size), { ...options, label: `${options.label}, inner` });
  const between = await copied(gpu, inner, options, () => {
    writeDecoderScale(inner, decoder);
    copy(gpu, latents, 0, inner.range("latents"), 0, inner.range("latents").size);
  });
  const { downscale } = decoder;
  const width = size.width * downscale;
  const rgba = new Uint8Array(width * size.height * downscale * 4);
  try {
    const rowBytes = between.size / size.height;
    const pictureRowBytes = width * downscale * 4;
    await inBands(gpu, size.height, decoderBands(decoder, size), options, {
      async load(plan, band) {
        copy(gpu, { buffer: between, offset: 0 }, band.start * rowBytes, plan.range("inner"), 0, band.rows * rowBytes);
      },
      async store(plan, band) {
        const { buffer, offset } = plan.range("rgba");
        const rows = (band.end - band.first) * pictureRowBytes;
        const bytes = await gpu.read(buffer, offset + (band.first - band.start) * pictureRowBytes, rows);
        rgba.set(bytes, band.first * pictureRowBytes);
      },
    });
  } finally {
    gpu.destroyBuffer(between);
  }
  return { width, height: size.height * downscale, rgba };
}

/** Encodes a picture in bands. Throws as `decodeInBands` does. */
export async function encodeInBands(
  gpu: Gpu,
  encoder: Autoencoder,
  pixels: EncoderPicture,
  options: BandOptions,
): Promise<Encoded> {
  const { downscale, latentChannels: channels } = encoder;
  const size = { height: pixels.height / downscale, width: pixels.width / downscale, channels };
  const innerRecorder = recordInnerEncoder(encoder, size);
  const betweenBytes = tensorBytes(innerRecorder.inputs.get("outer")!, options.storage);
  const between = gpu.createBuffer(`${options.label}, between its halves`, betweenBytes);
  try {
    const rowBytes = betweenBytes / size.height;
    await inBands(gpu, size.height, encoderBands(encoder, size), options, {
      async load(plan, band) {
        const rows = await inTurns(signedRows(pixels, band.start * downscale, band.rows * downscale));
        await plan.writeInTurns("picture", rows);
      },
      async store(plan, band) {
        const from = (band.first - band.start) * rowBytes;
        const rows = (band.end - band.first) * rowBytes;
        copy(gpu, plan.range("outer"), from, { buffer: between, offset: 0 }, band.first * rowBytes, rows);
      },
    });
    const inner = await compile(gpu, innerRecorder, { ...options, label: `${options.label}, inner` });
    try {
      const encoded = await (options.inTurn ?? atOnce)(async () => {
        copy(gpu, { buffer: between, offset: 0 }, 0, inner.range("outer"), 0, betweenBytes);
        await inner.replay();
        return inner.read("encoded");
      });
      return encodedOf(encoded as Float32Array, encoder);
    } finally {
      inner.destroy();
    }
  } finally {
    gpu.destroyBuffer(between);
  }
}

/**
 * Bytes that decoding in the smallest bands takes at its peak, beside the weights.
 * Throws `TensorTooLargeError` where a tensor does not fit.
 */
export function decodeBandsBytes(
  gpu: Gpu,
  decoder: Autoencoder,
  size: LatentSize,
  options: { readonly storage: Storage; readonly weightStorage: Storage; readonly choose?: Choose },
): number {
  const lean = { ...options, transformed: false };
  const inner = recordInnerDecoder(decoder, size);
  const between = align(tensorBytes(inner.outputs.get("inner")!, options.storage), 16);
  const work = decoderBands(decoder, size);
  const count = countsFor(size.height).at(-1);
  if (count === undefined) return Number.POSITIVE_INFINITY;
  const { rows } = bandsOf(size.height, count, work.reach)[0]!;
  const outer = Math.max(
    ...STAGES.map((statistics) => {
      const recorder = work.record(rows, statistics);
      checkSlices(gpu, recorder, options, rows);
      const reads = readsOf(recorder);
      return footprint(gpu, recorder, { ...lean, reads }).peak + readBackBytes(size, decoder.downscale, rows);
    }),
  );
  return Math.max(footprint(gpu, inner, lean).peak, outer) + between;
}

function readBackBytes(size: LatentSize, downscale: number, rows: number): number {
  return rows * downscale * size.width * downscale * 4;
}

/** First each band normalises by itself, then by what all of them measured. */
const STAGES: readonly NormStatistics[] = [{ output: true }, { output: true, input: true }];

/** Rows of latents: a band has `rows` from `start` on, and those from `first` up to `end` are taken from it. */
interface Band {
  readonly start: number;
  readonly rows: number;
  readonly first: number;
  readonly end: number;
}

/** The half that is done in bands. */
interface BandWork {
  /** A plan of a band with so many rows of latents. */
  record(rows: number, statistics: NormStatistics): Recorder;
  /** Rows of latents that it looks at before and after. */
  readonly reach: { readonly before: number; readonly after: number };
}

interface BandEnds {
  load(plan: Plan, band: Band): Promise<void>;
  store(plan: Plan, band: Band): Promise<void>;
}

async function inBands(gpu: Gpu, height: number, work: BandWork, options: BandOptions, ends: BandEnds): Promise<void> {
  const counts = options.bands ? [options.bands] : countsFor(height);
  for (const [index, count] of counts.entries()) {
    try {
      return await throughBands(gpu, bandsOf(height, count, work.reach), work, options, ends);
    } catch (error) {
      if (!isTooLarge(error) || index === counts.length - 1) throw error;
    }
  }
  throw new TensorTooLargeError(`${options.label}: ${height} rows of latents are too few for bands`);
}

function countsFor(height: number): number[] {
  return BAND_COUNTS.filter((count) => height / count >= MIN_BAND_ROWS);
}

/** Bands of one height that cover `height` rows. */
export function bandsOf(height: number, count: number, reach: BandWork["reach"]): Band[] {
  const own = Math.ceil(height / count);
  const rows = Math.min(height, own + reach.before + reach.after);
  const bands: Band[] = [];
  for (let first = 0; first < height; first += own) {
    const start = Math.min(Math.max(0, first - reach.before), height - rows);
    bands.push({ start, rows, first, end: Math.min(height, first + own) });
  }
  return bands;
}

async function throughBands(
  gpu: Gpu,
  bands: readonly Band[],
  work: BandWork,
  options: BandOptions,
  ends: BandEnds,
): Promise<void> {
  const { rows } = bands[0]!;
  let merged: ReadonlyMap<string, Statistics> | undefined;
  for (const stage of STAGES) {
    const recorder = work.record(rows, stage);
    checkSlices(gpu, recorder, options, rows);
    const plan = await compile(gpu, recorder, {
      ...options,
      label: `${options.label}, a band of ${rows}`,
      reads: readsOf(recorder),
    });
    try {
      for (;;) {
        if (merged) {
          for (const [name, layer] of merged)
            plan.write(`statistics in ${name}`, asOneChunk(layer, recorder.norms.get(name)!));
        }
        const measured = new Map<string, Statistics>();
        for (const band of bands) {
          await (options.inTurn ?? atOnce)(async () => {
            await ends.load(plan, band);
            await plan.replay();
            await ends.store(plan, band);
          });
          for (const [name, { height, width, channels }] of recorder.norms) {
            const scale = height / rows; // of this layer's rows to latents'
            const partial = (await plan.read(`statistics out ${name}`)) as Float32Array;
            const layer = measured.get(name) ?? createStatistics(channels);
            measured.set(name, layer);
            const local = { first: (band.first - band.start) * scale, end: (band.end - band.start) * scale };
            for (let row = local.first; row < local.end; row++) addRow(layer, partial, row, width);
          }
        }
        if (recorder.norms.size === 0) return;
        const moved = merged
          ? Math.max(...[...measured].map(([name, layer]) => movement(layer, merged!.get(name)!)))
          : 1;
        options.onPass?.(moved);
        if (!merged) {
          merged = measured;
          break; // on with the plan that takes them
        }
        merged = measured;
        if (moved < TOLERANCE) return;
      }
    } finally {
      plan.destroy();
    }
  }
}

/** @throws TensorTooLargeError for a band that would be cut into too many slices */
function checkSlices(gpu: Gpu, recorder: Recorder, { storage }: { readonly storage: Storage }, rows: number): void {
  if (!isTooSliced(gpu, recorder, storage)) return;
  throw new TensorTooLargeError(`a band of ${rows} rows of latents is more than this adapter binds well`);
}

function readsOf(recorder: Recorder): string[] {
  return [...recorder.norms.keys()].map((name) => `statistics out ${name}`);
}

function recordInnerDecoder(decoder: Autoencoder, size: LatentSize): Recorder {
  const g = new Recorder();
  g.output("inner", decoder.decodeInner(g, recordLatentInput(g, decoder, size)));
  return g;
}

function decoderBands(decoder: Autoencoder, size: LatentSize): BandWork {
  const inner = recordInnerDecoder(decoder, size).outputs.get("inner")!;
  const build = (rows: number, statistics: NormStatistics) => {
    const g = new Recorder({ statistics });
    const input = g.input("inner", [1, rows, size.width, channelsOf(inner)]);
    const picture = decoder.decodeOuter(g, input);
    return { g, input, picture };
  };
  return {
    record(rows, statistics) {
      const { g, picture } = build(rows, statistics);
      g.output("rgba", packPicture(g, picture, "pack"));
      return g;
    },
    get reach() {
      const { g, input, picture } = build(1, {});
      const rows = receptiveRows(g.operations, input, picture, { first: 0, end: decoder.downscale });
      return { before: -rows.first, after: rows.end - 1 };
    },
  };
}

function recordInnerEncoder(encoder: Autoencoder, size: LatentSize): Recorder {
  const outer = encoderBands(encoder, size).record(1, {}).outputs.get("outer")!;
  const g = new Recorder();
  const input = g.input("outer", [1, size.height, size.width, channelsOf(outer)]);
  g.output("encoded", encoder.encodeInner(g, input));
  return g;
}

function encoderBands(encoder: Autoencoder, size: LatentSize): BandWork {
  const { downscale } = encoder;
  const build = (rows: number, statistics: NormStatistics) => {
    const g = new Recorder({ statistics });
    const input = g.input("picture", [1, rows * downscale, size.width * downscale, 3]);
    const outer = encoder.encodeOuter(g, input);
    return { g, input, outer };
  };
  return {
    record(rows, statistics) {
      const { g, outer } = build(rows, statistics);
      g.output("outer", outer);
      return g;
    },
    get reach() {
      const { g, input, outer } = build(1, {});
      const rows = receptiveRows(g.operations, input, outer, { first: 0, end: 1 });
      return { before: Math.ceil(-rows.first / downscale), after: Math.ceil(rows.end / downscale) - 1 };
    },
  };
}

/** A plan's output `inner` in a buffer of its own; the plan is gone afterwards. */
async function copied(gpu: Gpu, plan: Plan, { inTurn = atOnce }: BandOptions, prepare: () => void): Promise<GPUBuffer> {
  try {
    const range = plan.range("inner");
    const buffer = gpu.createBuffer(`${plan.label}'s result`, range.size);
    try {
      await inTurn(async () => {
        prepare();
        await plan.replay();
        copy(gpu, range, 0, { buffer, offset: 0 }, 0, range.size);
      });
      return buffer;
    } catch (error) {
      gpu.destroyBuffer(buffer);
      throw error;
    }
  } finally {
    plan.destroy(); // the queue keeps what it still has to read
  }
}

type Place = Pick<Range, "buffer" | "offset">;

function copy(gpu: Gpu, from: Place, fromOffset: number, to: Place, toOffset: number, size: number): void {
  gpu.submit("rows", (encoder) => {
    encoder.copyBufferToBuffer(from.buffer, from.offset + fromOffset, to.buffer, to.offset + toOffset, size);
  });
}
