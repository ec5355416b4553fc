/**
 * Other forms of the weights of 3 × 3 convolutions (`shaders/winograd_weights.wgsl`, `shaders/subpixel_weights.wgsl`), beside
 * the weights themselves: made when a plan first asks for them, and kept for the next.
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
  type TransformedForm,
  type TransformedWeights,
  tilesInBuffer,
  transformedTexture,
} from "../graph/weights.ts";

export interface OwnTransformedWeights extends TransformedWeights {
  /** Destroys those made so far, which no plan may use any more; whether there were any. */
  drop(): boolean;
  destroy(): void;
}

/** Transformed weights of `parameters`; whoever makes this destroys it with them. */
export function createTransformedWeights(gpu: Gpu, label: string, parameters: ParameterBuffers): OwnTransformedWeights {
  return new Transformed(gpu, label, parameters);
}

function byForm<T>(): Readonly<Record<TransformedForm, Map<string, T>>> {
  return { winograd: new Map(), subpixel: new Map() };
}

class Transformed implements OwnTransformedWeights {
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #parameters: ParameterBuffers;
  /** By form, then by the matrix's key: the parameters are those of one component. */
  readonly #made = byForm<GPUTexture>();
  readonly #making = byForm<Promise<GPUTexture>>();
  #destroyed = false;

  constructor(gpu: Gpu, label: string, parameters: ParameterBuffers) {
    this.#gpu = gpu;
    this.#label = label;
    this.#parameters = parameters;
  }

  has({ key }: MatrixParameter, form: TransformedForm): boolean {
    return this.#made[form].has(key);
  }

  async get(matrix: MatrixParameter, form: TransformedForm): Promise<GPUTexture> {
    const known = this.#made[form].get(matrix.key) ?? this.#making[form].get(matrix.key);
    if (known) return known;
    const begun = this.#make(matrix, form);
    this.#making[form].set(matrix.key, begun);
    return begun;
  }

  async #make(matrix: MatrixParameter, form: TransformedForm): Promise<GPUTexture> {
    try {
      const label = `${this.#label}: ${matrix.key} ${form}`;
      const texture = await transform(this.#gpu, label, this.#parameters, matrix, form);
      if (this.#destroyed) this.#gpu.destroyTexture(texture);
      else this.#made[form].set(matrix.key, texture);
      return texture;
    } finally {
      this.#making[form].delete(matrix.key);
    }
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
} as const satisfies Record<TransformedForm, unknown>;

/** The kernel that makes a form of weights that are stored so. */
export function transformKernel(form: TransformedForm, storage: Storage): Kernel {
  const { name, source, preludes } = KERNELS[form];
  return kernel(name, source, "f32", { weights: storage, preludes });
}

/** The parameters of the kernel of a form. */
export function transformParams(
  form: TransformedForm,
  { inputQuads, outputQuads }: MatrixParameter,
  gridWidth: number,
): Params {
  return { in_quads: inputQuads, out_quads: outputQuads, grid_width: gridWidth, side: KERNELS[form].side };
}

async function transform(
  gpu: Gpu,
  label: string,
  parameters: ParameterBuffers,
  matrix: MatrixParameter,
  form: TransformedForm,
): Promise<GPUTexture> {
  const shape = transformedTexture(matrix, form, gpu)!;
  const { name, code } = transformKernel(form, parameters.storage);
  const pipeline = await gpu.pipeline(name, code);
  const { workgroups, width } = grid(matrix.inputQuads * matrix.outputQuads * 4);
  const block = packParams(transformParams(form, matrix, width));
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
