/** The model that a command works on: a GPU is opened, a model loaded onto it, and both are closed at the end. */

import type { LoadedModel } from "../src/diffusion/loaded-model.ts";
import type { LoadProgress } from "../src/engine/contract.ts";
import { loadModel } from "../src/engine/load-model.ts";
import { locateModel } from "../src/engine/model-location.ts";
import { builtInModel, precisionOn } from "../src/engine/runtime.ts";
import { rememberedChoice } from "../src/engine/tuning-cache.ts";
import { type Gpu, openGpu } from "../src/gpu/device.ts";
import type { AdapterChoice } from "../src/gpu/drivers/adapter.ts";
import type { Precision } from "../src/memory/component.ts";

export interface ModelOptions {
  /** A diffusers folder; without it the built-in model. */
  readonly model?: string;
  readonly variant?: string;
  readonly adapter?: AdapterChoice;
  readonly precision: "auto" | Precision;
  /** Pixels; without it the model's own size. */
  readonly size?: { readonly width: number; readonly height: number };
  readonly onProgress?: (progress: LoadProgress) => void;
}

export interface OpenModel {
  readonly gpu: Gpu;
  readonly model: LoadedModel;
  readonly precision: Precision;
  readonly size: { readonly width: number; readonly height: number };
  /** True if kernels were tuned on this GPU; the winners are used then. */
  readonly isTuned: boolean;
  /** "landscapes at 256x256, f32, on llvmpipe" */
  readonly heading: string;
}

/** The beginning of each report in JSON about a model: on which model, and where. */
export interface Subject {
  readonly model: string;
  readonly width: number;
  readonly height: number;
  readonly precision: Precision;
  readonly adapter: string;
  readonly backend: string;
  readonly kind: "hardware" | "software";
}

export function subjectOf({ model, size: { width, height }, precision, gpu }: OpenModel): Subject {
  const { name: adapter, backend, kind } = gpu.facts;
  return { model: model.family.facts.name, width, height, precision, adapter, backend, kind };
}

/**
 * Has `use` work on the model.
 * @param options.tuning false: kernels are chosen by rule, whatever was tuned
 * @throws AdapterError, WeightsError and the like, as `createRuntime` does, and whatever `use` throws
 */
export async function withModel<Result>(
  options: ModelOptions & { readonly tuning?: boolean },
  use: (open: OpenModel) => Promise<Result>,
): Promise<Result> {
  const files = await locateModel(options.model ?? builtInModel());
  const gpu = await openGpu({ adapter: options.adapter });
  try {
    const choose = options.tuning === false ? undefined : await rememberedChoice(gpu.facts);
    const precision = precisionOn(gpu, options.precision);
    const model = await loadModel(gpu, files, {
      variant: options.variant,
      precision,
      choose,
      onProgress: (what, done, total) => options.onProgress?.({ what, done, total }),
    });
    const { name, defaults } = model.family.facts;
    const { width, height } = options.size ?? defaults;
    const heading = `${name} at ${width}x${height}, ${precision}, on ${gpu.facts.name}`;
    return await use({ gpu, model, precision, size: { width, height }, isTuned: choose !== undefined, heading });
  } finally {
    gpu.close();
  }
}
