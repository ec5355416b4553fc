/**
 * Transforms of the weights of 3 × 3 convolutions (`shaders/winograd_weights.wgsl`, `shaders/subpixel_weights.wgsl`),
 * beside the weights themselves: made when a plan first asks for them, and kept for the next.
 */

import winograd from "../../shaders/prelude/winograd.wgsl" with { type: "text" };
import subpixelWeights from "../../shaders/subpixel_weights.wgsl" with { type: "text" };
import winogradWeights from "../../shaders/winograd_weights.wgsl" with { type: "text" };
import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { grid, type Kernel, kernel, type Params, packParams } from "../graph/dispatch.ts";
import type { MatrixParameter, Storage } from "../graph/tensor.ts";
import {
  copyTiles,
  type ParameterBuffers,
  type TransformedWeights,
  textureBytes,
  tilesInBuffer,
  transformedTexture,
  type WeightTransform,
} from "../graph/weights.ts";

export interface OwnTransformedWeights extends TransformedWeights {
  readonly bytes: number;
  /** Destroys those made so far, which no plan may use any more; whether there were any. */
  drop(): boolean;
  destroy(): void;
}

/** Transformed weights of `parameters`; whoever makes this destroys it with them. */
export function createTransformedWeights(gpu: Gpu, label: string, parameters: ParameterBuffers): OwnTransformedWeights {
  return new Transformed(gpu, label, parameters);
}

function byTransform<T>(): Readonly<Record<WeightTransform, Map<string, T>>> {
  return { winograd: new Map(), subpixel: new Map() };
}

class Transformed implements OwnTransformedWeights {
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #parameters: ParameterBuffers;
  /** By transform, then by the matrix's key: the parameters are those of one component. */
  readonly #made = byTransform<GPUTexture>();
  readonly #making = byTransform<Promise<GPUTexture>>();
  #destroyed = false;

  constructor(gpu: Gpu, label: string, parameters: ParameterBuffers) {
    this.#gpu = gpu;
    this.#label = label;
    this.#parameters = parameters;
  }

  has({ key }: MatrixParameter, transform: WeightTransform): boolean {
    return this.#made[transform].has(key);
  }

  async get(matrix: MatrixParameter, transform: WeightTransform): Promise<GPUTexture> {
    const known = this.#made[transform].get(matrix.key) ?? this.#making[transform].get(matrix.key);
    if (known) return known;
    const begun = this.#make(matrix, transform);
    this.#making[transform].set(matrix.key, begun);
    return begun;
  }

  async #make(matrix: MatrixParameter, transform: WeightTransform): Promise<GPUTexture> {
    try {
      const label = `${this.#label}: ${matrix.key} ${transform}`;
      const texture = await transformWeights(this.#gpu, label, this.#parameters, matrix, transform);
      if (this.#destroyed) this.#gpu.destroyTexture(texture);
      else this.#made[transform].set(matrix.key, texture);
      return texture;
    } finally {
      this.#making[transform].delete(matrix.key);
    }
  }

  get bytes(): number {
    const textures = Object.values(this.#made).flatMap((made) => [...made.values()]);
    return textures.reduce((sum, texture) => sum + textureBytes(texture), 0);
  }

  drop(): boolean {
    const textures = Object.values(this.#made).flatMap((made) => [...made.values()]);
    for (const texture of textures) this.#gpu.destroyTexture(texture);
    for (const made of Object.values(this.#made)) made.clear();
    return textures.length > 0;
  }

  destroy(): void {
    this.#destroyed = true;
    this.drop();
  }
}

const KERNELS = {
  winograd: { name: "winograd_weights", source: winogradWeights, preludes: [winograd], side: 6 },
  subpixel: { name: "subpixel_weights", source: subpixelWeights, preludes: [], side: 2 },
} as const satisfies Record<WeightTransform, unknown>;

/** The kernel of a transform, for weights that are stored so. */
export function transformKernel(transform: WeightTransform, storage: Storage): Kernel {
  const { name, source, preludes } = KERNELS[transform];
  return kernel(name, source, "f32", { weightStorage: storage, preludes });
}

/** The parameters of a transform's kernel. */
export function transformParams(
  transform: WeightTransform,
  { inputQuads, outputQuads }: MatrixParameter,
  gridWidth: number,
): Params {
  return { in_quads: inputQuads, out_quads: outputQuads, grid_width: gridWidth, side: KERNELS[transform].side };
}

async function transformWeights(
  gpu: Gpu,
  label: string,
  parameters: ParameterBuffers,
  matrix: MatrixParameter,
  transform: WeightTransform,
): Promise<GPUTexture> {
  const shape = transformedTexture(matrix, transform, gpu)!;
  const { name, code } = transformKernel(transform, parameters.storage);
  const pipeline = await gpu.pipeline(name, code);
  const { workgroups, width } = grid(matrix.inputQuads * matrix.outputQuads * 4);
  const block = packParams(transformParams(transform, matrix, width));
  const source = tilesInBuffer(gpu, label, parameters, matrix);
  const owned = [
    gpu.createBuffer(label, block.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST),
    gpu.createBuffer(label, shape.bytesPerRow * shape.height),
  ] as const;
  try {
    const [uniforms, target] = owned;
    gpu.write(uniforms, 0, block);
    const group = gpu.bind(
      label,
      pipeline,
      [uniforms, source.buffer, target].map((buffer) => ({ buffer })),
    );
    const texture = gpu.createTexture(label, shape);
    gpu.submit(label, (encoder) => {
      const pass = encoder.beginComputePass({ label });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
      pass.end();
      copyTiles(encoder, target, texture, shape);
    });
    return texture;
  } finally {
    // The queue keeps what it still has to read.
    source.release();
    for (const buffer of owned) gpu.destroyBuffer(buffer);
  }
}
