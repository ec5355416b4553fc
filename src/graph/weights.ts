/**
 * The buffers and textures of parameters on the device, transformed or not. `src/memory/load.ts` fills the buffers; the
 * kernels read them.
 */

import type { Gpu } from "../gpu/device.ts";
import { type MatrixParameter, type Parameter, quads, type Storage, type TableParameter } from "./tensor.ts";

/**
 * Buffers of the parameters of one component, by `Parameter.key`. A table has a buffer for each piece; a matrix that is held
 * as a texture has none.
 */
export interface ParameterBuffers {
  readonly storage: Storage;
  get(parameter: Parameter): readonly GPUBuffer[];
  texture?(matrix: MatrixParameter): GPUTexture | undefined;
  readonly transformed?: TransformedWeights;
}

/**
 * Transforms of the weights of 3 × 3 convolutions, and how many taps they have: Winograd's frequencies, and four times
 * 2 × 2 taps for an input that is resized to twice its size.
 */
export const TRANSFORMED_TAPS = { winograd: 36, subpixel: 16 } as const;
export type WeightTransform = keyof typeof TRANSFORMED_TAPS;

/** Transforms of the weights of 3 × 3 convolutions, in f32. */
export interface TransformedWeights {
  /** Transforms them at the first call. Throws GPU errors as typed errors. */
  get(matrix: MatrixParameter, transform: WeightTransform): Promise<GPUTexture>;
  /** True if that has been done. */
  has(matrix: MatrixParameter, transform: WeightTransform): boolean;
}

/** The same weights without transforms. */
export function withoutTransformed(parameters: ParameterBuffers): ParameterBuffers {
  return {
    storage: parameters.storage,
    get: (parameter) => parameters.get(parameter),
    texture: (matrix) => parameters.texture?.(matrix),
  };
}

/** The texture that a matrix's tiles fill line by line: a line for each tap and input quad, as they lie in a buffer. */
export interface MatrixTexture {
  readonly width: number;
  readonly height: number;
  readonly format: "rgba32float" | "rgba32uint";
  readonly bytesPerRow: number;
}

/** Bytes of a texture of 16 bytes a texel. */
export function textureBytes({ width, height }: { readonly width: number; readonly height: number }): number {
  return width * height * TEXEL_BYTES;
}

// WebGPU copies between buffers and textures in rows of a multiple of this many bytes.
const COPY_ALIGNMENT = 256;
const TEXEL_BYTES = 16;

/**
 * The texture that holds a matrix, undefined where a buffer does. lavapipe loads a texel for the lanes of a subgroup in
 * half the time that it takes for as much of a buffer, whose bounds it checks lane by lane and component by component
 * (docs/kernels.md). Elsewhere buffers are as fast, and every variant of the kernels can read them.
 */
export function matrixTexture(gpu: Gpu, matrix: MatrixParameter, storage: Storage): MatrixTexture | undefined {
  if (gpu.facts.driver !== "lavapipe" || gpu.lanes === undefined) return;
  return tilesTexture(matrix, matrix.taps, storage, gpu.maxTextureDimension);
}

/** Winograd's F(4×4, 3×3): pixels along the side of a tile; its 36 frequencies stand where the taps of a convolution do. */
export const WINOGRAD_SIDE = 4;

/**
 * The texture that holds the transformed weights of a 3 × 3 convolution: in f32 whatever the weights are stored as, so
 * four or eight times as large for Winograd's. Undefined where no texture can, or no buffer on the way to it: on lavapipe,
 * more than 930,000 pairs of channels for Winograd's.
 */
export function transformedTexture(
  matrix: MatrixParameter,
  transform: WeightTransform,
  device: { readonly maxBindingBytes: number; readonly maxTextureDimension: number },
): MatrixTexture | undefined {
  const texture = tilesTexture(matrix, TRANSFORMED_TAPS[transform], "f32", device.maxTextureDimension);
  return texture && texture.bytesPerRow * texture.height <= device.maxBindingBytes ? texture : undefined;
}

function tilesTexture(
  { outputQuads, inputQuads }: MatrixParameter,
  taps: number,
  storage: Storage,
  maxDimension: number,
): MatrixTexture | undefined {
  const bytesPerRow = outputQuads * 4 * weightQuadBytes(storage);
  const [width, height] = [bytesPerRow / TEXEL_BYTES, taps * inputQuads];
  if (bytesPerRow % COPY_ALIGNMENT !== 0 || Math.max(width, height) > maxDimension) return;
  return { width, height, bytesPerRow, format: storage === "f32" ? "rgba32float" : "rgba32uint" };
}

/** A matrix's tiles from a buffer into a texture of its own, once `encoder` is submitted. */
export function tilesToTexture(
  gpu: Gpu,
  label: string,
  buffer: GPUBuffer,
  shape: MatrixTexture,
  encoder: GPUCommandEncoder,
): GPUTexture {
  const texture = gpu.createTexture(label, shape);
  copyTiles(encoder, buffer, texture, shape);
  return texture;
}

/** Adds the copy of a matrix's tiles from a buffer into its texture to an encoder. */
export function copyTiles(
  encoder: GPUCommandEncoder,
  buffer: GPUBuffer,
  texture: GPUTexture,
  { width, height, bytesPerRow }: MatrixTexture,
): void {
  encoder.copyBufferToTexture({ buffer, bytesPerRow, rowsPerImage: height }, { texture }, { width, height });
}

/** A matrix's tiles in a buffer, copied there where a texture holds them; `release` when done with it. */
export function tilesInBuffer(
  gpu: Gpu,
  label: string,
  parameters: ParameterBuffers,
  matrix: MatrixParameter,
): { readonly buffer: GPUBuffer; release(): void } {
  const texture = parameters.texture?.(matrix);
  if (!texture) return { buffer: parameters.get(matrix)[0]!, release() {} };
  const { width, height } = texture;
  const bytesPerRow = width * TEXEL_BYTES;
  const buffer = gpu.createBuffer(label, bytesPerRow * height);
  gpu.submit(label, (encoder) => {
    encoder.copyTextureToBuffer({ texture }, { buffer, bytesPerRow, rowsPerImage: height }, { width, height });
  });
  return { buffer, release: () => gpu.destroyBuffer(buffer) }; // the queue keeps what it still has to read
}

/** Bytes of four neighbouring weights. */
export function weightQuadBytes(storage: Storage): number {
  return storage === "f16" ? 8 : 16;
}

/** Rows of a table that fit into one binding each; all but a very large table are one piece. */
export function tablePieces(
  table: TableParameter,
  target: { readonly weightStorage: Storage; readonly maxBindingBytes: number },
): { firstRow: number; endRow: number }[] {
  const rowBytes = quads(table.channels) * weightQuadBytes(target.weightStorage);
  const rowsAPiece = Math.max(1, Math.floor(target.maxBindingBytes / rowBytes));
  const pieces: { firstRow: number; endRow: number }[] = [];
  for (let firstRow = 0; firstRow < table.rows; firstRow += rowsAPiece) {
    pieces.push({ firstRow, endRow: Math.min(firstRow + rowsAPiece, table.rows) });
  }
  return pieces;
}

/** Bytes that each buffer of a parameter takes. Vectors are f32 whatever the storage. */
export function parameterBytes(
  parameter: Parameter,
  storage: Storage,
  gpu: { readonly maxBindingBytes: number },
): number[] {
  switch (parameter.kind) {
    case "matrix":
      return [parameter.taps * parameter.inputQuads * parameter.outputQuads * 4 * weightQuadBytes(storage)];
    case "vector":
      return [parameter.quads * 16];
    case "table": {
      const rowBytes = quads(parameter.channels) * weightQuadBytes(storage);
      const target = { weightStorage: storage, maxBindingBytes: gpu.maxBindingBytes };
      return tablePieces(parameter, target).map(({ firstRow, endRow }) => (endRow - firstRow) * rowBytes);
    }
    default:
      return parameter satisfies never;
  }
}
