/**
 * Other forms of the weights of 3 × 3 convolutions (`shaders/winograd_weights.wgsl`, `shaders/subpixel_weights.wgsl`), beside
 * the weights themselves: made when a plan first asks for them, and kept for the next.
 */

import winograd from "../../shaders/prelude/winograd.wgsl" with { type: "text" };
import subpixelWeights from "../../shaders/subpixel_weights.wgsl" with { type: "text" };
import winogradWeights from "../../shaders/winograd_weights.wgsl" with { type: "text" };
import { BufferUsage, type Gpu } from "../gpu/device.ts";
import { grid, kernel, params } from "../graph/dispatch.ts";
import type { MatrixParameter } from "../graph/tensor.ts";
import {
  type ParameterBuffers,
  type TransformedForm,
  type TransformedWeights,
  tilesInBuffer,
  tilesToTexture,
  transformedKey,
  transformedTexture,
} from "../graph/weights.ts";

export interface OwnTransformedWeights extends TransformedWeights {
  /** Destroys those made so far, which no plan may use any more; whether there were any. */
  drop(): boolean;
  destroy(): void;
}

/** Transformed weights of what `parameters` hold; whoever makes this destroys it with them. */
export function createTransformedWeights(gpu: Gpu, label: string, parameters: ParameterBuffers): OwnTransformedWeights {
  const made = new Map<string, GPUTexture>();
  const making = new Map<string, Promise<GPUTexture>>();
  let destroyed = false;
  const make = async (key: string, matrix: MatrixParameter, form: TransformedForm): Promise<GPUTexture> => {
    try {
      const texture = await transform(gpu, `${label}: ${key}`, parameters, matrix, form);
      if (destroyed) gpu.destroyTexture(texture);
      else made.set(key, texture);
      return texture;
    } finally {
      making.delete(key);
    }
  };
  const drop = () => {
    const any = made.size > 0;
    for (const texture of made.values()) gpu.destroyTexture(texture);
    made.clear();
    return any;
  };
  return {
    has: (matrix, form) => made.has(transformedKey(matrix, form)),
    async get(matrix, form) {
      const key = transformedKey(matrix, form);
      const known = made.get(key);
      if (known) return known;
      const begun = making.get(key) ?? make(key, matrix, form);
      if (!made.has(key)) making.set(key, begun);
      return begun;
    },
    drop,
    destroy() {
      destroyed = true;
      drop();
    },
  };
}

const KERNELS = {
  winograd: { name: "winograd_weights", source: winogradWeights, preludes: [winograd] },
  subpixel: { name: "subpixel_weights", source: subpixelWeights, preludes: [] },
} as const;

async function transform(
  gpu: Gpu,
  label: string,
  parameters: ParameterBuffers,
  matrix: MatrixParameter,
  form: TransformedForm,
): Promise<GPUTexture> {
  const { storage } = parameters;
  const limits = {
    maxBindingBytes: gpu.maxBindingBytes,
    maxTextureDimension: gpu.device.limits.maxTextureDimension2D,
  };
  const shape = transformedTexture(matrix, form, limits)!;
  const { name, source: shader, preludes } = KERNELS[form];
  const code = kernel(name, shader, "f32", { weights: storage, preludes });
  const pipeline = await gpu.pipeline(code.name, code.code);
  const { workgroups, width } = grid(matrix.inputQuads * matrix.outputQuads * 4);
  const block = params(matrix.inputQuads, matrix.outputQuads, width);
  const source = tilesInBuffer(gpu, label, parameters, matrix);
  const owned = [
    gpu.createBuffer(label, block.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST),
    gpu.createBuffer(label, shape.bytesPerRow * shape.height),
  ] as const;
  try {
    const [uniforms, target] = owned;
    gpu.device.queue.writeBuffer(uniforms, 0, block);
    const group = gpu.device.createBindGroup({
      label,
      layout: pipeline.getBindGroupLayout(0),
      entries: [uniforms, source.buffer, target].map((buffer, binding) => ({ binding, resource: { buffer } })),
    });
    const encoder = gpu.device.createCommandEncoder({ label });
    const pass = encoder.beginComputePass({ label });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...workgroups);
    pass.end();
    const texture = tilesToTexture(gpu, label, target, shape, encoder);
    gpu.device.queue.submit([encoder.finish({ label })]);
    return texture;
  } finally {
    // The queue keeps what it still has to read.
    source.release();
    for (const buffer of owned) gpu.destroyBuffer(buffer);
  }
}
