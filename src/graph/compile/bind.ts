/** Dispatches to pipelines and bind groups. */

import type { BoundResource, Gpu } from "../../gpu/device.ts";
import type { Binding, Dispatch } from "../dispatch.ts";
import type { BoundDispatch } from "./bound.ts";
import type { PlanKernels } from "./kernels.ts";
import type { ParameterSet } from "./parameters.ts";
import type { PlanBuffers } from "./plan-buffers.ts";

/** Binds the dispatches of one plan. */
export class Binder {
  readonly #gpu: Gpu;
  readonly #label: string;
  readonly #kernels: PlanKernels;
  readonly #buffers: PlanBuffers;
  readonly #parameters: ParameterSet;
  /** One view of each texture: Dawn makes a new one whenever it is asked. */
  readonly #views = new Map<GPUTexture, GPUTextureView>();

  constructor(gpu: Gpu, label: string, kernels: PlanKernels, buffers: PlanBuffers, parameters: ParameterSet) {
    this.#gpu = gpu;
    this.#label = label;
    this.#kernels = kernels;
    this.#buffers = buffers;
    this.#parameters = parameters;
  }

  /** The pipeline of its kernel has to be there. */
  bind(dispatch: Dispatch): BoundDispatch {
    const { kernel, label, bindings } = dispatch;
    const pipeline = this.#kernels.pipeline(kernel.code);
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
      return this.#view(this.#parameters.transformed(binding.transformed, binding.transform));
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
