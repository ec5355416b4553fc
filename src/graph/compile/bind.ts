/** Dispatches to pipelines and bind groups. */

import type { BoundResource, Gpu } from "../../gpu/device.ts";
import { inTurns } from "../../platform/turns.ts";
import type { Binding, Dispatch } from "../dispatch.ts";
import type { Bound } from "./bound.ts";
import type { ParameterSet } from "./parameters.ts";
import type { PlanBuffers } from "./plan-buffers.ts";

/** Pipelines by the code of their kernels. */
export type Pipelines = ReadonlyMap<string, GPUComputePipeline>;

/** The pipelines of these dispatches, compiled beside each other. */
export async function pipelinesOf(gpu: Gpu, dispatches: readonly Dispatch[]): Promise<Pipelines> {
  const names = new Map(dispatches.map(({ kernel }) => [kernel.code, kernel.name]));
  const compiling: Promise<readonly [string, GPUComputePipeline]>[] = [];
  function* begin(): Generator<void, void, void> {
    for (const [code, name] of names) {
      const pipeline = gpu.pipeline(name, code).then((compiled) => [code, compiled] as const);
      pipeline.catch(() => {}); // told below
      compiling.push(pipeline);
      yield; // Dawn reads the code in this thread
    }
  }
  await inTurns(begin());
  return new Map(await Promise.all(compiling));
}

/** Binds the dispatches of one plan. */
export class Binder {
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #pipelines: Pipelines;
  readonly #buffers: PlanBuffers;
  readonly #parameters: ParameterSet;
  /** One view of each texture: Dawn makes a new one whenever it is asked. */
  readonly #views = new Map<GPUTexture, GPUTextureView>();

  constructor(gpu: Gpu, label: string, pipelines: Pipelines, buffers: PlanBuffers, parameters: ParameterSet) {
    this.#gpu = gpu;
    this.#label = label;
    this.#pipelines = pipelines;
    this.#buffers = buffers;
    this.#parameters = parameters;
  }

  bind(dispatch: Dispatch): Bound {
    const { kernel, label, bindings } = dispatch;
    const pipeline = this.#pipelines.get(kernel.code)!;
    const resources = bindings.map((binding) => this.#resource(binding));
    const group = this.#gpu.bind(`${this.#label}: ${label} (${kernel.name})`, pipeline, [
      this.#buffers.uniforms(dispatch),
      ...resources,
    ]);
    return { pipeline, group, dispatch };
  }

  #resource(binding: Binding): BoundResource | undefined {
    if (binding === "unused") return;
    if (binding === "blank") return { buffer: this.#buffers.blank };
    if ("scratch" in binding) return this.#view(this.#buffers.scratch(binding.scratch.name));
    if ("transformed" in binding) {
      return this.#view(this.#parameters.transformed(binding.transformed, binding.form));
    }
    if ("parameter" in binding) {
      const { parameter, piece = 0 } = binding;
      const buffers = this.#parameters.of(parameter);
      const texture = parameter.kind === "matrix" ? buffers.texture?.(parameter) : undefined;
      return texture ? this.#view(texture) : { buffer: buffers.get(parameter)[piece]! };
    }
    const range = this.#buffers.range(binding.tensor);
    const offset = binding.offset ?? 0;
    return { buffer: range.buffer, offset: range.offset + offset, size: binding.size ?? range.size - offset };
  }

  #view(texture: GPUTexture): GPUTextureView {
    const view = this.#views.get(texture) ?? texture.createView();
    this.#views.set(texture, view);
    return view;
  }
}
